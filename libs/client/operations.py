"""Clients for operators: provider health, quotas and costs, as typed results. `key` is the service token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, Unpack

import grpc
from pointsman.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from pointsman.health.v1 import health_pb2, health_pb2_grpc
from pointsman.ratelimit.v1 import ratelimit_pb2, ratelimit_pb2_grpc

from libs.client.accounts import RequestAccount, account_from_proto
from libs.client.connection import ServiceClient
from libs.client.reports import (
    CostGroup,
    Costs,
    Failovers,
    Performance,
    Reliability,
    ReportQuestion,
    costs_from_proto,
    failovers_from_proto,
    performance_from_proto,
    question_to_proto,
    reliability_from_proto,
)
from libs.rpc.convert import duration_from_proto, timestamp_from_proto

#: Rows of a report's page.
PAGE: Final = 5000


@dataclass(frozen=True, slots=True)
class FailoverState:
    """Calls that leave a target until an instant (epoch seconds): those of these tenants and content types, empty: of
    all; to a provider and one of its models (empty: the next of the policy, and any)."""

    until: float
    reason: str
    tenants: tuple[str, ...]
    content_types: tuple[str, ...]
    to_provider: str
    to_model: str


@dataclass(frozen=True, slots=True)
class ProviderState:
    """The health of a provider, or of one model on it (`model` empty: the provider as a whole).

    `status` is "healthy", "recovering", "degraded", "down", "maintenance" or "unknown" (no evidence yet); `circuit`
    "closed", "open" or "half_open"; `mode` an operator's word, "automatic" where there is none, and `mode_version`
    counts how often it was said; `failovers`: calls of some that an operator has made leave it. Rates and `ramp` are
    0 to 1.
    """

    provider: str
    model: str
    status: str
    circuit: str
    mode: str
    reason: str
    error_rate: float
    success_rate: float
    calls: int
    consecutive_failures: int
    ramp: float
    response_time: float | None
    time_to_first_token: float | None
    last_checked: float | None
    open_until: float | None
    mode_version: int = 0
    failovers: tuple[FailoverState, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedState:
    """A limit as providers state it: the amount per period (`limit`), the confidence in it (0 to 1; enforced from
    0.75 on), from "headers" or "refusals", seen last at `seen` (epoch seconds) and `observations` times."""

    limit: int
    confidence: float
    source: str
    seen: float
    observations: int


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A limit and its present use, in its unit. `reset` None: it is whole. `learned` None: providers say nothing."""

    scope: str
    unit: str
    period: str
    limit: int
    used: int
    outstanding: int
    remaining: int
    burst_capacity: int
    requests_in_window: int
    reset: float | None
    window_start: float | None
    time_zone: str
    shadow: bool
    version: int
    learned: LearnedState | None = None
    pace: bool = False


@dataclass(frozen=True, slots=True)
class QuotaForecast:
    """A forecast of a limit: the `probability` (0 to 1) that it will be used up before it resets, and the instants,
    in seconds from now; None: not before the reset. `rate`: use per second over the recent past."""

    quota: QuotaState
    rate: float
    probability: float
    p10: float | None
    p50: float | None
    p90: float | None


class HealthClient(ServiceClient):
    """Calls the health monitor."""

    service = "pointsman.health.v1.ProviderHealth"
    _stub: health_pb2_grpc.ProviderHealthAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.ProviderHealthStub(channel)

    async def list_providers(
        self, provider: str = "", *, timeout: float | None = None
    ) -> tuple[ProviderState, ...]:
        """Returns the present judgement of every provider and model, or of one provider's."""
        self._open()
        request = health_pb2.ListProvidersRequest(provider=provider)
        response = await self._unary(self._stub.ListProviders, request, timeout)
        return tuple(provider_from_proto(item) for item in response.providers)


