"""The lease stream: one long-lived call to the limiter, on which slices come and reports go.

It keeps the pool right whatever happens to the stream: reports that were not acknowledged are told again on the
next one, slices of a dead epoch are forgotten, those whose limit changed are retired. How long a slice lives is
counted from when it was asked for, so this router lets go of it before the limiter does.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import grpc
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.clock import Clock
from libs.errors import QuotaViolation
from libs.limits import (
    PERIOD_BY_NUMBER,
    UNIT_BY_NUMBER,
    Amounts,
    LimitKey,
    Period,
    Scope,
    ScopeKind,
    scope_of,
)
from libs.resilience.backoff import Backoff
from libs.rpc import channel as rpc
from libs.rpc.convert import duration_from_proto, timestamp_from_proto, timestamp_to_proto
from libs.rpc.status import from_rpc_error
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from libs.tracing import Span
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.leases import Pool, Report
from services.router.admission.slices import Slice
from services.router.providers.learned_limits import LearnedLimit, LimitLearner, Source

#: How often used slices are reported, seconds.
REPORT_INTERVAL = 2.0
#: Slices in one report.
REPORT_SIZE = 500
#: How often what was learned of limits is told again although nothing is new, seconds; and entries of each kind in
#: one message.
OBSERVED_INTERVAL = 10.0
OBSERVED_SIZE = 2048
#: How long the end waits for the limiter to take back what is left, seconds.
RETURN_TIMEOUT = 1.0

log = get_logger(__name__)

#: None: granted, and in the pool.
LeaseReply = asyncio.Future[AdmissionDenied | None]


@dataclass(frozen=True, slots=True)
class _Asked:
    scopes: tuple[Scope, ...]
    at: float
    answer: LeaseReply


@dataclass(frozen=True, slots=True)
class _Reported:
    reports: tuple[Report, ...]
    at: float


class LeaseStream:
    """`run` keeps the stream up until `finish`, and then gives back what is left."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        token: str,
        holder_id: str,
        pool: Pool,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        learner: LimitLearner,
    ) -> None:
        self._learner = learner
        self._told: dict[tuple[str, str, str, Source], tuple[int, float]] = {}
        self._told_at = 0.0
        self._stub = ratelimit_pb2_grpc.RateLimiterStub(channel)
        self._token = token
        self._holder_id = holder_id
        self.pool = pool
        self._clock = clock
        self._rng = rng
        self._broken = Throttle(clock)
        self._call: grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse] | None = None
        self._outbox: asyncio.Queue[pb.LeaseRequest] = asyncio.Queue()
        self._sequence = 0
        self._asked: dict[int, _Asked] = {}
        self._reported: dict[int, _Reported] = {}
        self._heard = asyncio.Event()
        self._finishing = asyncio.Event()
        self._epoch = ""
        #: Set once the limiter has answered.
        self.known = asyncio.Event()
        #: Set while there is anyone to ask, and since when there is not, monotonic seconds.
        self.connection = asyncio.Event()
        self.lost_at = clock.monotonic()
        self._connected = metrics.gauge(
            "ratelimit_connected", "1 while the lease stream to the limiter is up"
        )
        self._messages = metrics.counter("lease_messages", "Messages sent to the limiter", ("kind",))

    @property
    def connected(self) -> bool:
        """Returns True if there is anyone to ask."""
        return self._call is not None

    def ask(
        self,
        scopes: Sequence[Scope],
        need: Amounts,
        want: Amounts,
        whole: Amounts,
        waiting: Span | None = None,
    ) -> LeaseReply:
        """Asks for slices of all limits of the scopes: at least `need` beyond what is held, at best `want`. Fails
        with ConnectionError where the stream breaks. `whole`: all that the request takes that waits for it;
        `waiting`: its span."""
        self._sequence += 1
        answer: LeaseReply = asyncio.get_running_loop().create_future()
        self._asked[self._sequence] = _Asked(tuple(scopes), self._clock.monotonic(), answer)
        acquire = pb.LeaseAcquire(
            sequence=self._sequence,
            scopes=map(str, scopes),
            need=_amounts(need),
            want=_amounts(want),
            whole=_amounts(whole),
            traceparent=waiting.traceparent if waiting is not None and waiting.recording else "",
        )
        self._outbox.put_nowait(pb.LeaseRequest(acquire=acquire))
        return answer

    def report(self) -> bool:
        """Tells the limiter what it does not know. Whether that gives anything back."""
        if self._call is None:
            return False
        now = self._clock.monotonic()
        reports = self.pool.reports(now)
        for i in range(0, len(reports), REPORT_SIZE):
            part = tuple(reports[i : i + REPORT_SIZE])
            self._sequence += 1
            self._reported[self._sequence] = _Reported(part, now)
            slices = [
                pb.SliceReport(
                    slice_id=r.slice.id,
                    used=r.slice.used,
                    overrun=r.slice.overrun,
                    closed=r.closed,
                    renew=r.renew,
                )
                for r in part
            ]
            report = pb.LeaseReport(sequence=self._sequence, slices=slices)
            self._outbox.put_nowait(pb.LeaseRequest(report=report))
        return any(r.closed for r in reports)

    def _tell_learned(self) -> None:
        """Tells the limiter what was learned of providers' limits, when it is news and else now and then."""
        if self._call is None:
            return
        now = self._clock.now()
        limits = [limit for limit in self._learner.learned(now) if limit.value <= _most(limit)]
        news = {(e.target, e.unit, e.period, e.source): (e.value, round(e.confidence, 2)) for e in limits}
        if news == self._told and now - self._told_at < OBSERVED_INTERVAL:
            return
        loads = self._learner.loads(now)
        self._told, self._told_at = news, now
        if not limits and not loads:
            return
        observed = pb.LeaseObserved(
            limits=[_observed(limit) for limit in limits[:OBSERVED_SIZE]],
            loads=[
                pb.ObservedLoad(scope=_model(target), calls=calls)
                for target, calls in itertools.islice(loads.items(), OBSERVED_SIZE)
            ],
            at=timestamp_to_proto(now),
        )
        self._outbox.put_nowait(pb.LeaseRequest(observed=observed))

    def finish(self) -> None:
        """Lets `run` give back what is left, and end."""
        self._finishing.set()

    async def run(self) -> None:
        """Keeps the stream up until `finish`."""
        sessions = asyncio.create_task(self._sessions())
        finishing = asyncio.create_task(self._finishing.wait())
        try:
            await asyncio.wait({sessions, finishing}, return_when=asyncio.FIRST_COMPLETED)
            if sessions.done():
                await sessions
            await self._give_back()
        finally:
            for task in (sessions, finishing):
                task.cancel()
            await asyncio.gather(sessions, finishing, return_exceptions=True)

    async def _give_back(self) -> None:
        """Unused slices would be lost to others until they expire, and unused money until its window is over."""
        self.pool.retire(None)
        self.report()
        try:
            async with asyncio.timeout(RETURN_TIMEOUT):
                while self._reported and self._call is not None:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            log.warning("slices_not_returned", reports=len(self._reported))

    async def _sessions(self) -> None:
        backoff, failures = Backoff(base=0.05, cap=1.0), 0
        while True:
            try:
                await self._session()
                failures = 0
            except grpc.aio.AioRpcError as error:
                if times := self._broken.due():
                    log.warning("lease_stream_broken", error=str(from_rpc_error(error)), times=times)
                failures += 1
            finally:
                self._disconnected()
            await asyncio.sleep(backoff.delay(failures, self._rng) or 0.0)

    async def _session(self) -> None:
        call = self._stub.Lease(metadata=rpc.metadata(self._token), wait_for_ready=True)
        self._outbox = asyncio.Queue()
        helpers = [asyncio.create_task(self._write(call)), asyncio.create_task(self._tick())]
        try:
            self._outbox.put_nowait(pb.LeaseRequest(open=pb.LeaseOpen(holder_id=self._holder_id)))
            while True:
                answer = await call.read()
                if not isinstance(answer, pb.LeaseResponse):
                    return
                self._receive(call, answer)
        finally:
            for helper in helpers:
                helper.cancel()
            call.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            self.report()
            self._tell_learned()
            self.pool.tidy(self._clock.monotonic())

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse]) -> None:
        while True:
            message = await self._outbox.get()
            self._messages.labels(message.WhichOneof("message") or "").inc()
            try:
                await call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The reading side ends the session and says why.
                return

    def _receive(
        self, call: grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse], answer: pb.LeaseResponse
    ) -> None:
        kind = answer.WhichOneof("message")
        if kind == "opened":
            if self._epoch and answer.opened.epoch != self._epoch:
                self.pool.forget(None)
            self._epoch = answer.opened.epoch
            self._call = call
            self.connection.set()
            self._connected.set(1)
            self.known.set()
        elif kind == "granted":
            self._granted(answer.granted)
        elif kind == "denied":
            asked = self._asked.pop(answer.denied.sequence, None)
            if asked is not None and not asked.answer.done():
                asked.answer.set_result(_denied(answer.denied, self._clock.now()))
        elif kind == "reported":
            told = self._reported.pop(answer.reported.sequence, None)
            if told is not None:
                lives = {a.slice_id: told.at + duration_from_proto(a.ttl) for a in answer.reported.alive}
                self.pool.acknowledged(told.reports, lives)
            self._heard.set()
        elif kind == "revoked":
            ids = list(answer.revoked.slice_ids) or None
            if answer.revoked.cause == pb.REVOKE_CAUSE_LIMIT_CHANGED:
                self.pool.retire(ids)
            else:
                self.pool.forget(ids)

    def _granted(self, granted: pb.LeaseGranted) -> None:
        now = self._clock.monotonic()
        asked = self._asked.pop(granted.sequence, None)
        lasting = max(0.0, timestamp_from_proto(granted.unlimited_until) - self._clock.now())
        owed = self.pool.grant(
            asked.scopes if asked is not None else (),
            [_slice(s, now if asked is None else asked.at) for s in granted.slices],
            [scope_of(scope) for scope in granted.unlimited_scopes],
            now + lasting,
            now,
        )
        if owed:
            self.report()
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(None)

    def _disconnected(self) -> None:
        if self._call is not None:
            self.lost_at = self._clock.monotonic()
        self._call = None
        self.connection.clear()
        self._connected.set(0)
        asked, self._asked = self._asked, {}
        for entry in asked.values():
            if not entry.answer.done():
                entry.answer.set_exception(ConnectionError("the lease stream broke"))
                entry.answer.exception()
        reported, self._reported = self._reported, {}
        for told in reported.values():
            self.pool.unheard(told.reports)
        self._heard.set()


def _most(limit: LearnedLimit) -> int:
    """The most that the limiter counts of a limit like this."""
    return Period(limit.period).max_limit


def _model(target: str) -> str:
    return str(Scope(ScopeKind.MODEL, target))


def _observed(limit: LearnedLimit) -> pb.ObservedLimit:
    return pb.ObservedLimit(
        scope=_model(limit.target),
        unit=f"UNIT_{limit.unit.upper()}",
        period=f"PERIOD_{limit.period.upper()}",
        limit=limit.value,
        confidence=limit.confidence,
        source=f"LEARNED_SOURCE_{limit.source.name}",
        seen=timestamp_to_proto(limit.seen),
        observations=limit.observations,
    )


def _slice(granted: pb.Slice, asked_at: float) -> Slice:
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


def _amounts(amounts: Amounts) -> pb.Amounts:
    return pb.Amounts(
        requests=amounts.requests,
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        micro_usd=amounts.micro_usd,
        concurrency=amounts.slots,
    )


def _denied(denied: pb.LeaseDenied, now_epoch: float) -> AdmissionDenied:
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
    return AdmissionDenied(violations, retry_after)
