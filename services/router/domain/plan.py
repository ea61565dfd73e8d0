"""Which models may serve a request, in what order, and why. Pure: health, prices and chance are parameters.

A plan is made once per request. Order: healthy before degraded, tier before tier, and inside a tier by weight
where the policy gives weights, else by the strategy's score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from random import Random

from msgspec import Struct

from libs.catalog.model import DEFAULT, Catalog, Model, Policy, Provider, Tenant
from libs.types import Usage
from services.router.domain.budget import CALM, Budget, Stance, dearest
from services.router.domain.generation import Generation, Prompt, Role, Strategy
from services.router.domain.health import Availability, TargetHealth


class SelectionReason(StrEnum):
    """Which criterion decided."""

    COST = "cost"
    PERFORMANCE = "performance"
    SPECIALIZATION = "specialization"
    AVAILABILITY = "availability"
    LOAD_BALANCE = "load_balance"
    REQUESTED = "requested"


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each criterion counts; they add up to 1."""

    cost: float
    performance: float
    reliability: float
    suitability: float


WEIGHTS: dict[Strategy, Weights] = {
    Strategy.COST_FIRST: Weights(0.70, 0.05, 0.15, 0.10),
    Strategy.PERFORMANCE_FIRST: Weights(0.05, 0.65, 0.20, 0.10),
    Strategy.BALANCED: Weights(0.30, 0.20, 0.25, 0.25),
    Strategy.SPECIALIZED: Weights(0.05, 0.05, 0.20, 0.70),
}
#: How many models outside of a policy are considered when everything in it failed.
CHEAPER_MODELS = 5
_STRATEGY_REASON = {
    Strategy.COST_FIRST: SelectionReason.COST,
    Strategy.PERFORMANCE_FIRST: SelectionReason.PERFORMANCE,
    Strategy.SPECIALIZED: SelectionReason.SPECIALIZATION,
}


#: Every score to two digits: writing floats is slow, and each answer explains itself.
_TEXT = tuple(f"{hundredths / 100:.2f}" for hundredths in range(101))


class Slot(Struct, frozen=True):
    """A place in a policy: who could serve, before the request's own needs and health are looked at."""

    provider: Provider
    model: Model
    tier: int
    weight: int
    weighted: bool


class Scores(Struct, frozen=True):
    """Each criterion from 0 (worst) to 1 (best) among the candidates of one request, and their weighted sum."""

    cost: float = 0.0
    performance: float = 0.0
    reliability: float = 0.0
    suitability: float = 0.0
    total: float = 0.0


class Candidate(Struct):
    """A model that may serve the request; written by `make_plan` alone. `excluded`: why it may not after all, empty
    where it may."""

    provider: Provider
    model: Model
    tier: int
    health: TargetHealth
    estimated_micro_usd: int
    estimated_latency: float | None
    scores: Scores = Scores()
    reason: SelectionReason = SelectionReason.COST
    confidence: float = 1.0
    #: Its place in the order, from 0.
    rank: int = 0
    #: Better ones were passed over because they are down.
    passed_over: bool = False
    excluded: str = ""

    @property
    def target(self) -> str:
        """`provider/model`."""
        return self.model.id

    @property
    def explanation(self) -> str:
        """The reason in words, for a person."""
        scores = self.scores
        text = (
            f"tier {self.tier + 1}, score {_TEXT[int(scores.total * 100 + 0.5)]} "
            f"(cost {_TEXT[int(scores.cost * 100 + 0.5)]}, "
            f"performance {_TEXT[int(scores.performance * 100 + 0.5)]}, "
            f"reliability {_TEXT[int(scores.reliability * 100 + 0.5)]}, "
            f"suitability {_TEXT[int(scores.suitability * 100 + 0.5)]})"
        )
        if self.rank > 0:
            return f"fallback {self.rank}: {text}"
        return f"{text}; better ones, or all, are down" if self.passed_over else text


class Plan(Struct, frozen=True):
    """Candidates in the order in which they are to be tried, then those that may not serve and why."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[Candidate, ...]
    policy: Policy
    input_tokens: int
    #: What pays for the request, and what that said as the plan was made.
    budgets: tuple[Budget, ...] = ()
    stance: Stance = CALM
    #: A budget's use chose: without it another model would be the first.
    thrifty: bool = False

    def retry_after(self) -> float | None:
        """The soonest any target that is down now comes back, in seconds; None: nobody knows."""
        waits = [c.health.retry_after for c in self.excluded if c.health.retry_after is not None]
        return min(waits) if waits else None


#: (provider, model, usage, epoch seconds, the model's name in the answer) → micro-USD.
Pricer = Callable[[Provider, Model, Usage, float, str], int]


def estimate_input_tokens(prompt: Prompt) -> int:
    """Prompt tokens, counted as UTF-8 bytes / 4 plus 4 a message: four letters of English, a little over one
    Chinese character. Providers' own counts replace it when the answer comes."""
    size = 0
    for message in prompt.messages:
        text = message.text
        size += len(text) if text.isascii() else len(text.encode())
        for call in message.tool_calls:
            size += len(call.arguments_json)
    for tool in prompt.tools:
        size += len(tool.description) + len(tool.parameters_json)
    if prompt.response_format is not None:
        size += len(prompt.response_format.schema_json)
    return math.ceil(size / 4) + 4 * len(prompt.messages)


