"""A caller's request and a provider's answer, free of any wire format."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from libs.conversation import (
    Citation,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningEffort,
    ReasoningSummary,
    ResponseFormat,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from libs.selection import Strategy
from libs.types import ErrorClass, FinishReason, Priority, RoutePart, Usage
from services.router.request.attachments import Attachment
from services.router.request.features import Unsupported


class Prompt(Struct, frozen=True):
    """The prompt and its options: all that a wire needs besides the model's name."""

    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    tools: tuple[Tool, ...] = ()
    #: "auto", "none", "required" or a tool's name; empty: the provider's default.
    tool_choice: str = ""
    #: False: one call of a tool a turn at most; None: the provider's default.
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    #: The summary of its thoughts that the model shows; None: the provider's default.
    reasoning_summary: ReasoningSummary | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    #: The beginning of the assistant's answer, from which it must go on; empty: none.
    prefill: str = ""

    def continued(self, prefill: str, tokens: int) -> Prompt:
        """Returns the same prompt with `prefill`, whose estimated `tokens` are taken off the output limit."""
        return replace(self, prefill=prefill, max_output_tokens=max(1, self.max_output_tokens - tokens))


class Generation(Struct, frozen=True):
    """A validated request. `deadline` is an instant on the monotonic clock."""

    request_id: str
    tenant: str
    content_type: str
    prompt: Prompt
    deadline: float
    models: tuple[str, ...] = ()
    strategy: Strategy = Strategy.BALANCED
    #: The caller, or a budget of its, asked for the strategy: it stands before a policy's weights.
    strategy_asked: bool = False
    priority: Priority = Priority.STANDARD
    campaign: str = ""
    max_cost_micro_usd: int | None = None
    max_attempts: int = 4
    hedge: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    #: The sizes of the images and files in the prompt.
    attachments: tuple[Attachment, ...] = ()


class Completion(Struct, frozen=True):
    """A provider's whole answer. `usage` None: the provider did not report any (explicit zeros are not None)."""

    text: str
    finish_reason: FinishReason
    usage: Usage | None
    tool_calls: tuple[ToolCall, ...] = ()
    #: The model's name as the provider reports it; for prices of dated versions. Empty: not reported.
    response_model: str = ""
    #: The thoughts that the provider shows or wants back, in their order.
    reasoning: tuple[Reasoning, ...] = ()
    #: The words in which the model refused; empty: it did not.
    refusal: str = ""
    citations: tuple[Citation, ...] = ()
    #: The prompt's options that this provider could not be told.
    ignored: tuple[str, ...] = ()

    @property
    def generated(self) -> str:
        """All that the model wrote, thoughts and tool calls included, from which its tokens are estimated."""
        if not (self.tool_calls or self.reasoning or self.refusal):
            return self.text
        thoughts = [thought.text for thought in self.reasoning]
        calls = [call.name + call.arguments_json for call in self.tool_calls]
        return "".join([*thoughts, self.text, self.refusal, *calls])


class TextDelta(Struct, frozen=True):
    """Text to append."""

    text: str


class RefusalDelta(Struct, frozen=True):
    """More of the words in which the model refuses."""

    text: str


class StreamEnd(Struct, frozen=True):
    """The proper end of a stream. `usage` None: not reported."""

    finish_reason: FinishReason
    usage: Usage | None
    response_model: str = ""


StreamEvent = TextDelta | ToolCallDelta | ReasoningDelta | RefusalDelta | Citation | StreamEnd
#: Events that are a piece of the answer itself: text, a call, or the words of a refusal.
ANSWER_EVENTS = (TextDelta, ToolCallDelta, RefusalDelta)


class ProviderFailure(Exception):
    """A failed attempt. Raised by the providers' room only; already classified.

    `message` is the provider's own words cut to 300 characters, without keys or prompts. `retry_after`: seconds for
    which the provider asked not to be called, None where it asked for none. `retry_same`: the same provider and model
    may be tried again with the same request. `usage`: the tokens that a failed attempt is known to have consumed,
    None: not known. `at_fault` False: no evidence about the provider, since the caller's deadline left it no fair
    time, or its key has been replaced since. `explicit`: classified by a machine-readable code, a status or the
    connection; False: by prose, which may repeat what this caller wrote, so it is no evidence about an account unless
    unrelated requests agree. `unsupported`: the feature that this model does not support, None: not known.
    `unexplained`: a wrong request, as it seems: nothing names a fault that everyone would find.
    `least_window`: the smallest context window that may hold a prompt that was too long, in tokens; 0: any may, None:
    not stated. `next_route`: the part of the provider's route that failed, where another serves in its place; None:
    there is none, or the route is not to blame. `spare_parts`: the names of the keys, or endpoints, that may be
    taken instead where nothing else is left.

    `unredacted` and `deciding_words` exist between a wire and the provider client only, which clears them: the
    provider's words with nothing hidden, and those of them that decided where it is not explicit.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        http_status: int = 0,
        retry_after: float | None = None,
        retry_same: bool = False,
        usage: Usage | None = None,
        explicit: bool = True,
        unsupported: Unsupported | None = None,
        least_window: int | None = None,
        unexplained: bool = False,
    ) -> None:
        super().__init__(f"{error_class}: {message}")
        self.error_class = error_class
        self.message = message
        self.http_status = http_status
        self.retry_after = retry_after
        self.retry_same = retry_same
        self.usage = usage
        self.explicit = explicit
        self.unsupported = unsupported
        self.least_window = least_window
        self.unexplained = unexplained
        self.at_fault = True
        self.next_route: RoutePart | None = None
        self.spare_parts: frozenset[str] = frozenset()
        self.unredacted = ""
        self.deciding_words = ""
