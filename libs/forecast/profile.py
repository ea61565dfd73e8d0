"""The shape of a day, hour by hour, and the weight of each weekday.

A day is 24 hours that end where the history ends, so no time zone is needed; where clocks change the shape is an hour
off for some days, and recent days soon outweigh them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Final

HOURS: Final = 24
WEEK: Final = 7
#: Days after which a day weighs half as much. Bench: 3 to 8 days are within 2 % of each other.
HALF_LIFE: Final = 5.0
#: Days that a profile looks back to: older ones would weigh under 3 %.
LOOK_BACK: Final = 28
#: Part of the last day in the (geometric) level of the next one. Half-way won on public production traces; bench:
#: from 0.3 to 0.7 within 3 %.
LAST_DAY: Final = 0.5
#: A day's use is believed up to so many times the most of the four weeks before, once there is a week before it.
MOST_RISE: Final = 3.0
#: Whole weeks before weekdays are told apart, weeks looked back to, and the weeks' worth of "no different" that each
#: weekday's weight begins with. Bench: with two weeks weekday weights lose as often as they win.
MIN_WEEKS, WEEKS, PRIOR_WEEKS = 3, 8, 1.0
#: Weeks after which the same weekday weighs half as much.
WEEKS_HALF_LIFE: Final = 2.0
#: The least weight of a weekday: none is expected to be without any use for ever.
_LEAST_WEIGHT = 0.02

Day = tuple[float, ...]
#: The weight of each weekday, 1 on average; a day's index modulo 7 is its place.
Weekdays = tuple[float, ...]
EVEN: Final[Weekdays] = (1.0,) * WEEK


@dataclass(frozen=True, slots=True)
class NotEnoughHistory:
    """The past is too short: it has `days` whole days since the first use, `needed` are."""

    days: int
    needed: int


def split_days(hours: Sequence[float]) -> list[Day]:
    """Returns the whole days, oldest first, from the first with any use on. Raises ValueError for an amount that is
    not finite or below 0."""
    if any(not 0.0 <= amount < math.inf for amount in hours):
        raise ValueError("amounts must be finite and at least 0")
    first = len(hours) % HOURS
    days = [tuple(hours[i : i + HOURS]) for i in range(first, len(hours), HOURS)]
    begun = next((i for i, day in enumerate(days) if any(day)), len(days))
    return days[begun:]


def weekday_weights(days: Sequence[Day]) -> Weekdays:
    """Returns the weights of the weekdays: the median of a day's total over the mean of the week around it, drawn
    towards 1; all 1 where the past is shorter than MIN_WEEKS."""
    if len(days) < MIN_WEEKS * WEEK:
        return EVEN
    first = max(0, len(days) - WEEKS * WEEK)
    totals = [sum(day) for day in days]
    ratios: list[list[float]] = [[] for _ in range(WEEK)]
    for i in range(first, len(days)):
        begin = min(max(0, i - WEEK // 2), len(days) - WEEK)
        mean = sum(totals[begin : begin + WEEK]) / WEEK
        if mean > 0:
            ratios[i % WEEK].append(totals[i] / mean)
    return tuple(_drawn(found) for found in ratios)


def _drawn(ratios: Sequence[float]) -> float:
    if not ratios:
        return 1.0
    count = len(ratios)
    return max(_LEAST_WEIGHT, 1 + (median(ratios) - 1) * count / (count + PRIOR_WEEKS))


def same_weekday(days: Sequence[Day]) -> Day:
    """Returns the day after `days` (at least a week) as the same weekday was in the last weeks, the later the more,
    each half-way to the level of the last week. Where a weekend has another shape than a weekday, and not a smaller
    one only, nothing else shows it (on hourly taxi rides of six weeks the error is 0.6 of the other methods')."""
    level = _mean_total(days[-WEEK:])
    found, whole = [0.0] * HOURS, 0.0
    for back in range(WEEK, min(len(days), LOOK_BACK) + 1, WEEK):
        place = len(days) - back
        then = _mean_total(days[max(0, place - WEEK // 2) : place + WEEK // 2 + 1])
        if then <= 0:
            continue
        weight = 0.5 ** ((back / WEEK - 1) / WEEKS_HALF_LIFE)
        factor = weight * math.sqrt(level / then)
        whole += weight
        for hour, amount in enumerate(days[place]):
            found[hour] += factor * amount
    return tuple(amount / (whole or 1.0) for amount in found)


def _mean_total(days: Sequence[Day]) -> float:
    return sum(map(sum, days)) / len(days)


def without_spikes(amounts: Sequence[float]) -> list[float]:
    """Returns daily amounts with each at most MOST_RISE times the highest of the LOOK_BACK days before it. More is a
    mistake or an event rather than a new level; if it is a new level, the next day tells so and is believed."""
    found = []
    for i, amount in enumerate(amounts):
        most = max(amounts[max(0, i - LOOK_BACK) : i], default=0.0)
        found.append(min(amount, MOST_RISE * most) if i >= WEEK and most > 0 else amount)
    return found


@dataclass(frozen=True, slots=True)
class Profiles:
    """The next day by three views of the past: the usual shape as the `mean` and as the `median` of the last days',
    both at the same level, and the `last` day as it was."""

    mean: Day
    median: Day
    last: Day

    @property
    def blend(self) -> Day:
        """The mean of the three, smoothed over neighbouring hours. Each is wrong where the others are not: bench, and
        Makridakis et al. (2020), who found plain means of simple methods hard to beat."""
        mixed = [sum(views) / 3 for views in zip(self.mean, self.median, self.last, strict=True)]
        return tuple(
            mixed[hour - 1] / 4 + mixed[hour] / 2 + mixed[(hour + 1) % HOURS] / 4 for hour in range(HOURS)
        )


def profiles(days: Sequence[Day], weekdays: Weekdays = EVEN) -> Profiles:
    """Returns the profiles of the day after `days` (at least one). Days without any use are no evidence of the shape;
    where the last one is such a day, so is the next. A spike on the last day is believed in part."""
    first = max(0, len(days) - LOOK_BACK)
    number = len(days)
    totals = [sum(days[i]) / weekdays[i % WEEK] for i in range(first, number)]
    if totals[-1] <= 0:
        none = (0.0,) * HOURS
        return Profiles(none, none, none)
    believed = without_spikes(totals)[-1] / totals[-1]
    totals[-1] *= believed
    weights, shapes, logs = [], [], []
    for i, total in zip(range(first, number), totals, strict=True):
        if total > 0:
            weights.append(0.5 ** ((number - 1 - i) / HALF_LIFE))
            whole = sum(days[i])
            shapes.append([amount / whole for amount in days[i]])
            logs.append(math.log(total))
    whole = sum(weights)
    usual = sum(weight * log for weight, log in zip(weights, logs, strict=True)) / whole
    weekday = weekdays[number % WEEK]
    level = weekday * math.exp(usual * (1 - LAST_DAY) + math.log(totals[-1]) * LAST_DAY)
    by_hour = [list(column) for column in zip(*shapes, strict=True)]
    last = believed * weekday / weekdays[(number - 1) % WEEK]
    return Profiles(
        tuple(
            level * sum(w * part for w, part in zip(weights, parts, strict=True)) / whole for parts in by_hour
        ),
        tuple(level * weighted_median(parts, weights) for parts in by_hour),
        tuple(amount * last for amount in days[-1]),
    )


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """Returns the least value that at least half of the weight does not exceed."""
    ranked = sorted(zip(values, weights, strict=True))
    half = sum(weights) / 2
    reached = accumulate(weight for _, weight in ranked)
    return next(
        (value for (value, _), so_far in zip(ranked, reached, strict=True) if so_far >= half), ranked[-1][0]
    )
