"""A client for forecasts of spend, tokens and requests, as typed results. `key` is the service token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc
from pointsman.types.v1 import types_pb2

from libs.client.connection import ServiceClient
from libs.rpc.convert import duration_from_proto, timestamp_from_proto, timestamp_to_proto


class ForecastMeasure(StrEnum):
    """An amount that is forecast; cost in micro-USD."""

    COST = "cost"
    TOKENS = "tokens"
    REQUESTS = "requests"


class ForecastGroup(StrEnum):
    """The names that a forecast can be split by."""

    TENANT = "tenant"
    PROVIDER = "provider"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class ForecastLimit:
    """A limit to compare with; names as of QuotaState. `time_zone`: of its day or month, "": the question's."""

    scope: str
    unit: str
    period: str
    limit: int
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model of a provider; `model` empty: all of the provider's."""

    provider: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class ModelReplacement:
    """Moves to `new` all that went to `old`. `price`: micro-USD per million tokens; None: as paid there so far."""

    old: PlannedModel
    new: PlannedModel
    price: int | None = None


@dataclass(frozen=True, slots=True)
class ForecastPlan:
    """A what-if: all traffic times `growth`; providers lost; prices times a factor; models replaced."""

    growth: float = 1.0
    lost_providers: Sequence[str] = ()
    prices: Sequence[tuple[PlannedModel, float]] = ()
    replacements: Sequence[ModelReplacement] = ()


@dataclass(frozen=True, slots=True)
class AmountBand:
    """10th, 50th and 90th percentile."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class ForecastTotal:
    """The amount used from the beginning of the month until `at` (epoch seconds)."""

    at: float
    amount: AmountBand


@dataclass(frozen=True, slots=True)
class ForecastBacktest:
    """The errors of forecasts of the past, and of the seasonal-naive ones. `coverage`: share within the band, None:
    too few."""

    forecasts: int
    error: float
    naive_error: float
    coverage: float | None


@dataclass(frozen=True, slots=True)
class HistoryTooShort:
    """There are `days` of history and `needed` are."""

    days: int
    needed: int


@dataclass(frozen=True, slots=True)
class ForecastProjection:
    """Use to come: totals at the end of each day, and the next 24 hours."""

    totals: tuple[ForecastTotal, ...]
    method: str
    backtest: ForecastBacktest
    hours: tuple[AmountBand, ...]
    hours_method: str
    hours_backtest: ForecastBacktest


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """A group's forecast; `group` None: everything, or `others` groups as one. `used`: since the month's beginning.
    One of `projection` and `too_short` is set."""

    group: str | None
    others: int
    used: float
    projection: ForecastProjection | None
    too_short: HistoryTooShort | None


@dataclass(frozen=True, slots=True)
class LimitForecast:
    """The forecast of a limit: when it will be used up (`probability` None: not told; `exhausted_p50` seconds, None:
    not before the reset) and outgrown (days; None: not within a year, or not told where `too_short` is set)."""

    limit: ForecastLimit
    used: float
    peak: float
    probability: float | None
    exhausted_p50: float | None
    growth_per_day: float | None
    outgrown_days_p10: int | None
    outgrown_days_p50: int | None
    outgrown_days_p90: int | None
    too_short: HistoryTooShort | None


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts made from the history that ends at `as_of`, until `until` (epoch seconds). `planned`: under the
    plan."""

    as_of: float
    until: float
    history_days: int
    rows: tuple[ForecastRow, ...]
    planned: tuple[ForecastRow, ...]
    limits: tuple[LimitForecast, ...]


@dataclass(frozen=True, slots=True)
class ForecastQuestion:
    """A question for forecasts. Empty filters take all; `until` None: the end of the month in `time_zone`."""

    measure: ForecastMeasure = ForecastMeasure.COST
    by: ForecastGroup | None = None
    tenant: str = ""
    provider: str = ""
    model: str = ""
    time_zone: str = ""
    until: float | None = None
    limits: Sequence[ForecastLimit] = ()
    plan: ForecastPlan | None = field(default=None)


