"""A model that may serve a request, with its estimates, scores and reason."""

from __future__ import annotations

from msgspec import Struct

from libs.answer import Selection
from libs.catalog.model import Model, Provider
from libs.selection import Scores, SelectionReason
from services.router.health.target_health import TargetHealth
from services.router.planning.entries import PolicyEntry

#: Every score to two digits: writing floats is slow, and each answer explains itself.
_TEXT = tuple(f"{hundredths / 100:.2f}" for hundredths in range(101))


class Candidate(Struct):
    """A model that may serve the request; written by `make_plan` and its parts alone. `excluded`: the reason why it
    may not after all, empty where it may. `input_tokens`: the prompt's, estimated by its vendor's rules.
    `output_tokens`: the most that its answer may have. `estimated_micro_usd`: the most that it can cost;
    `estimated_latency`: seconds, None: not known."""

    entry: PolicyEntry
    provider: Provider
    model: Model
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
    #: It meets the request's needs, but its provider is not set up: the operator's fault, not the caller's.
    unusable: bool = False
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def target(self) -> str:
        """The model's id, `provider/model`."""
        return self.model.id

    @property
    def selection(self) -> Selection:
        """The choice of this model as callers see it."""
        model = self.model
        return Selection(
            model.provider,
            model.name,
            self.reason,
            self.explanation,
            self.estimated_micro_usd,
            self.estimated_latency,
            self.confidence,
            self.scores,
        )

    @property
    def explanation(self) -> str:
        """The reason in words, for a person."""
        scores = self.scores
        text = (
            f"tier {self.entry.tier + 1}, score {_TEXT[int(scores.total * 100 + 0.5)]} "
            f"(cost {_TEXT[int(scores.cost * 100 + 0.5)]}, "
            f"performance {_TEXT[int(scores.performance * 100 + 0.5)]}, "
            f"reliability {_TEXT[int(scores.reliability * 100 + 0.5)]}, "
            f"suitability {_TEXT[int(scores.suitability * 100 + 0.5)]})"
        )
        if self.rank > 0:
            return f"fallback {self.rank}: {text}"
        return f"{text}; better ones, or all, are down" if self.passed_over else text
