"""The simulator's answers on every wire: calls of tools, thinking, JSON, pictures; and odd answers on demand.

Requests are made and answers are read by the router's own wires, so that either side's slip shows.
"""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from libs.conversation import Message, ResponseFormat, Role, Tool
from libs.types import FinishReason
from services.router.request.generation import Prompt
from tests.support.provider_wires import MODELS, ask
from tests.support.simulator import Simulator, running_simulator

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 3, "maximum": 5},
        "stops": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "when": {"type": "string", "format": "date"},
    },
    "required": ["city", "unit", "days", "stops", "when"],
    "additionalProperties": False,
}
WEATHER = Tool("get_weather", "Tells the temperature outside", json.dumps(SCHEMA))
NEWS = Tool("news", "Lists headlines", '{"type":"object","properties":{}}')


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


def prompt(text: str, **more: Any) -> Prompt:
    return Prompt((Message(Role.USER, text),), 4000, **more)


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
every_wire = pytest.mark.parametrize("kind", MODELS)


def fits(arguments: str) -> bool:
    given = json.loads(arguments)
    return (
        list(given) == ["city", "unit", "days", "stops", "when"]
        and given["unit"] == "celsius"
        and given["days"] == 3
        and given["stops"] == [[1]]
        and given["when"].count("-") == 2
        and isinstance(given["city"], str)
    )


@both
@every_wire
async def test_a_tool_is_called_where_the_prompt_asks_for_what_it_does(
    simulator: Simulator, kind: str, stream: bool
) -> None:
    """Under auto, with arguments that fit the schema; a tool that nobody asked for is not called."""
    asked = prompt("How is the weather in Bern?", tools=(WEATHER, NEWS))
    answer = await ask(simulator, kind, asked, stream=stream)
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    (call,) = answer.tool_calls
    assert call.name == "get_weather"
    assert fits(call.arguments_json)


@both
@every_wire
async def test_several_tools_are_called_at_once(simulator: Simulator, kind: str, stream: bool) -> None:
    """Each with an id of its own, where the wire has ids, and arguments of its own."""
    asked = prompt("The weather in Bern and the news, please", tools=(WEATHER, NEWS))
    answer = await ask(simulator, kind, asked, stream=stream)
    assert [call.name for call in answer.tool_calls] == ["get_weather", "news"]
    assert fits(answer.tool_calls[0].arguments_json)
    assert json.loads(answer.tool_calls[1].arguments_json) == {}
    if kind not in ("gemini", "vertex", "ollama_native"):
        assert len({call.id for call in answer.tool_calls} - {""}) == 2


@every_wire
async def test_after_results_the_answer_is_text(simulator: Simulator, kind: str) -> None:
    """And so it is where no tool is asked for, or none may be called."""
    asked = prompt("How is the weather in Bern?", tools=(WEATHER,))
    (call,) = (await ask(simulator, kind, asked, stream=False)).tool_calls
    call = replace(call, id=call.id or "a")
    results = (Message(Role.ASSISTANT, "", (call,)), Message(Role.TOOL, "sunny", tool_call_id=call.id))
    later = await ask(simulator, kind, replace(asked, messages=asked.messages + results), stream=False)
    idle = await ask(simulator, kind, prompt("Hello", tools=(WEATHER,)), stream=False)
    for answer in (later, idle):
        assert answer.text
        assert not answer.tool_calls


@both
@every_wire
async def test_json_is_answered_where_it_is_wanted(simulator: Simulator, kind: str, stream: bool) -> None:
    """By a schema or as any object, in so many words where the wire has no field for it."""
    words = "Describe the walnut desk as JSON"
    shape = {**SCHEMA, "properties": {"city": {"type": "string"}}, "required": ["city"]}
    free = await ask(simulator, kind, prompt(words, response_format=ResponseFormat()), stream=stream)
    assert isinstance(json.loads(free.text), dict)
    bound = prompt(words, response_format=ResponseFormat(json.dumps(shape)))
    if kind in ("deepseek", "groq"):
        return
    answer = await ask(simulator, kind, bound, stream=stream)
    assert list(json.loads(answer.text)) == ["city"]


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A picture of one colour, each row filtered in another way."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = [b"\0" + bytes(colour) * width] + [b"\2" + bytes(3 * width)] * (height - 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


RED = b64encode(png(12, 7, (225, 10, 20))).decode()
SEEN = "Sent: image/png, 12 × 7 pixels, mostly red."
ASKED = "What is it?"
PICTURES: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    (
        "v1/chat/completions",
        {},
        {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": ASKED},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED}"}},
                    ],
                }
            ],
        },
    ),
    (
        "v1/responses",
        {},
        {
            "model": "m",
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{RED}"}],
                }
            ],
        },
    ),
    (
        "v1/messages",
        {"x-api-key": "k", "anthropic-version": "2023-06-01"},
        {
            "model": "m",
            "max_tokens": 500,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": RED},
                        }
                    ],
                }
            ],
        },
    ),
    (
        "v1beta/models/m:generateContent",
        {},
        {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": RED}}]}]},
    ),
    (
        "model/m/converse",
        {},
        {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": RED}}}]}]},
    ),
    (
        "v2/chat",
        {},
        {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED}"}}],
                }
            ],
        },
    ),
    ("api/chat", {}, {"model": "m", "messages": [{"role": "user", "content": ASKED, "images": [RED]}]}),
]


@pytest.mark.parametrize(("path", "headers", "body"), PICTURES, ids=[path for path, _, _ in PICTURES])
async def test_a_picture_is_described(
    simulator: Simulator, path: str, headers: dict[str, str], body: dict[str, Any]
) -> None:
    """By its type, its size and its main colour, on every wire that takes pictures."""
    url = f"{simulator.base('pictures')}/{path}"
    answer = await simulator.client.post(
        url, json={**body, "stream": False} if "api" in path else body, headers=headers
    )
    assert answer.status_code == 200, answer.text
    assert SEEN in str(answer.json())
