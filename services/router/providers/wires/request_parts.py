"""Pieces of requests that several wires write alike: headers, instructions, turns, tools, thinking, cache keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from libs.conversation import (
    File,
    Image,
    Message,
    Reasoning,
    ReasoningEffort,
    Refusal,
    Role,
    Text,
    Tool,
    ToolCall,
)
from services.router.providers.wires.fields import Undecodable, decode
from services.router.providers.wires.media import address_of, attachments_of, cannot_carry, file_name
from services.router.providers.wires.schemas import parameters_schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt

#: Below this many characters of instructions no provider caches a prompt prefix (1024 tokens at 4 characters).
CACHEABLE_CHARACTERS = 4096
#: The instruction for any JSON object where a vendor has no field for it.
JSON_ONLY = "Answer with a single JSON object and nothing else."
#: The values of options that are as good as none.
_DEFAULTS: Mapping[str, object] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "reasoning_effort": ReasoningEffort.NONE,
    "tool_choice": "",
}
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


def speakers_turns(
    prompt: Prompt, blocks: Callable[[Message], list[dict[str, Any]]], text: Callable[[str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the turns of user and assistant, and the begun answer where there is one. `blocks` writes a message,
    `text` a block of text."""
    turns = merge_turns(
        ("assistant" if message.role is Role.ASSISTANT else "user", blocks(message))
        for message in prompt.messages
        if message.role is not Role.SYSTEM
    )
    # Refused: a prefill that ends in white space.
    prefill = prompt.prefill.rstrip()
    if prefill:
        turns.append({"role": "assistant", "content": [text(prefill)]})
    return turns


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


def split_thoughts(message: Message) -> tuple[list[Reasoning], dict[str, list[Reasoning]]]:
    """Returns a message's thoughts: those before its text, and by the call's id those that belong to a call."""
    loose: list[Reasoning] = []
    bound: dict[str, list[Reasoning]] = {}
    if message.parts:
        called = {call.id for call in message.tool_calls}
        for part in message.parts:
            if isinstance(part, Reasoning):
                of_call = part.tool_call_id in called
                (bound.setdefault(part.tool_call_id, []) if of_call else loose).append(part)
    return loose, bound


#: Writes a document as a part of a message.
WriteFile = Callable[[File], dict[str, Any]]


def chat_file(file: File) -> dict[str, Any]:
    """Returns a document as chat completions take it. Raises ProviderFailure(UNSUPPORTED_HERE) for an address."""
    if file.url:
        raise cannot_carry("it fetches no documents")
    return {"type": "file", "file": {"filename": file_name(file), "file_data": address_of(file)}}


def chat_parts(message: Message, write_file: WriteFile = chat_file) -> list[dict[str, Any]]:
    """Returns the parts of a message as chat completions take them."""
    parts: list[dict[str, Any]] = []
    for part in message.content:
        match part:
            case Text(text) | Refusal(text):
                parts.extend([{"type": "text", "text": text}] if text else [])
            case Image():
                detail = {"detail": part.detail.value} if part.detail else {}
                parts.append({"type": "image_url", "image_url": {"url": address_of(part), **detail}})
            case File():
                parts.append(write_file(part))
    return parts


def chat_messages(
    messages: Sequence[Message], write_file: WriteFile = chat_file, *, tools_show: bool = False
) -> list[dict[str, Any]]:
    """Returns messages as chat completions (and Cohere v2) take them. `tools_show`: a tool may show images."""
    out: list[dict[str, Any]] = []
    #: A tool's images where only a user may show any: they follow the results of its turn.
    shown: list[dict[str, Any]] = []
    for message in messages:
        if shown and message.role is not Role.TOOL:
            out.append({"role": "user", "content": shown})
            shown = []
        item: dict[str, Any] = {"role": message.role, "content": message.written}
        if message.parts and attachments_of(message):
            parts = chat_parts(message, write_file)
            if message.role is Role.TOOL and not tools_show:
                shown = [*shown, *(part for part in parts if part["type"] != "text")]
            else:
                item["content"] = parts
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
    return [*out, {"role": "user", "content": shown}] if shown else out


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


def left_out(prompt: Prompt, **said: object) -> tuple[str, ...]:
    """Returns the names of options that the caller has set and that say more than the default, but that are not
    `said` to the provider."""
    return tuple(
        name
        for name, is_said in said.items()
        if not is_said and getattr(prompt, name) not in (None, _DEFAULTS.get(name))
    )


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
