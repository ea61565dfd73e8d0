"""The official client."""

from __future__ import annotations

import json

import openai
import pytest
from openai import AsyncOpenAI, pydantic_function_tool
from pydantic import BaseModel

from tests.clients.conftest import BROKEN, MODELS, ODD, Door

ASK = [{"role": "user", "content": "Describe a blue mug."}]


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


class Mug(BaseModel):
    """A mug."""

    colour: str
    handles: int


@pytest.fixture
def client(door: Door) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=door.url, api_key=door.key, http_client=door.http)


@pytest.mark.parametrize("model", MODELS)
async def test_whole_and_streamed(client: AsyncOpenAI, model: str) -> None:
    """The same text and the same usage, in one piece, in chunks, by the helper, and through the responses API."""
    whole = await client.chat.completions.create(model=model, messages=ASK)
    text = whole.choices[0].message.content
    assert text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0 < whole.usage.prompt_tokens
    pieces, usage = "", None
    options = {"include_usage": True}
    async for chunk in await client.chat.completions.create(
        model=model, messages=ASK, stream=True, stream_options=options
    ):
        pieces += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert (pieces, usage) == (text, whole.usage)
    async with client.chat.completions.stream(model=model, messages=ASK) as helper:
        final = await helper.get_final_completion()
    assert final.choices[0].message.content == text
    response = await client.responses.create(model=model, input="Describe a blue mug.")
    assert response.output_text == text
    assert response.usage is not None
    assert response.usage.output_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", MODELS)
async def test_a_tool(client: AsyncOpenAI, model: str, streamed: bool) -> None:
    """Called with arguments that fit its schema; its result goes back and is answered with text."""
    tools = [pydantic_function_tool(Weather)]
    asked = {"model": model, "messages": ASK, "tools": tools, "tool_choice": "required"}
    if streamed:
        async with client.chat.completions.stream(**asked) as helper:
            message = (await helper.get_final_completion()).choices[0].message
    else:
        message = (await client.chat.completions.parse(**asked)).choices[0].message
    (call,) = message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Weather)
    assert Weather.model_validate_json(call.function.arguments) == call.function.parsed_arguments
    called = {
        "id": call.id,
        "type": "function",
        "function": {"name": "Weather", "arguments": call.function.arguments},
    }
    history = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    answer = await client.chat.completions.create(
        model=model, messages=history, tools=tools, tool_choice="none"
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize("streamed", [False, True])
async def test_parallel_tools(client: AsyncOpenAI, door: Door, streamed: bool) -> None:
    """Two calls in one answer keep their ids, names and arguments, however their pieces are grouped."""
    sent = {"Rome": Weather(city="Rome", days=3), "Oslo": Weather(city="Oslo", days=11)}
    await door.says(
        *((f"call_{k}", "Weather", v.model_dump_json()) for k, v in sent.items()), stream=streamed
    )
    asked = {"model": ODD, "messages": ASK, "tools": [pydantic_function_tool(Weather)]}
    if streamed:
        async with client.chat.completions.stream(**asked) as helper:
            completion = await helper.get_final_completion()
    else:
        completion = await client.chat.completions.parse(**asked)
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or ()
    assert [call.function.parsed_arguments for call in calls] == list(sent.values())
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize("model", MODELS)
async def test_structured_output(client: AsyncOpenAI, model: str) -> None:
    """A model of pydantic, parsed by the client, whole and streamed; and any object."""
    whole = await client.chat.completions.parse(model=model, messages=ASK, response_format=Mug)
    assert isinstance(whole.choices[0].message.parsed, Mug)
    async with client.chat.completions.stream(model=model, messages=ASK, response_format=Mug) as helper:
        final = await helper.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Mug)
    loose = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Describe a blue mug as JSON."}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(loose.choices[0].message.content or ""), dict)
    response = await client.responses.parse(model=model, input="Describe a blue mug.", text_format=Mug)
    assert isinstance(response.output_parsed, Mug)


async def test_errors(client: AsyncOpenAI, door: Door) -> None:
    """Each is the exception that it always was; what lasts is asked once, though the client retries by default."""
    for raised, changes in (
        (openai.NotFoundError, {"model": "openai/none"}),
        (openai.BadRequestError, {"n": 2}),
        (openai.BadRequestError, {"temperature": 9}),
    ):
        door.sent.clear()
        with pytest.raises(raised):
            await client.chat.completions.create(**{"model": ODD, "messages": ASK, **changes})
        assert len(door.sent) == 1
    door.sent.clear()
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="nobody's").chat.completions.create(model=ODD, messages=ASK)
    assert len(door.sent) == 1


async def test_a_stream_that_nobody_can_end_is_an_error(client: AsyncOpenAI, door: Door) -> None:
    """Not a short answer."""
    await door.set("broken-stream", faults=[{"kind": "cut", "after_tokens": 5}])
    stream = await client.chat.completions.create(model=BROKEN["openai, cut"], messages=ASK, stream=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass


async def test_a_refused_provider_key_is_not_retried(client: AsyncOpenAI, door: Door) -> None:
    """It lasts, and the answer says so in a header that the client knows."""
    await door.set("broken-openai", expect_key="another")
    door.sent.clear()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=BROKEN["openai"], messages=ASK)
    assert caught.value.code == "provider_key_refused"
    assert len(door.sent) == 1
