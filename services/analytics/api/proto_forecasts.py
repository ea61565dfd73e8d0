"""Forecasts: proto → questions, answers → proto."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.forecast.growth import Growth
from libs.forecast.intervals import Band
from libs.forecast.next_day import Backtest, Method
from libs.forecast.profile import NotEnoughHistory
from libs.limits import LimitKey, Period, Unit, scope_of
from libs.rpc.convert import duration_to_proto, timestamp_to_proto
from services.analytics.api.proto_time import instant_from_proto
from services.analytics.forecasts.answer import Answer, LimitOutlook, Row
from services.analytics.forecasts.history import Filters, Measure, Part
from services.analytics.forecasts.question import MAX_LIMITS, Limit, Question
from services.analytics.forecasts.what_if import MAX_CHANGES, PriceChange, Replacement, Target, WhatIf

_MEASURES = {
    pb.FORECAST_MEASURE_UNSPECIFIED: Measure.COST,
    pb.FORECAST_MEASURE_COST: Measure.COST,
    pb.FORECAST_MEASURE_TOKENS: Measure.TOKENS,
    pb.FORECAST_MEASURE_REQUESTS: Measure.REQUESTS,
}
_PARTS = {
    pb.GROUP_BY_UNSPECIFIED: None,
    pb.GROUP_BY_TENANT: Part.TENANT,
    pb.GROUP_BY_PROVIDER: Part.PROVIDER,
    pb.GROUP_BY_MODEL: Part.MODEL,
}
_METHODS = {method: f"FORECAST_METHOD_{method.name}" for method in Method}


def question_from_proto(request: pb.GetForecastRequest, now: float) -> Question:
    """Returns the question at `now`. Raises InvalidArgument naming each wrong field."""
    faults = []
    if request.measure not in _MEASURES:
        faults.append(FieldViolation("measure", "must be a known measure"))
    if request.group_by not in _PARTS:
        faults.append(FieldViolation("group_by", "must be tenant, provider or model"))
    until = instant_from_proto(request.until) if request.HasField("until") else None
    if request.HasField("until") and until is None:
        faults.append(FieldViolation("until", "must be a valid timestamp"))
    limits = _limits(request.limits, faults)
    what_if = _what_if(request.what_if, faults) if request.HasField("what_if") else None
    if faults:
        raise InvalidArgument(faults)
    return Question(
        now,
        _MEASURES[request.measure],
        _PARTS[request.group_by],
        Filters(request.tenant or None, request.provider or None, request.model or None),
        request.time_zone or "UTC",
        until,
        limits,
        what_if,
    )


def _limits(limits: Sequence[pb.ForecastLimit], faults: list[FieldViolation]) -> tuple[Limit, ...]:
    check_count("limits", len(limits), MAX_LIMITS)
    found = []
    for i, limit in enumerate(limits):
        try:
            key = LimitKey(scope_of(limit.scope), Unit(limit.unit), Period(limit.period))
        except ValueError as error:
            faults.append(FieldViolation(f"limits[{i}]", str(error)))
        else:
            found.append(Limit(key, limit.limit, limit.time_zone))
    return tuple(found)


def _what_if(plan: pb.WhatIf, faults: list[FieldViolation]) -> WhatIf | None:
    check_count("what_if.lost_providers", len(plan.lost_providers), MAX_CHANGES)
    check_count("what_if.prices", len(plan.prices), MAX_CHANGES)
    check_count("what_if.replacements", len(plan.replacements), MAX_CHANGES)
    missing = [
        FieldViolation(f"what_if.prices[{i}].factor", "must be set")
        for i, change in enumerate(plan.prices)
        if not change.HasField("factor")
    ]
    if missing:
        faults += missing
        return None
    return WhatIf(
        plan.growth if plan.HasField("growth") else 1.0,
        tuple(plan.lost_providers),
        tuple(PriceChange(Target(item.provider, item.model), item.factor) for item in plan.prices),
        tuple(
            Replacement(
                Target(item.provider, item.model),
                Target(item.new_provider, item.new_model),
                item.price_per_million.micro_usd if item.HasField("price_per_million") else None,
            )
            for item in plan.replacements
        ),
    )


def answer_to_proto(answer: Answer) -> pb.GetForecastResponse:
    return pb.GetForecastResponse(
        as_of=timestamp_to_proto(answer.as_of),
        until=timestamp_to_proto(answer.until),
        history_days=answer.history_days,
        rows=[_row(row) for row in answer.rows],
        planned=[_row(row) for row in answer.planned],
        limits=[_limit(item) for item in answer.limits],
    )


def _row(row: Row) -> pb.ForecastRow:
    found = pb.ForecastRow(group=row.group, others=row.others, used=row.used)
    projection = row.projection
    if isinstance(projection, NotEnoughHistory):
        found.not_enough_history.CopyFrom(_too_short(projection))
        return found
    found.projection.CopyFrom(
        pb.ForecastProjection(
            totals=[
                pb.ForecastTotal(at=timestamp_to_proto(total.at), amount=_band(total.band))
                for total in projection.totals
            ],
            method=_METHODS[projection.method],
            backtest=_backtest(projection.backtest),
            hours=[_band(band) for band in projection.next_day.hours],
            hours_method=_METHODS[projection.next_day.method],
            hours_backtest=_backtest(projection.next_day.backtest),
        )
    )
    return found


def _band(band: Band) -> pb.AmountBand:
    return pb.AmountBand(p10=band.p10, p50=band.p50, p90=band.p90)


def _backtest(made: Backtest) -> pb.ForecastBacktest:
    return pb.ForecastBacktest(
        forecasts=made.forecasts, error=made.error, naive_error=made.naive_error, coverage=made.coverage
    )


def _too_short(found: NotEnoughHistory) -> pb.NotEnoughHistory:
    return pb.NotEnoughHistory(days=found.days, needed=found.needed)


def _limit(item: LimitOutlook) -> pb.LimitForecast:
    key = item.limit.key
    found = pb.LimitForecast(
        limit=pb.ForecastLimit(
            scope=str(key.scope),
            unit=key.unit,
            period=key.period,
            limit=item.limit.limit,
            time_zone=item.limit.time_zone,
        ),
        used=item.used,
        peak=item.peak,
    )
    soon = item.exhaustion
    if soon is not None and not isinstance(soon, NotEnoughHistory):
        found.probability = soon.probability
        for name, seconds in (("p10", soon.p10), ("p50", soon.p50), ("p90", soon.p90)):
            duration = duration_to_proto(seconds)
            if duration is not None:
                getattr(found, f"exhausted_{name}").CopyFrom(duration)
    if isinstance(item.growth, Growth):
        found.growth_per_day = item.growth.per_day
        for name, days in (("p10", item.growth.p10), ("p50", item.growth.p50), ("p90", item.growth.p90)):
            if days is not None:
                setattr(found, f"outgrown_days_{name}", days)
    else:
        found.not_enough_history.CopyFrom(_too_short(item.growth))
    return found
