"""LangChain's ChatOpenAI works with the HTTP door unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from libs.answer import Result
from libs.conversation import Role, ToolCall
from libs.errors import ResourceExhausted
from services.router.api.accept import Draft
from tests.support.http_door import FakeEntry, RunningDoor, result, running_door
from tests.support.router import KEY


@pytest.fixture
def entry() -> FakeEntry:
    return FakeEntry()


@pytest.fixture
async def door(entry: FakeEntry) -> AsyncIterator[RunningDoor]:
    async with running_door(entry) as running:
        yield running


def chat(door: RunningDoor, **more: object) -> ChatOpenAI:
    """As its documentation shows it, with another base URL."""
    options = {"model": "alpha/small", "max_retries": 0, "timeout": 20, **more}
    return ChatOpenAI(base_url=f"{door.url}/v1", api_key=SecretStr(KEY), **options)  # type: ignore[arg-type]


async def test_invoke(door: RunningDoor, entry: FakeEntry) -> None:
    """A conversation in, text and usage out."""
    model = chat(door, temperature=0.2, max_tokens=50, extra_body={"fallbacks": ["beta/large"]})
    answer = await model.ainvoke([SystemMessage("be brief"), HumanMessage("a blue mug")])
    assert answer.content == "About: a blue mug"
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 30
    assert answer.response_metadata["finish_reason"] == "stop"
    assert list(entry.drafts[0].models) == ["alpha/small", "beta/large"]
    assert [m.role for m in entry.drafts[0].prompt.messages] == [Role.SYSTEM, Role.USER]


@pytest.mark.parametrize("responses", [False, True])
async def test_stream(door: RunningDoor, responses: bool) -> None:
    """Chunks add up to the text and carry the usage, through either API."""
    whole = None
    async for chunk in chat(door, stream_usage=True, use_responses_api=responses).astream("a blue mug"):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessage)
    assert whole.text == "About: a blue mug"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 30


async def test_tools(door: RunningDoor, entry: FakeEntry) -> None:
    """A bound tool is called, and its result goes back."""

    async def answer(draft: Draft) -> Result:
        if draft.prompt.messages[-1].role is Role.TOOL:
            return result(draft.request_id, "It rains.")
        return result(draft.request_id, "", ToolCall("c1", "weather", '{"city": "Rome"}'))

    entry.answer = answer

    def weather(city: str) -> str:
        """The weather of a city."""
        return "rain"

    model = chat(door).bind_tools([weather])
    question = HumanMessage("weather in Rome?")
    call = await model.ainvoke([question])
    assert isinstance(call, AIMessage)
    assert [(c["name"], c["args"]) for c in call.tool_calls] == [("weather", {"city": "Rome"})]
    final = await model.ainvoke([question, call, ToolMessage("rain", tool_call_id="c1")])
    assert final.content == "It rains."
    assert entry.drafts[1].prompt.messages[1].tool_calls[0].id == "c1"


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(door: RunningDoor, entry: FakeEntry, method: str) -> None:
    """Each of LangChain's three ways to an object."""

    class Mug(BaseModel):
        """A mug."""

        colour: str

    async def answer(draft: Draft) -> Result:
        if not draft.prompt.tools:
            return result(draft.request_id, '{"colour": "blue"}')
        name = draft.prompt.tools[0].name
        return result(draft.request_id, "", ToolCall("c1", name, '{"colour": "blue"}'))

    entry.answer = answer
    model = chat(door).with_structured_output(Mug, method=method)  # type: ignore[arg-type]
    assert await model.ainvoke("a blue mug as json") == Mug(colour="blue")


async def test_a_limit_is_the_exception_it_always_was(door: RunningDoor, entry: FakeEntry) -> None:
    """Error handling written for OpenAI goes on working."""

    async def answer(draft: Draft) -> Result:
        raise ResourceExhausted("full", retry_after=3)

    entry.answer = answer
    with pytest.raises(openai.RateLimitError):
        await chat(door).ainvoke("hi")