def estimate_text_tokens(text: str) -> int:
    """Tokens of an answer, by the same rule."""
    return math.ceil(len(text.encode()) / 4)


def slots_for(catalog: Catalog, tenant: Tenant, content_type: str, models: Sequence[str]) -> tuple[Slot, ...]:
    """Everyone the caller's list or else the policy names, tier by tier. A last resort is the tier after the
    last."""
    policy = catalog.policy_for(tenant, content_type)
    tiers: list[list[tuple[Model, int]]] = []
    if models:
        tiers = [[(model, 1) for model in catalog.resolve_model(name)] for name in models]
    else:
        tiers = [[(catalog.models[w.model_id], w.weight) for w in tier] for tier in policy.tiers]
        tiers += [[(catalog.models[model_id], 1)] for model_id in policy.last_resort]
    slots = []
    seen: set[str] = set()
    for number, tier in enumerate(tiers):
        weighted = len({weight for _, weight in tier}) > 1
        for model, weight in tier:
            if model.id not in seen:
                seen.add(model.id)
                slots.append(Slot(catalog.providers[model.provider], model, number, weight, weighted))
    return tuple(slots)


def cheaper_slots(
    catalog: Catalog, plan: Plan, than_micro_usd: int, cost: Callable[[Model], int]
) -> tuple[Slot, ...]:
    """Every model of the catalog outside of the plan that costs less, the best liked of them first: the step of the
    degradation ladder that prefers a lesser answer to none."""
    known = {c.target for c in (*plan.candidates, *plan.excluded)}
    cheaper = [
        model for model in catalog.models.values() if model.id not in known and cost(model) < than_micro_usd
    ]
    cheaper.sort(key=lambda model: -model.quality_for(DEFAULT))
    return tuple(
        Slot(catalog.providers[model.provider], model, tier, 1, False)
        for tier, model in enumerate(cheaper[:CHEAPER_MODELS])
    )


def needs_of(prompt: Prompt, *, stream: bool) -> frozenset[str]:
    """The capabilities without which a model cannot serve the prompt."""
    needs = set()
    if stream:
        needs.add("streaming")
    if prompt.tools:
        needs.add("tools")
    if prompt.response_format is not None:
        needs.add("json_schema" if prompt.response_format.schema_json else "json")
    for message in prompt.messages:
        if message.role is Role.SYSTEM:
            needs.add("system")
    return frozenset(needs)


def make_plan(
    slots: Sequence[Slot],
    generation: Generation,
    tenant: Tenant,
    policy: Policy,
    health: Callable[[Model], TargetHealth],
    price: Pricer,
    at: float,
    rng: Random,
    *,
    stream: bool,
    unusable: Callable[[Provider], str] = lambda _: "",
    budgets: tuple[Budget, ...] = (),
    stance: Stance = CALM,
) -> Plan:
    """Applies the hard constraints, scores what is left and orders it. `at`: epoch seconds; `stance`:
    what the budgets say."""
    prompt = generation.prompt
    needs = needs_of(prompt, stream=stream)
    input_tokens = estimate_input_tokens(prompt)
    fit: list[tuple[Slot, Candidate]] = []
    excluded: list[Candidate] = []
    down: list[tuple[Slot, Candidate]] = []
    for slot in slots:
        model = slot.model
        state = health(model)
        usage = Usage(input_tokens, min(prompt.max_output_tokens, model.max_output_tokens))
        most = price(slot.provider, model, usage, at, "")
        candidate = Candidate(slot.provider, model, slot.tier, state, most, state.latency)
        why = unusable(slot.provider) or _why_not(candidate, tenant, needs, input_tokens, generation)
        if not why and state.availability is Availability.DOWN:
            why = state.reason or "it is down"
            down.append((slot, candidate))
        if why:
            candidate.excluded = why
            excluded.append(candidate)
        else:
            fit.append((slot, candidate))
    passed_over = bool(fit and excluded and _beaten(excluded, fit))
    if not fit:
        # In a total outage a target is tried now and then, so that the first to recover is found at once.
        fit = [(slot, candidate) for slot, candidate in down if candidate.health.trial]
        passed_over = bool(fit)
        for _, candidate in fit:
            excluded.remove(candidate)
            candidate.excluded = ""
    cheap = stance.cheaper
    if cheap and fit:
        most = dearest(candidate.estimated_micro_usd for _, candidate in fit)
        for _, candidate in fit:
            if candidate.estimated_micro_usd > most:
                candidate.excluded = cheap
                excluded.append(candidate)
        fit = [(slot, candidate) for slot, candidate in fit if not candidate.excluded]
    ordered = _ordered(fit, generation, rng, passed_over=passed_over)
    return Plan(tuple(ordered), tuple(excluded), policy, input_tokens, budgets, stance)


