"""Pieces of requests that several wires write alike: headers, instructions, turns, tools, thinking, cache keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from libs.conversation import Message, ReasoningEffort, Role, Tool, ToolCall
from services.router.providers.wires.fields import Undecodable, decode
from services.router.providers.wires.schemas import parameters_schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt

#: Below this many characters of instructions no provider caches a prompt prefix (1024 tokens at 4 characters).
CACHEABLE_CHARACTERS = 4096
#: The instruction for any JSON object where a vendor has no field for it.
JSON_ONLY = "Answer with a single JSON object and nothing else."
_THINKING_TOKENS = {
    ReasoningEffort.NONE: 0,
    ReasoningEffort.LOW: 1024,
    ReasoningEffort.MEDIUM: 4096,
    ReasoningEffort.HIGH: 16_384,
}


class Headers(Protocol):
    """Makes the headers of a request, the key's among them."""

    def __call__(self, endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
        """Returns the headers."""
        ...


def json_headers(*, stream: bool) -> dict[str, str]:
    """Returns the headers of a JSON request."""
    return {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }


def bearer_headers(endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
    """Returns the headers of a JSON request with the key, if there is one, as a bearer token."""
    headers = json_headers(stream=stream)
    if endpoint.api_key:
        headers["authorization"] = f"Bearer {endpoint.api_key}"
    return headers


def instructions(messages: Iterable[Message]) -> list[str]:
    """Returns the texts of system messages, for vendors that take them apart from the turns."""
    return [message.written for message in messages if message.role is Role.SYSTEM and message.written]


def merge_turns(turns: Iterable[tuple[str, list[Any]]], field: str = "content") -> list[dict[str, Any]]:
    """Returns turns that alternate between their roles: neighbours of one role become one turn, so that all results
    of one turn's tool calls stand together; turns without parts are left out. The parts stand under `field`."""
    merged: list[dict[str, Any]] = []
    for role, parts in turns:
        if merged and merged[-1]["role"] == role:
            merged[-1][field].extend(parts)
        elif parts:
            merged.append({"role": role, field: parts})
    return merged


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Returns messages as chat completions (and Cohere v2) take them."""
    out: list[dict[str, Any]] = []
    for message in messages:
        item: dict[str, Any] = {"role": message.role.value, "content": message.written}
        if message.tool_calls:
            item["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments_json or "{}"},
                }
                for call in message.tool_calls
            ]
            if not message.written:
                item["content"] = None
        if message.role is Role.TOOL:
            item["tool_call_id"] = message.tool_call_id
        out.append(item)
    return out


def chat_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Returns tools as chat completions (and Cohere v2) take them."""
    return [{"type": "function", "function": tool_fields(tool)} for tool in tools]


def tool_fields(tool: Tool, parameters: str = "parameters") -> dict[str, Any]:
    """Returns name, description and parameters of a tool, the last under the name `parameters`."""
    fields: dict[str, Any] = {"name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    fields[parameters] = parameters_schema(tool)
    return fields


def arguments(call: ToolCall) -> Mapping[str, Any]:
    """Returns a call's arguments as an object. What is none, since the model wrote something else, stands inside
    one."""
    text = call.arguments_json
    if not text.strip():
        return {}
    try:
        value = decode(text)
    except Undecodable:
        value = text
    return value if type(value) is dict else {"arguments": value}


def thinking_tokens(effort: ReasoningEffort, max_output_tokens: int) -> int:
    """Returns the tokens of thought that an effort is worth: at most half of what may be written, of which they are
    a part."""
    return min(_THINKING_TOKENS[effort], max_output_tokens // 2)


def cache_key(prompt: Prompt) -> str:
    """Returns a key that keeps requests with the same long instructions on the same cache; empty where they are
    short."""
    text = "\n".join(instructions(prompt.messages))
    if len(text) < CACHEABLE_CHARACTERS:
        return ""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
