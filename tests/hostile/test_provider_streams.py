"""Providers that answer 200 with what no model would say: without end, in too many pieces, too large, too deep."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from libs.errors import PointsmanError, ResourceExhausted
from tests.hostile.ground import MIB, PATIENCE, WIRES, Ground, Reply, attack


def sse(value: Any, event: str = "") -> str:
    """One event."""
    data = value if isinstance(value, str) else json.dumps(value)
    return (f"event: {event}\n" if event else "") + f"data: {data}\n\n"


def piece_of(wire: str, text: str) -> str:
    """An event that brings some text."""
    if wire == "openai":
        return sse({"choices": [{"index": 0, "delta": {"content": text}}]})
    if wire == "openai_responses":
        said = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}
        return sse(said, "response.output_text.delta")
    if wire == "anthropic":
        said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return sse(said, "content_block_delta")
    return sse({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}]})


def opening_of(wire: str) -> str:
    """Returns the part of a stream that comes before text."""
    if wire != "anthropic":
        return ""
    usage = {"input_tokens": 5, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "usage": usage}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return sse({"type": "message_start", "message": message}, "message_start") + sse(
        block, "content_block_start"
    )


def call_piece(**more: Any) -> str:
    """A piece of a tool call of OpenAI's wire."""
    call = {"function": {"name": "f", "arguments": "1"}} | more
    return sse({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


def whole(wire: str, text: str) -> tuple[str, str]:
    """Returns the parts of a whole answer of the wire before and behind its text."""
    mark = "\u0001"
    shapes: dict[str, Any] = {
        "openai": {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": mark}}]},
        "openai_responses": {
            "status": "completed",
            "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": mark}]}
            ],
        },
        "anthropic": {
            "type": "message",
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": mark}],
        },
        "gemini": {"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": mark}]}}]},
    }
    before, _, after = json.dumps(shapes[wire], ensure_ascii=False).partition(json.dumps(mark)[1:-1])
    return before, after


async def perform(
    ground: Ground,
    wire: str,
    *,
    stream: bool,
    body: list[dict[str, Any]],
    tokens: int = 50,
    timeout: float = PATIENCE,
    **more: Any,
) -> Reply:
    """Returns the attacker's outcome with a provider that answers so, `tokens` being asked for."""
    name = ground.evil(wire)
    kind = "text/event-stream" if stream else "application/json"
    await ground.stack.simulator.set(
        name, faults=[{"kind": "raw", "content_type": kind, "body": body, **more}]
    )
    reply = await ground.ask([f"{name}/m"], stream=stream, max_output_tokens=tokens, timeout=timeout)
    assert type(reply.error) is not PointsmanError, reply
    await ground.assert_called(name, 1)
    return reply


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_ends_where_more_comes_than_was_asked(ground: Ground, wire: str) -> None:
    """A provider that ignores the limit of 50 tokens is hung up on, and the caller is not flooded."""
    async with attack(ground, f"endless text of {wire}"):
        body = [{"text": opening_of(wire)}, {"text": piece_of(wire, "word " * 20)}]
        reply = await perform(ground, wire, stream=True, body=body, endless=True)
        assert reply.received < MIB, reply
        large = [{"text": opening_of(wire)}, {"text": piece_of(wire, "word " * 10_000)}]
        reply = await perform(ground, wire, stream=True, body=large, endless=True)
        assert reply.received < MIB, reply


@pytest.mark.parametrize("wire", WIRES)
async def test_a_whole_answer_is_bounded(ground: Ground, wire: str) -> None:
    """40 MB of text for 50 tokens, plain and packed, are not read to their end, nor told as a spent limit."""
    before, after = whole(wire, "")
    async with attack(ground, f"whole answers of 40 and 200 MB of {wire}"):
        for size, gzip in ((40, False), (200, True), (200, True)):
            body: list[dict[str, Any]] = [
                {"text": before},
                {"text": "word " * 200, "times": size * 1000},
                {"text": after or " "},
            ]
            reply = await perform(ground, wire, stream=False, body=body, gzip=gzip)
            assert not isinstance(reply.error, ResourceExhausted), reply
            assert reply.received < 2 * MIB, reply


