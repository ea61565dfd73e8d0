"""Forecasts each of the next 24 hours, by the method that would have been best on the days before.

Each method forecasts up to TRIED past days from what came before them. The blend of profiles is the rule; another one
takes its place where its error was clearly smaller, and the seasonal-naive one (the last day again) where the blend
did not win: so a forecast is rarely worse than it. A last day without any use forecasts another one, unless its
weekday never has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.forecast.intervals import Band, Errors
from libs.forecast.profile import (
    LOOK_BACK,
    MIN_WEEKS,
    WEEK,
    WEEKS,
    Day,
    NotEnoughHistory,
    Profiles,
    profiles,
    same_weekday,
    split_days,
    weekday_weights,
)

#: Days before anything is forecast: a method is judged by at least one, from three that it could learn from.
MIN_DAYS: Final = 4
#: Days from which a method is tried, and days it is tried on at most. Bench: 7 to 14 choose equally well, and what
#: was best a month ago is not any more.
_FIRST_TRIED, TRIED = 3, 14
#: Part of its error by which a method must be better than the blend to be taken instead: less is chance with so few
#: days.
_CLEARLY = 0.02
#: Days tried before another method than the blend or the seasonal-naive one is taken.
_MIN_TRIED = 3


class Method(StrEnum):
    """A way to forecast: LEVELS a total, SEASONAL_NAIVE either, the others a day."""

    SEASONAL_NAIVE = "seasonal_naive"
    BLEND = "blend"
    MEDIAN = "median"
    WEEKLY_BLEND = "weekly_blend"
    SAME_WEEKDAY = "same_weekday"
    LEVELS = "levels"


@dataclass(frozen=True, slots=True)
class Backtest:
    """Forecasts of the past, each from what came before it: how many, and their mean absolute error with that of the
    seasonal-naive method; the share of what happened in the 80 % interval, None: too few to say."""

    forecasts: int
    error: float
    naive_error: float
    coverage: float | None

    @property
    def ratio(self) -> float | None:
        """The error in errors of the seasonal-naive method; below 1 is better. None: that one made none."""
        return self.error / self.naive_error if self.naive_error > 0 else None


@dataclass(frozen=True, slots=True)
class NextDay:
    """A forecast of 24 hours, the first one follows the history's last."""

    hours: tuple[Band, ...]
    method: Method
    backtest: Backtest


def forecast_next_day(hours: Sequence[float]) -> NextDay | NotEnoughHistory:
    """Forecasts the 24 hours after `hours` of use, oldest first. Raises ValueError for amounts below 0 or not
    finite."""
    return DayByDay(split_days(hours)).forecast()


class DayByDay:
    """Forecasts of the days of one history, each made once."""

    def __init__(self, days: Sequence[Day]) -> None:
        """`days`: whole ones, oldest first, the first not without use."""
        self._days = days
        self._made: dict[tuple[int, Method], Day] = {}
        self._profiles: dict[tuple[int, bool], Profiles] = {}

    def forecast(self, after: int | None = None) -> NextDay | NotEnoughHistory:
        """Forecasts the day that follows the first `after` days, None: all of them."""
        count = len(self._days) if after is None else after
        if count < MIN_DAYS:
            return NotEnoughHistory(count, MIN_DAYS)
        tried = range(max(_FIRST_TRIED, count - TRIED), count)
        errors = {method: self._error(method, tried) for method in self._candidates(count, len(tried))}
        method = _choose(errors)
        made = Errors([self._by(method, day) for day in tried], [self._days[day] for day in tried])
        return NextDay(
            tuple(made.band(amount) for amount in self._by(method, count)),
            method,
            Backtest(len(tried), errors[method], errors[Method.SEASONAL_NAIVE], made.coverage),
        )

    def _candidates(self, count: int, tried: int) -> list[Method]:
        found = [Method.SEASONAL_NAIVE, Method.BLEND]
        if tried >= _MIN_TRIED:
            found.append(Method.MEDIAN)
        if count >= MIN_WEEKS * WEEK:
            found += [Method.WEEKLY_BLEND, Method.SAME_WEEKDAY]
        return found

    def _error(self, method: Method, tried: Sequence[int]) -> float:
        """Returns the method's mean absolute error per hour."""
        total = sum(
            abs(actual - forecast)
            for day in tried
            for actual, forecast in zip(self._days[day], self._by(method, day), strict=True)
        )
        return total / sum(len(self._days[day]) for day in tried)

    def _by(self, method: Method, after: int) -> Day:
        key = (after, method)
        if key not in self._made:
            self._made[key] = self._forecast_by(method, after)
        return self._made[key]

    def _forecast_by(self, method: Method, after: int) -> Day:
        if method is Method.SEASONAL_NAIVE:
            return self._days[after - 1]
        if method is Method.SAME_WEEKDAY and not self._idle(after):
            return same_weekday(self._days[max(0, after - LOOK_BACK) : after])
        found = self._profiles_of(after, weekly=method is Method.WEEKLY_BLEND)
        return found.median if method is Method.MEDIAN else found.blend

    def _idle(self, after: int) -> bool:
        """Returns True if the last of the first `after` days had no use, and its weekday had some a week before."""
        before = self._days[max(0, after - 1 - WEEK) : after - WEEK]
        return not any(self._days[after - 1]) and any(map(any, before))

    def _profiles_of(self, after: int, *, weekly: bool) -> Profiles:
        key = (after, weekly)
        if key not in self._profiles:
            # A multiple of a week is cut off, so that each day keeps its place in the week.
            first = max(0, after - (WEEKS if weekly else LOOK_BACK // WEEK) * WEEK) // WEEK * WEEK
            past = self._days[first:after]
            self._profiles[key] = profiles(past, weekday_weights(past)) if weekly else profiles(past)
        return self._profiles[key]


def _choose(errors: dict[Method, float]) -> Method:
    best = min(errors, key=lambda method: errors[method])
    if best in (Method.SEASONAL_NAIVE, Method.BLEND) or errors[best] < (1 - _CLEARLY) * errors[Method.BLEND]:
        return best
    return Method.BLEND if errors[Method.BLEND] < errors[Method.SEASONAL_NAIVE] else Method.SEASONAL_NAIVE
