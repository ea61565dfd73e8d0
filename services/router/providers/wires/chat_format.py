"""Pieces of requests that several wires write alike: messages, tools, schemas, cache keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from libs.conversation import Message, Role, Tool
from libs.types import ErrorClass
from services.router.providers.wires.fields import Undecodable, as_dict, as_list, decode
from services.router.request.generation import Prompt, ProviderFailure

#: Below this many characters of instructions no provider caches a prompt prefix (1024 tokens at 4 characters).
CACHEABLE_CHARACTERS = 4096


def json_headers(*, stream: bool) -> dict[str, str]:
    """Returns the headers of a JSON request."""
    return {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Returns messages as chat completions (and Cohere v2) take them."""
    out: list[dict[str, Any]] = []
    for message in messages:
        item: dict[str, Any] = {"role": message.role.value, "content": message.text}
        if message.tool_calls:
            item["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments_json or "{}"},
                }
                for call in message.tool_calls
            ]
            if not message.text:
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
    fields[parameters] = (
        schema(tool.parameters_json) if tool.parameters_json else {"type": "object", "properties": {}}
    )
    return fields


def schema(text: str) -> Any:
    """Decodes a JSON Schema given as text. Raises ProviderFailure(INVALID_REQUEST) where it is not JSON."""
    try:
        return decode(text)
    except Undecodable:
        raise ProviderFailure(
            ErrorClass.INVALID_REQUEST, "a JSON Schema in the request is not JSON"
        ) from None


def is_strict(value: Any) -> bool:
    """Returns True if a schema meets the terms of OpenAI's strict mode: closed objects whose every property is
    required.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas; others are refused with a 400.
    """
    # A loop, since a caller may nest deeper than calls can.
    rest = [value]
    while rest:
        part = rest.pop()
        if type(part) is list:
            rest.extend(part)
        elif type(part) is dict:
            if part.get("type") == "object" or "properties" in part:
                properties, required = as_dict(part.get("properties")), as_list(part.get("required"))
                if part.get("additionalProperties") is not False or not _same_names(properties, required):
                    return False
            rest.extend(part.values())
    return True


def _same_names(properties: Mapping[str, Any], required: list[Any]) -> bool:
    return all(type(name) is str for name in required) and set(properties) == set(required)


def cache_key(prompt: Prompt) -> str:
    """Returns a key that keeps requests with the same long instructions on the same cache; empty where they are
    short."""
    texts = [message.text for message in prompt.messages if message.role is Role.SYSTEM]
    text = "\n".join(texts) if texts else ""
    if len(text) < CACHEABLE_CHARACTERS:
        return ""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
