"""Measures alerts on spend: false alarms, and the delay until a tripling is seen.

python -m bench.alerts [--seeds 10] [--kinds ...]

Makes hourly series of several classes (`bench.support.series` tells from which studies), as money, and watches each
for 30 days after its history, at every half hour, by the very code of the detection. Printed for each class:

  false        alarms a month and series, the mean, and the share of series with more than one
  tripled      of series whose amounts are tripled from some hour on: the share in which it is seen within 48 hours,
               and the median delay in hours

What the classes hold of breaks, bursts and growth counts as false alarm too, though somebody might want to know.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from statistics import fmean

from bench.support.series import KINDS, Kind
from services.analytics.alerts.anomaly import DAY_HOURS, HISTORY_HOURS, HOUR, LOOK, WIDTHS, Baseline, median
from services.analytics.alerts.detect import SAME_WITHIN

WATCHED_DAYS = 30
SEEN_WITHIN = 48
#: Mean spend of an hour, micro-USD.
CLIENTS, AGGREGATES = 5_000_000, 100_000_000


#: An alarm within so many hours of the last one's end is the same (`detect.SAME_WITHIN`).
SAME = SAME_WITHIN / HOUR


def _steady(rng: Random, days: int) -> list[float]:
    """Returns a series whose days differ by noise and the weekend alone."""
    peak, first = rng.uniform(8, 20), rng.randrange(7)
    return [
        (1 + 0.7 * math.cos(math.tau * (hour - peak) / DAY_HOURS))
        * (0.5 if (hour // DAY_HOURS + first) % 7 >= 5 else 1.0)
        * math.exp(rng.gauss(0, 0.15))
        for hour in range(days * DAY_HOURS)
    ]


CLASSES = (Kind("steady", False, _steady), *KINDS)


def watch(hours: Sequence[float], first: int, last: int) -> list[float]:
    """Returns the instants, in hours, at which an alarm is raised from hour `first` to `last`."""
    baselines = [(width, Baseline(hours, width)) for width in WIDTHS]
    by = [0.0, *accumulate(hours)]

    def until(at: float) -> float:
        whole = math.floor(at)
        return by[whole] + (at - whole) * (hours[whole] if at > whole else 0.0)

    alarms: list[float] = []
    standing, last_held = None, -math.inf
    for look in range(2 * first, 2 * min(last, len(hours))):
        at = look / 2
        held = None
        for width, baseline in baselines:
            ends = [at - back * LOOK / HOUR for back in range(width.looks)]
            amounts = [until(end) - until(end - width.hours) for end in ends]
            end = look // 2 - (len(hours) - baseline.end)
            if baseline.exceeded(amounts, at % 1, end, standing=standing == width) is not None:
                held = width
                break
        if held is not None and at - last_held > SAME:
            alarms.append(at)
        last_held = at if held is not None else last_held
        standing = held
    return alarms


def measure(kind: Kind, seeds: int) -> dict[str, float | None]:
    """Returns the figures of one class."""
    counts: list[int] = []
    delays: list[float] = []
    for seed in range(seeds):
        rng = Random(f"{kind.name} {seed}")
        made = kind.make(rng, HISTORY_HOURS // DAY_HOURS + WATCHED_DAYS)
        scale = (AGGREGATES if kind.aggregate else CLIENTS) / max(1e-9, fmean(made))
        hours = [amount * scale for amount in made]
        counts.append(len(watch(hours, HISTORY_HOURS, len(hours))))
        at = HISTORY_HOURS + rng.randrange(24, (WATCHED_DAYS - 3) * DAY_HOURS)
        more = [*hours[:at], *(3 * amount for amount in hours[at:])]
        seen = [alarm for alarm in watch(more, at - 24, at + SEEN_WITHIN) if alarm > at]
        if seen:
            delays.append(seen[0] - at)
    return {
        "false": round(fmean(counts), 2),
        "more than one": round(sum(count > 1 for count in counts) / len(counts), 2),
        "tripled, seen": round(len(delays) / seeds, 2),
        "delay": round(median(delays), 1) if delays else None,
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [kind.name for kind in CLASSES]
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, metavar="KIND")
    given = parser.parse_args()
    began = time.process_time()
    found = {kind.name: measure(kind, given.seeds) for kind in CLASSES if kind.name in given.kinds}
    print(json.dumps(found | {"cpu_seconds": round(time.process_time() - began, 1)}, indent=2))


if __name__ == "__main__":
    main()
