"""The client of alerts, as typed results. `key` is the service token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.client.connection import ServiceClient
from libs.client.operations import enum_name
from libs.rpc.convert import duration_from_proto, timestamp_from_proto, timestamp_to_proto


@dataclass(frozen=True, slots=True)
class AlertMover:
    """A part of the change that an alert is about: one value of one dimension, its amount now and in the same time of
    earlier days, and its `share` of the whole change."""

    dimension: str
    value: str
    amount: int
    expected: int
    share: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: of a quota, or of spend, errors and reliability. Instants are epoch seconds; `cleared` None: it is
    not over. `amount` is in `unit` ("ppm": millionths), over the last `span` seconds, None: a quota's window so far.
    `expected` and `high`: the amount of earlier days, and the most that would be no alert. None where a kind has
    none, `percent` 0. `acknowledged_by` empty: nobody looks after it."""

    alert_id: str
    kind: str
    severity: str
    subject: Mapping[str, str]
    sentence: str
    raised: float
    cleared: float | None
    standing: bool
    as_of: float
    amount: int
    unit: str
    span: float | None
    expected: int | None
    high: int | None
    movers: tuple[AlertMover, ...]
    limit: int | None
    window_start: float | None
    percent: int
    burn_rate: float | None
    probability: float | None
    acknowledged_by: str
    acknowledged_at: float | None
    note: str
    silenced: bool


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """A message to a watcher: all that stand (`snapshot`), or what was raised, has changed or is over."""

    snapshot: bool
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that have all of `matchers` are not sent to webhooks from `since` until `until`, epoch seconds."""

    silence_id: str
    matchers: Mapping[str, str]
    since: float
    until: float
    by: str
    reason: str


class AlertClient(ServiceClient):
    """Calls analytics about alerts."""

    service = "pointsman.analytics.v1.Analytics"
    _stub: analytics_pb2_grpc.AnalyticsAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)

    async def list_alerts(
        self,
        subject: Mapping[str, str] | None = None,
        *,
        kinds: Sequence[str] = (),
        severity: str = "",
        since: float | None = None,
        timeout: float | None = None,
    ) -> tuple[Alert, ...]:
        """Returns the alerts that stand, and those raised from `since` on (None: no others), from all pages. `kinds`
        as in "spend_anomaly", `severity` as in "warning": at least this; `subject`: values by dimension."""
        self._open()
        choice = _filter(subject or {}, kinds, severity)
        found: list[Alert] = []
        token = ""
        while True:
            request = pb.ListAlertsRequest(filter=choice, since=timestamp_to_proto(since), page_token=token)
            response = await self._unary(self._stub.ListAlerts, request, timeout)
            found += map(_alert, response.alerts)
            token = response.next_page_token
            if not token:
                return tuple(found)

    async def watch(
        self, subject: Mapping[str, str] | None = None, *, kinds: Sequence[str] = (), severity: str = ""
    ) -> AsyncIterator[AlertUpdate]:
        """Yields the alerts that stand, then changes, until the call fails."""
        self._open()
        request = pb.WatchAlertsRequest(filter=_filter(subject or {}, kinds, severity))
        async for response in self._stream(self._stub.WatchAlerts, request, None):
            yield AlertUpdate(response.snapshot, tuple(map(_alert, response.alerts)))

    async def acknowledge(
        self, alert_id: str, by: str, note: str = "", *, timeout: float | None = None
    ) -> Alert:
        """Notes that `by` looks after an alert; the first word stands. Raises NotFound."""
        self._open()
        request = pb.AcknowledgeAlertRequest(alert_id=alert_id, by=by, note=note)
        response = await self._unary(self._stub.AcknowledgeAlert, request, timeout)
        return _alert(response.alert)

    async def silence(
        self,
        matchers: Mapping[str, str],
        until: float,
        by: str,
        reason: str,
        *,
        since: float | None = None,
        timeout: float | None = None,
    ) -> Silence:
        """Keeps alerts that match from being sent, from `since` (None: now) until `until`."""
        self._open()
        silence = pb.Silence(
            matchers=matchers,
            from_time=timestamp_to_proto(since),
            until=timestamp_to_proto(until),
            by=by,
            reason=reason,
        )
        request = pb.SilenceAlertsRequest(silence=silence)
        response = await self._unary(self._stub.SilenceAlerts, request, timeout)
        return _silence(response.silence)

    async def silences(self, *, timeout: float | None = None) -> tuple[Silence, ...]:
        """Returns the silences that are in force or to come."""
        self._open()
        response = await self._unary(self._stub.ListSilences, pb.ListSilencesRequest(), timeout)
        return tuple(map(_silence, response.silences))

    async def delete_silence(self, silence_id: str, *, timeout: float | None = None) -> None:
        """Ends a silence. Raises NotFound."""
        self._open()
        request = pb.DeleteSilenceRequest(silence_id=silence_id)
        await self._unary(self._stub.DeleteSilence, request, timeout)


def _filter(subject: Mapping[str, str], kinds: Sequence[str], severity: str) -> pb.AlertFilter:
    """Raises ValueError for a kind or a severity that there is not."""
    return pb.AlertFilter(
        kinds=[f"ALERT_KIND_{kind.upper()}" for kind in kinds],
        severity=f"ALERT_SEVERITY_{severity.upper()}" if severity else None,
        subject=subject,
    )


def _alert(item: pb.Alert) -> Alert:
    expected, word = item.expected, item.acknowledged
    return Alert(
        alert_id=item.alert_id,
        kind=enum_name(pb.AlertKind.keys(), "ALERT_KIND_", item.kind, ""),
        severity=enum_name(pb.AlertSeverity.keys(), "ALERT_SEVERITY_", item.severity, ""),
        subject=dict(item.subject),
        sentence=item.sentence,
        raised=timestamp_from_proto(item.raised),
        cleared=timestamp_from_proto(item.cleared) if item.HasField("cleared") else None,
        standing=item.standing,
        as_of=timestamp_from_proto(item.as_of),
        amount=item.amount,
        unit=item.unit,
        span=duration_from_proto(item.span) if item.HasField("span") else None,
        expected=expected.amount if item.HasField("expected") else None,
        high=expected.high if expected.HasField("high") else None,
        movers=tuple(
            AlertMover(mover.dimension, mover.value, mover.amount, mover.expected, mover.share)
            for mover in item.movers
        ),
        limit=item.limit if item.HasField("limit") else None,
        window_start=timestamp_from_proto(item.window_start) if item.HasField("window_start") else None,
        percent=item.percent,
        burn_rate=item.burn_rate if item.HasField("burn_rate") else None,
        probability=item.probability if item.HasField("probability") else None,
        acknowledged_by=word.by,
        acknowledged_at=timestamp_from_proto(word.at) if item.HasField("acknowledged") else None,
        note=word.note,
        silenced=item.silenced,
    )


def _silence(item: pb.Silence) -> Silence:
    return Silence(
        item.silence_id,
        dict(item.matchers),
        timestamp_from_proto(item.from_time),
        timestamp_from_proto(item.until),
        item.by,
        item.reason,
    )
