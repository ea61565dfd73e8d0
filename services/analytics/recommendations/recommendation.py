"""A recommendation: what to change, what it saves, why, and what may go wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.forecast.intervals import Band


class RecommendationKind(StrEnum):
    """A kind of recommendation. Stored."""

    CHEAPER_MODEL = "cheaper_model"
    RAISE_LIMIT = "raise_limit"
    DEMOTE_PROVIDER = "demote_provider"
    SHORTEN_PROMPTS = "shorten_prompts"
    LENGTHEN_ANSWERS = "lengthen_answers"
    DROP_HEDGES = "drop_hedges"


class SavedUnit(StrEnum):
    """The unit of a saving. Stored."""

    MICRO_USD = "micro_usd"
    FAILED_CALLS = "failed_calls"
    REFUSED_REQUESTS = "refused_requests"


SAVED_UNITS: Final = {
    RecommendationKind.CHEAPER_MODEL: SavedUnit.MICRO_USD,
    RecommendationKind.RAISE_LIMIT: SavedUnit.REFUSED_REQUESTS,
    RecommendationKind.DEMOTE_PROVIDER: SavedUnit.FAILED_CALLS,
    RecommendationKind.SHORTEN_PROMPTS: SavedUnit.MICRO_USD,
    RecommendationKind.LENGTHEN_ANSWERS: SavedUnit.MICRO_USD,
    RecommendationKind.DROP_HEDGES: SavedUnit.MICRO_USD,
}


class FactKind(StrEnum):
    """A figure of the evidence, over the days looked at unless stated. Stored; the units are in the proto."""

    CALLS = "calls"
    REQUESTS = "requests"
    SPENT = "spent"
    SPENT_INSTEAD = "spent_instead"
    QUALITY = "quality"
    QUALITY_INSTEAD = "quality_instead"
    FAILURE_RATE = "failure_rate"
    FAILURE_RATE_OF_OTHERS = "failure_rate_of_others"
    WINDOWS_EXHAUSTED = "windows_exhausted"
    REQUESTS_REFUSED = "requests_refused"
    TOKENS_PER_REQUEST = "tokens_per_request"
    TOKENS_PER_REQUEST_OF_OTHERS = "tokens_per_request_of_others"
    ANSWERS_CUT = "answers_cut"
    HEDGES = "hedges"
    HEDGES_THAT_ANSWERED = "hedges_that_answered"


class RiskKind(StrEnum):
    """Something that may go wrong. Stored."""

    QUALITY_IS_DECLARED = "quality_is_declared"
    TOKENS_MAY_DIFFER = "tokens_may_differ"
    FEWER_PROVIDERS = "fewer_providers"
    PRICE_MAY_DIFFER = "price_may_differ"
    SPEND_MAY_GROW = "spend_may_grow"
    ANSWERS_MAY_CHANGE = "answers_may_change"
    SLOW_ANSWERS = "slow_answers"


class RiskLevel(StrEnum):
    """The weight of a risk."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_LEVELS: Final = {
    RiskKind.QUALITY_IS_DECLARED: RiskLevel.MEDIUM,
    RiskKind.TOKENS_MAY_DIFFER: RiskLevel.LOW,
    RiskKind.FEWER_PROVIDERS: RiskLevel.MEDIUM,
    RiskKind.PRICE_MAY_DIFFER: RiskLevel.LOW,
    RiskKind.SPEND_MAY_GROW: RiskLevel.MEDIUM,
    RiskKind.ANSWERS_MAY_CHANGE: RiskLevel.HIGH,
    RiskKind.SLOW_ANSWERS: RiskLevel.LOW,
}
_RANKS: Final = {level: rank for rank, level in enumerate(RiskLevel)}


@dataclass(frozen=True, slots=True)
class Subject:
    """The requests that a recommendation is about; "" is all. `provider` and `model`: of those, the one to change."""

    tenant: str = ""
    content_type: str = ""
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A limit to raise: its names, and its value now and then."""

    scope: str
    unit: str
    period: str
    limit: int
    new_limit: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """The change to make. `policies`: those of the catalog that it would be made in; `new_model`: "provider/model" to
    put before the subject's; `limit`: of RAISE_LIMIT; `tokens_per_request`: of SHORTEN_PROMPTS, input tokens to come
    down to."""

    policies: tuple[str, ...] = ()
    new_model: str = ""
    limit: LimitChange | None = None
    tokens_per_request: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure of the evidence."""

    kind: FactKind
    value: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A finding. `saving`: over the next 30 days, in the unit of `SAVED_UNITS`; `days`: computed from these."""

    kind: RecommendationKind
    subject: Subject
    proposal: Proposal
    saving: Band
    days: int
    evidence: tuple[Fact, ...]
    risks: tuple[RiskKind, ...]

    @property
    def id(self) -> str:
        """Returns its name: the same as long as it is of the same kind, about the same and to the same end."""
        limit = self.proposal.limit
        parts = (
            *(self.subject.tenant, self.subject.content_type, self.subject.provider, self.subject.model),
            self.proposal.new_model,
            *((limit.scope, limit.unit, limit.period) if limit is not None else ()),
        )
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return f"{self.kind}-{digest[:16]}"

    @property
    def unit(self) -> SavedUnit:
        """Returns the unit of its saving."""
        return SAVED_UNITS[self.kind]

    @property
    def risk(self) -> RiskLevel:
        """Returns the level of its gravest risk."""
        return max((_LEVELS[risk] for risk in self.risks), key=_RANKS.__getitem__, default=RiskLevel.LOW)