class ForecastClient(ServiceClient):
    """Calls analytics for forecasts."""

    service = "pointsman.analytics.v1.Analytics"
    _stub: analytics_pb2_grpc.AnalyticsAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)

    async def get_forecast(self, question: ForecastQuestion, *, timeout: float | None = None) -> Forecasts:
        """Returns the forecasts."""
        self._open()
        request = pb.GetForecastRequest(
            measure=f"FORECAST_MEASURE_{question.measure.name}",
            group_by=f"GROUP_BY_{question.by.name}" if question.by else None,
            tenant=question.tenant,
            provider=question.provider,
            model=question.model,
            time_zone=question.time_zone,
            until=timestamp_to_proto(question.until),
            limits=[
                pb.ForecastLimit(
                    scope=one.scope,
                    unit=one.unit,
                    period=one.period,
                    limit=one.limit,
                    time_zone=one.time_zone,
                )
                for one in question.limits
            ],
            what_if=_plan(question.plan) if question.plan is not None else None,
        )
        found = await self._unary(self._stub.GetForecast, request, timeout)
        return Forecasts(
            timestamp_from_proto(found.as_of),
            timestamp_from_proto(found.until),
            found.history_days,
            tuple(_row(row) for row in found.rows),
            tuple(_row(row) for row in found.planned),
            tuple(_limit(item) for item in found.limits),
        )


def _plan(plan: ForecastPlan) -> pb.WhatIf:
    return pb.WhatIf(
        growth=plan.growth,
        lost_providers=plan.lost_providers,
        prices=[
            pb.PriceChange(provider=target.provider, model=target.model, factor=factor)
            for target, factor in plan.prices
        ],
        replacements=[
            pb.ModelReplacement(
                provider=one.old.provider,
                model=one.old.model,
                new_provider=one.new.provider,
                new_model=one.new.model,
                price_per_million=None if one.price is None else types_pb2.Money(micro_usd=one.price),
            )
            for one in plan.replacements
        ],
    )


def _row(row: pb.ForecastRow) -> ForecastRow:
    return ForecastRow(
        row.group if row.HasField("group") else None,
        row.others,
        row.used,
        _projection(row.projection) if row.HasField("projection") else None,
        _too_short(row.not_enough_history) if row.HasField("not_enough_history") else None,
    )


def _projection(found: pb.ForecastProjection) -> ForecastProjection:
    return ForecastProjection(
        tuple(ForecastTotal(timestamp_from_proto(one.at), _band(one.amount)) for one in found.totals),
        _method(found.method),
        _backtest(found.backtest),
        tuple(_band(band) for band in found.hours),
        _method(found.hours_method),
        _backtest(found.hours_backtest),
    )


def _method(number: int) -> str:
    # A newer server's is shown as its number.
    names = pb.ForecastMethod.keys()
    return names[number].removeprefix("FORECAST_METHOD_").lower() if number < len(names) else str(number)


def _band(band: pb.AmountBand) -> AmountBand:
    return AmountBand(band.p10, band.p50, band.p90)


def _backtest(made: pb.ForecastBacktest) -> ForecastBacktest:
    return ForecastBacktest(
        made.forecasts, made.error, made.naive_error, made.coverage if made.HasField("coverage") else None
    )


def _too_short(found: pb.NotEnoughHistory) -> HistoryTooShort:
    return HistoryTooShort(found.days, found.needed)


def _limit(item: pb.LimitForecast) -> LimitForecast:
    limit = item.limit
    return LimitForecast(
        ForecastLimit(limit.scope, limit.unit, limit.period, limit.limit, limit.time_zone),
        item.used,
        item.peak,
        item.probability if item.HasField("probability") else None,
        duration_from_proto(item.exhausted_p50) if item.HasField("exhausted_p50") else None,
        item.growth_per_day if item.HasField("growth_per_day") else None,
        item.outgrown_days_p10 if item.HasField("outgrown_days_p10") else None,
        item.outgrown_days_p50 if item.HasField("outgrown_days_p50") else None,
        item.outgrown_days_p90 if item.HasField("outgrown_days_p90") else None,
        _too_short(item.not_enough_history) if item.HasField("not_enough_history") else None,
    )
