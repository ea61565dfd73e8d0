"""Fakes behind the router's ports, and builders of small catalogs and requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from random import Random

from libs.answer import LimitState
from libs.catalog.catalog import Catalog
from libs.catalog.model import ContentType, Model, Policy, Provider, Tenant, Weighted
from libs.catalog.prices import Pricer
from libs.catalog.secrets import Keys
from libs.conversation import Message, Role
from libs.errors import QuotaViolation, Unavailable
from libs.ids import TimeOrderedIds
from libs.limits import Amounts, Period, Scope
from libs.request_record import RequestRecord, decode_request
from libs.resilience.retry_budget import RetryBudget
from libs.telemetry import Metrics
from libs.types import ErrorClass, FinishReason, Usage
from services.router.admission.admission import Admission, Claim, Permit
from services.router.admission.amounts import AdmissionDenied
from services.router.budgets.budgets import Budgets
from services.router.generate.answers import RecentAnswers
from services.router.generate.attempt import Attempts
from services.router.generate.attempt_end import AttemptObserver, Observers
from services.router.generate.begin import Gate
from services.router.generate.call import Calls
from services.router.generate.dry_run import DryRun
from services.router.generate.generate import Generate
from services.router.generate.meters import Meters
from services.router.generate.observers import attempt_observers
from services.router.generate.request_log import RequestLog
from services.router.health.failovers import OperatorFailovers
from services.router.health.probes import ProbePermit
from services.router.health.target_health import UNKNOWN, TargetHealth
from services.router.health.view import CallTicket
from services.router.ledger.usage_record import UsageRecord
from services.router.planning.candidate import Candidate
from services.router.planning.entries import PolicyEntry
from services.router.planning.planner import Planner
from services.router.planning.recent_calls import RecentCalls
from services.router.planning.scoring import WeightedScorer
from services.router.providers.routed_providers import RoutedProviders
from services.router.providers.timeouts import UNKNOWN as UNKNOWN_PACE
from services.router.providers.timeouts import AttemptTimeouts, LearnedTimes
from services.router.request.generation import (
    Completion,
    Generation,
    Prompt,
    ProviderFailure,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from services.router.request.usage import ToldUsage
from services.router.routes.routes import ProviderRoutes
from services.router.set_aside.set_aside import SettingAside
from tests.support.clock import ManualClock
from tests.support.names import limit_key

CAPABILITIES = frozenset({"streaming", "system", "json", "json_schema", "tools", "stop"})
TENANT = Tenant("acme")


def model(target: str, *, window: int = 100_000, prefill: bool = False, quality: float = 0.5) -> Model:
    """A model of `provider/name`."""
    provider, name = target.split("/", 1)
    return Model(
        provider,
        name,
        name,
        window,
        4096,
        CAPABILITIES | ({"prefill"} if prefill else frozenset()),
        quality={"default": quality},
    )


def catalog(
    *tiers: Sequence[Model],
    weights: Mapping[str, int] | None = None,
    last_resort: Sequence[Model] = (),
    **policy: object,
) -> Catalog:
    """A catalog whose default policy has these tiers, and this last resort."""
    models = {m.id: m for tier in (*tiers, last_resort) for m in tier}
    providers = {
        m.provider: Provider(m.provider, "openai_compatible", f"http://{m.provider}.test/v1")
        for m in models.values()
    }
    entries = tuple(tuple(Weighted(m.id, (weights or {}).get(m.id, 1)) for m in tier) for tier in tiers)
    return Catalog(
        version="000000000001",
        domain="test",
        default_content_type="general",
        providers=providers,
        models=models,
        policies={"default": Policy("default", entries, tuple(m.id for m in last_resort), **policy)},  # type: ignore[arg-type]
        content_types={"general": ContentType("general", 100)},
        tenants={TENANT.name: TENANT},
    )


def generation(text: str = "Describe a shovel", *, deadline: float = 1060.0, **changes: object) -> Generation:
    """A request of the test tenant; the manual clock starts at 1000."""
    fields: dict[str, object] = {
        "request_id": "r1",
        "tenant": TENANT.name,
        "content_type": "general",
        "prompt": Prompt((Message(Role.USER, text),), 100),
        "deadline": deadline,
    }
    return Generation(**(fields | changes))  # type: ignore[arg-type]


def flat_price(provider: Provider, model: Model, usage: Usage, at: float, response_model: str) -> int:
    """A micro-dollar a token."""
    return usage.input_tokens + usage.output_tokens


@dataclass
class ScriptedProviders:
    """Satisfies `Providers`. `script[target]` holds what each call to it does, the last for ever: a text, a failure
    (of which each call raises a copy), a completion, or for streams a list of texts, events, usage told so far, a
    tuple of ignored options, failures and `asyncio.Event`s to wait for; or a function of the prompt that gives one
    of these. A call by a route looks for the name of its key, then of its endpoint, before its target."""

    script: dict[str, list[object]]
    clock: ManualClock
    seconds: float = 0.5
    calls: list[str] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    cancelled: int = 0
    learned: LearnedTimes = UNKNOWN_PACE
    without_key: dict[str, str] = field(default_factory=dict)
    #: The key and the endpoint of each call by a route.
    routes: list[tuple[str, str]] = field(default_factory=list)

    def _next(self, provider: Provider, model: Model, prompt: Prompt) -> object:
        self.calls.append(model.id)
        self.prompts.append(prompt)
        names = [model.id]
        if provider.route is not None:
            self.routes.append((provider.route.key, provider.route.endpoint))
            names = [*self.routes[-1], model.id]
        steps = next(self.script[name] for name in names if name in self.script)
        self.clock.advance(self.seconds)
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        return step(prompt) if callable(step) else step

    def why_unusable(self, provider: Provider) -> str:
        return self.without_key.get(provider.name, "")

    def learned_times(self, model: Model, prompt: Prompt, tenant: str) -> LearnedTimes:
        return self.learned

    async def complete(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> Completion:
        step = self._next(provider, model, prompt)
        if isinstance(step, ProviderFailure):
            raise copy_of(step)
        if step is HANG or step == [HANG]:
            try:
                async with asyncio.timeout(timeouts.total):
                    await asyncio.Event().wait()
            except TimeoutError:
                raise ProviderFailure(ErrorClass.TIMEOUT, "scripted") from None
            finally:
                self.cancelled += 1
        return (
            step if isinstance(step, Completion) else Completion(str(step), FinishReason.STOP, Usage(10, 5))
        )

    async def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts, told: ToldUsage
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        steps = self._next(provider, model, prompt)
        if isinstance(steps, ProviderFailure):
            raise copy_of(steps)
        assert isinstance(steps, list)
        finished = False
        try:
            for step in steps:
                if isinstance(step, ProviderFailure):
                    raise step
                if isinstance(step, Usage):
                    told.usage = step
                    continue
                if isinstance(step, tuple):
                    told.ignored = step
                    continue
                if step is CUT:
                    finished = True
                    return
                if isinstance(step, asyncio.Event):
                    await step.wait()
                    continue
                if step is HANG:
                    limit = timeouts.silence if step is not steps[0] else timeouts.first_content
                    async with asyncio.timeout(limit):
                        await asyncio.Event().wait()
                yield [step if isinstance(step, StreamEvent) else TextDelta(step)]
                if isinstance(step, StreamEnd):
                    finished = True
                    return
            yield [StreamEnd(FinishReason.STOP, Usage(10, 5))]
            finished = True
        except TimeoutError:
            silent = ErrorClass.TIMEOUT if steps[0] is HANG else ErrorClass.STALLED
            raise ProviderFailure(silent, "scripted") from None
        except ProviderFailure:
            finished = True
            raise
        finally:
            self.cancelled += not finished


def copy_of(failure: ProviderFailure) -> ProviderFailure:
    """A failure as a provider raises it: what is learned of one call does not stick to the next."""
    again = ProviderFailure(failure.error_class, failure.message)
    vars(again).update(vars(failure))
    return again


#: Times after which a hedge begins at once.
AT_ONCE = LearnedTimes(first_content=0.0, per_token=0.0, tokens=100.0)
HANG = object()
#: A stream ends without its end.
CUT = object()


@dataclass
class FakeHealth:
    """Satisfies `HealthView`: what a test says, and a record of what was reported."""

    states: dict[str, TargetHealth] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    half_open: set[str] = field(default_factory=set)
    outcomes: list[tuple[str, ErrorClass | None]] = field(default_factory=list)
    tickets: int = 0

    def health_of(self, model: Model) -> TargetHealth:
        return self.states.get(model.id, UNKNOWN)

    async def begin_call(self, model: Model, tenant: str) -> CallTicket | None:
        if model.id in self.closed:
            return None
        self.tickets += 1
        return CallTicket("probe" if model.id in self.half_open else "")

    def record_success(
        self,
        model: Model,
        ticket: CallTicket,
        latency: float,
        first_token: float | None,
        tokens: int,
        tenant: str,
    ) -> None:
        self.tickets -= 1
        self.outcomes.append((model.id, None))

    def record_failure(
        self,
        model: Model,
        ticket: CallTicket,
        error_class: ErrorClass,
        retry_after: float | None,
        tenant: str,
    ) -> None:
        self.tickets -= 1
        self.outcomes.append((model.id, error_class))


class NoHealthService:
    """Satisfies `PermitSource`: each router probes for itself."""

    async def acquire_permit(self, model: Model) -> ProbePermit | None:
        raise Unavailable("there is no health service")


@dataclass
class FakeAdmission:
    """Satisfies `Admission`: admits all but scopes that are named in `denied` at the time."""

    denied: dict[str, AdmissionDenied] = field(default_factory=dict)
    open: int = 0
    settled: list[tuple[Amounts, Amounts]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    #: (scope, period) → (used, limit) in micro-USD; with `hidden`, known only once something was asked for.
    budgets: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    hidden: bool = False
    #: The states of other limits, by scope.
    states: dict[str, tuple[LimitState, ...]] = field(default_factory=dict)
    #: True if anything can be admitted without asking.
    leased: bool = True

    def budget_use(self, scope: Scope, period: Period) -> tuple[int, int] | None:
        return None if self.hidden else self.budgets.get((str(scope), period))

    def limit_states(self, scope: Scope) -> tuple[LimitState, ...]:
        return self.states.get(str(scope), ())

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        if self.hidden or not self.leased or any(str(scope) in self.denied for scope in scopes):
            return None
        self.open += 1
        return Permit(partial(self._end, amounts))

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        self.hidden = False
        self.claims.append(claim)
        for scope in claim.scopes:
            if str(scope) in self.denied:
                denied = self.denied[str(scope)]
                raise AdmissionDenied(denied.violations, denied.retry_after)
        self.open += 1
        return Permit(partial(self._end, claim.amounts))

    def _end(self, amounts: Amounts, used: Amounts | None) -> None:
        self.open -= 1
        if used is not None:
            self.settled.append((amounts, used))


def denial(
    scope: str, retry_after: float | None = 7.0, *, limit: int = 5, paced: bool = False
) -> AdmissionDenied:
    """A denial by one dimension of a scope."""
    key = limit_key(f"{scope} requests minute")
    violation = QuotaViolation(key, f"{scope} is full", limit, limit, 1, paced=paced)
    return AdmissionDenied([violation], retry_after)


@dataclass
class MemorySpool:
    """Satisfies `UsageSpool` in memory; shares its contract suite with the file spool."""

    begun: dict[str, UsageRecord] = field(default_factory=dict)
    ended: list[UsageRecord] = field(default_factory=list)
    requests_alone: list[RequestRecord] = field(default_factory=list)

    def begin(self, record: UsageRecord) -> None:
        self.begun[record.attempt_id] = copy(record)

    def end(self, record: UsageRecord) -> None:
        self.begun.pop(record.attempt_id, None)
        self.ended.append(copy(record))

    def add_request(self, record: RequestRecord) -> None:
        self.requests_alone.append(record)

    @property
    def requests(self) -> list[RequestRecord]:
        """Returns the records of requests: first those that came by themselves, then those with an attempt's end."""
        return [*self.requests_alone, *(decode_request(r.request) for r in self.ended if r.request)]


