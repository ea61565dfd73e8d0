"""The order in which candidates are tried, and the reason that is given for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from random import Random

from libs.catalog.model import Model
from libs.selection import SelectionReason, Strategy
from services.router.health.target_health import Availability
from services.router.planning.candidate import Candidate
from services.router.planning.scoring import WEIGHTS
from services.router.request.generation import Generation

_STRATEGY_REASON = {
    Strategy.COST_FIRST: SelectionReason.COST,
    Strategy.PERFORMANCE_FIRST: SelectionReason.PERFORMANCE,
    Strategy.SPECIALIZED: SelectionReason.SPECIALIZATION,
}
_BALANCED = WEIGHTS[Strategy.BALANCED]


#: The groups of candidates, one tried after the other.
_USUAL, _DEGRADED, _LAST_RESORT, _RECOVERING = range(4)


def order_candidates(
    candidates: Sequence[Candidate], generation: Generation, rng: Random
) -> tuple[list[Candidate], bool]:
    """Returns the scored candidates in the order in which they are tried: tier before tier, and inside a tier by
    weight where the policy gives weights and the caller asks for no strategy, else by score; a weight of 0 is last in
    its tier in any case. Recovering and degraded targets come behind others, but for the share of requests that each
    should get. Also returns True if any of it was drawn by lot."""
    if len(candidates) == 1:
        return list(candidates), False
    drawn = False
    shares_load = not generation.strategy_asked
    keyed: list[tuple[tuple[int, int, float], Candidate]] = []
    #: One for all models of a provider, or each more would give it a larger share.
    lots: dict[str, float] = {}
    for candidate in candidates:
        entry = candidate.entry
        group = _LAST_RESORT if entry.last_resort else _USUAL
        if candidate.health.ramp < 1.0:
            drawn = True
            if rng.random() >= candidate.health.ramp:
                group = group_behind(candidate, group, named=bool(generation.models))
        if candidate.health.provider_share < 1.0:
            drawn = True
            name = candidate.provider.name
            lot = lots[name] if name in lots else lots.setdefault(name, rng.random())
            if lot >= candidate.health.provider_share:
                group = group_behind(candidate, group, named=bool(generation.models))
        rank = candidate.scores.total
        if entry.weighted:
            if not entry.weight:
                rank = -1.0
            elif shares_load:
                # Weighted order without replacement (Efraimidis and Spirakis 2006): the largest u^(1/w) first.
                drawn = True
                rank = rng.random() ** (1 / entry.weight)
        keyed.append(((group, entry.tier, -rank), candidate))
    keyed.sort(key=itemgetter(0))
    return [candidate for _, candidate in keyed], drawn


def find_avoided(candidates: Sequence[Candidate], avoids: Callable[[Model], bool]) -> list[bool]:
    """Returns which of the candidates are put last."""
    return [c.health.availability is not Availability.PROBING and avoids(c.model) for c in candidates]


def put_first(ordered: Sequence[Candidate], comes_first: Callable[[Model], bool]) -> list[Candidate]:
    """Returns the candidates with those before the others that an operator puts there. Those that recover or are
    degraded are not flooded."""
    first = [
        c.health.availability is not Availability.PROBING
        and c.health.ramp == c.health.provider_share == 1.0
        and comes_first(c.model)
        for c in ordered
    ]
    return [c for c, put in zip(ordered, first, strict=True) if put] + [
        c for c, put in zip(ordered, first, strict=True) if not put
    ]


def put_last(ordered: Sequence[Candidate], avoids: Callable[[Model], bool]) -> list[Candidate]:
    """Returns the candidates with those behind the others that recent calls show to fail. Who is being probed is in
    the hands of its circuit."""
    avoided = find_avoided(ordered, avoids)
    return [c for c, put in zip(ordered, avoided, strict=True) if not put] + [
        c for c, put in zip(ordered, avoided, strict=True) if put
    ]


def usual_group(candidate: Candidate) -> int:
    """Returns the group of a candidate that is not passed over."""
    return _LAST_RESORT if candidate.entry.last_resort else _USUAL


def group_behind(candidate: Candidate, group: int, *, named: bool) -> int:
    """Returns the group of a candidate that is to be passed over for this request. A recovering one must not be
    flooded, so it comes after all others. A degraded one works well enough to come before a last resort, and is no
    reason to call another first than the caller says (`named`)."""
    if candidate.health.availability is not Availability.DEGRADED:
        return _RECOVERING
    return group if named else max(group, _DEGRADED)


def explain_order(ordered: Sequence[Candidate], generation: Generation, *, passed_over: bool) -> None:
    """Fills in each candidate's rank, confidence (against the next in its tier) and reason. `passed_over`: better
    ones are down."""
    confidence = 1.0
    # Scores compare within a tier.
    if len(ordered) > 1 and ordered[1].entry.tier == ordered[0].entry.tier:
        best, second = ordered[0].scores.total, ordered[1].scores.total
        if best > 0:
            confidence = max(0.0, min(1.0, 1 - second / best))
    for rank, candidate in enumerate(ordered):
        candidate.rank = rank
        candidate.passed_over = passed_over
        candidate.confidence = confidence if rank == 0 else 0.0
        candidate.reason = _reason(candidate, generation)


def _reason(candidate: Candidate, generation: Generation) -> SelectionReason:
    if candidate.rank > 0 or candidate.passed_over:
        return SelectionReason.AVAILABILITY
    if generation.models:
        return SelectionReason.REQUESTED
    if candidate.entry.weighted and not generation.strategy_asked:
        return SelectionReason.LOAD_BALANCE
    by_strategy = _STRATEGY_REASON.get(generation.strategy)
    if by_strategy is not None:
        return by_strategy
    scores = candidate.scores
    cost = _BALANCED.cost * scores.cost
    performance = _BALANCED.performance * scores.performance
    suitability = _BALANCED.suitability * scores.suitability
    if cost >= performance and cost >= suitability:
        return SelectionReason.COST
    return SelectionReason.PERFORMANCE if performance >= suitability else SelectionReason.SPECIALIZATION
