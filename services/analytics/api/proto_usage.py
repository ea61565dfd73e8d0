"""Usage events: proto → attempts."""

from __future__ import annotations

import msgspec
from google.protobuf.duration_pb2 import Duration
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.request_record import ConsideredModel as SentModel
from libs.request_record import RequestRecord as SentRequest
from libs.request_record import decode_request
from libs.rpc.convert import error_class_from_proto, finish_reason_from_proto, route_part_from_proto
from libs.types import Usage, UsageAccuracy
from services.analytics.api.proto_time import NANOS, instant_from_proto
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.record_bounds import MAX_LABELS, UnusableRecord, check_entries
from services.analytics.ledger.request import MAX_CANDIDATES, ConsideredModel, RequestRecord

MAX_EVENTS = 1000
#: More than any record has whose fields are within their bounds.
MAX_REQUEST_BYTES = 256 * 1024

_OUTCOMES = {pb.Outcome.Value(f"OUTCOME_{item.name}"): item for item in Outcome}
_ACCURACIES = {types_pb2.UsageAccuracy.Value(f"USAGE_ACCURACY_{item.name}"): item for item in UsageAccuracy}


def check_batch(request: pb.RecordUsageRequest) -> None:
    """Raises InvalidArgument naming each field of the batch that is out of its bounds."""
    faults = []
    check_count("events", len(request.events), MAX_EVENTS)
    check_count("requests", len(request.requests), MAX_EVENTS)
    if not (request.events or request.requests):
        faults.append(FieldViolation("events", f"must have 1 to {MAX_EVENTS} entries"))
    if request.sequence < 1:
        faults.append(FieldViolation("sequence", "must be at least 1"))
    if len(request.reporter_id) > MAX_ID:
        faults.append(FieldViolation("reporter_id", f"must have at most {MAX_ID} characters"))
    if faults:
        raise InvalidArgument(faults)


def attempt_from_proto(event: pb.UsageEvent) -> Attempt:
    """Returns the attempt that an event reports. Raises UnusableRecord."""
    check_entries("labels", len(event.labels), MAX_LABELS)
    outcome = _OUTCOMES.get(event.outcome)
    if outcome is None:
        raise UnusableRecord("outcome must be set to a known value")
    started = instant_from_proto(event.started)
    if started is None:
        raise UnusableRecord("started is not a valid timestamp")
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
        cache_saving_micro_usd=event.cache_saving.micro_usd,
        finish_reason=finish_reason_from_proto(event.finish_reason),
        streamed=event.streamed,
        hedge=event.hedge,
        labels=dict(event.labels),
        trace_id=event.trace_id,
        price_version=event.price_version,
        route_key=event.route_key,
        route_endpoint=event.route_endpoint,
        switched=route_part_from_proto(event.switched),
    )


def request_from_bytes(data: bytes) -> RequestRecord:
    """Returns the request that a record reports. Raises UnusableRecord."""
    if len(data) > MAX_REQUEST_BYTES:
        raise UnusableRecord(f"a request's record must have at most {MAX_REQUEST_BYTES} bytes")
    try:
        sent = decode_request(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnusableRecord(f"a request's record cannot be read: {error}") from None
    check_entries("candidates", len(sent.candidates), MAX_CANDIDATES)
    fields = {name: getattr(sent, name) for name in _AS_SENT}
    return RequestRecord(
        **fields,
        outcome=Outcome(sent.outcome),
        degradation=sent.degradation or "",
        capabilities=tuple(sent.capabilities),
        candidates=tuple(map(_considered, sent.candidates)),
    )


def _considered(sent: SentModel) -> ConsideredModel:
    scores = sent.scores
    return ConsideredModel(
        sent.model,
        sent.passed_over,
        sent.tier,
        scores.cost,
        scores.performance,
        scores.reliability,
        scores.suitability,
        scores.total,
        sent.estimated_micro_usd,
    )


_AS_SENT = tuple(
    name
    for name in SentRequest.__struct_fields__
    if name not in ("outcome", "degradation", "capabilities", "candidates")
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
    if not -NANOS < nanos < NANOS or (seconds > 0 > nanos) or (seconds < 0 < nanos):
        raise UnusableRecord(f"{name} is not a valid duration")
    return seconds + nanos / NANOS
