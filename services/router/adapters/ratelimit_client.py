"""Admission from leased slices, over one long-lived stream to the limiter.

A request that the slices cover makes no call. Demand is measured per scope, and slices for the next few seconds are
asked for before they run out. When the limiter is gone, slices are lived off first; then, per dimension: rates and
concurrency get a local share of the configured limit, calendar quotas and money are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import grpc
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.catalog.model import Catalog
from libs.clock import Clock
from libs.errors import QuotaViolation
from libs.resilience.backoff import Backoff
from libs.rpc import channel as rpc
from libs.rpc.convert import duration_from_proto, timestamp_from_proto
from libs.rpc.status import from_rpc_error
from libs.telemetry import Metrics, get_logger
from services.router.domain.amounts import AdmissionDenied, Amounts
from services.router.domain.leases import Pool, Slice, Taken
from services.router.domain.local_share import LocalShare

#: Slices are asked for this many seconds of demand ahead.
AHEAD = 3.0
#: New slices are asked for when what is held will not last this long, seconds.
HORIZON = 1.0
#: How often it is looked whether what is held lasts, seconds.
LOOK_INTERVAL = 0.05
#: How often used slices are reported, seconds.
REPORT_INTERVAL = 1.0
#: How long an answer of the limiter is waited for before it counts as gone, seconds.
ANSWER_TIMEOUT = 1.0
#: A denial is repeated from memory for at most this long, so that a flood does not reach the limiter, seconds.
DENIAL_MEMORY = 0.1
#: Seconds over which demand is averaged.
DEMAND_WINDOW = 2.0

_UNITS = {
    pb.Unit.Value(f"UNIT_{name.upper()}"): name
    for name in ("requests", "input_tokens", "output_tokens", "total_tokens", "concurrency", "micro_usd")
}
_PERIODS = {
    pb.Period.Value(f"PERIOD_{name.upper()}"): name for name in ("second", "minute", "hour", "day", "month")
} | {pb.PERIOD_UNSPECIFIED: ""}

log = get_logger(__name__)


@dataclass(slots=True)
class _Demand:
    """What a set of scopes uses, as a decaying rate per second."""

    rate: Amounts = field(default_factory=Amounts)
    window: Amounts = field(default_factory=Amounts)
    since: float = 0.0
    #: When it is next looked whether what is held lasts.
    look: float = 0.0

    def add(self, amounts: Amounts, now: float) -> None:
        self.window = self.window + amounts
        elapsed = now - self.since
        if elapsed >= DEMAND_WINDOW:
            self.rate = (self.rate + self.window.times(1 / elapsed)).times(0.5)
            self.window, self.since = Amounts(), now

    def ahead(self, seconds: float, now: float) -> Amounts:
        elapsed = max(0.25, now - self.since)
        present = self.window.times(1 / elapsed)
        rate = Amounts(
            max(self.rate.requests, present.requests),
            max(self.rate.input_tokens, present.input_tokens),
            max(self.rate.output_tokens, present.output_tokens),
            max(self.rate.micro_usd, present.micro_usd),
        )
        return rate.times(seconds)


class _Permit:
    """Satisfies `ports.Permit`."""

    __slots__ = ("_pool", "_taken")

    def __init__(self, pool: Pool, taken: list[Taken]) -> None:
        self._pool = pool
        self._taken = taken

    def settle(self, used: Amounts) -> None:
        self._pool.settle(self._taken, used)

    def cancel(self) -> None:
        self._pool.settle(self._taken, Amounts())


class LeasedAdmission:
    """Satisfies `ports.Admission`. `run` keeps the stream up for ever."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        token: str,
        holder_id: str,
        catalog: Callable[[], Catalog],
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        local_share: float,
    ) -> None:
        self._stub = ratelimit_pb2_grpc.RateLimiterStub(channel)
        self._token = token
        self._holder_id = holder_id
        self._clock = clock
        self._rng = rng
        self._pool = Pool()
        self._demand: dict[tuple[str, ...], _Demand] = {}
        self._call: grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse] | None = None
        self._outbox: asyncio.Queue[pb.LeaseRequest] = asyncio.Queue()
        self._sequence = 0
        self._waiting: dict[int, tuple[tuple[str, ...], asyncio.Future[pb.LeaseDenied | None]]] = {}
        self._asking: dict[tuple[str, ...], asyncio.Future[pb.LeaseDenied | None]] = {}
        self._denials: dict[tuple[str, ...], tuple[float, Amounts, AdmissionDenied]] = {}
        self._epoch = ""
        #: Set once the limiter has answered.
        self.known = asyncio.Event()
        self._local = LocalShare(catalog, local_share)
        self._connected = metrics.gauge(
            "ratelimit_connected", "1 while the lease stream to the limiter is up"
        )
        self._admitted = metrics.counter(
            "admissions", "Attempts admitted, by where the room came from", ("source",)
        )
        self._from_lease = self._admitted.labels("lease")
        self._from_share = self._admitted.labels("local_share")
        self._messages = metrics.counter("lease_messages", "Messages sent to the limiter", ("kind",))

    def try_admit(self, scopes: Sequence[str], amounts: Amounts) -> _Permit | None:
        """Admits from what is held."""
        now = self._clock.monotonic()
        key = tuple(scopes)
        demand = self._demand.get(key)
        if demand is None:
            demand = self._demand[key] = _Demand(since=now)
        demand.add(amounts, now)
        taken = self._pool.take(scopes, amounts, now)
        if taken is None:
            return None
        self._from_lease.inc()
        if now >= demand.look and key not in self._asking and self._call is not None:
            demand.look = now + LOOK_INTERVAL
            soon = self._pool.low(scopes, demand.ahead(HORIZON, now), now, HORIZON)
            if soon:
                self._ask(key, soon, Amounts(), demand.ahead(AHEAD, now))
        return _Permit(self._pool, taken)

    async def admit(self, scopes: Sequence[str], amounts: Amounts, timeout: float) -> _Permit:
        """Admits after asking. Raises AdmissionDenied."""
        key = tuple(scopes)
        gave_back = False
        deadline = self._clock.monotonic() + min(timeout, ANSWER_TIMEOUT)
        while True:
            now = self._clock.monotonic()
            taken = self._pool.take(scopes, amounts, now)
            if taken is not None:
                self._from_lease.inc()
                return _Permit(self._pool, taken)
            self._raise_if_denied(key, amounts, now)
            if self._call is None or now >= deadline:
                return self._without_limiter(scopes, amounts, now)
            short = self._pool.short(scopes, amounts, now)
            asked = self._asking.get(key)
            if asked is None:
                demand = self._demand[key].ahead(AHEAD, now) if key in self._demand else Amounts()
                asked = self._ask(key, short, amounts, _larger(amounts, demand))
            try:
                async with asyncio.timeout(deadline - now):
                    denied = await asyncio.shield(asked)
            except (TimeoutError, ConnectionError):
                continue
            if denied is None:
                continue
            if not gave_back and self._pool.give_back({v.scope for v in denied.violations}, now):
                # What is held here is too small for this request, but it may be what is missing.
                gave_back = True
                self._send_reports()
                continue
            error = _denied(denied, now_epoch=self._clock.now())
            self._remember(key, amounts, error, now)
            raise error

    async def run(self) -> None:
        """Keeps the stream up for ever."""
        backoff, failures = Backoff(base=0.05, cap=1.0), 0
        while True:
            try:
                await self._session()
                failures = 0
            except grpc.aio.AioRpcError as error:
                log.warning("lease_stream_broken", error=str(from_rpc_error(error)))
                failures += 1
            finally:
                self._disconnected()
            await asyncio.sleep(backoff.delay(failures, self._rng) or 0.0)

    async def _session(self) -> None:
        call = self._stub.Lease(metadata=rpc.metadata(self._token), wait_for_ready=True)
        self._outbox = asyncio.Queue()
        writer = asyncio.create_task(self._write(call))
        try:
            self._outbox.put_nowait(pb.LeaseRequest(open=pb.LeaseOpen(holder_id=self._holder_id)))
            while True:
                answer = await call.read()
                if not isinstance(answer, pb.LeaseResponse):
                    return
                self._receive(call, answer)
        finally:
            writer.cancel()
            call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse]) -> None:
        while True:
            try:
                async with asyncio.timeout(REPORT_INTERVAL):
                    message = await self._outbox.get()
            except TimeoutError:
                self._send_reports()
                self._pool.forget_idle(self._clock.monotonic())
                self._forget_demand()
                continue
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
        now = self._clock.monotonic()
        if kind == "opened":
            if self._epoch and answer.opened.epoch != self._epoch:
                self._pool.drop(None)
            self._epoch = answer.opened.epoch
            self._call = call
            self._connected.set(1)
            self.known.set()
        elif kind == "granted":
            granted = answer.granted
            scopes, future = self._waiting.pop(granted.sequence, ((), None))
            self._pool.grant(
                scopes,
                [_slice(s, now) for s in granted.slices],
                granted.unlimited_scopes,
                now + max(0.0, timestamp_from_proto(granted.unlimited_until) - self._clock.now()),
            )
            if future is not None and not future.done():
                future.set_result(None)
        elif kind == "denied":
            _, future = self._waiting.pop(answer.denied.sequence, ((), None))
            if future is not None and not future.done():
                future.set_result(answer.denied)
        elif kind == "revoked":
            self._pool.drop(list(answer.revoked.slice_ids) or None)

    def _ask(
        self, key: tuple[str, ...], scopes: Sequence[str], need: Amounts, want: Amounts
    ) -> asyncio.Future[pb.LeaseDenied | None]:
        self._sequence += 1
        future: asyncio.Future[pb.LeaseDenied | None] = asyncio.get_running_loop().create_future()
        self._waiting[self._sequence] = (tuple(scopes), future)
        self._asking[key] = future
        future.add_done_callback(lambda _: self._asking.pop(key, None))
        self._outbox.put_nowait(
            pb.LeaseRequest(
                acquire=pb.LeaseAcquire(
                    sequence=self._sequence, scopes=scopes, need=_amounts(need), want=_amounts(want)
                )
            )
        )
        return future

    def _send_reports(self) -> None:
        slices = [
            pb.SliceReport(slice_id=s.id, used=s.used, overrun=s.overrun, closed=s.closed)
            for s in self._pool.reports(self._clock.monotonic())
        ]
        if slices:
            self._sequence += 1
            self._outbox.put_nowait(
                pb.LeaseRequest(report=pb.LeaseReport(sequence=self._sequence, slices=slices))
            )

    def _disconnected(self) -> None:
        self._call = None
        self._connected.set(0)
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the lease stream broke"))
                future.exception()
        self._waiting.clear()

    def _without_limiter(self, scopes: Sequence[str], amounts: Amounts, now: float) -> _Permit:
        denied = self._local.admit(scopes, amounts, now)
        if denied is not None:
            raise denied
        self._from_share.inc()
        return _Permit(self._pool, [])

    def _raise_if_denied(self, key: tuple[str, ...], amounts: Amounts, now: float) -> None:
        known = self._denials.get(key)
        if known is None:
            return
        until, least, error = known
        if now >= until:
            del self._denials[key]
        elif _covers(amounts, least):
            raise error

    def _remember(self, key: tuple[str, ...], amounts: Amounts, error: AdmissionDenied, now: float) -> None:
        seconds = DENIAL_MEMORY if error.retry_after is None else min(DENIAL_MEMORY, error.retry_after)
        self._denials[key] = (now + seconds, amounts, error)

    def _forget_demand(self) -> None:
        """Keeps memory to what is in use."""
        now = self._clock.monotonic()
        for key in [k for k, d in self._demand.items() if now - d.since > 60]:
            del self._demand[key]
        for key in [k for k, (until, _, _) in self._denials.items() if now >= until]:
            del self._denials[key]


