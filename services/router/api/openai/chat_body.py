"""The JSON of a chat completions request: the fields that mean something here.

Bounded as the head of `decode` says.
"""

from __future__ import annotations

import msgspec

from services.router.api.openai.decode import NOTHING, Seed
from services.router.api.openai.parts import Content
from services.router.api.openai.request_fields import RequestBody, SchemaBody
from services.router.api.openai.thoughts import DetailBody


class Called(msgspec.Struct):
    """A called function's name and arguments."""

    name: str
    arguments: str = ""


class CallBody(msgspec.Struct):
    """A call of a function."""

    id: str
    type: str = "function"
    function: Called | None = None


class MessageBody(msgspec.Struct):
    """A turn of the conversation."""

    role: str
    content: Content = None
    tool_calls: list[CallBody] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[DetailBody] | None = None
    refusal: str | None = None
    name: str | None = None
    function_call: msgspec.Raw = NOTHING


class FunctionBody(msgspec.Struct):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = NOTHING
    strict: bool | None = None


class ToolBody(msgspec.Struct):
    """A tool; only functions are taken."""

    type: str
    function: FunctionBody | None = None


class Named(msgspec.Struct):
    """A function by its name."""

    name: str


class ChoiceBody(msgspec.Struct):
    """The tool that must be called."""

    type: str
    function: Named | None = None


class FormatBody(msgspec.Struct):
    """The form of the answer."""

    type: str
    json_schema: SchemaBody | None = None


class StreamOptions(msgspec.Struct):
    """Options of a stream."""

    include_usage: bool | None = None


class ChatBody(RequestBody, kw_only=True, forbid_unknown_fields=True):
    """A chat completions request."""

    messages: list[MessageBody]
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: Seed | None = None
    stop: msgspec.Raw = NOTHING
    response_format: FormatBody | None = None
    tools: list[ToolBody] | None = None
    tool_choice: str | ChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int | None = None
    logprobs: bool | None = None
    logit_bias: msgspec.Raw = NOTHING
    modalities: msgspec.Raw = NOTHING
    audio: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING
    function_call: msgspec.Raw = NOTHING
    web_search_options: msgspec.Raw = NOTHING
    # Taken, and named in a header as ignored.
    prediction: msgspec.Raw = NOTHING
    verbosity: msgspec.Raw = NOTHING
    top_k: msgspec.Raw = NOTHING
    min_p: msgspec.Raw = NOTHING
    repetition_penalty: msgspec.Raw = NOTHING


class LenientChatBody(ChatBody, kw_only=True, forbid_unknown_fields=False):
    """A chat completions request with fields that nobody knows."""
