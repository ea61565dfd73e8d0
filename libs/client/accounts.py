"""The account of one request, as the ledger holds it. Instants are epoch seconds, durations seconds, money micro-USD;
None and empty: none, or not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pointsman.analytics.v1 import analytics_pb2

from libs.rpc.convert import (
    duration_from_proto,
    error_class_from_proto,
    finish_reason_from_proto,
    route_part_from_proto,
    timestamp_from_proto,
    usage_from_proto,
)
from libs.types import ErrorClass, FinishReason, RoutePart, Usage


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """One call to one provider. `outcome` is "success", "failure", "cancelled" or "unknown" (its router died);
    `price_version`: the price that its cost was computed with."""

    attempt_id: str
    number: int
    provider: str
    model: str
    started: float
    latency: float | None
    time_to_first_token: float | None
    outcome: str
    error_class: ErrorClass | None
    http_status: int
    usage: Usage
    cost_micro_usd: int
    price_version: str
    finish_reason: FinishReason | None
    streamed: bool
    hedge: bool
    trace_id: str
    #: The part of the provider's route that replaced the one by which the attempt before failed; None: none did.
    switched: RoutePart | None = None


@dataclass(frozen=True, slots=True)
class RecordedCandidate:
    """A model that was considered. `passed_over`: the reason, empty where it was a candidate; scores are 0 to 1."""

    model: str
    passed_over: str
    tier: int
    cost_score: float
    performance_score: float
    reliability_score: float
    suitability_score: float
    total_score: float
    estimated_micro_usd: int


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as its caller saw it, and what was decided for it. `probability`: the chance with which the first
    candidate was chosen; `queued` and `paused`: time in the queue for limits, and waiting for providers to come
    back."""

    record_id: str
    started: float
    latency: float
    time_to_first_token: float | None
    outcome: str
    error_reason: str
    attempts: int
    failed_over: bool
    degradation: str
    strategy: str
    policy: str
    policy_version: str
    estimated_input_tokens: int
    max_output_tokens: int
    capabilities: tuple[str, ...]
    candidates: tuple[RecordedCandidate, ...]
    provider: str
    model: str
    probability: float | None
    queued: float
    paused: float
    cost_micro_usd: int
    streamed: bool
    cached: bool
    trace_id: str


@dataclass(frozen=True, slots=True)
class RequestAccount:
    """A request and its attempts. `record` None: its router died before the request ended, it still runs, or an
    earlier version served it."""

    request_id: str
    tenant: str
    campaign: str
    content_type: str
    labels: Mapping[str, str]
    record: RecordedRequest | None
    attempts: tuple[RecordedAttempt, ...]


def account_from_proto(item: analytics_pb2.RequestAccount) -> RequestAccount:
    """Returns the account. One without a record has an attempt at least."""
    of: analytics_pb2.RequestRecord | analytics_pb2.UsageEvent
    of = item.record if item.HasField("record") else item.attempts[0]
    return RequestAccount(
        of.request_id,
        of.tenant,
        of.campaign,
        of.content_type,
        dict(of.labels),
        _record(item.record) if item.HasField("record") else None,
        tuple(map(_attempt, item.attempts)),
    )


def _outcome(number: int) -> str:
    names: Sequence[str] = analytics_pb2.Outcome.keys()
    return names[number].removeprefix("OUTCOME_").lower() if 0 <= number < len(names) else str(number)


def _record(item: analytics_pb2.RequestRecord) -> RecordedRequest:
    return RecordedRequest(
        record_id=item.record_id,
        started=timestamp_from_proto(item.started),
        latency=duration_from_proto(item.latency),
        time_to_first_token=(
            duration_from_proto(item.time_to_first_token) if item.HasField("time_to_first_token") else None
        ),
        outcome=_outcome(item.outcome),
        error_reason=item.error_reason,
        attempts=item.attempts,
        failed_over=item.failed_over,
        degradation=item.degradation,
        strategy=item.strategy,
        policy=item.policy,
        policy_version=item.policy_version,
        estimated_input_tokens=item.estimated_input_tokens,
        max_output_tokens=item.max_output_tokens,
        capabilities=tuple(item.capabilities),
        candidates=tuple(
            RecordedCandidate(*(getattr(model, name) for name in RecordedCandidate.__slots__))
            for model in item.candidates
        ),
        provider=item.provider,
        model=item.model,
        probability=item.probability if item.HasField("probability") else None,
        queued=duration_from_proto(item.queued),
        paused=duration_from_proto(item.paused),
        cost_micro_usd=item.cost.micro_usd,
        streamed=item.streamed,
        cached=item.cached,
        trace_id=item.trace_id,
    )


def _attempt(item: analytics_pb2.UsageEvent) -> RecordedAttempt:
    return RecordedAttempt(
        attempt_id=item.attempt_id,
        number=item.attempt_number,
        provider=item.provider,
        model=item.model,
        started=timestamp_from_proto(item.started),
        latency=duration_from_proto(item.latency) if item.HasField("latency") else None,
        time_to_first_token=(
            duration_from_proto(item.time_to_first_token) if item.HasField("time_to_first_token") else None
        ),
        outcome=_outcome(item.outcome),
        error_class=error_class_from_proto(item.error_class),
        http_status=item.http_status,
        usage=usage_from_proto(item.usage),
        cost_micro_usd=item.cost.micro_usd,
        price_version=item.price_version,
        finish_reason=finish_reason_from_proto(item.finish_reason),
        streamed=item.streamed,
        hedge=item.hedge,
        switched=route_part_from_proto(item.switched),
        trace_id=item.trace_id,
    )
