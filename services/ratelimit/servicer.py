"""RateLimiter over gRPC: proto ↔ domain, no decisions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from opentelemetry.trace import SpanKind
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.errors import FailedPrecondition, FieldViolation, InvalidArgument, check_count
from libs.limits import Amounts, LimitKey
from libs.rpc.convert import duration_from_proto, duration_to_proto, timestamp_from_proto, timestamp_to_proto
from libs.tracing import Span, parent_of
from services.ratelimit.domain.limits import MAX_SCOPES, Limit, check_amounts, check_scopes, key_of
from services.ratelimit.domain.quota import Quota, Violation
from services.ratelimit.learning.learned import MAX_OBSERVED, Learned, Observation, Observed, Source
from services.ratelimit.leases.messages import (
    Acquire,
    Answer,
    Opened,
    Report,
    Reported,
    Revoked,
    Slice,
    SliceReport,
    SlicesDenied,
    SlicesGranted,
)
from services.ratelimit.leases.session import LeaseSession
from services.ratelimit.quotas import Quotas
from services.ratelimit.reserve import Reservations

SERVICE = "pointsman.ratelimit.v1.RateLimiter"
#: Messages of one stream waiting to be handled; beyond, the stream is not read, and HTTP/2 holds the router back.
_INBOX = 1024
#: Messages handled together.
_BATCH = 64
#: Of one report; routers send 500 at most.
MAX_SLICES = 1000

OpenSession = Callable[[str, Callable[[], None]], LeaseSession]
_WAKE = object()
_SOURCES = {pb.LearnedSource.Value(f"LEARNED_SOURCE_{source.name}"): source for source in Source}


class RateLimiterServicer(ratelimit_pb2_grpc.RateLimiterServicer):
    """Translates each rpc; raises `libs.errors`, which the server's layers turn into statuses."""

    def __init__(self, reservations: Reservations, quotas: Quotas, open_session: OpenSession) -> None:
        """`open_session` takes the holder and a function that is called when the session has a message to send."""
        self._reservations = reservations
        self._quotas = quotas
        self._open_session = open_session

    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.ReserveResponse:
        check_count("scopes", len(request.scopes), MAX_SCOPES)
        ttl = duration_from_proto(request.ttl) if request.HasField("ttl") else None
        reservation = await self._reservations.reserve(
            request.reservation_id,
            request.holder_id,
            tuple(request.scopes),
            _amounts(request.amounts),
            ttl,
        )
        return pb.ReserveResponse(
            expires=timestamp_to_proto(reservation.expires),
            quotas=[_quota_to_proto(q) for q in reservation.quotas],
        )

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.SettleResponse:
        used = _amounts(request.used)
        await self._reservations.settle(request.reservation_id, request.holder_id, used)
        return pb.SettleResponse()

    async def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelResponse:
        await self._reservations.cancel(request.reservation_id, request.holder_id)
        return pb.CancelResponse()

    async def Lease(
        self, request_iterator: AsyncIterator[pb.LeaseRequest], context: Any
    ) -> AsyncIterator[pb.LeaseResponse]:
        first = await anext(request_iterator, None)
        if first is None:
            return
        if first.WhichOneof("message") != "open":
            raise FailedPrecondition("The first message must be open", reason="LEASE_NOT_OPEN")
        inbox: asyncio.Queue[object] = asyncio.Queue(_INBOX)

        def wake() -> None:
            # A full inbox will be read anyway.
            with contextlib.suppress(asyncio.QueueFull):
                inbox.put_nowait(_WAKE)

        session = self._open_session(first.open.holder_id, wake)
        reader = asyncio.create_task(_read(request_iterator, inbox))
        reader.add_done_callback(lambda _: wake())
        try:
            for answer in await session.open():
                yield _answer_to_proto(answer)
            while not (reader.done() and inbox.empty()):
                requests = await _batch(inbox)
                spans = _spans(requests)
                messages = [_message(request) for request in requests]
                for answer in [*session.events(), *await session.handle(messages)]:
                    yield _answer_to_proto(answer)
                for span in spans:
                    span.end()
            await reader
        finally:
            session.close()
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def ListQuotas(self, request: pb.ListQuotasRequest, context: Any) -> pb.ListQuotasResponse:
        check_count("scopes", len(request.scopes), MAX_SCOPES)
        page = await self._quotas.list(tuple(request.scopes), request.page_size, request.page_token)
        return pb.ListQuotasResponse(
            quotas=[_quota_to_proto(q, self._quotas.learned(q.limit.key)) for q in page.quotas],
            next_page_token=page.next_token,
        )

    async def SetLimit(self, request: pb.SetLimitRequest, context: Any) -> pb.SetLimitResponse:
        wanted = request.limit
        key = key_of(wanted.scope, wanted.unit, wanted.period)
        limit = None if request.remove else _limit(wanted, key)
        expected = request.expected_version if request.HasField("expected_version") else None
        quota = await self._quotas.set_limit(key, limit, expected, request.actor, request.reason)
        return pb.SetLimitResponse(quota=None if quota is None else _quota_to_proto(quota))

    async def ForecastExhaustion(
        self, request: pb.ForecastExhaustionRequest, context: Any
    ) -> pb.ForecastExhaustionResponse:
        key = key_of(request.scope, request.unit, request.period)
        exhaustion = await self._quotas.forecast(key)
        found = exhaustion.forecast
        return pb.ForecastExhaustionResponse(
            quota=_quota_to_proto(exhaustion.quota),
            rate_per_second=exhaustion.rate,
            probability=found.probability,
            time_to_exhaustion_p10=duration_to_proto(found.p10),
            time_to_exhaustion_p50=duration_to_proto(found.p50),
            time_to_exhaustion_p90=duration_to_proto(found.p90),
        )


