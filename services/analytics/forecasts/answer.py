"""Answers a question from a history: totals, the next day's hours, and limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

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
    """The use from the beginning of the present month until an instant (epoch seconds)."""

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
    since the month's beginning, up to the history's end, whatever the plan; micro-USD, tokens or requests."""

    group: str | None
    others: int
    used: float
    projection: Projection | NotEnoughHistory


@dataclass(frozen=True, slots=True)
class LimitOutlook:
    """A limit against use. `used`: as it was, whatever the plan. `peak`: the most used in one period so far, under
    the plan (of a limit per second or minute: the mean over the busiest hour). `exhaustion`: of the present day or
    month, None: it has another period. `growth`: when a day's peak reaches the limit, by the trend."""

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
    plan = question.what_if
    asked = history
    planned = coming = None
    if plan is not None:
        planned = change(history, plan)
        coming = planned
        if plan.by_model:
            asked, coming = history.taken(question.filters), planned.taken(question.filters)
    everything = asked.total(Measure.ATTEMPTS, asked.series)
    first = next((i for i, amount in enumerate(everything) if amount), len(everything))
    return Answer(
        as_of,
        question.end,
        (len(everything) - first) // 24,
        tuple(_rows(question, asked, asked, as_of)),
        tuple(_rows(question, asked, coming, as_of)) if coming is not None else (),
        tuple(_limit(limit, history, planned or history, as_of, question) for limit in question.limits),
    )


def _rows(question: Question, past: History, coming: History, as_of: float) -> Iterator[Row]:
    """Yields the rows: used as in the `past`, forecast from `coming`, the same one or what a plan makes of it."""

    def row(group: str | None, named: Collection[str] | None, others: int = 0) -> Row:
        def hours(history: History) -> list[float]:
            keys = [key for key in history.series if named is None or _name(key, question.by) in named]
            return history.total(question.measure, keys)

        used = _since(hours(past), past.first, month_start(question.now, question.zone))
        return Row(group, others, used, _projection(hours(coming), used, as_of, question))

    yield row(None, None)
    if question.by is None:
        return
    weight: defaultdict[str, float] = defaultdict(float)
    for key in coming.series:
        weight[_name(key, question.by)] += sum(coming.total(question.measure, [key]))
    ranked = sorted(weight, key=lambda name: (-weight[name], name))
    shown = ranked if len(ranked) <= MAX_GROUPS else ranked[: MAX_GROUPS - 1]
    for name in shown:
        yield row(name, {name})
    rest = ranked[len(shown) :]
    if rest:
        yield row("", set(rest), len(rest))


def _name(key: UseKey, part: Part | None) -> str:
    if part is None:
        return ""
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
    # In zones that are half an hour off, the month may have begun after the history's end.
    begun = max(as_of, month_start(question.now, question.zone))
    ahead = forecast_days_ahead(hours, question.end - begun)
    next_day = forecast_next_day(hours)
    if isinstance(ahead, NotEnoughHistory):
        return ahead
    if isinstance(next_day, NotEnoughHistory):
        return next_day
    return Projection(tuple(_totals(ahead, used, begun, question)), ahead.method, ahead.backtest, next_day)


def _totals(ahead: DaysAhead, used: float, begun: float, question: Question) -> Iterator[Total]:
    for end in day_ends(begun, question.end, question.zone):
        band = ahead.band(end - begun)
        yield Total(end, Band(used + band.p10, used + band.p50, used + band.p90))


def _limit(limit: Limit, past: History, coming: History, as_of: float, question: Question) -> LimitOutlook:
    scope, period = limit.key.scope, limit.key.period
    measure = _MEASURES[limit.key.unit]
    if measure is Measure.ATTEMPTS and scope.kind is ScopeKind.TENANT:
        measure = Measure.REQUESTS
    belongs: dict[ScopeKind, Callable[[UseKey], bool]] = {
        ScopeKind.TENANT: lambda key: key.tenant == scope.name,
        ScopeKind.PROVIDER: lambda key: key.provider == scope.name,
        ScopeKind.MODEL: lambda key: f"{key.provider}/{key.model}" == scope.name,
    }
    mine = belongs[scope.kind]
    hours = coming.total(measure, filter(mine, coming.series))
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
        now, zone, monthly = question.now, question.zone_of(limit), period is Period.MONTH
        start = month_start(now, zone) if monthly else day_start(now, zone)
        end = month_end(now, zone) if monthly else day_ends(now, now + _LONGEST_DAY, zone)[0]
        used = _since(past.total(measure, filter(mine, past.series)), past.first, start)
        horizon = end - max(as_of, start)
        ahead = forecast_days_ahead(hours, horizon)
        exhaustion = (
            ahead
            if isinstance(ahead, NotEnoughHistory)
            else time_to_exhaustion(ahead.use, limit.limit - used, 0.0, horizon)
        )
    return LimitOutlook(limit, used, max(peaks, default=0.0), exhaustion, forecast_growth(peaks, limit.limit))
