"""The lease stream's messages: values of admission to and from ratelimit.proto."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pointsman.ratelimit.v1 import ratelimit_pb2 as pb

from libs.errors import QuotaViolation
from libs.limits import PERIOD_BY_NUMBER, UNIT_BY_NUMBER, Amounts, LimitKey, Scope, ScopeKind, scope_of
from libs.rpc.convert import duration_from_proto, timestamp_from_proto, timestamp_to_proto
from libs.tracing import Span
from services.router.admission.amounts import Denial
from services.router.admission.leases import Report
from services.router.admission.slices import Slice
from services.router.providers.learned_report import LearnedReport
from services.router.providers.limit_evidence import LearnedLimit

#: Entries of each kind in one message of what was learned.
OBSERVED_SIZE = 2048


def acquire_message(
    sequence: int, scopes: Sequence[Scope], need: Amounts, want: Amounts, whole: Amounts, waiting: Span | None
) -> pb.LeaseRequest:
    """Returns the request for slices; `waiting`: the span of the request that waits for them."""
    acquire = pb.LeaseAcquire(
        sequence=sequence,
        scopes=map(str, scopes),
        need=_amounts(need),
        want=_amounts(want),
        whole=_amounts(whole),
        traceparent=waiting.traceparent if waiting is not None and waiting.recording else "",
    )
    return pb.LeaseRequest(acquire=acquire)


def report_message(sequence: int, reports: Sequence[Report]) -> pb.LeaseRequest:
    """Returns the report on slices."""
    slices = [
        pb.SliceReport(
            slice_id=report.slice.id,
            used=report.slice.used,
            overrun=report.slice.overrun,
            closed=report.closed,
            renew=report.renew,
        )
        for report in reports
    ]
    return pb.LeaseRequest(report=pb.LeaseReport(sequence=sequence, slices=slices))


def learned_message(report: LearnedReport) -> pb.LeaseRequest:
    """Returns the report on limits of providers, cut to what fits a message."""
    observed = pb.LeaseObserved(
        limits=[_observed(limit) for limit in report.limits[:OBSERVED_SIZE]],
        loads=[
            pb.ObservedLoad(scope=_model(target), calls=calls)
            for target, calls in itertools.islice(report.loads.items(), OBSERVED_SIZE)
        ],
        at=timestamp_to_proto(report.at),
    )
    return pb.LeaseRequest(observed=observed)


def slice_from(granted: pb.Slice, asked_at: float) -> Slice:
    """Returns a slice that lives from when it was asked for, monotonic seconds."""
    ttl = duration_from_proto(granted.ttl)
    return Slice(
        granted.slice_id,
        scope_of(granted.scope),
        UNIT_BY_NUMBER[granted.unit],
        PERIOD_BY_NUMBER[granted.period],
        granted.amount,
        ttl,
        asked_at + ttl,
        granted.shadow,
        granted.limit,
        granted.remaining,
        asked_at + duration_from_proto(granted.window_left) if granted.HasField("window_left") else None,
    )


def denial_from(denied: pb.LeaseDenied, now_epoch: float) -> Denial:
    """Returns the denial with its violations, in words too."""
    violations = []
    for v in denied.violations:
        key = LimitKey(scope_of(v.scope), UNIT_BY_NUMBER[v.unit], PERIOD_BY_NUMBER[v.period])
        per = f" per {key.period}" if key.period else ""
        reset = max(0.0, timestamp_from_proto(v.reset) - now_epoch) if v.HasField("reset") else None
        why = f"{v.scope} may use {v.limit} {key.unit.words}{per}; "
        if v.unknown:
            why += "nobody knows yet how much is in use"
        else:
            why += f"{v.used} are in use and {v.requested} were asked for"
        violations.append(QuotaViolation(key, why, v.limit, v.used, v.requested, reset, v.paced, v.unknown))
    retry_after = duration_from_proto(denied.retry_after) if denied.HasField("retry_after") else None
    return Denial(tuple(violations), retry_after)


def _amounts(amounts: Amounts) -> pb.Amounts:
    return pb.Amounts(
        requests=amounts.requests,
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        micro_usd=amounts.micro_usd,
        concurrency=amounts.slots,
    )


def _model(target: str) -> str:
    return str(Scope(ScopeKind.MODEL, target))


def _observed(limit: LearnedLimit) -> pb.ObservedLimit:
    return pb.ObservedLimit(
        scope=_model(limit.target),
        unit=f"UNIT_{limit.unit.name}",
        period=f"PERIOD_{limit.period.name}",
        limit=limit.value,
        confidence=limit.confidence,
        source=f"LEARNED_SOURCE_{limit.source.name}",
        seen=timestamp_to_proto(limit.seen),
        observations=limit.observations,
    )