async def _read(requests: AsyncIterator[pb.LeaseRequest], inbox: asyncio.Queue[object]) -> None:
    async for request in requests:
        await inbox.put(request)


def _spans(requests: Sequence[pb.LeaseRequest]) -> list[Span]:
    """Begins the limiter's spans in the traces of requests that wait for an answer."""
    return [
        Span(f"{SERVICE}/Lease", SpanKind.SERVER, parent_of(request.acquire.traceparent))
        for request in requests
        if request.acquire.traceparent
    ]


async def _batch(inbox: asyncio.Queue[object]) -> list[pb.LeaseRequest]:
    """Waits for one item, and returns it with all that are there."""
    items = [await inbox.get()]
    while len(items) < _BATCH and not inbox.empty():
        items.append(inbox.get_nowait())
    return [item for item in items if isinstance(item, pb.LeaseRequest)]


def _message(request: pb.LeaseRequest) -> Acquire | Report | Observed:
    kind = request.WhichOneof("message")
    if kind == "acquire":
        ask = request.acquire
        scopes = check_scopes(ask.scopes, "acquire.scopes")
        need = _amounts(ask.need)
        whole = _amounts(ask.whole) if ask.HasField("whole") else need
        return Acquire(ask.sequence, scopes, need, _amounts(ask.want), whole)
    if kind == "report":
        check_count("report.slices", len(request.report.slices), MAX_SLICES)
        return Report(
            request.report.sequence,
            tuple(
                SliceReport(s.slice_id, s.used, s.overrun, s.closed, s.renew) for s in request.report.slices
            ),
        )
    if kind == "observed":
        observed = request.observed
        check_count("observed.limits", len(observed.limits), MAX_OBSERVED)
        check_count("observed.loads", len(observed.loads), MAX_OBSERVED)
        return Observed(
            tuple(_observation(item) for item in observed.limits),
            {check_scopes([load.scope], "observed.loads.scope")[0]: load.calls for load in observed.loads},
            timestamp_from_proto(observed.at),
        )
    if kind == "open":
        raise FailedPrecondition("The stream is open already", reason="LEASE_ALREADY_OPEN")
    raise InvalidArgument([FieldViolation("message", "must be set")], reason="EMPTY_MESSAGE")


def _observation(item: pb.ObservedLimit) -> Observation:
    source = _SOURCES.get(item.source)
    if source is None:
        raise InvalidArgument(
            [FieldViolation("observed.limits.source", "must be set")], reason="BAD_OBSERVATION"
        )
    return Observation(
        key_of(item.scope, item.unit, item.period),
        item.limit,
        item.confidence,
        source,
        timestamp_from_proto(item.seen),
        item.observations,
    )