def new_id() -> str:
    """A new id, of the time at which the manual clock starts."""
    return _IDS.make(1000.0)


_IDS = TimeOrderedIds(Random(3))


@dataclass
class Harness:
    """A Generate with fakes all around."""

    catalog: Catalog
    script: dict[str, list[object]]
    clock: ManualClock = field(default_factory=ManualClock)
    health: FakeHealth = field(default_factory=FakeHealth)
    admission: FakeAdmission = field(default_factory=FakeAdmission)
    spool: MemorySpool = field(default_factory=MemorySpool)
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.1, 50))
    price: Pricer = flat_price
    #: In front of `admission`.
    queue: Admission | None = None
    #: Behind the router's own.
    observers: Sequence[AttemptObserver] = ()
    learned: LearnedTimes = UNKNOWN_PACE
    #: The version of every provider's key.
    key: str = ""
    #: The variables that hold the keys of providers with several.
    environ: dict[str, str] = field(default_factory=dict)
    failovers: OperatorFailovers = field(default_factory=OperatorFailovers)

    def __post_init__(self) -> None:
        self.providers = ScriptedProviders(self.script, self.clock, learned=self.learned)
        rng = Random(7)
        self.routes = ProviderRoutes(
            lambda: self.catalog,
            Keys(self.environ),
            self.admission.limit_states,
            self.clock,
            Random(7),
            Metrics(),
        )
        self.set_aside = SettingAside(self.clock, Random(7), Metrics(), lambda _: self.key)
        self.metrics = Metrics()
        budgets = Budgets(self.admission, self.clock, self.metrics)
        self.recent = RecentCalls()
        self.planner = Planner(
            self.health.health_of,
            self.price,
            self.clock,
            rng,
            self.providers.why_unusable,
            self.set_aside,
            budgets,
            WeightedScorer(),
            self.recent,
            self.routes,
            self.failovers,
        )
        self.dry_run = DryRun(self.planner, self.price, self.clock)
        observers = attempt_observers(
            self.spool, Meters(self.metrics), self.health, self.set_aside, self.recent, self.clock
        )
        learners = (*observers.learners, *self.observers)
        attempts = Attempts(
            self.spool,
            Observers(observers.accounts, learners),
            self.price,
            self.clock,
            TimeOrderedIds(Random(1)),
        )
        gate = Gate(
            budgets,
            self.queue or self.admission,
            self.set_aside,
            self.health,
            attempts,
            self.clock,
            self.routes,
        )
        requests = RequestLog(self.spool, self.clock, TimeOrderedIds(Random(2)))
        routed = RoutedProviders(self.providers, self.routes, self.clock)
        calls = Calls(routed, gate, self.budget, self.recent, requests, self.clock)
        self.generate = Generate(
            self.planner,
            gate,
            calls,
            budgets,
            self.budget,
            self.recent,
            RecentAnswers(),
            requests,
            self.clock,
            rng,
        )

    def assert_settled(self) -> None:
        """Nothing is held or open after a request, and the ledger has what was called."""
        assert self.admission.open == 0
        assert self.health.tickets == 0
        assert self.spool.begun == {}
        assert [f"{r.provider}/{r.model}" for r in self.spool.ended] == self.providers.calls


def candidate_of(found: Catalog, wanted: Model, most: int) -> Candidate:
    """A model of the first tier that may cost `most` micro-USD and whose times are not known."""
    provider = found.providers[wanted.provider]
    return Candidate(PolicyEntry(provider, wanted, 0, 1, False), provider, wanted, UNKNOWN, most, None)


def fail(
    error_class: ErrorClass,
    *,
    retry_after: float | None = None,
    retry_same: bool = False,
    status: int = 0,
    explicit: bool = True,
    unexplained: bool = False,
) -> ProviderFailure:
    """A provider's failure."""
    return ProviderFailure(
        error_class,
        "scripted",
        http_status=status,
        retry_after=retry_after,
        retry_same=retry_same,
        explicit=explicit,
        unexplained=unexplained,
    )
