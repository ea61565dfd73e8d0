"""The parts that health tests share: a store that replicas in one process share, and a replica with all its use
cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from libs.catalog.catalog import Catalog
from libs.catalog.model import ContentType, Model, Policy, Provider, Weighted
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.errors import Unavailable
from libs.resilience.circuit import BreakerState
from libs.resilience.evidence import BreakerSettings
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.health.connectivity.tester import ProviderTester
from services.health.domain.evidence import Outcome, ProbePermit, ProbeResult
from services.health.domain.fleet import Fleet, SharedState
from services.health.domain.published import PublishedStates
from services.health.domain.target import ModeRecord, Target, TargetState
from services.health.judge import Judge
from services.health.mode import Operators
from services.health.permits import PermitIssuer
from services.health.ports import Exchange, HealthStore
from services.health.probe import Prober, ProbeSettings
from services.health.report import Reports
from services.health.servicer import ProviderHealthServicer
from services.health.share import Sharer
from services.health.watch import Publisher
from tests.support.provider_network import FakeNetwork


@dataclass(slots=True)
class Hub:
    """The memory that all replicas' fake stores have in common. `down`: it does not answer."""

    clock: Clock
    down: bool = False
    shared: dict[Target, SharedState] = field(default_factory=dict)
    evidence: list[tuple[str, Exchange]] = field(default_factory=list)
    permits: dict[tuple[Target, int], dict[str, float]] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    issued: int = 0


class FakeHealthStore:
    """Satisfies `HealthStore`."""

    def __init__(self, hub: Hub, instance: str) -> None:
        self._hub = hub
        self._instance = instance
        self._cursor = len(hub.evidence)

    async def exchange(self, outgoing: Exchange) -> Exchange:
        hub = self._reach()
        nothing = SharedState(BreakerState(), ModeRecord())
        for target, new in outgoing.shared.items():
            old = hub.shared.get(target, nothing)
            hub.shared[target] = SharedState(old.circuit.merge(new.circuit), old.mode.merge(new.mode))
        if outgoing.outcomes or outgoing.probes or outgoing.routes:
            evidence = Exchange({}, outgoing.outcomes, outgoing.probes, outgoing.routes)
            hub.evidence.append((self._instance, evidence))
        heard = [e for sender, e in hub.evidence[self._cursor :] if sender != self._instance]
        self._cursor = len(hub.evidence)
        return Exchange(
            dict(hub.shared),
            tuple(outcome for e in heard for outcome in e.outcomes),
            tuple(probe for e in heard for probe in e.probes),
            tuple(route for e in heard for route in e.routes),
        )

    async def acquire(
        self, target: Target, generation: int, prefix: str, limit: int, ttl: float
    ) -> ProbePermit | None:
        hub = self._reach()
        now = hub.clock.now()
        held = {p: at for p, at in hub.permits.get((target, generation), {}).items() if at > now}
        hub.permits[target, generation] = held
        if len(held) >= limit:
            return None
        hub.issued += 1
        permit = ProbePermit(f"{prefix}{hub.issued}", now + ttl)
        held[permit.id] = permit.expires
        return permit

    async def release(self, target: Target, generation: int, permit_id: str) -> None:
        self._reach().permits.get((target, generation), {}).pop(permit_id, None)

    async def claim(self, name: str, ttl: float) -> bool:
        hub = self._reach()
        now = hub.clock.now()
        if hub.claims.get(name, 0.0) > now:
            return False
        hub.claims[name] = now + ttl
        return True

    def _reach(self) -> Hub:
        if self._hub.down:
            raise Unavailable("The store is down", reason="STORE_UNAVAILABLE")
        return self._hub


class FakeEndpoints:
    """Answers probes as told; remembers whom it was asked about. Satisfies `Endpoints`."""

    def __init__(self) -> None:
        self.errors: dict[str, ErrorClass] = {}
        self.asked: list[str] = []

    async def probe(self, provider: Provider) -> ProbeResult:
        self.asked.append(provider.name)
        error = self.errors.get(provider.name)
        return ProbeResult(provider.name, 0.02, error, "as told" if error else "")


def make_catalog(models: Mapping[str, tuple[str, ...]] | None = None, domain: str = "test") -> Catalog:
    """Providers with their models; by default `acme` with three, `zeta` with one."""
    models = {"acme": ("large", "small", "tiny"), "zeta": ("one",)} if models is None else models
    entries = [Model(p, m, m, 8000, 1000) for p, names in models.items() for m in names]
    return Catalog(
        version="test",
        domain=domain,
        default_content_type="general",
        providers={p: Provider(p, "openai_compatible", f"http://{p}.test/v1") for p in models},
        models={model.id: model for model in entries},
        policies={"default": Policy("default", (tuple(Weighted(model.id) for model in entries),))},
        content_types={"general": ContentType("general", 500)},
        tenants={},
    )


class Replica:
    """One health replica with everything but its gRPC server and its loops, which a test turns by hand."""

    def __init__(
        self,
        clock: Clock,
        store: HealthStore,
        *,
        name: str = "a",
        catalog: Catalog | None = None,
        settings: BreakerSettings | None = None,
        probes: ProbeSettings | None = None,
    ) -> None:
        settings = settings or BreakerSettings()
        self.clock = clock
        self.catalog = catalog or make_catalog()
        self.metrics = Metrics()
        self.endpoints = FakeEndpoints()
        self.fleet = Fleet(settings, Random(name))
        self.published = PublishedStates(f"epoch-{name}")
        self.publisher = Publisher(self.published, self.metrics)
        self.judge = Judge(self.fleet, self.publisher, clock, self.metrics)
        self.judge.replace_catalog(self.catalog)
        self.sharer = Sharer(self.judge, store, self.metrics)
        self.permits = PermitIssuer(self.judge, store, settings, clock, self.metrics)
        self.prober = Prober(
            self.judge,
            self.endpoints,
            store,
            lambda: self.catalog,
            probes or ProbeSettings(),
            clock,
            self.metrics,
        )
        self.network = FakeNetwork()
        self.tester = ProviderTester(
            self.network, Keys({}), lambda: self.catalog, self.judge.record_probe, clock, timeout=5.0
        )
        self.reports = Reports(self.judge, self.permits)
        self.operators = Operators(self.judge, self.sharer, clock)

    def servicer(self, heartbeat: float = 3.0) -> ProviderHealthServicer:
        """Its gRPC face."""
        return ProviderHealthServicer(
            self.judge, self.publisher, self.reports, self.permits, self.tester, self.operators, heartbeat
        )

    def state(self, provider: str, model: str = "") -> TargetState:
        """The judgement now."""
        return self.judge.state(Target(provider, model))

    def succeed(
        self, provider: str, model: str, count: int = 1, seconds: float = 1.0, permit: str = ""
    ) -> None:
        """Calls that worked."""
        self.judge.record_outcomes(
            [Outcome(provider, model, count, latency_sum=count * seconds, permit=permit)]
        )

    def fail(
        self,
        provider: str,
        model: str,
        count: int = 3,
        error: ErrorClass = ErrorClass.SERVER_ERROR,
        permit: str = "",
    ) -> None:
        """Calls that did not."""
        self.judge.record_outcomes([Outcome(provider, model, failures={error: count}, permit=permit)])
