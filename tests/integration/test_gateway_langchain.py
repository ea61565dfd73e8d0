"""LangChain's ChatOpenAI works with the gateway unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pointsman.router.v1 import router_pb2 as pb
from pydantic import BaseModel, SecretStr

from libs.errors import ResourceExhausted
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.router import KEY, FakeRouter, fake_router, result


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    async with fake_router() as running:
        yield running


@pytest.fixture
async def gateway(router: FakeRouter) -> AsyncIterator[RunningGateway]:
    async with running_gateway(router.address) as running:
        yield running


def chat(gateway: RunningGateway, **more: object) -> ChatOpenAI:
    """As its documentation shows it, with another base URL."""
    options = {"model": "alpha/small", "max_retries": 0, "timeout": 20, **more}
    return ChatOpenAI(base_url=f"{gateway.url}/v1", api_key=SecretStr(KEY), **options)  # type: ignore[arg-type]


async def test_invoke(gateway: RunningGateway, router: FakeRouter) -> None:
    """A conversation in, text and usage out."""
    model = chat(gateway, temperature=0.2, max_tokens=50, extra_body={"fallbacks": ["beta/large"]})
    answer = await model.ainvoke([SystemMessage("be brief"), HumanMessage("a blue mug")])
    assert answer.content == "About: a blue mug"
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 30
    assert answer.response_metadata["finish_reason"] == "stop"
    assert list(router.requests[0].models) == ["alpha/small", "beta/large"]
    assert [m.role for m in router.requests[0].messages] == [pb.ROLE_SYSTEM, pb.ROLE_USER]


@pytest.mark.parametrize("responses", [False, True])
async def test_stream(gateway: RunningGateway, responses: bool) -> None:
    """Chunks add up to the text and carry the usage, through either API."""
    whole = None
    async for chunk in chat(gateway, stream_usage=True, use_responses_api=responses).astream("a blue mug"):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessage)
    assert whole.text == "About: a blue mug"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 30


async def test_tools(gateway: RunningGateway, router: FakeRouter) -> None:
    """A bound tool is called, and its result goes back."""

    async def answer(generation: pb.Generation) -> pb.Result:
        if generation.messages[-1].role == pb.ROLE_TOOL:
            return result(generation.request_id, "It rains.")
        called = result(generation.request_id, "")
        called.tool_calls.add(id="c1", name="weather", arguments_json='{"city": "Rome"}')
        return called

    router.answer = answer

    def weather(city: str) -> str:
        """The weather of a city."""
        return "rain"

    model = chat(gateway).bind_tools([weather])
    question = HumanMessage("weather in Rome?")
    call = await model.ainvoke([question])
    assert isinstance(call, AIMessage)
    assert [(c["name"], c["args"]) for c in call.tool_calls] == [("weather", {"city": "Rome"})]
    final = await model.ainvoke([question, call, ToolMessage("rain", tool_call_id="c1")])
    assert final.content == "It rains."
    assert router.requests[1].messages[1].tool_calls[0].id == "c1"


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(gateway: RunningGateway, router: FakeRouter, method: str) -> None:
    """Each of LangChain's three ways to an object."""

    class Mug(BaseModel):
        """A mug."""

        colour: str

    async def answer(generation: pb.Generation) -> pb.Result:
        if not generation.tools:
            return result(generation.request_id, '{"colour": "blue"}')
        called = result(generation.request_id, "")
        called.tool_calls.add(id="c1", name=generation.tools[0].name, arguments_json='{"colour": "blue"}')
        return called

    router.answer = answer
    model = chat(gateway).with_structured_output(Mug, method=method)  # type: ignore[arg-type]
    assert await model.ainvoke("a blue mug as json") == Mug(colour="blue")


async def test_a_limit_is_the_exception_it_always_was(gateway: RunningGateway, router: FakeRouter) -> None:
    """Error handling written for OpenAI goes on working."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise ResourceExhausted("full", retry_after=3)

    router.answer = answer
    with pytest.raises(openai.RateLimitError):
        await chat(gateway).ainvoke("hi")
