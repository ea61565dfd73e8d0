"""Reads the output of OpenAI's responses API: items that are a message, a call of a function, or thoughts.

Only parts that are known to be answer text are answer text.
https://platform.openai.com/docs/api-reference/responses/object
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from libs.conversation import Citation, Reasoning, ToolCall
from services.router.providers.wires.citations import read_annotations
from services.router.providers.wires.fields import as_dict, as_json_text, as_list, as_str
from services.router.providers.wires.whole_answer import WholeThoughts

#: Types of the parts that hold the answer; a message's part without one is no other.
ANSWER_TEXT = ("output_text", "text")
REASONING = "reasoning"
#: Between two summaries of one item.
BETWEEN = "\n\n"


def call_id(item: Mapping[str, Any]) -> str:
    """Returns the id that the result of a call must name."""
    return as_str(item.get("call_id")) or as_str(item.get("id"))


def texts_of(output: Sequence[Any]) -> Iterator[tuple[str, bool]]:
    """Yields the texts of an answer, each with True if it is a refusal."""
    for item in map(as_dict, output):
        if item.get("type") == "message":
            for part in map(as_dict, as_list(item.get("content"))):
                if part.get("type", "output_text") in ANSWER_TEXT:
                    yield as_str(part.get("text")), False
                elif as_str(part.get("refusal")):
                    yield as_str(part["refusal"]), True


def calls_of(output: Sequence[Any]) -> tuple[ToolCall, ...]:
    """Returns the tool calls of an answer."""
    return tuple(
        ToolCall(call_id(item), as_str(item.get("name")), as_json_text(item.get("arguments")))
        for item in map(as_dict, output)
        if item.get("type") == "function_call"
    )


def citations_of(output: Sequence[Any]) -> Iterator[Citation]:
    """Yields the sources of an answer's texts."""
    for item in map(as_dict, output):
        for part in map(as_dict, as_list(item.get("content"))):
            yield from read_annotations(part.get("annotations"))


def thoughts_of(output: Sequence[Any]) -> tuple[Reasoning, ...]:
    """Returns the thoughts of an answer."""
    thoughts = WholeThoughts()
    for item in map(as_dict, output):
        kind = item.get("type")
        if kind == REASONING:
            thoughts.add(thought_of(item))
        elif kind == "message":
            thoughts.end_at_text()
        elif kind == "function_call":
            thoughts.end_at_call(call_id(item))
    return thoughts.whole()


def thought_of(item: Mapping[str, Any]) -> Reasoning:
    """Returns the thoughts of an item: themselves where they are shown, else the summaries."""
    opaque, name = as_str(item.get("encrypted_content")), as_str(item.get("id"))
    for field in ("content", "summary"):
        if text := BETWEEN.join(filter(None, [_text(part) for part in as_list(item.get(field))])):
            return Reasoning(text, opaque, summary=field == "summary", id=name)
    return Reasoning(opaque=opaque, redacted=True, id=name)


def _text(part: Any) -> str:
    return as_str(as_dict(part).get("text"))
