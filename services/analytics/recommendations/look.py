"""The summary of a look: strategies, patterns of use, and what could not be looked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.analytics.recommendations.evidence import Evidence, StrategyUse
from services.analytics.recommendations.recommendation import RecommendationKind
from services.analytics.recommendations.saving import HORIZON_DAYS

#: Patterns shown, by falling cost.
MAX_PATTERNS: Final = 20
#: The kinds that need the catalog.
NEEDS_CATALOG: Final = (RecommendationKind.CHEAPER_MODEL, RecommendationKind.SHORTEN_PROMPTS)


@dataclass(frozen=True, slots=True)
class UsagePattern:
    """The use for a content type: calls and cost (micro-USD) of the window, and mean tokens of a call."""

    content_type: str
    calls: int
    cost: int
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class LookSummary:
    """The summary of a look. `days`: those looked at from the first with use on, 0: none had any; money in micro-USD
    over them. `skipped`: kinds that could not be looked for without the catalog; `busiest_hour`: of the owner's day,
    by cost, None: nothing cost anything."""

    days: int
    cost: int
    cache_saving: int
    strategies: tuple[StrategyUse, ...]
    patterns: tuple[UsagePattern, ...]
    busiest_hour: int | None
    skipped: tuple[RecommendationKind, ...]

    def per_horizon(self, amount: float) -> float:
        """Returns an amount of the window for as many days as savings are stated for."""
        return amount / max(1, self.days) * HORIZON_DAYS


def summarise(evidence: Evidence, has_catalog: bool) -> LookSummary:
    """Returns the summary of a look at the evidence."""
    hours = {hour: cost for hour, cost in evidence.hours.items() if cost}
    begun = min((use.day for use in evidence.models), default=evidence.days)
    return LookSummary(
        evidence.days - begun,
        evidence.cost,
        evidence.cache_saving,
        tuple(sorted(evidence.details.strategies, key=lambda use: (-use.requests, use.strategy))),
        tuple(_patterns(evidence)),
        max(hours, key=hours.__getitem__) if hours else None,
        () if has_catalog else NEEDS_CATALOG,
    )


def _patterns(evidence: Evidence) -> Sequence[UsagePattern]:
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for use in evidence.models:
        own = sums[use.content_type]
        for i, amount in enumerate((use.calls, use.cost, use.usage.input_tokens, use.usage.output_tokens)):
            own[i] += amount
    ranked = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))[:MAX_PATTERNS]
    return [
        UsagePattern(name, calls, cost, given / max(1, calls), answered / max(1, calls))
        for name, (calls, cost, given, answered) in ranked
    ]
