"""Forecasts the use until an instant days ahead as one amount, with its interval.

Day totals without spikes, each over the weight of its weekday, are the equal intervals of a `LevelForecast`; the
part of a day that an instant cuts off has the usual shape of a day. The median is half-way between theirs and the
last week again (the seasonal-naive forecast); where that was worse than the last week alone over totals of the past,
it is the last week's. Either is as wide as the levels are, within bounds: a distribution whose median is a millionth
of its mean says that nothing is known, and moved to another median it would say a million times too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

from libs.forecast.gamma import Gamma
from libs.forecast.intervals import Band
from libs.forecast.level_forecast import MIN_INTERVALS, LevelForecast
from libs.forecast.next_day import Backtest, Method
from libs.forecast.profile import (
    HOURS,
    WEEK,
    Day,
    NotEnoughHistory,
    profiles,
    split_days,
    weekday_weights,
    without_spikes,
)

DAY_SECONDS: Final = 86_400.0
#: Days before a total is forecast.
MIN_TOTAL_DAYS: Final = MIN_INTERVALS
#: The part of the levels in the median. Bench: half has the smallest error in most classes, either alone is worse.
_HALF: Final = 0.5
#: The most variance of a total, in squares of its mean (that of an exponential variate), and how much wider than the
#: levels say an interval is: days to come differ more from past ones than these do from one another. Of bench's
#: series, 30 days after 28, 53 to 96 % are inside by class, 45 to 89 % without the latter. Without the bound one real
#: client in twenty had a high end of 500 and more times its use.
_MOST_VARIANCE: Final = 1.0
_WIDER: Final = 1.2
#: The share below the low end of an interval, and above the high end.
_TENTH: Final = 0.1


class DaysAhead:
    """A forecast of use from the end of a history on. `backtest` is of totals over as many days, a third of the
    history at most."""

    def __init__(self, days: Sequence[Day], seconds: float) -> None:
        """`days`: at least MIN_TOTAL_DAYS; `seconds` that are to be forecast."""
        self._first = len(days)
        self._weekdays = weekday_weights(days)
        even = without_spikes([sum(day) / self._weekdays[i % WEEK] for i, day in enumerate(days)])
        self._levels = LevelForecast(even, DAY_SECONDS, seconds)
        shape = profiles([day for day in days if any(day)]).mean
        self._reached = [0.0, *(amount / (sum(shape) or 1.0) for amount in accumulate(shape))]
        self._rate = _last_week(even)
        #: Part of the levels in the median.
        self._part = _HALF
        self._tried = [replace(one, forecast=_bounded(one.forecast)) for one in self._levels.tried]
        medians = [one.forecast.quantile(0.5) for one in self._tried]
        self.method, self.backtest = Method.LEVELS, self._judge(even, medians, _HALF)
        if self.backtest.error > self.backtest.naive_error:
            self._part = 0.0
            self.method, self.backtest = Method.SEASONAL_NAIVE, self._judge(even, medians, 0.0)

    def use(self, seconds: float) -> Gamma:
        """Forecasts the use in the next `seconds`."""
        whole, part = divmod(max(0.0, seconds) / DAY_SECONDS, 1.0)
        days = int(whole)
        weights = [self._weekdays[(self._first + i) % WEEK] for i in range(days + 1)]
        even = sum(weights[:days]) + weights[days] * self._share(part)
        levels = _bounded(self._levels.use(DAY_SECONDS * even))
        return _towards(self._rate * even, levels, levels.quantile(0.5), self._part)

    def band(self, seconds: float) -> Band:
        """Returns the interval of the use in the next `seconds`."""
        found = self.use(seconds)
        return Band(found.quantile(_TENTH), found.quantile(0.5), found.quantile(1 - _TENTH))

    def _judge(self, even: Sequence[float], medians: Sequence[float], part: float) -> Backtest:
        error = naive_error = 0.0
        covered = 0
        tried = self._tried
        for one, median in zip(tried, medians, strict=True):
            naive = _last_week(even[: one.origin]) * one.ahead
            made = _towards(naive, one.forecast, median, part)
            error += abs(one.actual - part * median - (1 - part) * naive)
            naive_error += abs(one.actual - naive)
            covered += _TENTH <= made.below(one.actual) <= 1 - _TENTH
        count = len(tried)
        if not count:
            return Backtest(0, 0.0, 0.0, None)
        return Backtest(count, error / count, naive_error / count, covered / count)

    def _share(self, part: float) -> float:
        """Returns the share of a day's use in its first `part`, both 0 to 1."""
        hour, rest = divmod(part * HOURS, 1.0)
        i = min(int(hour), HOURS - 1)
        return self._reached[i] + (self._reached[i + 1] - self._reached[i]) * rest


def forecast_days_ahead(hours: Sequence[float], seconds: float) -> DaysAhead | NotEnoughHistory:
    """Forecasts use after `hours`, oldest first, up to `seconds` ahead. Raises ValueError for amounts below 0 or not
    finite."""
    days = split_days(hours)
    if len(days) < MIN_TOTAL_DAYS:
        return NotEnoughHistory(len(days), MIN_TOTAL_DAYS)
    return DaysAhead(days, seconds)


def _last_week(even: Sequence[float]) -> float:
    """Returns the mean use per day over the last week."""
    last = even[-WEEK:]
    return sum(last) / len(last)


def _bounded(levels: Gamma) -> Gamma:
    variance = min(levels.variance, _MOST_VARIANCE * levels.mean**2)
    return replace(levels, variance=variance, stretch=_WIDER * levels.stretch)


def _towards(naive: float, levels: Gamma, median: float, part: float) -> Gamma:
    """Returns the distribution whose median is `median`, that of the levels, by `part`, and `naive` for the rest, and
    which varies as theirs does: they know how much use varies even where they do not know how much it will be."""
    scale = part + (1 - part) * naive / median if median > 0 else 0.0
    return replace(levels, mean=levels.mean * scale, variance=levels.variance * scale * scale)
