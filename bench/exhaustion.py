"""Measures how good the forecast of exhaustion is: on real arrivals, and on limits per day of made use.

python -m bench.exhaustion [--trace FILE] [--windows 60 120 300] [--unit tokens requests] [--limits 0.3 0.5 0.7]
[--seeds 2]

Replays a trace of LLM requests (CSV with a header: arrival time, prompt tokens, generated tokens; the Azure and
BurstGPT traces have this form) through the very code of `ForecastExhaustion`: use is sampled every five seconds, and
in each window the limit is forecast nine times. Limits are placed at the given quantiles of what the trace uses per
window, so that some windows exhaust. Printed for each window length and unit:

  brier       mean squared error of the probability of exhaustion before the reset
  line        the same of a straight line through the use since the window began (0 or 1), and of one through the last
              ten minutes; the better of the two counts
  coverage    how often the time to exhaustion, whatever the reset, lay in the forecast's 10th to 90th percentile

Without a trace that part is left out. Limits per day (`days`) are forecast nine times in each of three days, from one
to three days of made use of every class (`bench.support.series`), at half to ten times what a day uses. `reliability`
gives for each bucket of the probability how many forecasts fell into it, their mean, and how often the limit was used
up."""

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
from random import Random

from bench.support.series import KINDS
from libs.forecast.exhaustion import time_to_exhaustion
from libs.forecast.level_forecast import MIN_INTERVALS, LevelForecast
from libs.limits import LimitKey, Period, Unit, scope_of
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Reading
from services.ratelimit.forecasting.exhaustion import forecast_exhaustion
from services.ratelimit.forecasting.trend import SAMPLE_SECONDS, Trend

TRACE = Path(__file__).resolve().parents[2] / "shared/data/traces/azure2023_conv.csv"
#: The parts of a window after which is forecast, and seconds of the past that the other straight line sees.
ORIGINS = tuple(i / 10 for i in range(1, 10))
#: Ends of the buckets of probabilities, and limits per day in median days.
BUCKETS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
DAY_LIMITS = (0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0)
RECENT = 600.0
#: Seconds of a day and between samples of made use, whose days are forecast after `LEAD` others that nobody has seen.
DAY, DAY_SAMPLE = 86_400.0, 320.0
LEAD, FORECAST = 10, 4
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
            forecast = LevelForecast(past[1], past[0], end - now)
            for limit in limits:
                case = _case(arrivals, forecast, limit, (number * window, now, end))
                if case is not None:
                    yield case


def _case(
    arrivals: Arrivals, forecast: LevelForecast, limit: float, instants: tuple[float, float, float]
) -> Case | None:
    began, now, end = instants
    used = arrivals.used(now) - arrivals.used(began)
    left = int(limit - used)
    if left <= 0:
        return None
    found = time_to_exhaustion(forecast.use, left, 0.0, end - now)
    far = time_to_exhaustion(forecast.use, left, 0.0, FAR * (end - began))
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


def reliability(found: Sequence[tuple[float, bool]]) -> list[dict[str, float]]:
    """Returns the figures of each bucket that has forecasts: pairs of the probability and of what happened."""
    rows = []
    for i, end in enumerate(BUCKETS):
        least = BUCKETS[i - 1] if i else -1.0
        inside = [pair for pair in found if least < pair[0] <= end]
        if inside:
            count = len(inside)
            said, happened = (
                sum(p for p, _ in inside) / count,
                sum(happened for _, happened in inside) / count,
            )
            rows.append(
                {"to": end, "forecasts": count, "said": round(said, 3), "happened": round(happened, 3)}
            )
    return rows


def made_days(seeds: int) -> Iterator[tuple[float, bool]]:
    """Yields the probability and the outcome of forecasts of limits per day, as `ForecastExhaustion` makes them."""
    for kind in KINDS:
        for seed in range(seeds):
            hours = kind.make(Random(f"{kind.name} {seed}"), LEAD + FORECAST)[-FORECAST * 24 :]
            used_by = [0.0, *accumulate(hours)]
            days = sorted(used_by[24 * (i + 1)] - used_by[24 * i] for i in range(FORECAST))
            yield from _days(used_by, days[FORECAST // 2])


def _days(used_by: Sequence[float], usual: float) -> Iterator[tuple[float, bool]]:
    def used(at: float) -> float:
        hour, rest = divmod(at / 3600, 1.0)
        i = min(int(hour), len(used_by) - 2)
        return used_by[i] + (used_by[i + 1] - used_by[i]) * rest

    trend, sampled = Trend(), 0.0
    for day in range(FORECAST):
        began = day * DAY
        for origin in ORIGINS:
            while sampled <= began + origin * DAY:
                trend.add(sampled, int(used(sampled)))
                sampled += DAY_SAMPLE
            if not day:
                continue
            now = sampled - DAY_SAMPLE
            taken = int(used(now)) - int(used(began))
            for part in DAY_LIMITS:
                limit = Limit(
                    LimitKey(scope_of("tenant:made"), Unit.TOTAL_TOKENS, Period.DAY), int(part * usual)
                )
                if limit.limit <= taken:
                    continue
                # Epoch 0 would be taken for a window without a beginning.
                reading = Reading(taken, 0, began + DAY, began + 2 * DAY)
                found = forecast_exhaustion(limit, reading, now + DAY, trend).forecast
                yield found.probability, used(began + DAY) - used(began) >= limit.limit


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--windows", type=float, nargs="+", default=[60.0, 120.0, 300.0], metavar="SECONDS")
    parser.add_argument("--unit", nargs="+", choices=["tokens", "requests"], default=["tokens", "requests"])
    parser.add_argument("--seeds", type=int, default=2, help="Series of each class for limits per day")
    parser.add_argument("--limits", type=float, nargs="+", default=[0.3, 0.5, 0.7], metavar="QUANTILE")
    given = parser.parse_args()
    result: dict[str, object] = {}
    if given.trace.exists():
        result |= on_trace(given.trace, given.unit, given.windows, given.limits)
    else:
        result["skipped"] = f"there is no trace at {given.trace.name}; name one with --trace"
    days = list(made_days(given.seeds))
    result["days"] = {
        "forecasts": len(days),
        "brier": round(sum((p - happened) ** 2 for p, happened in days) / len(days), 4),
        "reliability": reliability(days),
    }
    print(json.dumps(result, indent=2))


def on_trace(
    trace: Path, units: Sequence[str], windows: Sequence[float], limits: Sequence[float]
) -> dict[str, object]:
    """Returns the figures on a trace. Raises ValueError where it is too short."""
    everything: list[Case] = []
    result: dict[str, object] = {"trace": trace.name}
    began = time.process_time()
    for unit in units:
        arrivals = read(trace, unit)
        for window in windows:
            found = list(cases(arrivals, window, limits))
            if found:
                result[f"{unit} per {window:g} s"] = summary(found)
                everything += found
    if not everything:
        raise ValueError("the trace is too short for these windows")
    result["all"] = summary(everything) | {
        "ms_per_forecast": round((time.process_time() - began) / len(everything) * 1000, 1)
    }
    result["reliability"] = reliability([(case.probability, case.exhausted) for case in everything])
    return result


if __name__ == "__main__":
    main()
