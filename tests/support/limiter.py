"""A limiter replica without its process: all use cases over any store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.clock import Clock, SystemClock
from libs.errors import Unavailable
from libs.limits import Amounts, LimitKey, ScopeKind, by_unit
from libs.rpc.channel import connect
from libs.rpc.server import Registration
from libs.telemetry import Metrics
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.windows import windows
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.trends import Trends
from services.ratelimit.heartbeat import Heartbeat
from services.ratelimit.learning.learned import Observed
from services.ratelimit.learning.learning import LearnedStore, Learning, Mode
from services.ratelimit.leases.session import Fleet, LeaseSession
from services.ratelimit.ports import LimitStore, SpendHistory
from services.ratelimit.quotas import Quotas
from services.ratelimit.rebuild import Rebuild
from services.ratelimit.reserve import Reservations
from services.ratelimit.servicer import SERVICE, RateLimiterServicer
from tests.support.address import fresh_address
from tests.support.server import grpc_server


class FixedLimits:
    """LimitSource that a test changes."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self._current = {limit.key: limit for limit in limits}
        self._listeners: list[Callable[[], None]] = []

    def current(self) -> Mapping[LimitKey, Limit]:
        return self._current

    def subscribe(self, changed: Callable[[], None]) -> None:
        self._listeners.append(changed)

    def set(self, *limits: Limit) -> None:
        self._current = {limit.key: limit for limit in limits}
        for listener in self._listeners:
            listener()


@dataclass(frozen=True, slots=True)
class Spent:
    """One attempt, as the ledger knows it; `at` in epoch seconds."""

    at: float
    tenant: str = "acme"
    provider: str = "openai"
    model: str = "gpt-4o"
    campaign: str = ""
    content_type: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0

    @property
    def scopes(self) -> set[str]:
        """Every scope that pays for it."""
        return {
            f"tenant:{self.tenant}",
            f"provider:{self.provider}",
            f"model:{self.provider}/{self.model}",
            f"tenant_provider:{self.tenant}/{self.provider}",
            f"tenant_content:{self.tenant}/{self.content_type}",
            f"campaign:{self.tenant}/{self.campaign}",
        }


class MemoryHistory:
    """SpendHistory over a list of attempts; `gone`: it does not answer."""

    def __init__(self) -> None:
        self.attempts: list[Spent] = []
        self.gone = False

    async def spent(self, limit: Limit, now: float) -> int | None:
        if self.gone:
            raise Unavailable("the ledger is away")
        if limit.key.scope.kind is ScopeKind.KEY:
            return None
        start = windows(limit.key.period, limit.time_zone, int(now * 1000)).start / 1000
        mine = [a for a in self.attempts if str(limit.key.scope) in a.scopes and start <= a.at]
        amounts = [Amounts(1, a.input_tokens, a.output_tokens, a.micro_usd) for a in mine]
        return sum(by_unit(amount)[limit.key.unit] for amount in amounts)


@dataclass(slots=True)
class KnownHistory:
    """SpendHistory with the same answer for every window, below 0: none; remembers what was asked."""

    amount: int = 0
    asked: list[Limit] = field(default_factory=list)

    async def spent(self, limit: Limit, now: float) -> int | None:
        self.asked.append(limit)
        if self.amount < 0:
            raise Unavailable("the ledger is away")
        return self.amount


class MemoryLearned:
    """LearnedStore of unit tests; shares its contract with the one on Valkey. `gone`: it does not answer."""

    def __init__(self) -> None:
        self.said: dict[str, Observed] = {}
        self.gone = False

    async def put(self, holder: str, observed: Observed) -> None:
        self._check()
        self.said[holder] = observed

    async def all(self) -> dict[str, Observed]:
        self._check()
        return dict(self.said)

    async def drop(self, holders: Sequence[str]) -> None:
        self._check()
        for holder in holders:
            self.said.pop(holder, None)

    def _check(self) -> None:
        if self.gone:
            raise Unavailable("the store is away")


class Notes:
    """Remembers what is noted. Satisfies `ChangeNotes`."""

    def __init__(self) -> None:
        self.noted: list[tuple[str | int, ...]] = []

    def note(
        self, kind: str, name: str, version: int, author: str, reason: str, before: str, after: str
    ) -> None:
        self.noted.append((kind, name, version, author, reason, before, after))


class Replica:
    """One limiter."""

    def __init__(
        self,
        store: LimitStore,
        limits: Iterable[Limit],
        *,
        clock: Clock | None = None,
        history: SpendHistory | None = None,
        ttl: float = 8.0,
        learned: LearnedStore | None = None,
        learn: Mode = Mode.ENFORCE,
    ) -> None:
        self.clock = clock or SystemClock()
        self.store = store
        self.metrics = Metrics()
        self.source = FixedLimits(limits)
        self.effective = EffectiveLimits(self.source, store)
        self.trends, self.fleet = Trends(), Fleet()
        self.history = history or KnownHistory()
        self.rebuild = Rebuild(store, self.history, self.clock, self.metrics)
        self.enforcer = Enforcer(store, self.effective, self.rebuild, self.trends, self.clock, self.metrics)
        self.learning = Learning(
            learned if learned is not None else MemoryLearned(),
            self.effective,
            self.clock,
            self.metrics,
            learn,
            0.95,
        )
        self.reservations = Reservations(self.enforcer, self.effective, store)
        self.notes = Notes()
        self.quotas = Quotas(self.enforcer, self.effective, store, self.trends, self.learning, self.notes)
        self.heartbeat = Heartbeat(
            store, self.enforcer, self.effective, self.fleet, self.trends, self.clock, self.metrics
        )
        self.ttl = ttl

    def session(self, holder: str, wake: Callable[[], None] = lambda: None) -> LeaseSession:
        """A lease session."""
        return LeaseSession(
            holder,
            self.enforcer,
            self.effective,
            self.store,
            self.fleet,
            self.learning,
            self.clock,
            ttl=self.ttl,
            unlimited=5.0,
            wake=wake,
        )

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[ratelimit_pb2_grpc.RateLimiterAsyncStub]:
        """Over gRPC, with the interceptors of a real service."""
        registration = Registration(
            ratelimit_pb2_grpc.add_RateLimiterServicer_to_server,
            RateLimiterServicer(self.reservations, self.quotas, self.session),
            SERVICE,
            frozenset({"Lease"}),
        )
        server = grpc_server([registration], metrics=self.metrics, clock=self.clock)
        await server.start(fresh_address(), None)
        server.begin_serving()
        try:
            async with connect(f"127.0.0.1:{server.port}") as channel:
                yield ratelimit_pb2_grpc.RateLimiterStub(channel)
        finally:
            await server.drain(1.0)
