"""The development stack on this machine.

python -m dev up      start everything and stay up until Ctrl-C
python -m dev demo    the same, and generate two texts first
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.terminal import configure_output
from dev.stack import DEFAULT_PORT_BASE, SPAN
from dev.up import ROOT, Options, run


def parse(arguments: Sequence[str], environ: dict[str, str]) -> tuple[str, Options]:
    """Returns the command and its options; ends the process with status 2 where they are wrong. A variable that is
    empty counts as unset."""
    try:
        base = int(environ.get("POINTSMAN_PORT_BASE") or DEFAULT_PORT_BASE)
    except ValueError:
        print(
            f"error: POINTSMAN_PORT_BASE must be a port's number, or 0 for free ones, not "
            f"{environ['POINTSMAN_PORT_BASE']!r}.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    parser = argparse.ArgumentParser(
        prog="python -m dev", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("up", "demo"))
    parser.add_argument("--once", action="store_true", help="end as soon as it has been shown to work")
    parser.add_argument(
        "--catalog",
        default=environ.get("POINTSMAN_CONFIG", ""),
        help="a catalog file (POINTSMAN_CONFIG); default: config/pointsman.yaml, or the simulator's without keys",
    )
    parser.add_argument(
        "--simulator", action="store_true", help="start the provider simulator whatever the catalog and keys"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(environ.get("POINTSMAN_DATA") or ROOT / ".data"),
        help="where state, logs and passwords are kept (POINTSMAN_DATA)",
    )
    parser.add_argument(
        "--port-base",
        type=int,
        default=base,
        metavar="N",
        help=f"the router's port; all others follow, up to {SPAN} above it; 0 takes free ones (POINTSMAN_PORT_BASE)",
    )
    given = parser.parse_args(arguments)
    return given.command, Options(given.data, given.port_base, given.catalog, given.simulator, given.once)


def main() -> int:
    """Runs one command; returns the exit status."""
    configure_output(os.environ)
    command, options = parse(sys.argv[1:], dict(os.environ))
    if command == "up":
        return run(options)
    from dev.demo import demonstrate

    return run(options, demonstrate)


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:  # before the stack took over the signals
        status = 130
    raise SystemExit(status)
