"""Measures how good the forecast of exhaustion is on real arrivals.

python -m bench.forecast [--trace FILE] [--windows 60 120 300] [--unit tokens requests] [--limits 0.3 0.5 0.7]

Replays a trace of LLM requests (CSV with a header: arrival time, prompt tokens, generated tokens; the Azure and
BurstGPT traces have this form) through the very code of `ForecastExhaustion`: use is sampled every five seconds, and
in each window the limit is forecast nine times. Limits are placed at the given quantiles of what the trace uses per
window, so that some windows exhaust. Printed for each window length and unit:

  brier       mean squared error of the probability of exhaustion before the reset
  line        the same of a straight line through the use since the window began (0 or 1), and of one through the last
              ten minutes; the better of the two counts
  coverage    how often the time to exhaustion, whatever the reset, lay in the forecast's 10th to 90th percentile
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path

from services.ratelimit.forecasting.forecast import MIN_INTERVALS, Outlook, forecast
from services.ratelimit.forecasting.trend import SAMPLE_SECONDS, Trend

TRACE = Path(__file__).resolve().parents[2] / "shared/data/traces/azure2023_conv.csv"
#: The parts of a window after which is forecast, and seconds of the past that the other straight line sees.
ORIGINS = tuple(i / 10 for i in range(1, 10))
RECENT = 600.0
#: The interval's ends are looked for in this many windows: where none resets, use goes on.
FAR = 4


@dataclass(frozen=True)
class Arrivals:
    """Instants in seconds from the first, ascending, and what was used by each, itself included."""

    ats: Sequence[float]
    used_by: Sequence[float]

    def used(self, at: float) -> float:
        """Returns the amount used by then."""
        i = bisect_right(self.ats, at)
        return self.used_by[i - 1] if i else 0.0

    def first_instant(self, used: float) -> float | None:
        """Returns the first instant by which so much is used. None: not in the trace."""
        i = bisect_left(self.used_by, used)
        return self.ats[i] if i < len(self.ats) else None


@dataclass(frozen=True)
class Case:
    """One forecast and its outcome."""

    exhausted: bool
    probability: float
    lines: tuple[float, float]
    inside: bool | None


def read(path: Path, unit: str) -> Arrivals:
    """Reads a trace. Raises ValueError for another form, OSError."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        names = [name.strip().lower() for name in next(rows)]
        at = next((i for i, name in enumerate(names) if "time" in name), None)
        sizes = [
            i for i, name in enumerate(names) if "token" in name and "total" not in name and "log" not in name
        ]
        if at is None or len(sizes) != 2:
            raise ValueError(f"{path}: a trace has a time and two columns of tokens, not {names}")
        found = sorted((_seconds(row[at]), sum(float(row[i] or 0) for i in sizes)) for row in rows if row)
    first = found[0][0]
    amounts = [size if unit == "tokens" else 1.0 for _, size in found]
    return Arrivals([instant - first for instant, _ in found], list(accumulate(amounts)))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # fromisoformat takes six digits of a second, Azure writes seven.
        head, point, rest = text.partition(".")
        digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))][:6]
        zone = rest.lstrip("0123456789")
        return datetime.fromisoformat(f"{head}{point}{digits}{zone}").timestamp()


def cases(arrivals: Arrivals, window: float, quantiles: Sequence[float]) -> Iterator[Case]:
    """Yields all forecasts over the trace but those of its first window, from which nothing is known."""
    windows = int(arrivals.ats[-1] // window)
    totals = sorted(arrivals.used((i + 1) * window) - arrivals.used(i * window) for i in range(windows))
    limits = [totals[min(windows - 1, int(quantile * windows))] for quantile in quantiles]
    trend, sampled = Trend(), 0.0
    for number in range(1, windows):
        for origin in ORIGINS:
            now = (number + origin) * window
            while sampled <= now:
                trend.add(sampled, int(arrivals.used(sampled)))
                sampled += SAMPLE_SECONDS
            now = sampled - SAMPLE_SECONDS
            end = (number + 1) * window
            past = trend.intervals(end - now, MIN_INTERVALS)
            if past is None or now <= number * window:
                continue
            outlook = Outlook(past[1], past[0], end - now)
            for limit in limits:
                case = _case(arrivals, outlook, limit, (number * window, now, end))
                if case is not None:
                    yield case


def _case(
    arrivals: Arrivals, outlook: Outlook, limit: float, instants: tuple[float, float, float]
) -> Case | None:
    began, now, end = instants
    used = arrivals.used(now) - arrivals.used(began)
    left = int(limit - used)
    if left <= 0:
        return None
    found = forecast(outlook.use, left, 0.0, end - now)
    far = forecast(outlook.use, left, 0.0, FAR * (end - began))
    at = arrivals.first_instant(arrivals.used(now) + left)
    recent = min(now, RECENT)
    rates = (used / (now - began), (arrivals.used(now) - arrivals.used(now - recent)) / recent)
    inside = None
    if at is not None and far.p10 is not None and far.p90 is not None:
        inside = far.p10 <= at - now <= far.p90
    return Case(
        at is not None and at <= end,
        found.probability,
        (
            float(used + rates[0] * (end - now) >= limit),
            float(used + rates[1] * (end - now) >= limit),
        ),
        inside,
    )


def summary(found: Sequence[Case]) -> dict[str, float]:
    """Returns the figures over some forecasts."""
    count = len(found)
    inside = [case.inside for case in found if case.inside is not None]
    lines = [sum((case.lines[i] - case.exhausted) ** 2 for case in found) / count for i in (0, 1)]
    return {
        "forecasts": count,
        "exhausted": round(sum(case.exhausted for case in found) / count, 3),
        "brier": round(sum((case.probability - case.exhausted) ** 2 for case in found) / count, 4),
        "line": round(min(lines), 4),
        "coverage": round(sum(inside) / max(1, len(inside)), 3),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--windows", type=float, nargs="+", default=[60.0, 120.0, 300.0], metavar="SECONDS")
    parser.add_argument("--unit", nargs="+", choices=["tokens", "requests"], default=["tokens", "requests"])
    parser.add_argument("--limits", type=float, nargs="+", default=[0.3, 0.5, 0.7], metavar="QUANTILE")
    given = parser.parse_args()
    if not given.trace.exists():
        print(json.dumps({"skipped": f"there is no trace at {given.trace.name}; name one with --trace"}))
        return
    everything: list[Case] = []
    result: dict[str, object] = {"trace": given.trace.name}
    began = time.process_time()
    for unit in given.unit:
        arrivals = read(given.trace, unit)
        for window in given.windows:
            found = list(cases(arrivals, window, given.limits))
            if found:
                result[f"{unit} per {window:g} s"] = summary(found)
                everything += found
    if not everything:
        parser.error("the trace is too short for these windows")
    result["all"] = summary(everything) | {
        "ms_per_forecast": round((time.process_time() - began) / len(everything) * 1000, 1)
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
