"""Alerts on quotas: proto ↔ values."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.errors import FieldViolation, InvalidArgument
from libs.rpc.convert import duration_from_proto, duration_to_proto, timestamp_to_proto
from services.analytics.alerts.quota_alert import AlertKind, QuotaAlert, alert_faults
from services.analytics.api.proto_time import instant_from_proto

_ALERTS = {pb.QuotaAlertKind.Value(f"QUOTA_ALERT_KIND_{item.name}"): item for item in AlertKind}


def alerts_from_proto(alerts: Sequence[pb.QuotaAlert]) -> list[QuotaAlert]:
    """Returns the alerts. Raises InvalidArgument naming each wrong field."""
    faults: list[FieldViolation] = []
    found = []
    for i, alert in enumerate(alerts):
        field = f"alerts[{i}]"
        instants = {
            name: instant_from_proto(getattr(alert, name))
            for name in ("window_start", "said", "raised", "cleared")
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


def alert_to_proto(alert: QuotaAlert) -> pb.QuotaAlert:
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