class QuotaClient(ServiceClient):
    """Calls the rate limiter."""

    service = "pointsman.ratelimit.v1.RateLimiter"
    _stub: ratelimit_pb2_grpc.RateLimiterAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = ratelimit_pb2_grpc.RateLimiterStub(channel)

    async def list_quotas(
        self, scopes: Sequence[str] = (), *, timeout: float | None = None
    ) -> tuple[QuotaState, ...]:
        """Returns every limit of these scopes (none given: of all) with its present use, all pages."""
        self._open()
        quotas: list[QuotaState] = []
        token = ""
        while True:
            request = ratelimit_pb2.ListQuotasRequest(scopes=scopes, page_token=token)
            response = await self._unary(self._stub.ListQuotas, request, timeout)
            quotas.extend(_quota(item) for item in response.quotas)
            token = response.next_page_token
            if not token:
                return tuple(quotas)

    async def forecast(
        self, scope: str, unit: str, period: str, *, timeout: float | None = None
    ) -> QuotaForecast:
        """Forecasts whether this limit will be used up. Names as of QuotaState. Raises NotFound where there is no
        such limit."""
        self._open()
        request = ratelimit_pb2.ForecastExhaustionRequest(
            scope=scope, unit=f"UNIT_{unit.upper()}", period=f"PERIOD_{period.upper() or 'UNSPECIFIED'}"
        )
        found = await self._unary(self._stub.ForecastExhaustion, request, timeout)
        times = [
            duration_from_proto(getattr(found, name)) if found.HasField(name) else None
            for name in ("time_to_exhaustion_p10", "time_to_exhaustion_p50", "time_to_exhaustion_p90")
        ]
        return QuotaForecast(_quota(found.quota), found.rate_per_second, found.probability, *times)


class _ReportRequest(Protocol):
    @property
    def query(self) -> analytics_pb2.Query: ...


class _ReportResponse(Protocol):
    @property
    def next_page_token(self) -> str: ...

    @property
    def rows(self) -> Any: ...


_Report = TypeVar("_Report", bound=_ReportResponse)


class CostClient(ServiceClient):
    """Calls analytics. Reports have all their rows, of however many pages; `timeout` is of each."""

    service = "pointsman.analytics.v1.Analytics"
    _stub: analytics_pb2_grpc.AnalyticsAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)

    async def get_costs(
        self,
        by: Sequence[CostGroup] = (),
        *,
        compare: bool = False,
        timeout: float | None = None,
        **question: Unpack[ReportQuestion],
    ) -> Costs:
        """Returns cost and tokens by at most 3 groups. `compare`: with the change against the period before."""
        self._open()
        request = analytics_pb2.GetCostsRequest(query=question_to_proto(by, question), compare=compare)
        return costs_from_proto(await self._all_pages(self._stub.GetCosts, request, timeout))

    async def get_performance(
        self,
        by: Sequence[CostGroup] = (),
        *,
        timeout: float | None = None,
        **question: Unpack[ReportQuestion],
    ) -> Performance:
        """Returns latency, speed and failovers by at most 3 groups."""
        self._open()
        request = analytics_pb2.GetPerformanceRequest(query=question_to_proto(by, question))
        return performance_from_proto(await self._all_pages(self._stub.GetPerformance, request, timeout))

    async def get_reliability(
        self,
        by: Sequence[CostGroup] = (),
        *,
        timeout: float | None = None,
        **question: Unpack[ReportQuestion],
    ) -> Reliability:
        """Returns outcomes of attempts and of requests by at most 3 groups."""
        self._open()
        request = analytics_pb2.GetReliabilityRequest(query=question_to_proto(by, question))
        return reliability_from_proto(await self._all_pages(self._stub.GetReliability, request, timeout))

    async def get_failovers(
        self,
        by: Sequence[CostGroup] = (),
        *,
        timeout: float | None = None,
        **question: Unpack[ReportQuestion],
    ) -> Failovers:
        """Returns what failovers saved and cost in at most 31 days, by at most 3 groups: those of each request's
        first attempt."""
        self._open()
        request = analytics_pb2.GetFailoversRequest(query=question_to_proto(by, question))
        return failovers_from_proto(await self._all_pages(self._stub.GetFailovers, request, timeout))

    async def _all_pages(
        self,
        call: grpc.aio.UnaryUnaryMultiCallable[Any, _Report],
        request: _ReportRequest,
        timeout: float | None,
    ) -> _Report:
        """Returns the answer with the rows of all pages."""
        request.query.page_size = PAGE
        first = found = await self._unary(call, request, timeout)
        while found.next_page_token:
            request.query.page_token = found.next_page_token
            found = await self._unary(call, request, timeout)
            first.rows.extend(found.rows)
        return first

    async def get_request(
        self,
        request_id: str = "",
        *,
        attempt_id: str = "",
        tenant: str = "",
        timeout: float | None = None,
    ) -> tuple[RequestAccount, ...]:
        """Returns the requests of an id (of one tenant, or of all), or the one of which an attempt was a part; the
        latest first. Raises NotFound."""
        self._open()
        request = analytics_pb2.GetRequestRequest(request_id=request_id, attempt_id=attempt_id, tenant=tenant)
        response = await self._unary(self._stub.GetRequest, request, timeout)
        return tuple(map(account_from_proto, response.requests))


