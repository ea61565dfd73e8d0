"""The lease stream: one long-lived call to the limiter, on which slices come and reports go.

It keeps the pool right whatever happens to the stream: reports that were not acknowledged are sent again on the
next one, slices of a dead epoch are forgotten, those whose limit changed are retired. How long a slice lives is
counted from when it was asked for, so this router lets go of it before the limiter does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import grpc
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.clock import Clock
from libs.limits import Amounts, Scope, scope_of
from libs.resilience.backoff import Backoff
from libs.rpc import channel as rpc
from libs.rpc.convert import duration_from_proto, timestamp_from_proto
from libs.rpc.stream_keeper import StreamEnded, StreamKeeper
from libs.telemetry import Metrics, get_logger
from libs.tracing import Span
from services.router.admission.amounts import Denial
from services.router.admission.lease_wire import (
    acquire_message,
    denial_from,
    learned_message,
    report_message,
    slice_from,
)
from services.router.admission.leases import Pool, Report
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.learned_report import LearnedReports

#: Seconds between reports of used slices.
REPORT_INTERVAL = 2.0
#: Slices in one report.
REPORT_SIZE = 500
#: The longest that the end waits for the limiter to take back what is left, seconds.
RETURN_TIMEOUT = 1.0

log = get_logger(__name__)

#: The limiter's verdict to come. None: granted, and in the pool.
LeaseReply = asyncio.Future[Denial | None]
_Call = grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse]


@dataclass(frozen=True, slots=True)
class _Ask:
    scopes: tuple[Scope, ...]
    at: float
    answer: LeaseReply


@dataclass(frozen=True, slots=True)
class _SentReports:
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
        self._learned = LearnedReports(learner)
        self._holder_id = holder_id
        self.pool = pool
        self._clock = clock
        stub = ratelimit_pb2_grpc.RateLimiterStub(channel)
        self._keeper = StreamKeeper[_Call](
            "lease_stream",
            lambda: stub.Lease(metadata=rpc.metadata(token), wait_for_ready=True),
            Backoff(base=0.05, cap=1.0),
            clock,
            rng,
            metrics.gauge("ratelimit_connected", "1 while the lease stream to the limiter is up"),
        )
        self._outbox: asyncio.Queue[pb.LeaseRequest] = asyncio.Queue()
        self._sequence = 0
        #: By sequence: what the limiter has not answered, and what it has not acknowledged.
        self._asks: dict[int, _Ask] = {}
        self._sent_reports: dict[int, _SentReports] = {}
        self._acknowledged = asyncio.Event()
        self._finishing = asyncio.Event()
        self._epoch = ""
        #: Set once the limiter has answered.
        self.known = self._keeper.known
        #: Set while the limiter can be asked; and the instant since which it cannot, monotonic seconds.
        self.connection = asyncio.Event()
        self.lost_at = clock.monotonic()
        self._messages = metrics.counter("lease_messages", "Messages sent to the limiter", ("kind",))

    @property
    def connected(self) -> bool:
        """Returns True if the limiter can be asked."""
        return self._keeper.connected

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
        self._asks[self._sequence] = _Ask(tuple(scopes), self._clock.monotonic(), answer)
        self._outbox.put_nowait(acquire_message(self._sequence, scopes, need, want, whole, waiting))
        return answer

    def report(self) -> bool:
        """Sends the limiter what it does not know of slices. Returns True if that gives anything back."""
        if not self.connected:
            return False
        now = self._clock.monotonic()
        reports = self.pool.reports(now)
        for i in range(0, len(reports), REPORT_SIZE):
            part = tuple(reports[i : i + REPORT_SIZE])
            self._sequence += 1
            self._sent_reports[self._sequence] = _SentReports(part, now)
            self._outbox.put_nowait(report_message(self._sequence, part))
        return any(report.closed for report in reports)

    def finish(self) -> None:
        """Lets `run` give back what is left, and end."""
        self._finishing.set()

    async def run(self) -> None:
        """Keeps the stream up until `finish`."""
        sessions = asyncio.create_task(self._keeper.run(self._session))
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
                while self._sent_reports and self.connected:
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        except TimeoutError:
            log.warning("slices_not_returned", reports=len(self._sent_reports))

    async def _session(self, call: _Call) -> None:
        self._outbox = asyncio.Queue()
        helpers = [asyncio.create_task(self._write(call)), asyncio.create_task(self._tick())]
        try:
            self._outbox.put_nowait(pb.LeaseRequest(open=pb.LeaseOpen(holder_id=self._holder_id)))
            while True:
                answer = await call.read()
                if not isinstance(answer, pb.LeaseResponse):
                    raise StreamEnded
                self._receive(answer)
        finally:
            for helper in helpers:
                helper.cancel()
            self._disconnect()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            self.report()
            learned = self._learned.due(self._clock.now()) if self.connected else None
            if learned is not None:
                self._outbox.put_nowait(learned_message(learned))
            self.pool.tidy(self._clock.monotonic())

    async def _write(self, call: _Call) -> None:
        while True:
            message = await self._outbox.get()
            self._messages.labels(message.WhichOneof("message") or "").inc()
            try:
                await call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The reading side ends the session and says why.
                return

    def _receive(self, answer: pb.LeaseResponse) -> None:
        kind = answer.WhichOneof("message")
        if kind == "opened":
            if self._epoch and answer.opened.epoch != self._epoch:
                self.pool.forget(None)
            self._epoch = answer.opened.epoch
            self._keeper.answered()
            self.connection.set()
        elif kind == "granted":
            self._grant(answer.granted)
        elif kind == "denied":
            ask = self._asks.pop(answer.denied.sequence, None)
            if ask is not None and not ask.answer.done():
                ask.answer.set_result(denial_from(answer.denied, self._clock.now()))
        elif kind == "reported":
            sent = self._sent_reports.pop(answer.reported.sequence, None)
            if sent is not None:
                lives = {a.slice_id: sent.at + duration_from_proto(a.ttl) for a in answer.reported.alive}
                self.pool.record_acknowledged(sent.reports, lives)
            self._acknowledged.set()
        elif kind == "revoked":
            ids = list(answer.revoked.slice_ids) or None
            if answer.revoked.cause == pb.REVOKE_CAUSE_LIMIT_CHANGED:
                self.pool.retire(ids)
            else:
                self.pool.forget(ids)

    def _grant(self, granted: pb.LeaseGranted) -> None:
        now = self._clock.monotonic()
        ask = self._asks.pop(granted.sequence, None)
        lasting = max(0.0, timestamp_from_proto(granted.unlimited_until) - self._clock.now())
        owed = self.pool.grant(
            ask.scopes if ask is not None else (),
            [slice_from(s, now if ask is None else ask.at) for s in granted.slices],
            [scope_of(scope) for scope in granted.unlimited_scopes],
            now + lasting,
            now,
        )
        if owed:
            self.report()
        if ask is not None and not ask.answer.done():
            ask.answer.set_result(None)

    def _disconnect(self) -> None:
        """Fails every ask, and takes every report that was not acknowledged back."""
        if self.connection.is_set():
            self.lost_at = self._clock.monotonic()
        self.connection.clear()
        asks, self._asks = self._asks, {}
        for ask in asks.values():
            if not ask.answer.done():
                ask.answer.set_exception(ConnectionError("the lease stream broke"))
                ask.answer.exception()
        reports, self._sent_reports = self._sent_reports, {}
        for sent in reports.values():
            self.pool.take_back_reports(sent.reports)
        self._acknowledged.set()
