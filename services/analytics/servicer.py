"""Analytics over gRPC: proto ↔ domain, no decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc
from pointsman.types.v1 import types_pb2

from libs.bounds import MAX_ID
from libs.clock import Clock
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.rpc.convert import (
    duration_from_proto,
    duration_to_proto,
    error_class_from_proto,
    error_class_to_proto,
    finish_reason_from_proto,
    timestamp_to_proto,
    usage_to_proto,
)
from libs.types import Usage, UsageAccuracy
from services.analytics.domain.alert import AlertKind, QuotaAlert, alert_faults
from services.analytics.domain.attempt import Attempt, Outcome, UnusableAttempt, check_label_count
from services.analytics.domain.query import MAX_GROUPS, GroupBy, Interval, Query, default_range
from services.analytics.domain.report import CostRow, Group, PerformanceRow, Quantiles, ReliabilityRow
from services.analytics.ports import Alerts, Ledger
from services.analytics.record import Recorder

SERVICE = pb.DESCRIPTOR.services_by_name["Analytics"].full_name
MAX_EVENTS = 1000
MAX_ALERTS = 1000
_NANOS = 1_000_000_000

_OUTCOMES = {pb.Outcome.Value(f"OUTCOME_{item.name}"): item for item in Outcome}
_GROUPS = {pb.GroupBy.Value(f"GROUP_BY_{item.name}"): item for item in GroupBy}
_INTERVALS = {pb.Interval.Value(f"INTERVAL_{item.name}"): item for item in Interval}
_ALERTS = {pb.QuotaAlertKind.Value(f"QUOTA_ALERT_KIND_{item.name}"): item for item in AlertKind}
_ACCURACIES = {types_pb2.UsageAccuracy.Value(f"USAGE_ACCURACY_{item.name}"): item for item in UsageAccuracy}

Context = grpc.aio.ServicerContext[Any, Any]


class AnalyticsServicer(analytics_pb2_grpc.AnalyticsServicer):
    """Translates each rpc; raises `libs.errors`, which the server's layers turn into statuses."""

    def __init__(self, recorder: Recorder, ledger: Ledger, alerts: Alerts, clock: Clock) -> None:
        self._recorder = recorder
        self._ledger = ledger
        self._alerts = alerts
        self._clock = clock

    async def RecordUsage(
        self, requests: AsyncIterator[pb.RecordUsageRequest], context: Context
    ) -> AsyncIterator[pb.RecordUsageResponse]:
        """See the proto. The next batch is read once this one is durable: that is the backpressure."""
        async for request in requests:
            _check_batch(request)
            attempts: list[Attempt] = []
            response = pb.RecordUsageResponse(sequence=request.sequence)
            for event in request.events:
                try:
                    attempts.append(attempt_from_proto(event))
                except UnusableAttempt as error:
                    response.rejected.add(attempt_id=event.attempt_id[:MAX_ID], reason=str(error))
            refused = await self._recorder.record(attempts, malformed=len(response.rejected))
            for attempt_id, reason in refused.items():
                response.rejected.add(attempt_id=attempt_id, reason=reason)
            yield response

    async def GetCosts(self, request: pb.GetCostsRequest, context: Context) -> pb.GetCostsResponse:
        """See the proto."""
        report = await self._ledger.costs(query_from_proto(request.query, self._clock.now()))
        total = _cost(report.total)
        total.ClearField("group")
        return pb.GetCostsResponse(rows=[_cost(row) for row in report.rows], total=total)

    async def GetPerformance(
        self, request: pb.GetPerformanceRequest, context: Context
    ) -> pb.GetPerformanceResponse:
        """See the proto."""
        rows = await self._ledger.performance(query_from_proto(request.query, self._clock.now()))
        return pb.GetPerformanceResponse(rows=[_performance(row) for row in rows])

    async def GetReliability(
        self, request: pb.GetReliabilityRequest, context: Context
    ) -> pb.GetReliabilityResponse:
        """See the proto."""
        rows = await self._ledger.reliability(query_from_proto(request.query, self._clock.now()))
        return pb.GetReliabilityResponse(rows=[_reliability(row) for row in rows])

    async def RecordQuotaAlerts(
        self, request: pb.RecordQuotaAlertsRequest, context: Context
    ) -> pb.RecordQuotaAlertsResponse:
        """See the proto."""
        check_count("alerts", len(request.alerts), MAX_ALERTS)
        if not request.alerts:
            raise InvalidArgument([FieldViolation("alerts", f"must have 1 to {MAX_ALERTS} entries")])
        await self._alerts.record(alerts_from_proto(request.alerts))
        return pb.RecordQuotaAlertsResponse()

    async def ListQuotaAlerts(
        self, request: pb.ListQuotaAlertsRequest, context: Context
    ) -> pb.ListQuotaAlertsResponse:
        """See the proto."""
        faults = []
        since = _instant(request.since) if request.HasField("since") else None
        if request.HasField("since") and since is None:
            faults.append(FieldViolation("since", "must be a valid timestamp"))
        if not 0 <= request.page_size <= MAX_ALERTS:
            faults.append(FieldViolation("page_size", f"must be from 1 to {MAX_ALERTS}"))
        if faults:
            raise InvalidArgument(faults)
        most = request.page_size or MAX_ALERTS
        found = await self._alerts.list(request.scope, self._clock.now(), since, most)
        return pb.ListQuotaAlertsResponse(alerts=[_alert(alert) for alert in found])


