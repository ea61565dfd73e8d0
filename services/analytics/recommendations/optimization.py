"""The state of optimisation as a whole: what is saved, what could be, and when something was last changed."""

from __future__ import annotations

from dataclasses import dataclass

from services.analytics.recommendations.decision import KeptRecommendation, Standing
from services.analytics.recommendations.look import LookSummary
from services.analytics.recommendations.measurement import MeasuredSaving
from services.analytics.recommendations.recommendation import SavedUnit
from services.analytics.recommendations.saving import HORIZON_DAYS


@dataclass(frozen=True, slots=True)
class AdvisedItem:
    """A recommendation as it is shown. `measured` None: it is not accepted, or there is nothing to compare yet."""

    kept: KeptRecommendation
    standing: Standing
    measured: MeasuredSaving | None = None

    @property
    def saves_money(self) -> bool:
        """Returns True if its saving is money."""
        return self.kept.recommendation.unit is SavedUnit.MICRO_USD


@dataclass(frozen=True, slots=True)
class Advice:
    """All recommendations and the summary of the look at `as_of` (epoch seconds)."""

    as_of: float
    items: tuple[AdvisedItem, ...]
    summary: LookSummary


@dataclass(frozen=True, slots=True)
class Optimization:
    """Money in micro-USD for 30 days. `potential`: the medians of the open recommendations, at most `spend`;
    `current`: by prompt caches and as `measured`; `last_optimized`: epoch seconds, None: nothing is accepted."""

    spend: int
    current: int
    measured: int
    potential: int
    last_optimized: float | None


def optimization_of(advice: Advice) -> Optimization:
    """Returns the state of optimisation."""
    summary = advice.summary
    spend = round(summary.per_horizon(summary.cost))
    measured = sum(
        item.measured.band.p50 / item.measured.days * HORIZON_DAYS
        for item in advice.items
        if item.measured is not None and item.saves_money
    )
    potential = sum(
        item.kept.recommendation.saving.p50
        for item in advice.items
        if item.standing is Standing.OPEN and item.saves_money
    )
    accepted = [
        item.kept.last.at
        for item in advice.items
        if item.standing is Standing.ACCEPTED and item.kept.last is not None
    ]
    return Optimization(
        spend,
        round(summary.per_horizon(summary.cache_saving) + measured),
        round(measured),
        min(spend, round(potential)),
        max(accepted, default=None),
    )