def _amounts(value: pb.Amounts) -> Amounts:
    slots = value.concurrency if value.HasField("concurrency") else None
    return check_amounts(
        Amounts(value.requests, value.input_tokens, value.output_tokens, value.micro_usd, slots)
    )


def _limit(value: pb.Limit, key: LimitKey) -> Limit:
    burst = value.burst if value.HasField("burst") else None
    return Limit(key, value.limit, burst, value.time_zone or "UTC", value.shadow, pace=value.pace)


def _names(key: LimitKey) -> dict[str, Any]:
    return {"scope": str(key.scope), "unit": key.unit.number, "period": key.period.number}


def _limit_to_proto(limit: Limit) -> pb.Limit:
    return pb.Limit(
        **_names(limit.key),
        limit=limit.limit,
        burst=limit.burst,
        time_zone=limit.time_zone,
        shadow=limit.shadow,
        version=limit.version,
        pace=limit.pace,
    )


def _quota_to_proto(quota: Quota, learned: Learned | None = None) -> pb.Quota:
    return pb.Quota(
        learned=None if learned is None else _learned_to_proto(learned),
        limit=_limit_to_proto(quota.limit),
        used=quota.used,
        outstanding=quota.outstanding,
        remaining=quota.remaining,
        reset=timestamp_to_proto(quota.reset),
        window_start=timestamp_to_proto(quota.window_start),
        requests_in_window=quota.requests_in_window,
        burst_capacity=quota.limit.capacity if quota.limit.key.period.seconds else 0,
        uncertain=quota.uncertain,
    )


def _learned_to_proto(learned: Learned) -> pb.LearnedLimit:
    return pb.LearnedLimit(
        limit=learned.value,
        confidence=learned.confidence,
        source=f"LEARNED_SOURCE_{learned.source.name}",
        seen=timestamp_to_proto(learned.seen),
        observations=learned.observations,
    )


def _slice_to_proto(piece: Slice) -> pb.Slice:
    return pb.Slice(
        **_names(piece.limit.key),
        slice_id=piece.slice_id,
        amount=piece.amount,
        expires=timestamp_to_proto(piece.expires),
        ttl=duration_to_proto(piece.ttl),
        limit=piece.limit.limit,
        remaining=piece.remaining,
        shadow=piece.limit.shadow,
        window_left=None if piece.window_left is None else duration_to_proto(piece.window_left),
    )


def _violation_to_proto(violation: Violation) -> pb.Violation:
    return pb.Violation(
        **_names(violation.limit.key),
        limit=violation.limit.limit,
        used=violation.used,
        requested=violation.requested,
        reset=timestamp_to_proto(violation.reset),
        paced=violation.limit.pace,
        unknown=violation.unknown,
    )


def _answer_to_proto(answer: Answer) -> pb.LeaseResponse:
    if isinstance(answer, Opened):
        return pb.LeaseResponse(opened=pb.LeaseOpened(epoch=answer.epoch))
    if isinstance(answer, SlicesGranted):
        return pb.LeaseResponse(
            granted=pb.LeaseGranted(
                sequence=answer.sequence,
                slices=[_slice_to_proto(piece) for piece in answer.slices],
                unlimited_scopes=map(str, answer.unlimited),
                unlimited_until=timestamp_to_proto(answer.unlimited_until),
            )
        )
    if isinstance(answer, SlicesDenied):
        return pb.LeaseResponse(
            denied=pb.LeaseDenied(
                sequence=answer.sequence,
                violations=[_violation_to_proto(v) for v in answer.denial.violations],
                retry_after=duration_to_proto(answer.denial.retry_after),
            )
        )
    if isinstance(answer, Reported):
        return pb.LeaseResponse(
            reported=pb.LeaseReported(
                sequence=answer.sequence,
                alive=[
                    pb.SliceLife(
                        slice_id=life.slice_id,
                        expires=timestamp_to_proto(life.expires),
                        ttl=duration_to_proto(life.ttl),
                    )
                    for life in answer.alive
                ],
            )
        )
    return _revoked_to_proto(answer)


def _revoked_to_proto(answer: Revoked) -> pb.LeaseResponse:
    revoked = pb.LeaseRevoked(
        slice_ids=answer.slice_ids, reason=answer.reason, cause=f"REVOKE_CAUSE_{answer.cause.upper()}"
    )
    return pb.LeaseResponse(revoked=revoked)