def _check_batch(request: pb.RecordUsageRequest) -> None:
    faults = []
    check_count("events", len(request.events), MAX_EVENTS)
    if not request.events:
        faults.append(FieldViolation("events", f"must have 1 to {MAX_EVENTS} entries"))
    if request.sequence < 1:
        faults.append(FieldViolation("sequence", "must be at least 1"))
    if len(request.reporter_id) > MAX_ID:
        faults.append(FieldViolation("reporter_id", f"must have at most {MAX_ID} characters"))
    if faults:
        raise InvalidArgument(faults)


def attempt_from_proto(event: pb.UsageEvent) -> Attempt:
    """Returns the attempt that an event reports. Raises UnusableAttempt."""
    check_label_count(len(event.labels))
    outcome = _OUTCOMES.get(event.outcome)
    if outcome is None:
        raise UnusableAttempt("outcome must be set to a known value")
    started = _instant(event.started)
    if started is None:
        raise UnusableAttempt("started is not a valid timestamp")
    return Attempt(
        attempt_id=event.attempt_id,
        request_id=event.request_id,
        attempt_number=event.attempt_number,
        tenant=event.tenant,
        provider=event.provider,
        model=event.model,
        started=started,
        outcome=outcome,
        campaign=event.campaign,
        content_type=event.content_type,
        latency=_seconds("latency", event.latency) if event.HasField("latency") else None,
        time_to_first_token=(
            _seconds("time_to_first_token", event.time_to_first_token)
            if event.HasField("time_to_first_token")
            else None
        ),
        error_class=error_class_from_proto(event.error_class),
        http_status=event.http_status,
        usage=_usage(event.usage, event.cost.micro_usd),
        cost_micro_usd=event.cost.micro_usd,
        finish_reason=finish_reason_from_proto(event.finish_reason),
        streamed=event.streamed,
        hedge=event.hedge,
        labels=dict(event.labels),
        trace_id=event.trace_id,
    )


def alerts_from_proto(alerts: Sequence[pb.QuotaAlert]) -> list[QuotaAlert]:
    """Returns the alerts. Raises InvalidArgument naming each wrong field."""
    faults: list[FieldViolation] = []
    found = []
    for i, alert in enumerate(alerts):
        field = f"alerts[{i}]"
        instants = {
            name: _instant(getattr(alert, name)) for name in ("window_start", "said", "raised", "cleared")
        }
        missing = [
            FieldViolation(f"{field}.{name}", "must be a valid timestamp")
            for name in instants
            if instants[name] is None or (name != "cleared" and not alert.HasField(name))
        ]
        if alert.kind not in _ALERTS:
            missing.append(FieldViolation(f"{field}.kind", "must be set to a known value"))
        if missing:
            faults += missing
            continue
        parsed = QuotaAlert(
            alert.scope,
            alert.unit,
            alert.period,
            _ALERTS[alert.kind],
            instants["window_start"] or 0.0,
            instants["said"] or 0.0,
            instants["raised"] or 0.0,
            instants["cleared"] if alert.HasField("cleared") else None,
            alert.limit,
            alert.used,
            alert.burn_rate,
            alert.probability if alert.HasField("probability") else None,
            duration_from_proto(alert.time_to_exhaustion_p50)
            if alert.HasField("time_to_exhaustion_p50")
            else None,
        )
        faults += alert_faults(parsed, field)
        found.append(parsed)
    if faults:
        raise InvalidArgument(faults)
    return found


def _alert(alert: QuotaAlert) -> pb.QuotaAlert:
    return pb.QuotaAlert(
        scope=alert.scope,
        unit=alert.unit,
        period=alert.period,
        kind=f"QUOTA_ALERT_KIND_{alert.kind.name}",
        window_start=timestamp_to_proto(alert.window_start),
        said=timestamp_to_proto(alert.as_of),
        raised=timestamp_to_proto(alert.raised),
        cleared=timestamp_to_proto(alert.cleared),
        limit=alert.limit,
        used=alert.used,
        burn_rate=alert.burn_rate,
        probability=alert.probability,
        time_to_exhaustion_p50=duration_to_proto(alert.p50),
    )


