"""The thoughts of chat completions, which OpenAI's own wire has no field for: each vendor has one of its own.

- `reasoning_content`: DeepSeek, xAI, Z.ai, Moonshot, vLLM, llama.cpp; `reasoning`: Groq, Cerebras, Together. Text
  alone.
- `reasoning_details`: OpenRouter, https://openrouter.ai/docs/use-cases/reasoning-tokens. Text, summaries, signatures
  and encrypted thoughts of the vendor behind it, whose other fields must come back as they came.
- Parts of type `thinking`: Mistral, https://docs.mistral.ai/capabilities/reasoning. Text alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import structs

from libs.conversation import Message, Reasoning, Role
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_list,
    as_str,
    decode,
    encode,
    text_of,
)


class ThoughtsField(StrEnum):
    """The field of a message in which a vendor takes its thoughts back."""

    REASONING_CONTENT = "reasoning_content"
    REASONING = "reasoning"
    DETAILS = "reasoning_details"
    CONTENT = "content"


#: Names of the text in a detail, by its type.
_TEXTS = {"reasoning.text": "text", "reasoning.summary": "summary"}


class Details:
    """OpenRouter's details, of which a stream sends pieces: what belongs to one has one index."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[int, dict[str, Any]] = {}

    def add(self, detail: Mapping[str, Any]) -> tuple[int, Reasoning]:
        """Takes a piece in. Returns its detail's index, and the piece of the thoughts' text that it holds."""
        index = as_count(detail.get("index"))
        index = len(self._seen) if index is None else index
        known = self._seen.setdefault(index, {})
        name = _TEXTS.get(as_str(detail.get("type")), "")
        known.update((key, value) for key, value in detail.items() if key != name and value is not None)
        return index, Reasoning(as_str(detail.get(name)), summary=name == "summary")

    def end(self) -> Iterator[tuple[int, Reasoning]]:
        """Yields the rest of each detail, once all pieces are there: all its fields but the text, as `opaque`."""
        for index, fields in self._seen.items():
            redacted = as_str(fields.get("type")) not in _TEXTS
            yield index, Reasoning(opaque=encode(fields).decode(), redacted=redacted)
        self._seen.clear()


def whole_detail(detail: Mapping[str, Any]) -> Reasoning:
    """Returns the thoughts of a detail that came in one piece."""
    details = Details()
    _, piece = details.add(detail)
    return next(structs.replace(rest, text=piece.text, summary=piece.summary) for _, rest in details.end())


def text_of_thoughts(message: Mapping[str, Any]) -> str:
    """Returns the thoughts of a message or a delta that are text alone, wherever the vendor puts them."""
    for name in ("reasoning_content", "reasoning"):
        if text := as_str(message.get(name)):
            return text
    content = message.get("content")
    if type(content) is not list:
        return ""
    blocks = [as_dict(block) for block in as_list(content)]
    return "".join(text_of(block.get("thinking")) for block in blocks if block.get("type") == "thinking")


def put_thoughts_back(
    items: Sequence[dict[str, Any]], messages: Sequence[Message], field: ThoughtsField, *, required: bool
) -> None:
    """Puts the thoughts of assistants' messages into the items written for them. Text goes back with turns in which
    tools were called, where the model goes on from it; elsewhere vendors leave it unread, or refuse it. `required`: a
    call without the field is refused, so a message whose thoughts are not at hand has empty ones.

    https://api-docs.deepseek.com/guides/thinking_mode
    """
    assistants = [item for item in items if item["role"] == Role.ASSISTANT]
    spoken = zip(messages, _turns_with_calls(messages), strict=True)
    said = [(message, in_turn) for message, in_turn in spoken if message.role is Role.ASSISTANT]
    for item, (message, in_turn) in zip(assistants, said, strict=True):
        thoughts = [part for part in message.parts if isinstance(part, Reasoning)]
        if field is ThoughtsField.DETAILS:
            if details := [detail for thought in thoughts for detail in _detail(thought)]:
                item[field.value] = details
        elif in_turn:
            text = "".join(thought.text for thought in thoughts)
            if text or (required and message.tool_calls):
                parts = _thinking_parts(text, item["content"]) if field is ThoughtsField.CONTENT else text
                item[field.value] = parts


def lacks_thoughts(messages: Sequence[Message]) -> bool:
    """Returns True if an assistant called tools and its thoughts are not at hand."""
    return any(
        bool(message.tool_calls) and not any(isinstance(part, Reasoning) for part in message.parts)
        for message in messages
    )


def _turns_with_calls(messages: Sequence[Message]) -> list[bool]:
    """Returns, for each message, True if the turn that it is part of, from one user's message to the next, has tool
    calls."""
    found: list[bool] = []
    begin = 0
    for index, message in enumerate(messages):
        if message.role is Role.USER:
            begin = index
        found.append(index > begin and found[-1])
        if message.tool_calls and not found[-1]:
            found[begin:] = [True] * (index + 1 - begin)
    return found


def _detail(thought: Reasoning) -> Iterator[dict[str, Any]]:
    try:
        fields = dict(as_dict(decode(thought.opaque)))
    except Undecodable:
        return
    name = _TEXTS.get(as_str(fields.get("type")), "")
    yield {**fields, name: thought.text} if name else fields


def _thinking_parts(text: str, content: Any) -> list[dict[str, Any]]:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]
    if type(content) is list:
        return [*parts, *content]
    return [*parts, {"type": "text", "text": content}] if content else parts
