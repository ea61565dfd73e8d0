"""Characters whose halves some servers send in two events, wherever a wire has a piece of text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.router.providers.wires.samples import WIRES, frame, lines, sse, told

#: An emoji, and its halves as JSON escapes.
WHOLE = "\U0001f600"
FIRST, SECOND = "\ud83d", "\ude00"


def chat(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def chat_stream(first: dict[str, Any], second: dict[str, Any]) -> bytes:
    end = {"choices": [{"index": 0, "delta": {"content": "."}, "finish_reason": "stop"}]}
    return sse(first, second, end, done=True)


def detail(field: str, text: str) -> dict[str, Any]:
    return chat(reasoning_details=[{"type": f"reasoning.{field}", field: text, "index": 0}])


def anthropic(kind: str, field: str, half: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: half}}


def anthropic_stream(kind: str, field: str) -> bytes:
    text = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "."}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    pieces = [anthropic(kind, field, half) for half in (FIRST, SECOND)]
    return sse(*pieces, text, stop, {"type": "message_stop"})


def gemini_stream(**more: Any) -> bytes:
    pieces = [{"candidates": [{"content": {"parts": [{"text": half, **more}]}}]} for half in (FIRST, SECOND)]
    return sse(*pieces, {"candidates": [{"content": {"parts": [{"text": "."}]}, "finishReason": "STOP"}]})


def responses_stream(kind: str) -> bytes:
    pieces = [
        {"type": f"response.{kind}.delta", "output_index": 0, "delta": half} for half in (FIRST, SECOND)
    ]
    text = {"type": "response.output_text.delta", "output_index": 1, "delta": "."}
    return sse(*pieces, text, {"type": "response.completed", "response": {"status": "completed"}})


def bedrock_stream(inside: str) -> bytes:
    deltas = [
        {"text": half} if inside == "text" else {"reasoningContent": {"text": half}}
        for half in (FIRST, SECOND)
    ]
    pieces = [frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}) for delta in deltas]
    text = frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "."}})
    return b"".join([*pieces, text, frame("messageStop", {"stopReason": "end_turn"}), frame("metadata", {})])


def cohere_stream(kind: str, *path: str) -> bytes:
    def piece(half: str) -> dict[str, Any]:
        message: Any = half
        for name in reversed(path):
            message = {name: message}
        return {"type": kind, "index": 0, "delta": {"message": message}}

    text = {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "."}}}}
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}
    return sse(piece(FIRST), piece(SECOND), text, end)


STREAMS: dict[str, tuple[str, bytes]] = {
    **{
        name: ("openai", chat_stream(chat(**{name: FIRST}), chat(**{name: SECOND})))
        for name in ("content", "refusal", "reasoning_content", "reasoning")
    },
    "reasoning text": ("openrouter", chat_stream(detail("text", FIRST), detail("text", SECOND))),
    "reasoning summary": ("openrouter", chat_stream(detail("summary", FIRST), detail("summary", SECOND))),
    "anthropic text": ("anthropic", anthropic_stream("text_delta", "text")),
    "anthropic thinking": ("anthropic", anthropic_stream("thinking_delta", "thinking")),
    "gemini text": ("gemini", gemini_stream()),
    "gemini thought": ("gemini", gemini_stream(thought=True)),
    "responses text": ("openai_responses", responses_stream("output_text")),
    "responses refusal": ("openai_responses", responses_stream("refusal")),
    "responses reasoning": ("openai_responses", responses_stream("reasoning_text")),
    "responses summary": ("openai_responses", responses_stream("reasoning_summary_text")),
    "bedrock text": ("bedrock", bedrock_stream("text")),
    "bedrock thinking": ("bedrock", bedrock_stream("reasoning")),
    "cohere text": ("cohere", cohere_stream("content-delta", "content", "text")),
    "cohere thinking": ("cohere", cohere_stream("content-delta", "content", "thinking")),
    "cohere plan": ("cohere", cohere_stream("tool-plan-delta", "tool_plan")),
    "ollama text": (
        "ollama_native",
        lines(*({"message": {"content": half}} for half in (FIRST, SECOND)), {"done": True}),
    ),
    "ollama thinking": (
        "ollama_native",
        lines(
            *({"message": {"thinking": half}} for half in (FIRST, SECOND)),
            {"message": {"content": "."}, "done": True},
        ),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_two_halves_are_one_character(name: str) -> None:
    """In text, thoughts and refusals, on every wire; what is handed on is Unicode."""
    kind, stream = STREAMS[name]
    decoder = WIRES[kind].decoder()
    seen = told([*decoder.feed(stream), *decoder.close()])
    texts = [seen.text, seen.refusal, *(thought.text for thought in seen.reasoning)]
    assert "".join(texts).replace(".", "") == WHOLE
    assert json.dumps(texts, ensure_ascii=False).encode()


@pytest.mark.parametrize("field", ["content", "refusal", "reasoning_content"])
def test_half_a_character_is_replaced(field: str) -> None:
    """The other half never comes."""
    decoder = WIRES["openai"].decoder()
    stream = chat_stream(chat(**{field: FIRST}), chat(reasoning="x"))
    seen = told([*decoder.feed(stream), *decoder.close()])
    texts = [seen.text, seen.refusal, *(thought.text for thought in seen.reasoning)]
    assert "�" in "".join(texts)
    assert json.dumps(texts, ensure_ascii=False).encode()