def _usage(usage: types_pb2.Usage, cost_micro_usd: int) -> Usage:
    """Returns the tokens used. Nothing used is exactly nothing; an amount without an accuracy is uncertain."""
    accuracy = _ACCURACIES.get(usage.accuracy)
    if accuracy is None:
        claimed = (
            cost_micro_usd
            or usage.input_tokens
            or usage.output_tokens
            or usage.cache_read_tokens
            or usage.cache_write_tokens
            or usage.reasoning_tokens
        )
        accuracy = UsageAccuracy.UNCERTAIN if claimed else UsageAccuracy.EXACT
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        accuracy,
    )


def _seconds(name: str, duration: Duration) -> float:
    seconds, nanos = duration.seconds, duration.nanos
    if not -_NANOS < nanos < _NANOS or (seconds > 0 > nanos) or (seconds < 0 < nanos):
        raise UnusableAttempt(f"{name} is not a valid duration")
    return seconds + nanos / _NANOS


def _instant(timestamp: Timestamp) -> float | None:
    """Returns epoch seconds; None for what is not a timestamp."""
    if not 0 <= timestamp.nanos < _NANOS:
        return None
    return timestamp.seconds + timestamp.nanos / _NANOS


def query_from_proto(query: pb.Query, now: float) -> Query:
    """Returns the query, with its defaults at `now`. Raises InvalidArgument naming each wrong field."""
    check_count("query.group_by", len(query.group_by), MAX_GROUPS)
    faults = [
        FieldViolation(f"query.group_by[{i}]", "must be a known dimension")
        for i, dimension in enumerate(query.group_by)
        if dimension not in _GROUPS
    ]
    if query.interval and query.interval not in _INTERVALS:
        faults.append(FieldViolation("query.interval", "must be a known interval"))
    bounds: dict[str, float | None] = {}
    for name in ("from_time", "to_time"):
        timestamp: Timestamp = getattr(query, name)
        bounds[name] = _instant(timestamp) if query.HasField(name) else None
        if query.HasField(name) and bounds[name] is None:
            faults.append(FieldViolation(f"query.{name}", "must be a valid timestamp"))
    if faults:
        raise InvalidArgument(faults)
    since, until = default_range(now, bounds["from_time"], bounds["to_time"])
    return Query(
        since=since,
        until=until,
        group_by=tuple(_GROUPS[dimension] for dimension in query.group_by),
        interval=_INTERVALS.get(query.interval),
        time_zone=query.time_zone or "UTC",
        tenant=query.tenant or None,
        provider=query.provider or None,
        model=query.model or None,
        content_type=query.content_type or None,
        campaign=query.campaign or None,
    )


def _group(group: Group) -> pb.Group:
    return pb.Group(values=group.values, bucket=timestamp_to_proto(group.bucket))


def _cost(row: CostRow) -> pb.Cost:
    return pb.Cost(
        group=_group(row.group),
        cost=types_pb2.Money(micro_usd=row.cost_micro_usd),
        estimated_cost=types_pb2.Money(micro_usd=row.estimated_micro_usd),
        uncertain_cost=types_pb2.Money(micro_usd=row.uncertain_micro_usd),
        usage=usage_to_proto(row.usage),
        attempts=row.attempts,
        requests=row.requests,
    )


def _quantiles(value: Quantiles | None) -> pb.Quantiles | None:
    if value is None:
        return None
    return pb.Quantiles(
        p50=duration_to_proto(value.p50), p90=duration_to_proto(value.p90), p99=duration_to_proto(value.p99)
    )


def _performance(row: PerformanceRow) -> pb.Performance:
    return pb.Performance(
        group=_group(row.group),
        attempts=row.attempts,
        successes=row.successes,
        requests=row.requests,
        failovers=row.failovers,
        latency=_quantiles(row.latency),
        time_to_first_token=_quantiles(row.time_to_first_token),
        output_tokens_per_second=row.output_tokens_per_second,
    )


def _reliability(row: ReliabilityRow) -> pb.Reliability:
    errors = sorted(row.errors.items(), key=lambda item: (-item[1], item[0] or ""))
    return pb.Reliability(
        group=_group(row.group),
        attempts=row.attempts,
        successes=row.successes,
        failures=row.failures,
        cancelled=row.cancelled,
        unknown=row.unknown,
        success_rate=row.success_rate,
        errors=[pb.ErrorCount(error_class=error_class_to_proto(error), count=n) for error, n in errors],
        requests=row.requests,
        answered=row.answered,
        unanswered=row.unanswered,
        failovers=row.failovers,
        failover_rate=row.failover_rate,
        availability=row.availability,
    )
