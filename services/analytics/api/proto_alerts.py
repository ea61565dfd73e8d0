"""Alerts: proto ↔ values."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

import msgspec
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.rpc.convert import duration_from_proto, duration_to_proto, timestamp_to_proto
from services.analytics.alerts.alert import Acknowledged, Alert, AlertKind, KeptAlert, Severity, Silence
from services.analytics.alerts.quota_alert import QuotaAlert, QuotaAlertKind, alert_faults, alert_of
from services.analytics.alerts.sentence import sentence
from services.analytics.alerts.store import AlertFilter, Place
from services.analytics.api.proto_time import bounded_instant_from_proto

#: Kinds, dimensions and characters that a filter or a silence may name.
MAX_KINDS, MAX_MATCHERS, MAX_MATCHER = 16, 8, 256
#: Characters of a note or a reason, and seconds of a silence.
MAX_NOTE, LONGEST_SILENCE = 1024, 366 * 86_400.0

_OPTIONAL = ("cleared", "window_end")
_QUOTA_KINDS = {pb.QuotaAlertKind.Value(f"QUOTA_ALERT_KIND_{item.name}"): item for item in QuotaAlertKind}
_KINDS = {pb.AlertKind.Value(f"ALERT_KIND_{item.name}"): item for item in AlertKind}
_SEVERITIES = {pb.AlertSeverity.Value(f"ALERT_SEVERITY_{item.name}"): item for item in Severity}


def alerts_from_proto(alerts: Sequence[pb.QuotaAlert], now: float) -> list[Alert]:
    """Returns the alerts that a limiter sends, as of `now` where its clock is ahead: a record of the future would
    hide all that come before it. Raises InvalidArgument naming each wrong field."""
    faults: list[FieldViolation] = []
    found = []
    for i, alert in enumerate(alerts):
        field = f"alerts[{i}]"
        instants = {
            name: bounded_instant_from_proto(getattr(alert, name))
            for name in ("window_start", "said", "raised", "cleared", "window_end")
        }
        missing = [
            FieldViolation(f"{field}.{name}", "must be a timestamp from 1970 to 2200")
            for name in instants
            if instants[name] is None or (name not in _OPTIONAL and not alert.HasField(name))
        ]
        if alert.kind not in _QUOTA_KINDS:
            missing.append(FieldViolation(f"{field}.kind", "must be set to a known value"))
        if missing:
            faults += missing
            continue
        parsed = QuotaAlert(
            alert.scope,
            alert.unit,
            alert.period,
            _QUOTA_KINDS[alert.kind],
            instants["window_start"] or 0.0,
            min(now, instants["said"] or 0.0),
            min(now, instants["raised"] or 0.0),
            min(now, instants["cleared"] or 0.0) if alert.HasField("cleared") else None,
            alert.limit,
            alert.used,
            alert.burn_rate,
            alert.probability if alert.HasField("probability") else None,
            duration_from_proto(alert.time_to_exhaustion_p50)
            if alert.HasField("time_to_exhaustion_p50")
            else None,
            alert.percent,
            alert.difference,
            instants["window_end"] if alert.HasField("window_end") else None,
        )
        wrong = alert_faults(parsed, field)
        faults += wrong
        if not wrong:
            found.append(alert_of(parsed))
    if faults:
        raise InvalidArgument(faults)
    return found


def alert_to_proto(kept: KeptAlert, now: float) -> pb.Alert:
    """Returns the proto of an alert as it is at `now`."""
    alert = kept.alert
    expected = alert.expected
    quota = alert.limit is not None
    word = kept.acknowledged
    return pb.Alert(
        alert_id=alert.alert_id,
        kind=f"ALERT_KIND_{alert.kind.name}",
        severity=f"ALERT_SEVERITY_{alert.severity.name}",
        subject=dict(alert.subject),
        sentence=sentence(alert),
        raised=timestamp_to_proto(alert.raised),
        cleared=timestamp_to_proto(alert.cleared),
        standing=alert.stands(now),
        as_of=timestamp_to_proto(alert.as_of),
        amount=alert.amount,
        unit=alert.unit,
        expected=None
        if expected is None
        else pb.ExpectedAmount(amount=expected.amount, low=expected.low, high=expected.high),
        movers=[
            pb.AlertMover(**{name: getattr(mover, name) for name in mover.__slots__})
            for mover in alert.movers
        ],
        span=duration_to_proto(alert.span),
        limit=alert.limit,
        window_start=timestamp_to_proto(alert.episode if quota else None),
        percent=alert.percent,
        burn_rate=alert.burn_rate,
        probability=alert.probability,
        time_to_exhaustion_p50=duration_to_proto(alert.p50),
        acknowledged=None
        if word is None
        else pb.Acknowledgement(by=word.by, at=timestamp_to_proto(word.at), note=word.note),
        silenced=kept.silenced,
    )


def filter_from_proto(choice: pb.AlertFilter) -> AlertFilter:
    """Returns the filter. Raises InvalidArgument naming each wrong field."""
    check_count("filter.kinds", len(choice.kinds), MAX_KINDS)
    check_count("filter.subject", len(choice.subject), MAX_MATCHERS)
    faults = [
        FieldViolation(f"filter.kinds[{i}]", "must be a known kind")
        for i, kind in enumerate(choice.kinds)
        if kind not in _KINDS
    ]
    if choice.severity and choice.severity not in _SEVERITIES:
        faults.append(FieldViolation("filter.severity", "must be a known severity"))
    faults += _pair_faults("filter.subject", choice.subject)
    if faults:
        raise InvalidArgument(faults)
    return AlertFilter(
        frozenset(_KINDS[kind] for kind in choice.kinds),
        _SEVERITIES.get(choice.severity),
        dict(choice.subject),
        choice.acknowledged if choice.HasField("acknowledged") else None,
        choice.silenced if choice.HasField("silenced") else None,
    )


def place_from_proto(token: str) -> Place | None:
    """Returns the place that a page begins behind; None: at the beginning. Raises InvalidArgument for what is no
    token of ours."""
    if not token:
        return None
    try:
        if len(token) > MAX_MATCHER:
            raise ValueError
        place = msgspec.json.decode(base64.urlsafe_b64decode(token.encode("ascii")), type=Place)
        if not 0 <= place.raised < 2**53 or len(place.alert_id) > MAX_ID or "\0" in place.alert_id:
            raise ValueError
    except (ValueError, binascii.Error, msgspec.DecodeError):
        fault = FieldViolation("page_token", "is from no earlier page")
        raise InvalidArgument([fault], reason="BAD_PAGE_TOKEN") from None
    return place


def place_to_proto(last: KeptAlert, now: float) -> str:
    """Returns the token of the page behind an alert."""
    alert = last.alert
    place = Place(alert.stands(now), round(alert.raised * 1e6), alert.alert_id)
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def word_from_proto(request: pb.AcknowledgeAlertRequest, now: float) -> Acknowledged:
    """Returns the acknowledgement. Raises InvalidArgument naming each wrong field."""
    faults = [
        *_text_faults("alert_id", request.alert_id, MAX_ID),
        *_text_faults("by", request.by, MAX_ID),
        *_text_faults("note", request.note, MAX_NOTE, least=0),
    ]
    if faults:
        raise InvalidArgument(faults)
    return Acknowledged(request.by, now, request.note)


def silence_from_proto(silence: pb.Silence, silence_id: str, now: float) -> Silence:
    """Returns the silence under its new id. Raises InvalidArgument naming each wrong field."""
    check_count("silence.matchers", len(silence.matchers), MAX_MATCHERS)
    faults = [
        *_pair_faults("silence.matchers", silence.matchers),
        *_text_faults("silence.by", silence.by, MAX_ID),
        *_text_faults("silence.reason", silence.reason, MAX_NOTE),
    ]
    if not silence.matchers:
        faults.append(
            FieldViolation("silence.matchers", "must have an entry: nothing may silence everything")
        )
    since = bounded_instant_from_proto(silence.from_time) if silence.HasField("from_time") else now
    until = bounded_instant_from_proto(silence.until) if silence.HasField("until") else None
    if since is None:
        faults.append(FieldViolation("silence.from_time", "must be a timestamp from 1970 to 2200"))
    if until is None:
        faults.append(FieldViolation("silence.until", "must be set to a timestamp from 1970 to 2200"))
    elif until <= max(now, since or 0.0) or until - (since or now) > LONGEST_SILENCE:
        faults.append(
            FieldViolation("silence.until", "must be to come, after from_time, and at most a year after it")
        )
    if faults or since is None or until is None:
        raise InvalidArgument(faults)
    return Silence(silence_id, dict(silence.matchers), since, until, silence.by, silence.reason)


def check_silence_id(silence_id: str) -> None:
    """Raises InvalidArgument for what can be no id."""
    faults = _text_faults("silence_id", silence_id, MAX_ID)
    if faults:
        raise InvalidArgument(faults)


def silence_to_proto(silence: Silence) -> pb.Silence:
    return pb.Silence(
        silence_id=silence.silence_id,
        matchers=silence.matchers,
        from_time=timestamp_to_proto(silence.since),
        until=timestamp_to_proto(silence.until),
        by=silence.by,
        reason=silence.reason,
    )


def _pair_faults(field: str, pairs: Mapping[str, str]) -> list[FieldViolation]:
    return [
        FieldViolation(field, f"must have names and values of 1 to {MAX_MATCHER} characters without NUL")
        for pair in pairs.items()
        if any(not 0 < len(text) <= MAX_MATCHER or "\0" in text for text in pair)
    ]


def _text_faults(field: str, text: str, most: int, *, least: int = 1) -> list[FieldViolation]:
    if least <= len(text) <= most and "\0" not in text:
        return []
    return [FieldViolation(field, f"must have {least} to {most} characters and no NUL")]
