"""Accounts of requests: proto → id asked for, values → proto."""

from __future__ import annotations

from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument
from libs.rpc.convert import (
    duration_to_proto,
    error_class_to_proto,
    finish_reason_to_proto,
    route_part_to_proto,
    timestamp_to_proto,
    usage_to_proto,
)
from services.analytics.ledger.account import Account
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.request import RequestRecord


def check_lookup(request: pb.GetRequestRequest) -> None:
    """Raises InvalidArgument naming each wrong field."""
    faults = [
        FieldViolation(name, f"must have at most {MAX_ID} characters and no NUL")
        for name in ("request_id", "attempt_id", "tenant")
        if len(getattr(request, name)) > MAX_ID or "\0" in getattr(request, name)
    ]
    if bool(request.request_id) == bool(request.attempt_id):
        faults.append(FieldViolation("request_id", "must be set where attempt_id is not, and only there"))
    if request.attempt_id and request.tenant:
        faults.append(FieldViolation("tenant", "must not be set with attempt_id"))
    if faults:
        raise InvalidArgument(faults)


def account_to_proto(account: Account) -> pb.RequestAccount:
    return pb.RequestAccount(
        record=None if account.record is None else _record(account.record),
        attempts=[_event(attempt) for attempt in account.attempts],
    )


def _record(record: RequestRecord) -> pb.RequestRecord:
    return pb.RequestRecord(
        record_id=record.record_id,
        request_id=record.request_id,
        tenant=record.tenant,
        campaign=record.campaign,
        content_type=record.content_type,
        labels=dict(record.labels),
        started=timestamp_to_proto(record.started),
        latency=duration_to_proto(record.latency),
        time_to_first_token=duration_to_proto(record.time_to_first_token),
        outcome=f"OUTCOME_{record.outcome.name}",
        error_reason=record.error_reason,
        attempts=record.attempts,
        failed_over=record.failed_over,
        degradation=record.degradation,
        strategy=record.strategy,
        policy=record.policy,
        policy_version=record.policy_version,
        estimated_input_tokens=record.estimated_input_tokens,
        max_output_tokens=record.max_output_tokens,
        capabilities=record.capabilities,
        candidates=[
            pb.ConsideredModel(**{name: getattr(model, name) for name in model.__slots__})
            for model in record.candidates
        ],
        provider=record.provider,
        model=record.model,
        probability=record.probability,
        queued=duration_to_proto(record.queued or None),
        paused=duration_to_proto(record.paused or None),
        cost=types_pb2.Money(micro_usd=record.cost_micro_usd),
        streamed=record.streamed,
        cached=record.cached,
        trace_id=record.trace_id,
    )


def _event(attempt: Attempt) -> pb.UsageEvent:
    return pb.UsageEvent(
        attempt_id=attempt.attempt_id,
        request_id=attempt.request_id,
        attempt_number=attempt.attempt_number,
        tenant=attempt.tenant,
        campaign=attempt.campaign,
        content_type=attempt.content_type,
        provider=attempt.provider,
        model=attempt.model,
        started=timestamp_to_proto(attempt.started),
        latency=duration_to_proto(attempt.latency),
        time_to_first_token=duration_to_proto(attempt.time_to_first_token),
        outcome=f"OUTCOME_{attempt.outcome.name}",
        error_class=error_class_to_proto(attempt.error_class),
        http_status=attempt.http_status,
        usage=usage_to_proto(attempt.usage),
        cost=types_pb2.Money(micro_usd=attempt.cost_micro_usd),
        finish_reason=finish_reason_to_proto(attempt.finish_reason),
        streamed=attempt.streamed,
        hedge=attempt.hedge,
        labels=dict(attempt.labels),
        trace_id=attempt.trace_id,
        price_version=attempt.price_version,
        switched=route_part_to_proto(attempt.switched),
    )
