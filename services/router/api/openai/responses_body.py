"""The JSON of a responses request: the fields that mean something here, and those that its answer repeats.

Bounded as the head of `decode` says.
"""

from __future__ import annotations

import msgspec

from services.router.api.openai.decode import NOTHING
from services.router.api.openai.parts import Content
from services.router.api.openai.request_fields import RequestBody, SchemaBody
from services.router.api.openai.thoughts import SummaryBody


class ItemBody(msgspec.Struct):
    """A message, a call of a function, its result, or another item of a conversation."""

    type: str = "message"
    role: str | None = None
    content: Content = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content = None
    id: str | None = None
    summary: list[SummaryBody] | None = None
    encrypted_content: str | None = None

    def __post_init__(self) -> None:
        # An object without any field takes three bytes, and ends here.
        if self.role is None and self.type == "message":
            raise ValueError("a message needs a role")


class ResponsesToolBody(msgspec.Struct):
    """A tool; only functions are taken."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = NOTHING
    strict: bool | None = None


class ResponsesChoiceBody(msgspec.Struct):
    """The tool that must be called."""

    type: str
    name: str = ""


class ResponsesFormatBody(SchemaBody, kw_only=True):
    """The form of the answer."""

    type: str


class TextBody(msgspec.Struct):
    """Options of the answer's text."""

    format: ResponsesFormatBody | None = None
    verbosity: str | None = None


class ReasoningBody(msgspec.Struct):
    """Options of reasoning."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponsesBody(RequestBody, kw_only=True, forbid_unknown_fields=True):
    """A responses request."""

    input: str | list[ItemBody]
    instructions: str | None = None
    max_output_tokens: int | None = None
    text: TextBody | None = None
    tools: list[ResponsesToolBody] | None = None
    tool_choice: str | ResponsesChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningBody | None = None
    truncation: str | None = None
    background: msgspec.Raw = NOTHING
    include: msgspec.Raw = NOTHING
    previous_response_id: msgspec.Raw = NOTHING
    conversation: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    context_management: msgspec.Raw = NOTHING
    # Taken, and named in a header as ignored.
    access_programs: msgspec.Raw = NOTHING
    background_options: msgspec.Raw = NOTHING
    image: msgspec.Raw = NOTHING
    max_tool_calls: msgspec.Raw = NOTHING
    stream_options: msgspec.Raw = NOTHING


class LenientResponsesBody(ResponsesBody, kw_only=True, forbid_unknown_fields=False):
    """A responses request with fields that nobody knows."""


class Echo(msgspec.Struct):
    """The part of a request that its response repeats, as it was written."""

    instructions: msgspec.Raw = NOTHING
    max_output_tokens: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING
    parallel_tool_calls: msgspec.Raw = NOTHING
    reasoning: msgspec.Raw = NOTHING
    temperature: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    tool_choice: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    top_p: msgspec.Raw = NOTHING
    user: msgspec.Raw = NOTHING
