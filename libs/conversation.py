"""The values of a conversation, which the router and its callers share."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """The speaker of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ReasoningEffort(StrEnum):
    """The effort that a reasoning model should make."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ToolCall(Struct, frozen=True):
    """A tool the model asks to be called; `arguments_json` exactly as the model wrote it."""

    id: str
    name: str
    arguments_json: str


class Tool(Struct, frozen=True):
    """A tool the model may call; `parameters_json` is a JSON Schema as text, empty for none."""

    name: str
    description: str = ""
    parameters_json: str = ""


class Message(Struct, frozen=True):
    """One turn of the conversation."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class ResponseFormat(Struct, frozen=True):
    """JSON answers. `schema_json` empty: any JSON object."""

    schema_json: str = ""
    schema_name: str = "answer"


class ToolCallDelta(Struct, frozen=True):
    """A piece of a tool call. Pieces with one index belong together; strings are to be appended."""

    index: int
    id: str = ""
    name: str = ""
    arguments_json: str = ""
