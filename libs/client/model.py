"""The router's answers, as frozen dataclasses. Money is integer micro-USD; durations are seconds; instants are
seconds since the Unix epoch; None is "not set" as the proto describes it, never zero."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.conversation import ToolCall, ToolCallDelta
from libs.selection import Degradation, Scores, SelectionReason
from libs.types import ErrorClass, FinishReason, Usage


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of provider and model. `confidence` 0 (a coin toss) to 1 (no rival)."""

    provider: str
    model: str
    reason: SelectionReason | None = None
    explanation: str = ""
    estimated_cost_micro_usd: int | None = None
    estimated_latency: float | None = None
    confidence: float = 0.0
    scores: Scores = field(default_factory=Scores)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that was considered; `excluded_because` is empty where it may be used."""

    selection: Selection
    excluded_because: str = ""


@dataclass(frozen=True, slots=True)
class SelectResult:
    """The order in which Generate would try models: the first, those it would fall back to, then the excluded
    ones."""

    selection: Selection
    alternatives: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The cost of a generation on one model: likely, and if the whole output limit is used."""

    provider: str
    model: str
    usage: Usage
    expected_micro_usd: int
    maximum_micro_usd: int


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that the caller may name, as `provider/model`. Sizes are in tokens."""

    provider: str
    model: str
    context_window: int
    max_output_tokens: int
    capabilities: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Returns `provider/model`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The models and content types that the caller may name."""

    models: tuple[ListedModel, ...]
    content_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one provider; `error_class` None: it succeeded. `http_status` 0: there was none."""

    attempt_id: str
    provider: str
    model: str
    error_class: ErrorClass | None = None
    message: str = ""
    http_status: int = 0
    started: float | None = None
    latency: float = 0.0
    time_to_first_token: float | None = None
    usage: Usage | None = None
    cost_micro_usd: int | None = None
    hedge: bool = False


@dataclass(frozen=True, slots=True)
class BudgetNotice:
    """A budget that pays for the request is used up to a threshold: the highest that is reached. `period`: `day` or
    `month`; `action`: `warn`, `cheaper_models`, `queue` or `refuse`; `shadow`: the budget is only counted."""

    scope: str
    period: str
    percent: int
    action: str
    shadow: bool = False

    def __str__(self) -> str:
        return f"{self.scope} {self.period} {self.percent}% {self.action}" + (
            " shadow" if self.shadow else ""
        )


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit of the tenant's own: `remaining` of `limit` per `period`, in `unit` (`requests`, `input_tokens`,
    `output_tokens` or `total_tokens`). `reset`: seconds until all of it is there again, None: not known."""

    unit: str
    period: str
    limit: int
    remaining: int
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """An answer and how it came about. `usage` and `cost_micro_usd` are sums over all attempts, failed ones
    included."""

    request_id: str
    text: str
    selection: Selection
    attempts: tuple[Attempt, ...] = ()
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost_micro_usd: int = 0
    latency: float = 0.0
    time_to_first_token: float | None = None
    degradation: Degradation | None = None
    cached: bool = False
    budgets: tuple[BudgetNotice, ...] = ()
    limits: tuple[LimitState, ...] = ()


@dataclass(frozen=True, slots=True)
class Selected:
    """A provider was chosen and is being called. The first event."""

    request_id: str
    selection: Selection


@dataclass(frozen=True, slots=True)
class Head:
    """The account so far, as the answer begins to come. `attempts`: that of the answer included."""

    attempts: int
    cached: bool = False
    limits: tuple[LimitState, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the answer, to be appended. `head`: with the first alone."""

    text: str
    tool_calls: tuple[ToolCallDelta, ...] = ()
    head: Head | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """Discard every delta so far: the answer begins anew."""

    from_provider: str
    selection: Selection
    error_class: ErrorClass | None = None


@dataclass(frozen=True, slots=True)
class SwitchedProvider:
    """Another provider goes on from here; what was sent stays valid."""

    from_provider: str
    selection: Selection
    error_class: ErrorClass | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer is complete. The last event; its result holds no text, the deltas do (see TextAssembler)."""

    result: Result


Event = Selected | Delta | Restarted | SwitchedProvider | Completed