@pytest.mark.parametrize("wire", WIRES)
async def test_errors_are_bounded_too(ground: Ground, wire: str) -> None:
    """200 MB of an error, packed into 200 kB."""
    async with attack(ground, f"errors of 200 MB of {wire}"):
        for stream in (False, True):
            body: list[dict[str, Any]] = [
                {"text": '{"error":{"message":"'},
                {"text": "word " * 200, "times": 200_000},
                {"text": '"}}'},
            ]
            reply = await perform(ground, wire, stream=stream, body=body, gzip=True, status=503)
            assert reply.error is not None


#: An integer that Python does not read.
DIGITS = "9" * 5000
PIECES: dict[str, list[dict[str, Any]]] = {
    "pieces without an id or a number": [{"text": call_piece(), "times": 50_000}],
    "pieces without an id": [{"text": call_piece(index=0), "times": 50_000}],
    "pieces with one id": [{"text": call_piece(index=0, id="c"), "times": 50_000}],
    "20,000 calls": [{"text": call_piece(index=n, id=f"c{n}")} for n in range(20_000)],
    "20,000 calls downwards": [{"text": call_piece(index=n)} for n in range(20_000, 0, -1)],
    "calls of 5,000 digits": [{"text": call_piece(index=1).replace('"index": 1', f'"index": {DIGITS}')}],
}


@pytest.mark.parametrize("name", PIECES)
async def test_tool_calls_in_many_pieces_hold_nobody_up(ground: Ground, name: str) -> None:
    """Pieces are joined in linear time, however they say what they belong to."""
    end = {
        "text": sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}) + sse("[DONE]")
    }
    async with attack(ground, name):
        await perform(ground, "openai", stream=True, body=[*PIECES[name], end], tokens=500_000)


ODD: dict[str, dict[str, Any]] = {
    "a line without end": {"body": [{"text": "data: "}, {"text": "x" * 1000}], "endless": True},
    "an event without end": {"body": [{"text": "data: x\n"}], "endless": True},
    "comments without end": {"body": [{"text": ": ping\n\n"}], "endless": True},
    "empty lines without end": {"body": [{"text": "\n"}], "endless": True},
    "empty events without end": {"body": [{"text": "data: {}\n\n"}], "endless": True, "tokens": 100_000},
    "a packed line without end": {
        "body": [{"text": "data: "}, {"text": "x" * 1000}],
        "endless": True,
        "gzip": True,
    },
    "deep JSON": {"body": [{"text": "data: "}, {"text": "[", "times": 100_000}, {"text": "\n\n"}]},
    "an integer of 5,000 digits": {
        "body": [{"text": 'data: {"usage": {"completion_tokens": ' + "9" * 5000 + "}}\n\n"}]
    },
    "a header of 100 KB": {"body": [{"text": "{}"}], "headers": {"x-request-id": "x" * 100_000}},
    "a wait of 5,000 digits": {
        "body": [{"text": "{}"}],
        "status": 429,
        "headers": {"retry-after": DIGITS},
    },
    "limits of 5,000 digits": {
        "body": [{"text": "{}"}],
        "headers": {"x-ratelimit-limit-requests": DIGITS},
    },
    "bytes that are no text": {"body": [{"base64": "/////w==", "times": 100_000}]},
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_an_odd_answer_hurts_nobody(ground: Ground, wire: str, name: str) -> None:
    """Whatever comes instead of an answer is bounded and told by a status of the contract."""
    async with attack(ground, f"{name} from {wire}"):
        # Some may go on until the caller's deadline: a comment is a sign of life.
        await asyncio.gather(
            *(perform(ground, wire, stream=stream, timeout=4, **ODD[name]) for stream in (True, False))
        )
