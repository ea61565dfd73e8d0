"""LlamaIndex's OpenAI, which calls only models whose names it knows: the door takes a name without its provider."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel

from tests.clients.conftest import BROKEN, MODELS, ODD, Door

KNOWN = MODELS[0].partition("/")[2]
MUG = "Describe a blue mug."


class Mug(BaseModel):
    """A mug."""

    colour: str
    handles: int


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


TOOL = FunctionTool.from_defaults(weather)


def llm(door: Door, model: str = KNOWN, **more: Any) -> OpenAI:
    """As its documentation shows it, with another base URL."""
    name = model.rpartition("/")[2]
    return OpenAI(model=name, api_base=door.url, api_key=door.key, async_http_client=door.http, **more)


async def test_whole_and_streamed(door: Door) -> None:
    """The same text, and the usage."""
    whole = await llm(door).acomplete(MUG)
    assert whole.text
    assert whole.raw.usage.completion_tokens > 0
    streamed, last = "", None
    async for piece in await llm(door).astream_chat([ChatMessage(role="user", content=MUG)]):
        streamed += piece.delta or ""
        last = piece
    assert last is not None
    assert streamed == last.message.content == whole.text


async def test_a_tool(door: Door) -> None:
    """Called whole and streamed, and its result goes back."""
    model = llm(door)
    called = await model.achat_with_tools([TOOL], user_msg=MUG, tool_required=True)
    (call,) = model.get_tool_calls_from_response(called)
    assert (call.tool_name, set(call.tool_kwargs)) == ("weather", {"city"})
    last: Any = None
    async for piece in await model.astream_chat_with_tools([TOOL], user_msg=MUG, tool_required=True):
        last = piece
    (streamed,) = model.get_tool_calls_from_response(last)
    assert streamed.tool_kwargs == call.tool_kwargs
    history = [
        ChatMessage(role="user", content=MUG),
        called.message,
        ChatMessage(role="tool", content="rain", additional_kwargs={"tool_call_id": call.tool_id}),
    ]
    assert (await model.achat(history)).message.content


@pytest.mark.parametrize("streamed", [False, True])
async def test_parallel_tools(door: Door, streamed: bool) -> None:
    """Two calls in one answer, with all of their arguments."""
    cities = ({"city": "Rome"}, {"city": "Oslo"})
    calls = [(f"call_{c['city']}", "weather", json.dumps(c)) for c in cities]
    await door.says(*calls, stream=streamed)
    model, answer = llm(door, ODD), None
    if streamed:
        # Else it asks for one call, and gets one.
        pieces = await model.astream_chat_with_tools([TOOL], user_msg=MUG, allow_parallel_tool_calls=True)
        async for piece in pieces:
            answer = piece
    else:
        answer = await model.achat_with_tools([TOOL], user_msg=MUG, allow_parallel_tool_calls=True)
    assert answer is not None
    found = model.get_tool_calls_from_response(answer)
    assert [call.tool_kwargs for call in found] == list(cities)
    assert len({call.tool_id for call in found}) == 2


async def test_structured_output(door: Door) -> None:
    """A model of pydantic, by a JSON schema and by a tool."""
    for more in ({}, {"strict": True}):
        answer = await llm(door, **more).as_structured_llm(Mug).acomplete(MUG)
        assert isinstance(answer.raw, Mug)


async def test_errors(door: Door) -> None:
    """The caller's fault is asked once, though it retries by default; it retries every 5xx, whatever the answer says
    of it."""
    with pytest.raises(openai.NotFoundError):
        await llm(door, "gpt-4o").acomplete(MUG)
    assert len(door.sent) == 1
    await door.set("broken-llamaindex", expect_key="another")
    with pytest.raises(openai.InternalServerError):
        await llm(door, BROKEN["llamaindex"], max_retries=1).acomplete(MUG)
