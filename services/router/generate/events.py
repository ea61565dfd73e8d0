"""Events of an answer, and its account."""

from __future__ import annotations

from msgspec import Struct

from libs.conversation import ToolCall, ToolCallDelta
from libs.selection import Degradation
from libs.types import ErrorClass, FinishReason, Usage
from services.router.admission.limit_state import LimitState
from services.router.budgets.budget import Notice
from services.router.ledger.usage_record import UsageRecord
from services.router.planning.candidate import Candidate


class Result(Struct, frozen=True):
    """An answer and its account. `text` is empty where it was streamed."""

    request_id: str
    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    candidate: Candidate
    attempts: tuple[UsageRecord, ...]
    usage: Usage
    cost_micro_usd: int
    latency: float
    time_to_first_token: float | None
    degradation: Degradation | None = None
    #: Budgets that are used up to a threshold.
    budgets: tuple[Notice, ...] = ()
    #: The answer was given before; nothing was generated.
    cached: bool = False
    #: The tenant's own limits of requests and tokens, those that are known.
    limits: tuple[LimitState, ...] = ()


class Selected(Struct, frozen=True):
    """A provider was chosen and is being called."""

    request_id: str
    candidate: Candidate


class Head(Struct, frozen=True):
    """The account so far, as the answer begins. `attempts`: that of the answer included."""

    attempts: int
    cached: bool
    limits: tuple[LimitState, ...]


class Delta(Struct, frozen=True):
    """More of the answer. `head`: with the first alone."""

    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    head: Head | None = None


class Restarted(Struct, frozen=True):
    """Everything sent so far is to be discarded."""

    from_provider: str
    candidate: Candidate
    error_class: ErrorClass | None


class SwitchedProvider(Struct, frozen=True):
    """Another provider goes on; what was sent stays."""

    from_provider: str
    candidate: Candidate
    error_class: ErrorClass | None


class Completed(Struct, frozen=True):
    """The answer is whole."""

    result: Result


Event = Selected | Delta | Restarted | SwitchedProvider | Completed
