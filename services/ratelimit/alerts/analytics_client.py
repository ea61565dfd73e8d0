"""Sends alerts on quotas to analytics, which keeps and lists them."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.errors import Unavailable
from libs.rpc import channel as rpc
from libs.rpc.convert import duration_to_proto, timestamp_to_proto
from libs.rpc.status import from_rpc_error
from services.ratelimit.alerts.burn import Alert

#: Seconds for one call.
TIMEOUT = 10.0


class AnalyticsAlerts:
    """Satisfies `alerts.AlertSink`."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._token = token

    async def put(self, alerts: Sequence[Alert]) -> None:
        """Records the alerts. Raises Unavailable."""
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
        scope=str(alert.key.scope),
        unit=alert.key.unit,
        period=alert.key.period,
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
        percent=alert.percent,
        difference=alert.difference,
        window_end=timestamp_to_proto(alert.window_end),
    )
