"""Reads a draft from its proto. No decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from pointsman.router.v1 import router_pb2 as pb

from libs.conversation import (
    Message,
    Part,
    ReasoningEffort,
    ReasoningSummary,
    ResponseFormat,
    Role,
    Tool,
    ToolCall,
)
from libs.errors import FieldViolation, InvalidArgument
from libs.rpc.convert import priority_from_proto
from libs.rpc.parts import part_from_proto
from libs.selection import Strategy
from services.router.api.accept import MOST, Draft, check_entries
from services.router.request.generation import Prompt

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
_STRATEGIES = {pb.Strategy.Value(f"STRATEGY_{s.name}"): s for s in Strategy}
_EFFORTS = {pb.ReasoningEffort.Value(f"REASONING_EFFORT_{e.name}"): e for e in ReasoningEffort}
_SUMMARIES = {pb.ReasoningSummary.Value(f"REASONING_SUMMARY_{s.name}"): s for s in ReasoningSummary}


def read_draft(request: pb.Generation) -> Draft:
    """Reads a draft. Only fields that are set cost anything: most are not. Raises InvalidArgument where one has too
    many entries, before they are read."""
    draft: dict[str, Any] = {}
    prompt: dict[str, Any] = {"messages": (), "max_output_tokens": 0}
    unknown = []
    for field, value in request.ListFields():
        name, part, read = _FIELDS[field.number]
        if name in MOST:
            check_entries(name, len(value))
        found = value if read is None else read(value)
        (prompt if part is Prompt else draft)[name] = found
        # An enum that is unset is not among them.
        if found is None and (name != "response_format" or value.kind):
            unknown.append("response_format.kind" if name == "response_format" else name)
    if unknown:
        draft["unknown"] = tuple(unknown)
    if "response_format" in prompt:
        draft["needs_schema"] = request.response_format.kind == pb.ResponseFormat.KIND_JSON_SCHEMA
    roleless = [i for i, message in enumerate(request.messages) if message.role not in _ROLES]
    if roleless:
        draft["roleless"] = tuple(roleless)
    return Draft(Prompt(**prompt), **draft)


def _response_format(shape: pb.ResponseFormat) -> ResponseFormat | None:
    if shape.kind not in (pb.ResponseFormat.KIND_JSON_OBJECT, pb.ResponseFormat.KIND_JSON_SCHEMA):
        return None
    return ResponseFormat(shape.schema_json, shape.schema_name or "answer")


def _messages(messages: Sequence[pb.Message]) -> tuple[Message, ...]:
    check_entries("messages.tool_calls", sum([len(message.tool_calls) for message in messages]))
    counts = [len(message.parts) for message in messages]
    if not any(counts):
        return tuple([_message(message, ()) for message in messages])
    check_entries("messages.parts", sum(counts))
    return tuple([_message(message, _parts(message, f"messages[{i}]")) for i, message in enumerate(messages)])


def _parts(message: pb.Message, at: str) -> tuple[Part, ...]:
    """Returns the parts of a message. Raises InvalidArgument for one that has no name here: it is not left out."""
    parts = [part_from_proto(part) for part in message.parts]
    known = tuple([part for part in parts if part is not None])
    if len(known) < len(parts):
        place = f"generation.{at}.parts[{parts.index(None)}]"
        raise InvalidArgument(
            [FieldViolation(place, "is not set, or of a kind that this router does not know")]
        )
    return known


def _message(message: pb.Message, parts: tuple[Part, ...]) -> Message:
    calls: tuple[ToolCall, ...] = ()
    if message.tool_calls:
        calls = tuple(ToolCall(c.id, c.name, c.arguments_json) for c in message.tool_calls)
    return Message(_ROLES.get(message.role, Role.USER), message.text, calls, message.tool_call_id, parts)


_NAMES = {"max_cost": "max_cost_micro_usd"}
#: Readers of fields' values; the values of other fields are taken as they are.
_READ: dict[str, Callable[[Any], Any]] = {
    "messages": _messages,
    # 0 is for those who name none.
    "max_output_tokens": lambda tokens: tokens or -1,
    "stop_sequences": tuple,
    "response_format": _response_format,
    "tools": lambda tools: tuple(Tool(t.name, t.description, t.parameters_json) for t in tools),
    "reasoning_effort": _EFFORTS.get,
    "reasoning_summary": _SUMMARIES.get,
    "models": tuple,
    "strategy": _STRATEGIES.get,
    "priority": priority_from_proto,
    "max_cost": lambda money: money.micro_usd,
    "labels": dict,
}
#: Proto field's number → the field it becomes, the struct that holds it, and the reader of its value.
_FIELDS: dict[int, tuple[str, type[Struct], Callable[[Any], Any] | None]] = {
    field.number: (
        _NAMES.get(field.name, field.name),
        Prompt if field.name in Prompt.__struct_fields__ else Draft,
        _READ.get(field.name),
    )
    for field in pb.Generation.DESCRIPTOR.fields
}
