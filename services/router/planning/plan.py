"""A plan, and its making from constraints, scores and order (see the room's head). Pure: health, prices and chance
are parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from msgspec import Struct

from libs.catalog.model import Model, Policy, Provider, Tenant
from libs.catalog.prices import Pricer
from libs.types import Usage
from services.router.budgets.budget import UNRESTRICTED, Budget, BudgetVerdict, dearest
from services.router.health.target_health import Availability, TargetHealth
from services.router.planning.candidate import Candidate
from services.router.planning.chance import choice_probability
from services.router.planning.constraints import Needs, capabilities_needed, constraints_of, find_broken
from services.router.planning.entries import PolicyEntry
from services.router.planning.order import explain_order, find_avoided, order_candidates, put_first, put_last
from services.router.planning.scoring import Scorer
from services.router.request.attachments import attachment_tokens
from services.router.request.generation import Generation
from services.router.request.tokens import estimate_input_tokens


class Plan(Struct, frozen=True):
    """Candidates in the order in which they are to be tried, and those that may not serve, with the reason."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[Candidate, ...]
    policy: Policy
    #: The budgets that pay for the request, and the verdict on them as the plan was made.
    budgets: tuple[Budget, ...] = ()
    budget_verdict: BudgetVerdict = UNRESTRICTED
    #: A budget's threshold changed the first candidate.
    chosen_by_budget: bool = False
    #: That of the first candidate to be chosen; None: not known.
    probability: float | None = 1.0
    #: The capabilities that the request needs.
    capabilities: frozenset[str] = frozenset()

    def retry_after(self) -> float | None:
        """Returns the seconds until the first target that is down may come back; None: not known."""
        waits = [c.health.retry_after for c in self.excluded if c.health.retry_after is not None]
        return min(waits) if waits else None


class PlanRequest(Struct, frozen=True):
    """The request that a plan is made for. `budget_verdict`: what its budgets allow now."""

    generation: Generation
    tenant: Tenant
    policy: Policy
    stream: bool = False
    budgets: tuple[Budget, ...] = ()
    budget_verdict: BudgetVerdict = UNRESTRICTED


class Conditions(Struct, frozen=True):
    """The world as a plan is made. `at`: epoch seconds; `why_unusable`: returns why a provider cannot be called at
    all, empty where it can; `avoids`: returns True for what recent calls show to fail, None: nothing; `comes_first`:
    returns True, after all were asked for their health, for what an operator puts before others, None: nothing."""

    health: Callable[[Model], TargetHealth]
    price: Pricer
    at: float
    why_unusable: Callable[[Provider], str]
    avoids: Callable[[Model], bool] | None = None
    comes_first: Callable[[Model], bool] | None = None


def make_plan(
    entries: Sequence[PolicyEntry], request: PlanRequest, conditions: Conditions, scorer: Scorer, rng: Random
) -> Plan:
    """Returns the plan: applies the constraints, scores what is left and orders it."""
    generation = request.generation
    needed = capabilities_needed(generation.prompt, stream=request.stream)
    fit, excluded, down = _examine(entries, request, needed, conditions)
    probability: float | None = 1.0
    passed_over = bool(fit and excluded and _are_beaten(excluded, fit))
    if not fit:
        # In a total outage a target is tried now and then, so that the first to recover is found at once.
        fit = [candidate for candidate in down if candidate.health.trial]
        passed_over = bool(fit)
        for candidate in fit:
            excluded.remove(candidate)
            candidate.excluded = ""
    if request.budget_verdict.cheaper and fit:
        fit = _without_dear(fit, excluded, request.budget_verdict.cheaper)
    if fit:
        scorer.score(fit, generation)
        fit, drawn = order_candidates(fit, generation, rng)
        put = False
        if conditions.avoids is not None:
            best = fit[0]
            fit = put_last(fit, conditions.avoids)
            passed_over = passed_over or fit[0] is not best
        if conditions.comes_first is not None:
            best = fit[0]
            fit = put_first(fit, conditions.comes_first)
            put = fit[0] is not best
        explain_order(fit, generation, passed_over=passed_over)
        if put and drawn:
            probability = None
        elif drawn and len(fit) > 1:
            put_last_too = find_avoided(fit, conditions.avoids) if conditions.avoids else [False] * len(fit)
            probability = choice_probability(fit, put_last_too, generation)
    return Plan(
        tuple(fit),
        tuple(excluded),
        request.policy,
        request.budgets,
        request.budget_verdict,
        probability=probability,
        capabilities=needed,
    )


def _examine(
    entries: Sequence[PolicyEntry], request: PlanRequest, needed: frozenset[str], conditions: Conditions
) -> tuple[list[Candidate], list[Candidate], list[Candidate]]:
    """Returns the candidates that may serve, those that may not with the reason, and those of the latter that health
    alone keeps out."""
    generation = request.generation
    prompt = generation.prompt
    needs = Needs(
        request.tenant,
        needed,
        generation.attachments,
        generation.max_cost_micro_usd,
    )
    constraints = constraints_of(needs)
    fit: list[Candidate] = []
    excluded: list[Candidate] = []
    down: list[Candidate] = []
    of_text = estimate_input_tokens(prompt)
    for entry in entries:
        provider, model = entry.provider, entry.model
        health = conditions.health(model)
        tokens = of_text
        if generation.attachments:
            tokens += attachment_tokens(generation.attachments, provider, model)
        output = min(prompt.max_output_tokens, model.max_output_tokens)
        most = conditions.price(provider, model, Usage(tokens, output), conditions.at, "")
        candidate = Candidate(
            entry,
            provider,
            model,
            health,
            most,
            health.latency,
            input_tokens=tokens,
            output_tokens=output,
        )
        why = find_broken(candidate, needs, constraints)
        if not why:
            why = conditions.why_unusable(provider)
            candidate.unusable = bool(why)
        if not why and health.availability is Availability.DOWN:
            why = health.reason or "it is down"
            down.append(candidate)
        if why:
            candidate.excluded = why
            excluded.append(candidate)
        else:
            fit.append(candidate)
    return fit, excluded, down


def _without_dear(fit: list[Candidate], excluded: list[Candidate], why: str) -> list[Candidate]:
    """Returns the candidates that are cheap enough where a budget asks for cheaper models; the others join
    `excluded`."""
    most = dearest(candidate.estimated_micro_usd for candidate in fit)
    for candidate in fit:
        if candidate.estimated_micro_usd > most:
            candidate.excluded = why
            excluded.append(candidate)
    return [candidate for candidate in fit if not candidate.excluded]


def _are_beaten(excluded: Sequence[Candidate], fit: Sequence[Candidate]) -> bool:
    """Returns True if health took out a candidate of a better tier than all that are left, or of the same."""
    best = min(candidate.entry.tier for candidate in fit)
    return any(c.entry.tier <= best and c.health.availability is Availability.DOWN for c in excluded)
