"""A conversation with tools that began on one wire goes on on every other, before providers that are strict."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.conversation import Message, ResponseFormat, Role, Tool, ToolCall
from services.router.request.generation import Prompt
from tests.support.provider_wires import MODELS, ask, read, send
from tests.support.simulator import Simulator, running_simulator

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
TOOLS = (Tool("get_weather", "Tells the weather", SCHEMA), Tool("news", "Lists headlines"))
OPENING = (
    Message(Role.SYSTEM, "You help a shop."),
    Message(Role.USER, "The weather in Bern and the news, please"),
)
SECOND = Message(Role.USER, "And how is the weather in Rome?")
LAST = Message(Role.USER, "Thank you. What follows from it, as JSON?")


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


def with_results(messages: tuple[Message, ...], calls: tuple[ToolCall, ...]) -> tuple[Message, ...]:
    """The conversation after the calls and their results."""
    results = tuple(Message(Role.TOOL, '{"found": true}', tool_call_id=call.id) for call in calls)
    return (*messages, Message(Role.ASSISTANT, "", calls), *results)


async def begin(simulator: Simulator, kind: str, *, stream: bool) -> tuple[Message, ...]:
    """Two calls at once with their results, an answer, and a call with its result: each turn as the wire gave it."""

    async def calls(messages: tuple[Message, ...]) -> tuple[ToolCall, ...]:
        return (await ask(simulator, kind, Prompt(messages, 2000, tools=TOOLS), stream=stream)).tool_calls

    first = await calls(OPENING)
    assert [call.name for call in first] == ["get_weather", "news"]
    said = (*with_results(OPENING, first), Message(Role.ASSISTANT, "Sunny, and all is well."), SECOND)
    second = await calls(said)
    assert [call.name for call in second] == ["get_weather"]
    return with_results(said, second)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("begun", MODELS)
async def test_a_conversation_goes_on_on_every_wire(simulator: Simulator, begun: str, stream: bool) -> None:
    """With results last, with the user's words last and no tools, and with JSON wanted."""
    history = await begin(simulator, begun, stream=stream)
    later = (*history, Message(Role.ASSISTANT, "Sunny too."), LAST)
    prompts = [
        Prompt(history, 2000, tools=TOOLS),
        Prompt(later, 2000),
        Prompt(later, 2000, response_format=ResponseFormat()),
    ]
    refused: dict[str, str] = {}
    for kind in MODELS:
        for prompt in prompts:
            answer = await send(simulator, kind, prompt, stream=stream)
            if answer.status_code == 200:
                assert read(kind, answer, stream=stream).text
            else:
                report = await simulator.report(kind)
                refused.setdefault(kind, report["attempts"][-1]["rule"])
    assert refused == {}
