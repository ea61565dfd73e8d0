"""One request as the ledger keeps it: what its caller saw and what was decided, never the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.bounds import MAX_ID, MAX_TOKENS
from services.analytics.ledger.attempt import MAX_ATTEMPT_NUMBER, Outcome
from services.analytics.ledger.record_bounds import (
    MAX_COST_MICRO_USD,
    MAX_DURATION,
    MAX_TRACE_ID,
    UnusableRecord,
    check_between,
    check_entries,
    check_labels,
    check_required,
    check_started,
    check_text,
)

MAX_CANDIDATES = 100
MAX_CAPABILITIES = 32
#: Catalog names of provider and model with a slash between them.
MAX_MODEL_ID = 2 * MAX_ID + 1
MAX_PASSED_OVER = 256
MAX_TIER = 10_000


@dataclass(frozen=True, slots=True)
class ConsideredModel:
    """A model that was considered; `passed_over`: the reason, empty where it was a candidate. Scores are 0 to 1.
    Raises UnusableRecord."""

    model: str
    passed_over: str = ""
    tier: int = 0
    cost_score: float = 0.0
    performance_score: float = 0.0
    reliability_score: float = 0.0
    suitability_score: float = 0.0
    total_score: float = 0.0
    estimated_micro_usd: int = 0

    def __post_init__(self) -> None:
        check_text("candidates.model", self.model, MAX_MODEL_ID)
        check_text("candidates.passed_over", self.passed_over, MAX_PASSED_OVER)
        check_between("candidates.tier", self.tier, 0, MAX_TIER)
        check_between("candidates.estimated_micro_usd", self.estimated_micro_usd, 0, MAX_COST_MICRO_USD)
        for name in ("cost", "performance", "reliability", "suitability", "total"):
            # A little above 1 where a sum of weights was rounded.
            check_between(f"candidates.{name}_score", getattr(self, f"{name}_score"), 0.0, 1.001)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A record of one request. Instants are epoch seconds, durations seconds; None and empty mean none or not known.
    Raises UnusableRecord where a field is out of its bounds (those of the proto)."""

    record_id: str
    request_id: str
    tenant: str
    started: float
    latency: float
    outcome: Outcome
    campaign: str = ""
    content_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    time_to_first_token: float | None = None
    error_reason: str = ""
    attempts: int = 0
    failed_over: bool = False
    degradation: str = ""
    strategy: str = ""
    policy: str = ""
    policy_version: str = ""
    estimated_input_tokens: int = 0
    max_output_tokens: int = 0
    capabilities: tuple[str, ...] = ()
    candidates: tuple[ConsideredModel, ...] = ()
    provider: str = ""
    model: str = ""
    probability: float | None = None
    queued: float = 0.0
    paused: float = 0.0
    cost_micro_usd: int = 0
    streamed: bool = False
    cached: bool = False
    trace_id: str = ""

    def __post_init__(self) -> None:
        for name in ("record_id", "request_id", "tenant"):
            check_required(name, getattr(self, name))
        for name in _TEXTS:
            check_text(name, getattr(self, name), MAX_ID)
        check_text("trace_id", self.trace_id, MAX_TRACE_ID)
        if self.labels:
            check_labels(self.labels)
        check_started(self.started)
        for name in ("latency", "queued", "paused"):
            check_between(name, getattr(self, name), 0.0, MAX_DURATION)
        if self.time_to_first_token is not None:
            check_between("time_to_first_token", self.time_to_first_token, 0.0, MAX_DURATION)
        if self.outcome is Outcome.UNKNOWN:
            raise UnusableRecord("outcome must be known")
        check_between("attempts", self.attempts, 0, MAX_ATTEMPT_NUMBER)
        check_between("estimated_input_tokens", self.estimated_input_tokens, 0, MAX_TOKENS)
        check_between("max_output_tokens", self.max_output_tokens, 0, MAX_TOKENS)
        check_between("cost.micro_usd", self.cost_micro_usd, 0, MAX_COST_MICRO_USD)
        check_entries("capabilities", len(self.capabilities), MAX_CAPABILITIES)
        for capability in self.capabilities:
            check_text("capabilities", capability, MAX_ID)
        check_entries("candidates", len(self.candidates), MAX_CANDIDATES)
        if self.probability is not None and not 0 < self.probability <= 1:
            raise UnusableRecord("probability must be above 0 to 1")


_TEXTS = (
    "campaign",
    "content_type",
    "error_reason",
    "degradation",
    "strategy",
    "policy",
    "policy_version",
    "provider",
    "model",
)
