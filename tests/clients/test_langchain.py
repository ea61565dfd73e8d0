"""LangChain's ChatOpenAI."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tests.clients.conftest import BROKEN, MODELS, ODD, Door

MUG = "Describe a blue mug."


class Mug(BaseModel):
    """A mug."""

    colour: str
    handles: int


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def chat(door: Door, model: str, **more: Any) -> ChatOpenAI:
    """As its documentation shows it, with another base URL."""
    return ChatOpenAI(
        model=model, base_url=door.url, api_key=SecretStr(door.key), http_async_client=door.http, **more
    )


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("model", MODELS)
async def test_whole_and_streamed(door: Door, model: str, responses: bool) -> None:
    """The same text and usage, through either API."""
    llm = chat(door, model, use_responses_api=responses, stream_usage=True, max_tokens=50)
    question = [SystemMessage("Be brief."), HumanMessage(MUG)]
    whole = await llm.ainvoke(question)
    assert isinstance(whole, AIMessage)
    assert whole.text
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["input_tokens"] > 0 < whole.usage_metadata["output_tokens"]
    streamed: AIMessageChunk | None = None
    async for chunk in llm.astream(question):
        assert isinstance(chunk, AIMessageChunk)
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert (streamed.text, streamed.usage_metadata) == (whole.text, whole.usage_metadata)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", MODELS)
async def test_a_tool(door: Door, model: str, streamed: bool) -> None:
    """A bound tool is called, and its result goes back."""
    llm = chat(door, model)
    called = await ask(llm.bind_tools([weather], tool_choice="required"), MUG, streamed=streamed)
    (call,) = called.tool_calls
    assert (call["name"], set(call["args"])) == ("weather", {"city"})
    assert not called.invalid_tool_calls
    history = [HumanMessage(MUG), called, ToolMessage(weather(**call["args"]), tool_call_id=call["id"])]
    answer = await llm.bind_tools([weather], tool_choice="none").ainvoke(history)
    assert answer.text


@pytest.mark.parametrize("streamed", [False, True])
async def test_parallel_tools(door: Door, streamed: bool) -> None:
    """Two calls in one answer."""
    await door.says(
        ("call_a", "weather", '{"city": "Rome"}'), ("call_b", "weather", '{"city": "Oslo"}'), stream=streamed
    )
    called = await ask(chat(door, ODD).bind_tools([weather]), MUG, streamed=streamed)
    assert [call["args"] for call in called.tool_calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert len({call["id"] for call in called.tool_calls}) == 2
    assert not called.invalid_tool_calls


async def ask(llm: Any, text: str, *, streamed: bool) -> AIMessage:
    """The answer, added up where it is streamed."""
    if not streamed:
        answer = await llm.ainvoke(text)
        assert isinstance(answer, AIMessage)
        return answer
    whole: Any = None
    async for chunk in llm.astream(text):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessage)
    return whole


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("model", MODELS)
async def test_structured_output(door: Door, model: str, method: str) -> None:
    """Each of LangChain's ways to an object; a mode that knows no schema gives any."""
    schema = Mug if method != "json_mode" else None
    llm = chat(door, model).with_structured_output(schema, method=method)
    answer = await llm.ainvoke("Describe a blue mug as JSON.")
    assert isinstance(answer, Mug if schema else dict)


async def test_a_chain_of_models(door: Door) -> None:
    """The door's own fields pass through `extra_body`, and the account comes back in the answer's headers."""
    await door.set("broken-langchain", faults=[{"kind": "status", "preset": "overloaded"}])
    llm = chat(door, BROKEN["langchain"], extra_body={"fallbacks": [ODD]}, include_response_headers=True)
    answer = await llm.ainvoke(MUG)
    headers = answer.response_metadata["headers"]
    assert f"{headers['x-pointsman-provider']}/{headers['x-pointsman-model']}" == ODD


async def test_errors(door: Door) -> None:
    """Error handling written for OpenAI goes on working; what lasts is asked once, though it retries by default."""
    with pytest.raises(openai.NotFoundError):
        await chat(door, "openai/none").ainvoke(MUG)
    assert len(door.sent) == 1
    await door.set("broken-langchain", expect_key="another")
    door.sent.clear()
    with pytest.raises(openai.InternalServerError):
        await chat(door, BROKEN["langchain"]).ainvoke(MUG)
    assert len(door.sent) == 1
