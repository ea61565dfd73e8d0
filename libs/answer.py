"""The values of an answer, which the router and its callers share: the events of a stream, and the account of how the
answer came about. Money is integer micro-USD; durations are seconds; instants are seconds since the Unix epoch; None
is "not set" as the proto describes it, never zero."""

from __future__ import annotations

from msgspec import Struct

from libs.conversation import Citation, Reasoning, ReasoningDelta, ToolCall, ToolCallDelta
from libs.limits import Period, Unit
from libs.selection import Degradation, Scores, SelectionReason
from libs.types import ErrorClass, FinishReason, RoutePart, Usage


class Selection(Struct, frozen=True):
    """A choice of provider and model. `confidence` 0 (a coin toss) to 1 (no rival)."""

    provider: str
    model: str
    reason: SelectionReason | None = None
    explanation: str = ""
    estimated_cost_micro_usd: int | None = None
    estimated_latency: float | None = None
    confidence: float = 0.0
    scores: Scores = Scores()

    @property
    def target(self) -> str:
        """Returns `provider/model`."""
        return f"{self.provider}/{self.model}"


class Attempt(Struct, frozen=True):
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
    #: The part of the provider's route that replaced the one by which the attempt before failed; None: it was
    #: another provider, or the same route.
    switched: RoutePart | None = None


class BudgetNotice(Struct, frozen=True):
    """A budget that pays for the request is used up to a threshold: the highest that is reached. `period`: `day` or
    `month`; `action`: `warn`, `cheaper_models`, `queue` or `refuse`; `shadow`: the budget is only counted."""

    scope: str
    period: str
    percent: int
    action: str
    shadow: bool = False

    def __str__(self) -> str:
        text = f"{self.scope} {self.period} {self.percent}% {self.action}"
        return f"{text} shadow" if self.shadow else text


class LimitState(Struct, frozen=True):
    """A limit of the tenant's own: `remaining` of `limit` per `period` for all routers together. `reset`: seconds
    until all of it is there again if nothing is used, None: not known."""

    unit: Unit
    period: Period
    limit: int
    remaining: int
    reset: float | None = None


class Result(Struct, frozen=True):
    """An answer and how it came about; `text` is empty where it was streamed. `usage` and `cost_micro_usd` are sums
    over all attempts, failed ones included. `cached`: it was given before, nothing was generated. `refusal`: the
    words in which the model refused. `ignored`: options of the request that the provider could not be told."""

    request_id: str
    text: str
    selection: Selection
    attempts: tuple[Attempt, ...] = ()
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    cost_micro_usd: int = 0
    latency: float = 0.0
    time_to_first_token: float | None = None
    degradation: Degradation | None = None
    cached: bool = False
    budgets: tuple[BudgetNotice, ...] = ()
    limits: tuple[LimitState, ...] = ()
    reasoning: tuple[Reasoning, ...] = ()
    refusal: str = ""
    citations: tuple[Citation, ...] = ()
    ignored: tuple[str, ...] = ()


class Selected(Struct, frozen=True):
    """A provider was chosen and is being called. The first event."""

    request_id: str
    selection: Selection


class Head(Struct, frozen=True):
    """The account so far, as the answer begins to come. `attempts`: that of the answer included. `ignored`: as in the
    result."""

    attempts: int
    cached: bool = False
    limits: tuple[LimitState, ...] = ()
    ignored: tuple[str, ...] = ()


class Delta(Struct, frozen=True):
    """More of the answer, to be appended. `head`: with the first alone."""

    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    head: Head | None = None
    reasoning: tuple[ReasoningDelta, ...] = ()
    refusal: str = ""
    citations: tuple[Citation, ...] = ()


class Restarted(Struct, frozen=True):
    """Discard every delta so far: the answer begins anew."""

    from_provider: str
    selection: Selection
    error_class: ErrorClass | None = None


class SwitchedProvider(Struct, frozen=True):
    """Another provider goes on from here; what was sent stays valid."""

    from_provider: str
    selection: Selection
    error_class: ErrorClass | None = None


class Completed(Struct, frozen=True):
    """The answer is complete. The last event; its result holds nothing that the deltas hold."""

    result: Result


Event = Selected | Delta | Restarted | SwitchedProvider | Completed