def _slice(granted: pb.Slice, now: float) -> Slice:
    return Slice(
        granted.slice_id,
        granted.scope,
        _UNITS[granted.unit],
        _PERIODS[granted.period],
        granted.amount,
        now + duration_from_proto(granted.ttl),
        granted.shadow,
    )


def _amounts(amounts: Amounts) -> pb.Amounts:
    return pb.Amounts(
        requests=amounts.requests,
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        micro_usd=amounts.micro_usd,
    )


def _larger(a: Amounts, b: Amounts) -> Amounts:
    return Amounts(
        max(a.requests, b.requests),
        max(a.input_tokens, b.input_tokens),
        max(a.output_tokens, b.output_tokens),
        max(a.micro_usd, b.micro_usd),
    )


def _covers(asked: Amounts, denied: Amounts) -> bool:
    return (
        asked.requests >= denied.requests
        and asked.input_tokens >= denied.input_tokens
        and asked.output_tokens >= denied.output_tokens
        and asked.micro_usd >= denied.micro_usd
    )


def _denied(denied: pb.LeaseDenied, now_epoch: float) -> AdmissionDenied:
    violations = []
    for v in denied.violations:
        unit, period = _UNITS[v.unit], _PERIODS[v.period]
        per = f" per {period}" if period else ""
        reset = max(0.0, timestamp_from_proto(v.reset) - now_epoch) if v.HasField("reset") else None
        violations.append(
            QuotaViolation(
                f"{v.scope} {unit} {period}".rstrip(),
                f"{v.scope} may use {v.limit} {unit.replace('_', ' ')}{per}; {v.used} are in use and "
                f"{v.requested} were asked for",
                v.limit,
                v.used,
                v.requested,
                reset,
            )
        )
    retry_after = duration_from_proto(denied.retry_after) if denied.HasField("retry_after") else None
    return AdmissionDenied(violations, retry_after)
