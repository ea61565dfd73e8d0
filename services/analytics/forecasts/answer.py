"""Answers a question from a history: totals, the next day's hours, and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from libs.forecast.days_ahead import DaysAhead, forecast_days_ahead
from libs.forecast.exhaustion import TimeToExhaustion, time_to_exhaustion
from libs.forecast.growth import Growth, forecast_growth
from libs.forecast.intervals import Band
from libs.forecast.next_day import Backtest, Method, NextDay, forecast_next_day
from libs.forecast.profile import NotEnoughHistory
from libs.limits import Period, ScopeKind, Unit
from services.analytics.forecasts.history import HOUR, History, Measure, Part, UseKey
from services.analytics.forecasts.question import (
    Limit,
    Question,
    day_ends,
    day_start,
    month_end,
    month_start,
)
from services.analytics.forecasts.what_if import change

#: Groups that are forecast by themselves, those with the most use; the others are one group.
MAX_GROUPS: Final = 20
#: Days of a mean month, by which a month's limit is compared with days.
_DAYS_OF_MONTH = 30.4
#: Seconds within which a day ends, and the next one does not.
_LONGEST_DAY = 26 * HOUR
#: Measures by the unit of a limit. Callers' limits count requests, providers' the calls that reach them.
_MEASURES = {
    Unit.REQUESTS: Measure.ATTEMPTS,
    Unit.INPUT_TOKENS: Measure.INPUT_TOKENS,
    Unit.OUTPUT_TOKENS: Measure.OUTPUT_TOKENS,
    Unit.TOTAL_TOKENS: Measure.TOKENS,
    Unit.MICRO_USD: Measure.COST,
}


@dataclass(frozen=True, slots=True)
class Total:
    """The use from the beginning of the month of `as_of` until an instant (epoch seconds)."""

    at: float
    band: Band


@dataclass(frozen=True, slots=True)
class Projection:
    """Use to come: `totals` at the end of each day, the last one at the question's end; the method and backtest of
    totals. `next_day`: the next 24 hours."""

    totals: tuple[Total, ...]
    method: Method
    backtest: Backtest
    next_day: NextDay


@dataclass(frozen=True, slots=True)
class Row:
    """A group's forecast. `group` None: all of it. `others`: groups that this one sums up, 0: it is one. `used`:
    since the month's beginning, up to the history's end; micro-USD, tokens or requests."""

    group: str | None
    others: int
    used: float
    projection: Projection | NotEnoughHistory


@dataclass(frozen=True, slots=True)
class LimitOutlook:
    """A limit against use. `peak`: the most used in one period so far (of a limit per second or minute: the mean over
    the busiest hour). `exhaustion`: of the present day or month, None: it has another period. `growth`: when a day's
    peak reaches the limit, by the trend."""

    limit: Limit
    used: float
    peak: float
    exhaustion: TimeToExhaustion | NotEnoughHistory | None
    growth: Growth | NotEnoughHistory


@dataclass(frozen=True, slots=True)
class Answer:
    """The forecast of a question, made from the history that ends at `as_of` (epoch seconds). `history_days`: whole
    days with use in it. `planned`: the rows under the question's plan, empty without one; limits are compared with
    what holds under the plan."""

    as_of: float
    until: float
    history_days: int
    rows: tuple[Row, ...]
    planned: tuple[Row, ...]
    limits: tuple[LimitOutlook, ...]


def answer(question: Question, history: History) -> Answer:
    """Forecasts. Takes some 100 ms a group. Raises InvalidArgument and FailedPrecondition for a plan that does not
    fit the history."""
    as_of = float(question.hours[1] * HOUR)
    planned = change(history, question.what_if) if question.what_if is not None else None
    everything = history.total(Measure.ATTEMPTS, history.series)
    first = next((i for i, amount in enumerate(everything) if amount), len(everything))
    return Answer(
        as_of,
        question.end,
        (len(everything) - first) // 24,
        tuple(_rows(question, history, as_of)),
        tuple(_rows(question, planned, as_of)) if planned is not None else (),
        tuple(
            _limit(limit, history if planned is None else planned, as_of, question.zone)
            for limit in question.limits
        ),
    )


def _rows(question: Question, history: History, as_of: float) -> Iterator[Row]:
    def row(group: str | None, keys: Sequence[UseKey], others: int = 0) -> Row:
        hours = history.total(question.measure, keys)
        start = month_start(as_of, question.zone)
        used = _since(hours, history.first, start)
        return Row(group, others, used, _projection(hours, used, as_of, question))

    yield row(None, list(history.series))
    if question.by is None:
        return
    groups: dict[str, list[UseKey]] = {}
    for key in history.series:
        groups.setdefault(_name(key, question.by), []).append(key)
    weight = {name: sum(history.total(question.measure, keys)) for name, keys in groups.items()}
    ranked = sorted(groups, key=lambda name: (-weight[name], name))
    shown = ranked if len(ranked) <= MAX_GROUPS else ranked[: MAX_GROUPS - 1]
    for name in shown:
        yield row(name, groups[name])
    rest = ranked[len(shown) :]
    if rest:
        yield row("", [key for name in rest for key in groups[name]], len(rest))


def _name(key: UseKey, part: Part) -> str:
    if part is Part.TENANT:
        return key.tenant
    return key.provider if part is Part.PROVIDER else f"{key.provider}/{key.model}"


def _since(hours: Sequence[float], first: int, start: float) -> float:
    """Returns the use since an instant; of an hour that it cuts, the part after it."""
    place = max(0.0, start / HOUR - first)
    whole = int(place)
    if whole >= len(hours):
        return 0.0
    return hours[whole] * (1 - (place - whole)) + sum(hours[whole + 1 :])


def _projection(
    hours: Sequence[float], used: float, as_of: float, question: Question
) -> Projection | NotEnoughHistory:
    ahead = forecast_days_ahead(hours, question.end - as_of)
    next_day = forecast_next_day(hours)
    if isinstance(ahead, NotEnoughHistory):
        return ahead
    if isinstance(next_day, NotEnoughHistory):
        return next_day
    return Projection(tuple(_totals(ahead, used, as_of, question)), ahead.method, ahead.backtest, next_day)


def _totals(ahead: DaysAhead, used: float, as_of: float, question: Question) -> Iterator[Total]:
    for end in day_ends(as_of, question.end, question.zone):
        band = ahead.band(end - as_of)
        yield Total(end, Band(used + band.p10, used + band.p50, used + band.p90))


def _limit(limit: Limit, history: History, as_of: float, zone: ZoneInfo) -> LimitOutlook:
    scope, period = limit.key.scope, limit.key.period
    measure = _MEASURES[limit.key.unit]
    if measure is Measure.ATTEMPTS and scope.kind is ScopeKind.TENANT:
        measure = Measure.REQUESTS
    belongs: dict[ScopeKind, Callable[[UseKey], bool]] = {
        ScopeKind.TENANT: lambda key: key.tenant == scope.name,
        ScopeKind.PROVIDER: lambda key: key.provider == scope.name,
        ScopeKind.MODEL: lambda key: f"{key.provider}/{key.model}" == scope.name,
    }
    hours = history.total(measure, filter(belongs[scope.kind], history.series))
    begun = next((i for i, amount in enumerate(hours) if amount), len(hours))
    days = [hours[max(begun, end - 24) : end] for end in range(len(hours), begun, -24)][::-1]
    if days and len(days[0]) < 24:
        days = days[1:]
    if period.calendar:
        per_period = _DAYS_OF_MONTH if period is Period.MONTH else 1.0
        peaks = [sum(day) * per_period for day in days]
    else:
        peaks = [max(day) * period.seconds / HOUR for day in days]
    used, exhaustion = 0.0, None
    if period.calendar:
        monthly = period is Period.MONTH
        used = _since(hours, history.first, month_start(as_of, zone) if monthly else day_start(as_of, zone))
        end = month_end(as_of, zone) if monthly else day_ends(as_of, as_of + _LONGEST_DAY, zone)[0]
        ahead = forecast_days_ahead(hours, end - as_of)
        exhaustion = (
            ahead
            if isinstance(ahead, NotEnoughHistory)
            else time_to_exhaustion(ahead.use, limit.limit - used, 0.0, end - as_of)
        )
    return LimitOutlook(limit, used, max(peaks, default=0.0), exhaustion, forecast_growth(peaks, limit.limit))