def enum_name(names: list[str], prefix: str, number: int, unset: str) -> str:
    """Returns the word of a proto's value, `unset` for 0."""
    # Numbers of a newer server are shown rather than hidden.
    if number == 0:
        return unset
    return names[number].removeprefix(prefix).lower() if number < len(names) else str(number)


def provider_from_proto(item: health_pb2.ProviderHealthState) -> ProviderState:
    """Returns the state."""
    return ProviderState(
        provider=item.provider,
        model=item.model,
        status=enum_name(health_pb2.ProviderStatus.keys(), "PROVIDER_STATUS_", item.status, "unknown"),
        circuit=enum_name(health_pb2.CircuitState.keys(), "CIRCUIT_STATE_", item.circuit.state, "closed"),
        mode=enum_name(health_pb2.ProviderMode.keys(), "PROVIDER_MODE_", item.mode, "automatic"),
        reason=item.reason,
        error_rate=item.error_rate,
        success_rate=item.success_rate,
        calls=item.calls,
        consecutive_failures=item.consecutive_failures,
        ramp=item.ramp,
        response_time=duration_from_proto(item.response_time) if item.HasField("response_time") else None,
        time_to_first_token=(
            duration_from_proto(item.time_to_first_token) if item.HasField("time_to_first_token") else None
        ),
        last_checked=timestamp_from_proto(item.last_checked) if item.HasField("last_checked") else None,
        open_until=(
            timestamp_from_proto(item.circuit.open_until) if item.circuit.HasField("open_until") else None
        ),
        mode_version=item.mode_version,
        failovers=tuple(
            FailoverState(
                timestamp_from_proto(each.until),
                each.reason,
                tuple(each.tenants),
                tuple(each.content_types),
                each.to_provider,
                each.to_model,
            )
            for each in item.failovers
        ),
    )


def _quota(item: ratelimit_pb2.Quota) -> QuotaState:
    limit = item.limit
    return QuotaState(
        scope=limit.scope,
        unit=enum_name(ratelimit_pb2.Unit.keys(), "UNIT_", limit.unit, ""),
        period=enum_name(ratelimit_pb2.Period.keys(), "PERIOD_", limit.period, ""),
        limit=limit.limit,
        used=item.used,
        outstanding=item.outstanding,
        remaining=item.remaining,
        burst_capacity=item.burst_capacity,
        requests_in_window=item.requests_in_window,
        reset=timestamp_from_proto(item.reset) if item.HasField("reset") else None,
        window_start=timestamp_from_proto(item.window_start) if item.HasField("window_start") else None,
        time_zone=limit.time_zone,
        shadow=limit.shadow,
        version=limit.version,
        learned=_learned(item.learned) if item.HasField("learned") else None,
        pace=limit.pace,
    )


def _learned(item: ratelimit_pb2.LearnedLimit) -> LearnedState:
    return LearnedState(
        item.limit,
        item.confidence,
        enum_name(ratelimit_pb2.LearnedSource.keys(), "LEARNED_SOURCE_", item.source, ""),
        timestamp_from_proto(item.seen),
        item.observations,
    )