def _why_not(
    candidate: Candidate, tenant: Tenant, needs: frozenset[str], input_tokens: int, generation: Generation
) -> str:
    model = candidate.model
    if tenant.allowed_providers is not None and model.provider not in tenant.allowed_providers:
        return f"tenant {tenant.name} may not use provider {model.provider}"
    missing = needs - model.capabilities
    if missing:
        return f"cannot do {', '.join(sorted(missing))}"
    if input_tokens >= model.context_window:
        return f"about {input_tokens} prompt tokens do not fit its context window of {model.context_window}"
    limit = generation.max_cost_micro_usd
    if limit is not None and candidate.estimated_micro_usd > limit:
        return f"may cost {candidate.estimated_micro_usd} micro-USD, more than the {limit} allowed"
    return ""


def _beaten(excluded: Sequence[Candidate], fit: Sequence[tuple[Slot, Candidate]]) -> bool:
    """Whether health took out someone of a better tier than all that are left."""
    best = min(slot.tier for slot, _ in fit)
    return any(c.tier <= best and c.health.availability is Availability.DOWN for c in excluded)


def _ordered(
    fit: Sequence[tuple[Slot, Candidate]], generation: Generation, rng: Random, *, passed_over: bool
) -> list[Candidate]:
    if not fit:
        return []
    weights = WEIGHTS[generation.strategy]
    cheapest = min([c.estimated_micro_usd for _, c in fit])
    fastest = min([c.estimated_latency for _, c in fit if c.estimated_latency], default=None)
    keyed: list[tuple[tuple[bool, int, float], Slot, Candidate]] = []
    for slot, candidate in fit:
        health = candidate.health
        cost = 1.0 if candidate.estimated_micro_usd <= 0 else cheapest / candidate.estimated_micro_usd
        # A target without evidence is taken to be as fast as the fastest: otherwise it would never get any.
        performance = (
            fastest / candidate.estimated_latency if fastest and candidate.estimated_latency else 1.0
        )
        suitability = candidate.model.quality_for(generation.content_type)
        total = (
            weights.cost * cost
            + weights.performance * performance
            + weights.reliability * health.success_rate
            + weights.suitability * suitability
        )
        candidate.scores = Scores(cost, performance, health.success_rate, suitability, total)
        behind = health.availability is Availability.DEGRADED or (
            health.ramp < 1.0 and rng.random() >= health.ramp
        )
        # Weighted order without replacement (Efraimidis and Spirakis 2006): the largest u^(1/w) first.
        rank = rng.random() ** (1 / slot.weight) if slot.weighted and slot.weight else total
        if slot.weighted and not slot.weight:
            rank = -1.0
        keyed.append(((behind, slot.tier, -rank), slot, candidate))
    confidence = 1.0
    if len(keyed) > 1:
        keyed.sort(key=itemgetter(0))
        best, second = keyed[0][2].scores.total, keyed[1][2].scores.total
        if best > 0:
            confidence = max(0.0, min(1.0, 1 - second / best))
    ordered = [candidate for _, _, candidate in keyed]
    first = keyed[0][1]
    for rank, candidate in enumerate(ordered):
        candidate.rank = rank
        candidate.passed_over = passed_over
        candidate.confidence = confidence if rank == 0 else 0.0
        candidate.reason = _reason(candidate, first, generation)
    return ordered


def _reason(candidate: Candidate, first: Slot, generation: Generation) -> SelectionReason:
    if candidate.rank > 0 or candidate.passed_over:
        return SelectionReason.AVAILABILITY
    if generation.models:
        return SelectionReason.REQUESTED
    if first.weighted:
        return SelectionReason.LOAD_BALANCE
    by_strategy = _STRATEGY_REASON.get(generation.strategy)
    if by_strategy is not None:
        return by_strategy
    weights, scores = WEIGHTS[Strategy.BALANCED], candidate.scores
    cost = weights.cost * scores.cost
    performance = weights.performance * scores.performance
    suitability = weights.suitability * scores.suitability
    if cost >= performance and cost >= suitability:
        return SelectionReason.COST
    return SelectionReason.PERFORMANCE if performance >= suitability else SelectionReason.SPECIALIZATION
