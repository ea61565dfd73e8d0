"""What a caller asks for and what a provider answers, free of any wire format."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from libs.conversation import Message, ReasoningEffort, ResponseFormat, Tool, ToolCall, ToolCallDelta
from libs.selection import Strategy
from libs.types import ErrorClass, FinishReason, Priority, Usage


class Prompt(Struct, frozen=True):
    """What a model is asked: all that a provider adapter needs besides the model's name."""

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
    reasoning_effort: ReasoningEffort | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    #: Text the assistant has already said and must go on from (prefill); empty: none.
    prefill: str = ""

    def continued(self, prefill: str, tokens: int) -> Prompt:
        """The same prompt, to be gone on with from `prefill`, about so many tokens, which are no longer to be
        generated."""
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
    priority: Priority = Priority.STANDARD
    campaign: str = ""
    max_cost_micro_usd: int | None = None
    max_attempts: int = 4
    hedge: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


class Completion(Struct, frozen=True):
    """A provider's whole answer. `usage` None: the provider did not report any (explicit zeros are not None)."""

    text: str
    finish_reason: FinishReason
    usage: Usage | None
    tool_calls: tuple[ToolCall, ...] = ()
    #: The model's name as the provider reports it; for prices of dated versions. Empty: not reported.
    response_model: str = ""

    @property
    def generated(self) -> str:
        """All that the model wrote, tool calls included: what its tokens are estimated from."""
        if not self.tool_calls:
            return self.text
        return "".join([self.text, *(call.name + call.arguments_json for call in self.tool_calls)])


class TextDelta(Struct, frozen=True):
    """More text."""

    text: str


class StreamEnd(Struct, frozen=True):
    """A stream ended properly. `usage` None: not reported."""

    finish_reason: FinishReason
    usage: Usage | None
    response_model: str = ""


StreamEvent = TextDelta | ToolCallDelta | StreamEnd


class ProviderFailure(Exception):
    """An attempt failed. Raised by provider adapters only; already classified.

    `message` is the provider's own words cut to 300 characters, without keys or prompts. `retry_after`: seconds the
    provider asked to stay away, None where it said nothing. `retry_same`: whether the same provider and model may
    be tried again with the same request at all. `usage`: what a failed attempt is known to have consumed. `at_fault`
    False: says nothing about the provider, since the caller's deadline left it no fair time, or its key has been
    replaced since. `explicit`: a machine-readable code, a status or the connection said so; False: it was read from
    prose, which may repeat what this caller wrote, so it is no evidence about an account unless unrelated requests
    agree.

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
    ) -> None:
        super().__init__(f"{error_class}: {message}")
        self.error_class = error_class
        self.message = message
        self.http_status = http_status
        self.retry_after = retry_after
        self.retry_same = retry_same
        self.usage = usage
        self.explicit = explicit
        self.at_fault = True
        self.unredacted = ""
        self.deciding_words = ""
