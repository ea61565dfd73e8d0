"""Tells when spend is out of the ordinary, by comparison with the same hours of earlier days.

What is expected of an hour is the median of the same hour of the last 14 days, or of the same weekday of the last
four weeks where that is more or where these weeks agree (a shop that is busy on Saturdays, an office that is closed):
medians, since days of incidents are among them. It is scaled half-way to the level of the last 24 hours, as levels
wander. How far above it is still ordinary is read off the series itself: for each hour of the last 28 days the ratio
to what was expected then, and of these the largest of each day. An amount is an anomaly where its ratio exceeds the
second largest of those days by `margin`, so one earlier incident hides no later one, and goes on to do so for an
hour; or at once where it exceeds it by more, `sudden` times as much as the second largest of those days does the
fifth: bursts of a series whose largest ones lie far apart may well be larger than any before. It must be at least
`least_ratio` times what was expected, above it by `DEVIATIONS` robust standard deviations (1.4826 times the median
absolute deviation, which estimates that of a normal distribution: Rousseeuw and Croux, 1993), and above
it by a sum that somebody would get up for. A bursty client's own bursts are ordinary in this way and a steady
client's tripling is not. `python -m bench.alerts` measures false alarms and the delay until a tripling is seen, and
chose the figures.

Two widths are looked at: the last hour, which sees a jump soon, and the last 24, whose sums vary less, so that they
see a rise that drowns in the bursts of an hour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

HOUR: Final = 3600.0
#: Seconds between two looks at whether an amount lasts.
LOOK: Final = 1800.0
DAY_HOURS: Final = 24
#: Days whose same hour is looked at, weeks whose same weekday is, and days whose ratios tell what is ordinary.
DAYS, WEEKS, JUDGED_DAYS = 14, 4, 28
#: Weeks whose amounts are no further from their median than this part of it speak for the weekday alone.
AGREEING: Final = 0.4
#: Bounds of the scaling to the last level.
LEAST_SCALE, MOST_SCALE = 0.5, 2.0
#: Hours of the past that are read: each day that is judged has its own past.
HISTORY_HOURS: Final = (JUDGED_DAYS + DAYS + 1) * DAY_HOURS
#: Days of history, at least, before anything is called an anomaly.
MIN_DAYS: Final = 7
DEVIATIONS: Final = 4.0
#: Factor from a median absolute deviation to a standard deviation.
MAD_TO_SIGMA: Final = 1.4826
#: An alert is over when the amount is not above what was ordinary by half of the way to the threshold.
CLEARED_AT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Width:
    """A span that is looked at. `least_excess`: micro-USD above what was expected that count as something; `margin`:
    over the most that was ordinary, of an amount that lasts for `looks` looks, `sudden` of one that need not."""

    hours: int
    least_ratio: float
    margin: float
    least_excess: int
    looks: int = 1
    sudden: float = 0.0

    @property
    def seconds(self) -> float:
        """The length."""
        return self.hours * HOUR


WIDTHS: Final = (
    Width(hours=1, least_ratio=2.0, margin=1.1, least_excess=1_000_000, looks=3, sudden=1.5),
    Width(hours=DAY_HOURS, least_ratio=1.5, margin=1.3, least_excess=5_000_000),
)


@dataclass(frozen=True, slots=True)
class Ordinary:
    """The ordinary amounts of now: the one expected, the most that is no anomaly, and the most that is none unless it
    lasts."""

    expected: float
    high: float
    sudden: float

    def is_anomaly(self, amount: float, *, standing: bool) -> bool:
        """Returns True if the amount is an anomaly, or, where one stands, is not clearly over."""
        part = CLEARED_AT if standing else 1.0
        return amount > self.expected + part * (self.high - self.expected)


class Baseline:
    """The past of one series, for one width, and what is ordinary by it. `end`: the number of spans in it, one ending
    with each hour."""

    def __init__(self, hours: Sequence[float], width: Width) -> None:
        """`hours`: the amounts of successive hours, the oldest first; those before the first amount count as not
        known."""
        first = next((i for i, amount in enumerate(hours) if amount), len(hours))
        self._width = width
        self._sums = _sums(hours[first:], width.hours)
        #: By the span that is expected: the medians of its past, what they come to scaled, and its ratio to that.
        self._medians: dict[int, float] = {}
        self._expectations: dict[int, float] = {}
        self._ratios: dict[int, float] = {}
        self.end = len(self._sums)

    def exceeded(self, amounts: Sequence[float], part: float, end: int, *, standing: bool) -> Ordinary | None:
        """Returns what is ordinary where the amounts are an anomaly: those of the spans that end so far (0 to 1) into
        the hour after the first `end` ones, and a `LOOK` earlier each, as many as the width has looks. `standing`:
        one stands."""
        ordinary = self.ordinary(part, end)
        if ordinary is None or not ordinary.is_anomaly(amounts[0], standing=standing):
            return None
        if standing or amounts[0] > ordinary.sudden:
            return ordinary
        earlier = [self.ordinary(part - look * LOOK / HOUR, end) for look in range(1, self._width.looks)]
        lasted = [
            then is not None and then.is_anomaly(amount, standing=False)
            for then, amount in zip(earlier, amounts[1:], strict=True)
        ]
        return ordinary if all(lasted) else None

    def ordinary(self, part: float, end: int) -> Ordinary | None:
        """Returns what is ordinary of the span that ends so far into the hour after the first `end` ones, as a part
        of it, below 0 for hours before; None: not enough history."""
        if part < 0:
            part, end = part - math.floor(part), end + math.floor(part)
        if end < MIN_DAYS * DAY_HOURS:
            return None
        expected = (1 - part) * self._expected(end - 1) + part * self._expected(end)
        sigma = max(_sigma(self._same_hours(end - 1)), _sigma(self._same_hours(end)))
        width, excess = self._width, self._width.least_excess
        least = max(width.least_ratio * expected, expected + DEVIATIONS * sigma, expected + excess)
        most, spread = self._most_ordinary(end)
        high, sudden = (
            max(least, margin * most * (expected + excess) - excess)
            for margin in (width.margin, max(width.margin, width.sudden * spread))
        )
        return Ordinary(expected, high, sudden)

    def _most_ordinary(self, end: int) -> tuple[float, float]:
        """Returns the second largest of the days' largest ratios to what was expected, and how many times the fifth
        it is."""
        # What was expected then is known of hours that have half a week before them.
        first = max(MIN_DAYS * DAY_HOURS // 2, end - JUDGED_DAYS * DAY_HOURS)
        by_day = [
            max(map(self._ratio, range(max(first, last - DAY_HOURS), last)))
            for last in range(end, first, -DAY_HOURS)
        ]
        ranked = sorted(by_day, reverse=True)
        return ranked[1], ranked[1] / ranked[min(4, len(ranked) - 1)]

    def _ratio(self, end: int) -> float:
        found = self._ratios.get(end)
        if found is None:
            # Where little is expected, a ratio is of amounts that would count as something.
            floor = self._width.least_excess
            found = self._ratios[end] = (self._sums[end] + floor) / (self._expected(end) + floor)
        return found

    def _expected(self, end: int) -> float:
        """Returns what is expected of the span with that index, from those before it."""
        found = self._expectations.get(end)
        if found is None:
            # Of the last 24 hours: as many spans of one, or one of as many.
            last = range(max(0, end - DAY_HOURS), end - self._width.hours + 1)
            floor = self._width.least_excess * len(last)
            level = sum(self._sums[i] for i in last) + floor
            usual = sum(self._median(i) for i in last) + floor
            scale = min(MOST_SCALE, max(LEAST_SCALE, math.sqrt(level / usual)))
            found = self._expectations[end] = scale * self._median(end)
        return found

    def _median(self, end: int) -> float:
        found = self._medians.get(end)
        if found is None:
            weeks = [self._sums[i] for k in range(1, WEEKS + 1) if (i := end - 7 * k * DAY_HOURS) >= 0]
            found = self._medians[end] = _usual(self._same_hours(end), weeks)
        return found

    def _same_hours(self, end: int) -> list[float]:
        return [self._sums[i] for k in range(1, DAYS + 1) if (i := end - k * DAY_HOURS) >= 0]


def _sums(hours: Sequence[float], width: int) -> list[float]:
    """Returns the sums of `width` hours, one for each hour at which such a span ends."""
    if width == 1:
        return list(hours)
    by = [0.0, *accumulate(hours)]
    return [by[i] - by[i - width] for i in range(width, len(by))]


def median(values: Sequence[float]) -> float:
    """Returns the middle value; of an even number the mean of the two; 0 of none."""
    if not values:
        return 0.0
    ranked = sorted(values)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def _usual(days: Sequence[float], weeks: Sequence[float]) -> float:
    """Returns what is usual by the same hours of earlier days and of the same weekdays."""
    of_days = median(days)
    # Fewer than three weeks say little about a weekday.
    if len(weeks) < 3:
        return of_days
    of_weeks = median(weeks)
    if all(abs(amount - of_weeks) <= AGREEING * of_weeks for amount in weeks):
        return of_weeks
    return max(of_days, of_weeks)


def _sigma(values: Sequence[float]) -> float:
    middle = median(values)
    return MAD_TO_SIGMA * median([abs(value - middle) for value in values])
