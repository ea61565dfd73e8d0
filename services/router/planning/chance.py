"""The probability with which a candidate was chosen, so that what was learned from its answers can be weighed.

A candidate is first where no other stands before it. Others stand at a place (avoided or not, group, tier) by their
own lot, independently: a recovering or degraded target keeps its place with the probability of its ramp. At the same
place the score decides, or weights do: the weighted order is a race of exponential times with the weights as rates
(Efraimidis and Spirakis 2006), which a candidate wins against a set of others with its share of their weights. Who
is there is summed over all cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from services.router.planning.candidate import Candidate
from services.router.planning.order import group_behind, usual_group
from services.router.request.generation import Generation

#: Candidates at one place whose presence is up to chance, at most: twice as many cases for each more.
MOST_UNSURE = 10

#: Avoided, group, tier.
_Place = tuple[bool, int, int]


def choice_probability(
    candidates: Sequence[Candidate], avoided: Sequence[bool], generation: Generation
) -> float | None:
    """Returns the probability with which the candidates' order would begin with the first of them. `avoided`: which
    of them are put last. None: more are unsure than are summed over, or one lot is drawn for several."""
    lots = [c.model.provider for c in candidates if c.health.provider_share < 1.0]
    if len(lots) > len(set(lots)):
        return None
    places = [_places(c, put, generation) for c, put in zip(candidates, avoided, strict=True)]
    total = 0.0
    for place, chance in places[0].items():
        won = _wins(place, candidates, places, generation)
        if won is None:
            return None
        total += chance * won
    return total


def _places(candidate: Candidate, avoided: bool, generation: Generation) -> dict[_Place, float]:
    """Returns where it may stand, with the probabilities."""
    usual, tier = usual_group(candidate), candidate.entry.tier
    ramp = candidate.health.ramp * candidate.health.provider_share
    if ramp >= 1.0:
        return {(avoided, usual, tier): 1.0}
    behind = group_behind(candidate, usual, named=bool(generation.models))
    if behind == usual:
        return {(avoided, usual, tier): 1.0}
    return {(avoided, usual, tier): ramp, (avoided, behind, tier): 1.0 - ramp}


def _wins(
    place: _Place,
    candidates: Sequence[Candidate],
    places: Sequence[dict[_Place, float]],
    generation: Generation,
) -> float | None:
    """Returns the probability that the first of the candidates, which stands at `place`, comes before all others."""
    first = candidates[0]
    drawn = _drawn(first, generation)
    sure, weights, unsure = 1.0, 0, []
    for other, may_stand in zip(candidates[1:], places[1:], strict=True):
        here = may_stand.get(place, 0.0)
        behind = sum(chance for at, chance in may_stand.items() if at > place)
        if not here:
            sure *= behind
        elif not (drawn and _drawn(other, generation)):
            sure *= behind + here * (_rank(other) <= _rank(first))
        elif not behind:
            sure *= here
            weights += other.entry.weight
        else:
            unsure.append((other.entry.weight, here, behind))
    if len(unsure) > MOST_UNSURE:
        return None
    if not drawn:
        return sure
    won, mine = 0.0, first.entry.weight
    for present in product((False, True), repeat=len(unsure)):
        case = prod(
            [here if there else behind for there, (_, here, behind) in zip(present, unsure, strict=True)]
        )
        rivals = weights + sum([w for there, (w, _, _) in zip(present, unsure, strict=True) if there])
        won += case * mine / (mine + rivals)
    return sure * won


def _rank(candidate: Candidate) -> float:
    """Returns its rank at a place where not all are drawn; the larger comes first."""
    if not candidate.entry.weighted:
        return candidate.scores.total
    if not candidate.entry.weight:
        return -1.0
    return 1.0 + candidate.scores.total


def _drawn(candidate: Candidate, generation: Generation) -> bool:
    """Returns True if its rank is drawn by its weight."""
    return bool(candidate.entry.weighted and candidate.entry.weight and not generation.strategy_asked)
