"""What the router tells a caller, and what it tells the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from libs.types import ErrorClass, FinishReason, Usage
from services.router.domain.budget import Notice
from services.router.domain.generation import ToolCall, ToolCallDelta
from services.router.domain.limit_state import LimitState
from services.router.domain.plan import Candidate


class Outcome(StrEnum):
    """What an attempt ended as."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    #: Its end was never seen: the process died.
    UNKNOWN = "unknown"


class Degradation(StrEnum):
    """A step of a declared degradation ladder."""

    CHEAPER_MODEL = "cheaper_model"
    STALE_CACHE = "stale_cache"
    QUEUED = "queued"


class UsageRecord(Struct, array_like=True):
    """One attempt for the ledger; written by the attempt alone, which knows its end later than its beginning.
    `started` is epoch seconds, durations are seconds. Plain values only: it is written to disk as it is, in this
    order: add fields at the end, with defaults."""

    attempt_id: str
    request_id: str
    attempt_number: int
    tenant: str
    campaign: str
    content_type: str
    provider: str
    model: str
    started: float
    latency: float
    time_to_first_token: float | None
    outcome: Outcome
    error_class: ErrorClass | None
    http_status: int
    usage: Usage | None
    cost_micro_usd: int
    finish_reason: FinishReason | None
    streamed: bool
    hedge: bool
    labels: Mapping[str, str]
    trace_id: str
    #: What went wrong, in the provider's words, for the caller alone: never written down or sent to the ledger.
    message: str = ""


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
