"""Scores of candidates: how good each is among those that may serve a request.

A `Scorer` is the part of planning that can be replaced: it fills in `Candidate.scores` and decides nothing else.
Which candidates there are was decided by the constraints, and what the scores are used for is the order's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from libs.selection import Scores, Strategy
from services.router.planning.candidate import Candidate
from services.router.request.generation import Generation


class Scorer(Protocol):
    """Scores the candidates of one request."""

    def score(self, candidates: Sequence[Candidate], generation: Generation) -> None:
        """Fills in `scores` of every candidate; there is at least one."""
        ...


class Weights(NamedTuple):
    """The weights of the criteria; they add up to 1."""

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


class WeightedScorer:
    """Satisfies `Scorer`: the weighted sum of four criteria, with the weights of the request's strategy. Cost and
    performance are compared within a tier, where the score decides: a free last resort makes no other model dear."""

    def score(self, candidates: Sequence[Candidate], generation: Generation) -> None:
        """See `Scorer.score`."""
        of_cost, of_performance, of_reliability, of_suitability = WEIGHTS[generation.strategy]
        content_type = generation.content_type
        cheapest: dict[int, int] = {}
        fastest: dict[int, float] = {}
        compared = [(c, c.entry.tier, c.estimated_micro_usd, c.estimated_latency) for c in candidates]
        for _, tier, most, latency in compared:
            if most < cheapest.setdefault(tier, most):
                cheapest[tier] = most
            if latency and latency < fastest.setdefault(tier, latency):
                fastest[tier] = latency
        for candidate, tier, most, latency in compared:
            cost = 1.0 if most <= 0 else cheapest[tier] / most
            # A target without evidence is taken to be as fast as the fastest: otherwise it would never get any.
            performance = fastest[tier] / latency if latency else 1.0
            reliability = candidate.health.success_rate
            suitability = candidate.model.quality_for(content_type)
            total = (
                of_cost * cost
                + of_performance * performance
                + of_reliability * reliability
                + of_suitability * suitability
            )
            candidate.scores = Scores(cost, performance, reliability, suitability, total)
