"""Measures how good forecasts of use are, against the seasonal-naive one: the day before again.

python -m bench.forecasts [--seeds 30] [--days 14 28 56] [--kinds ...] [--series FILE]

Makes hourly series of several classes (`bench.support.series` tells from which studies), or reads yours (CSV with a
header and three columns: name, number of the hour, amount; hours that are missing had none). Each of the last nine
days is forecast from what came before it, as `forecast_next_day` does for everybody. Printed for each class, over its
series:

  error        mean absolute error / that of the seasonal-naive forecast; mean over series, and the worst series
  pinball      pinball loss at 10, 50 and 90 % / that of the seasonal-naive forecast with the 10th and 90th percentile
               of its own past errors; and / that of the bare seasonal-naive value
  coverage     share of hours in the 80 % interval
  weekly       the error of the value a week before, by the same measure, where there are 14 days
  week         error of the next seven days' total / that of the last seven days' total again, and its coverage
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

from bench.support.series import KINDS
from libs.forecast.days_ahead import DAY_SECONDS, forecast_days_ahead
from libs.forecast.intervals import quantile
from libs.forecast.next_day import MIN_DAYS, TRIED, DayByDay, NextDay
from libs.forecast.profile import WEEK, Day, NotEnoughHistory, split_days

ORIGINS = 9
SHARES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Score:
    """The measures over one series; see the head. None: not measured."""

    error: float
    pinball: float
    pinball_bare: float
    coverage: float
    weekly: float | None
    week: float | None
    week_coverage: float | None


def pinball(forecasts: Sequence[float], actual: float) -> float:
    """Returns the loss of quantile forecasts, summed over SHARES."""
    return sum(
        max(share * (actual - forecast), (share - 1) * (actual - forecast))
        for share, forecast in zip(SHARES, forecasts, strict=True)
    )


def score(hours: Sequence[float]) -> Score | None:
    """Returns the measures over one series. None: it is too short, or every day is as the one before."""
    days = split_days(hours)
    by_day = DayByDay(days)
    first = max(MIN_DAYS, len(days) - ORIGINS)
    sums = dict.fromkeys(("error", "naive", "weekly", "loss", "naive_loss", "bare_loss"), 0.0)
    covered = count = 0
    for origin in range(first, len(days)):
        found = by_day.forecast(origin)
        if not isinstance(found, NextDay):
            continue
        errors = _naive_errors(days, origin)
        weekly = days[origin - WEEK] if origin >= 2 * WEEK else days[origin - 1]
        for hour, actual in enumerate(days[origin]):
            band, naive = found.hours[hour], days[origin - 1][hour]
            sums["error"] += abs(actual - band.p50)
            sums["naive"] += abs(actual - naive)
            sums["weekly"] += abs(actual - weekly[hour])
            sums["loss"] += pinball((band.p10, band.p50, band.p90), actual)
            sums["naive_loss"] += pinball((max(0.0, naive + errors[0]), naive, naive + errors[1]), actual)
            sums["bare_loss"] += pinball((naive,) * 3, actual)
            covered += band.covers(actual)
            count += 1
    if not count or not sums["naive"]:
        return None
    week, week_covered = _weeks(days)
    return Score(
        sums["error"] / sums["naive"],
        sums["loss"] / sums["naive_loss"],
        sums["loss"] / sums["bare_loss"],
        covered / count,
        sums["weekly"] / sums["naive"] if first >= 2 * WEEK else None,
        week,
        week_covered,
    )


def _naive_errors(days: Sequence[Day], origin: int) -> tuple[float, float]:
    """Returns the 10th and 90th percentile of the seasonal-naive forecast's errors before `origin`."""
    errors = sorted(
        actual - naive
        for day in range(max(1, origin - TRIED), origin)
        for actual, naive in zip(days[day], days[day - 1], strict=True)
    )
    return min(0.0, quantile(errors, SHARES[0])), max(0.0, quantile(errors, SHARES[2]))


