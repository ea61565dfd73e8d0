"""Measures what a provider's outage of a minute costs, and how the provider comes back, at different rates of calls.

python -m bench.flap [--seconds N] [--intervals S ...]

Starts the whole stack with a second router; calls go to both in turn, and each rate has a primary and callers of
its own; all run at once. The primary answers 503 for the outage, a fallback answers always. Where calls are more than
20 s apart, three come at the outage's begin, so that its circuit opens. Printed for each rate: attempts in vain on
the primary; seconds and calls from its return to its first answer; its share of the answers in each two seconds from
then on; and calls that were not answered at all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import uvloop

from tests.support.flap import Times, measure

INTERVALS = (0.1, 0.7, 4.0, 10.0, 35.0)


def main() -> None:
    """Prints a line for each rate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of the outage")
    parser.add_argument(
        "--intervals", type=float, nargs="+", default=INTERVALS, help="between calls, seconds"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-flap-") as directory:
        for found in uvloop.run(measure(Path(directory), given.intervals, Times(given.seconds))):
            print(json.dumps(found.figures()))


if __name__ == "__main__":
    main()
