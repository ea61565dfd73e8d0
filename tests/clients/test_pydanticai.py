"""pydantic-ai, whose agents run the whole loop of tools."""

from __future__ import annotations

import json

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.conftest import BROKEN, MODELS, ODD, Door

MUG = "Describe a blue mug as JSON."


class Mug(BaseModel):
    """A mug."""

    colour: str
    handles: int


class Text(BaseModel):
    """The object that the simulator makes of a text where no schema is given."""

    title: str
    description: str


def llm(door: Door, model: str, *, responses: bool = False) -> Model:
    provider = OpenAIProvider(
        openai_client=AsyncOpenAI(base_url=door.url, api_key=door.key, http_client=door.http)
    )
    return (OpenAIResponsesModel if responses else OpenAIChatModel)(model, provider=provider)


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("model", MODELS)
async def test_whole_and_streamed(door: Door, model: str, responses: bool) -> None:
    """The same text and usage, through either API."""
    agent = Agent(llm(door, model, responses=responses), instructions="Be brief.")
    whole = await agent.run(MUG)
    assert whole.output
    async with agent.run_stream(MUG) as stream:
        text = await stream.get_output()
    assert text == whole.output
    used = [(u.input_tokens, u.output_tokens) for u in (whole.usage, stream.usage)]
    assert used[0] == used[1] > (0, 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_parallel_tools(door: Door, streamed: bool) -> None:
    """Two calls in one answer are run, their results go back, and the next answer ends the loop."""
    asked: list[str] = []

    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"rain in {city}"

    cities = ("Rome", "Oslo")
    calls = [(f"call_{city}", "weather", json.dumps({"city": city})) for city in cities]
    await door.says(*calls, stream=streamed)
    agent = Agent(llm(door, ODD), tools=[weather])
    if streamed:
        async with agent.run_stream("What is the weather?") as stream:
            text = await stream.get_output()
    else:
        text = (await agent.run("What is the weather?")).output
    assert sorted(asked) == sorted(cities)
    assert text


@pytest.mark.parametrize("way", [ToolOutput, NativeOutput, PromptedOutput])
@pytest.mark.parametrize("model", MODELS)
async def test_structured_output(door: Door, model: str, way: type) -> None:
    """Each of its ways to an object, whole and streamed."""
    # The prompted one has no schema on the wire, where the simulator makes an object of its own.
    wanted = Text if way is PromptedOutput else Mug
    agent = Agent(llm(door, model), output_type=way(wanted))
    whole = (await agent.run(MUG)).output
    assert isinstance(whole, wanted)
    async with agent.run_stream(MUG) as stream:
        assert await stream.get_output() == whole


async def test_errors(door: Door) -> None:
    """With their status; what lasts is asked once."""
    await door.set("broken-pydanticai", expect_key="another")
    for model, status in (("openai/none", 404), (BROKEN["pydanticai"], 503)):
        door.sent.clear()
        with pytest.raises(ModelHTTPError) as caught:
            await Agent(llm(door, model)).run(MUG)
        assert caught.value.status_code == status
        assert len(door.sent) == 1