def _weeks(days: Sequence[Day]) -> tuple[float | None, float | None]:
    """Returns the error of totals over seven days, and the share of them in their interval."""
    ours = naive = 0.0
    covered = count = 0
    for origin in range(max(2 * WEEK, len(days) - ORIGINS - WEEK), len(days) - WEEK + 1):
        past = [amount for day in days[:origin] for amount in day]
        found = forecast_days_ahead(past, WEEK * DAY_SECONDS)
        if isinstance(found, NotEnoughHistory):
            continue
        actual = sum(map(sum, days[origin : origin + WEEK]))
        band = found.band(WEEK * DAY_SECONDS)
        ours += abs(actual - band.p50)
        naive += abs(actual - sum(map(sum, days[origin - WEEK : origin])))
        covered += band.covers(actual)
        count += 1
    return (ours / naive if naive else None), (covered / count if count else None)


def summary(found: Sequence[Score]) -> dict[str, float]:
    """Returns the figures over some series."""

    def mean(values: Iterator[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    figures = {
        "series": float(len(found)),
        "error": fmean(one.error for one in found),
        "worst": max(one.error for one in found),
        "pinball": fmean(one.pinball for one in found),
        "pinball_bare": fmean(one.pinball_bare for one in found),
        "coverage": fmean(one.coverage for one in found),
        "weekly": mean(one.weekly for one in found),
        "week": mean(one.week for one in found),
        "week_coverage": mean(one.week_coverage for one in found),
    }
    return {name: round(value, 3) for name, value in figures.items() if value is not None}


def read(path: Path) -> dict[str, list[float]]:
    """Reads series by their names. Raises ValueError for another form, OSError."""
    found: dict[str, dict[int, float]] = {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        for number, row in enumerate(rows, 2):
            if len(row) != 3:
                raise ValueError(
                    f"{path}, line {number}: a row is a name, the number of an hour and an amount"
                )
            by_hour = found.setdefault(row[0], {})
            hour = int(row[1])
            by_hour[hour] = by_hour.get(hour, 0.0) + float(row[2])
    return {
        name: [by_hour.get(hour, 0.0) for hour in range(min(by_hour), max(by_hour) + 1)]
        for name, by_hour in found.items()
    }


def made(seeds: int, lengths: Sequence[int], kinds: Sequence[str]) -> Iterator[tuple[str, list[Score]]]:
    """Yields the scores of each class; seed and class alone decide a series, whose length is drawn from `lengths`."""
    for kind in KINDS:
        if kinds and kind.name not in kinds:
            continue
        found = []
        for seed in range(seeds):
            rng = Random(f"{kind.name} {seed}")
            one = score(kind.make(rng, lengths[seed % len(lengths)]))
            if one is not None:
                found.append(one)
        yield kind.name, found


def main() -> None:
    """Prints the figures, the last line as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--days", type=int, nargs="+", default=[14, 28, 56])
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS], default=[])
    parser.add_argument("--series", type=Path, help="CSV to measure on instead")
    given = parser.parse_args()
    began = time.process_time()
    if given.series is not None:
        scores = [one for one in map(score, read(given.series).values()) if one is not None]
        classes = [(given.series.name, scores)] if scores else []
    else:
        classes = list(made(given.seeds, given.days, given.kinds))
    if not classes:
        parser.error(f"no series is longer than {MIN_DAYS} days")
    result: dict[str, object] = {}
    for name, found in classes:
        result[name] = summary(found)
        print(name, json.dumps(result[name]), flush=True)
    aggregates = {kind.name for kind in KINDS if kind.aggregate}
    for title, chosen in (("aggregates", True), ("clients", False)):
        found = [one for name, scores in classes for one in scores if (name in aggregates) == chosen]
        if found and given.series is None:
            result[title] = summary(found)
    result["cpu_seconds"] = round(time.process_time() - began, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
