"""What a limit's window has used so far, by the ledger of analytics; and what it is told of quotas."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.errors import Unavailable
from libs.rpc import channel as rpc
from libs.rpc.convert import duration_to_proto, timestamp_to_proto
from libs.rpc.status import from_rpc_error
from services.ratelimit.domain.burn import Alert
from services.ratelimit.domain.limits import Limit, Unit
from services.ratelimit.domain.windows import windows

#: A month of a busy tenant may take the ledger a while, seconds.
TIMEOUT = 10.0


class AnalyticsHistory:
    """Satisfies `ports.SpendHistory`."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._token = token

    async def spent(self, limit: Limit, now: float) -> int | None:
        """Attempts that began in the window and are in the ledger. Raises Unavailable."""
        query = query_of(limit, now)
        if query is None:
            return None
        try:
            answer = await self._stub.GetCosts(
                pb.GetCostsRequest(query=query), timeout=TIMEOUT, metadata=rpc.metadata(self._token)
            )
        except grpc.aio.AioRpcError as error:
            raise Unavailable(
                f"The ledger does not answer: {from_rpc_error(error).message}", reason="LEDGER_UNAVAILABLE"
            ) from error
        return _amount(limit.key.unit, answer.total)


class AnalyticsAlerts:
    """Satisfies `ports.AlertSink`."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._token = token

    async def put(self, alerts: Sequence[Alert]) -> None:
        """Raises Unavailable."""
        request = pb.RecordQuotaAlertsRequest(alerts=[_alert(alert) for alert in alerts])
        try:
            await self._stub.RecordQuotaAlerts(request, timeout=TIMEOUT, metadata=rpc.metadata(self._token))
        except grpc.aio.AioRpcError as error:
            raise Unavailable(
                f"Analytics does not take alerts: {from_rpc_error(error).message}",
                reason="LEDGER_UNAVAILABLE",
            ) from error


def _alert(alert: Alert) -> pb.QuotaAlert:
    return pb.QuotaAlert(
        scope=alert.key.scope,
        unit=alert.key.unit.name.lower(),
        period=alert.key.period.name.lower(),
        kind=f"QUOTA_ALERT_KIND_{alert.kind.name}",
        window_start=timestamp_to_proto(alert.window_start),
        said=timestamp_to_proto(alert.said),
        raised=timestamp_to_proto(alert.raised),
        cleared=timestamp_to_proto(alert.cleared),
        limit=alert.limit,
        used=alert.used,
        burn_rate=alert.burn_rate,
        probability=alert.probability,
        time_to_exhaustion_p50=duration_to_proto(alert.p50),
    )


def query_of(limit: Limit, now: float) -> pb.Query | None:
    """The attempts that the limit has counted since its window began; None: the ledger cannot tell them apart."""
    kind, _, name = limit.key.scope.partition(":")
    tenant, _, rest = name.partition("/")
    filters = {
        "tenant": {"tenant": name},
        "provider": {"provider": name},
        "model": {"model": name},
        "tenant_provider": {"tenant": tenant, "provider": rest},
        "tenant_content": {"tenant": tenant, "content_type": rest},
        "campaign": {"tenant": tenant, "campaign": rest},
    }.get(kind)
    # An empty filter would mean all.
    if filters is None or not all(filters.values()) or not limit.key.period.calendar:
        return None
    start = windows(limit.key.period, limit.time_zone, int(now * 1000)).start
    query = pb.Query(from_time=timestamp_to_proto(start / 1000))
    for field, value in filters.items():
        setattr(query, field, value)
    return query


def _amount(unit: Unit, total: pb.Cost) -> int:
    if unit is Unit.REQUESTS:
        return total.attempts
    if unit is Unit.INPUT_TOKENS:
        return total.usage.input_tokens
    if unit is Unit.OUTPUT_TOKENS:
        return total.usage.output_tokens
    if unit is Unit.TOTAL_TOKENS:
        return total.usage.input_tokens + total.usage.output_tokens
    return total.cost.micro_usd
