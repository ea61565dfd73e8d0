"""The responses API through the HTTP door with the official client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import FunctionToolParam

from libs.answer import Event, Result
from libs.conversation import Message, ReasoningEffort, Role, ToolCall, ToolCallDelta
from libs.errors import FailedPrecondition, FieldViolation, InvalidArgument, Unavailable
from libs.types import FinishReason
from services.router.api.accept import Draft
from services.router.request.generation import Prompt
from tests.support.http_door import FakeEntry, completed, delta, result, running_door, selected

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object"},
    "strict": False,
}


@pytest.fixture
def entry() -> FakeEntry:
    return FakeEntry()


@pytest.fixture
async def client(entry: FakeEntry) -> AsyncIterator[AsyncOpenAI]:
    async with running_door(entry) as door, door.client() as connected:
        yield connected


async def test_text_in_and_out(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """Instructions become the system message; the answer has its usage and repeats what was asked."""
    raw = await client.responses.with_raw_response.create(
        model="auto",
        instructions="be brief",
        input="a blue mug",
        max_output_tokens=9,
        temperature=0.25,
        reasoning={"effort": "high"},
        metadata={"page": "7"},
        extra_headers={"x-pointsman-content-type": "seo_meta"},
    )
    answer = raw.parse()
    assert answer.output_text == "About: a blue mug"
    assert (answer.id, answer.status, answer.model) == ("resp_r-1", "completed", "alpha/small")
    assert (answer.instructions, answer.temperature, answer.metadata) == ("be brief", 0.25, {"page": "7"})
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 20)
    assert raw.headers["x-pointsman-cost-usd"] == "0.000050"
    prompt = Prompt(
        (Message(Role.SYSTEM, "be brief"), Message(Role.USER, "a blue mug")),
        max_output_tokens=9,
        temperature=0.25,
        reasoning_effort=ReasoningEffort.HIGH,
    )
    assert entry.drafts == [Draft(prompt, request_id="r-1", content_type="seo_meta", labels={"page": "7"})]


async def test_a_conversation_with_calls_of_functions(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """Items become turns: the calls of one turn are one message; another model's reasoning is left out."""
    await client.responses.create(
        model="auto",
        input=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "let me see", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": "sun"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}},
    )
    (draft,) = entry.drafts
    calls = (ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", '{"a":1}'))
    assert draft.prompt.messages == (
        Message(Role.SYSTEM, "be brief"),
        Message(Role.USER, "weather?"),
        Message(Role.ASSISTANT, "let me see", calls),
        Message(Role.TOOL, "rain", tool_call_id="c1"),
        Message(Role.TOOL, "sun", tool_call_id="c2"),
    )
    assert draft.prompt.tool_choice == "weather"
    assert draft.prompt.tools[0].parameters_json == '{"type":"object"}'
    assert draft.prompt.response_format is not None
    assert draft.prompt.response_format.schema_name == "x"


async def test_a_call_of_a_function(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """It is an item of its own."""

    async def answer(draft: Draft) -> Result:
        return result(draft.request_id, "", ToolCall("c1", "weather", '{"city":"Rome"}'))

    entry.answer = answer
    (item,) = (await client.responses.create(model="auto", input="weather?", tools=[WEATHER])).output
    assert item.type == "function_call"
    assert (item.call_id, item.name, item.arguments) == ("c1", "weather", '{"city":"Rome"}')


async def test_the_events_of_a_streamed_text(client: AsyncOpenAI) -> None:
    """In OpenAI's order, numbered, and at the end the whole answer again."""
    events = [event async for event in await client.responses.create(model="auto", input="hi", stream=True)]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "About: hi"
    assert last.response.usage is not None
    assert last.response.usage.total_tokens == 30
    assert last.response.model_extra is not None
    assert last.response.model_extra["pointsman"]["cost_usd"] == "0.000050"


async def test_text_and_calls_streamed(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """The SDK's own accumulator ends with the text and both calls."""

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("let me ")
        yield delta("see")
        yield delta("", ToolCallDelta(0, "c1", "weather", '{"city":'))
        yield delta("", ToolCallDelta(0, "", "", '"Rome"}'))
        yield delta("", ToolCallDelta(1, "c2", "weather", "{}"))
        yield completed(FinishReason.TOOL_CALLS)

    entry.events = stream
    async with client.responses.stream(model="auto", input="weather?", tools=[WEATHER]) as events:
        kinds = [event.type async for event in events]
        final = await events.get_final_response()
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 3
    assert final.output_text == "let me see"
    calls = [item for item in final.output if item.type == "function_call"]
    assert [(c.call_id, c.arguments) for c in calls] == [("c1", '{"city":"Rome"}'), ("c2", "{}")]


async def test_a_cut_off_answer_is_incomplete(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """The token limit is told as OpenAI tells it, whole and streamed."""

    async def answer(draft: Draft) -> Result:
        return result(draft.request_id, "A", finish_reason=FinishReason.LENGTH)

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("A")
        yield completed(FinishReason.LENGTH)

    entry.answer, entry.events = answer, stream
    whole = await client.responses.create(model="auto", input="hi")
    events = [event async for event in await client.responses.create(model="auto", input="hi", stream=True)]
    assert events[-1].type == "response.incomplete"
    for response in (whole, events[-1].response):
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.output_text == "A"


async def test_a_stream_that_breaks_has_failed(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """After content the last event is response.failed with the error; there is no response.completed."""

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("half ")
        raise Unavailable("nobody could go on", reason="PROVIDERS_FAILED")

    entry.events = stream
    events = [event async for event in await client.responses.create(model="auto", input="hi", stream=True)]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == (
        "providers_failed",
        "nobody could go on",
    )
    assert last.response.output_text == "half "


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
            "input[0].content[0]",
        ),
    ],
)
async def test_what_does_not_map_is_refused_by_name(
    client: AsyncOpenAI, entry: FakeEntry, extra: dict[str, Any], param: str
) -> None:
    """A 400 that names the parameter, and no call."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(**{"model": "auto", "input": "hi", **extra})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
    assert entry.drafts == []


async def test_the_routers_errors_name_the_parameters_of_this_api(
    client: AsyncOpenAI, entry: FakeEntry
) -> None:
    """`input`, not `messages`; before any content a failure is a status of its own."""

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        raise FailedPrecondition("too long", reason="CONTEXT_TOO_LONG")

    async def answer(draft: Draft) -> Result:
        raise InvalidArgument([FieldViolation("generation.messages[0].text", "must not be empty")])

    entry.events, entry.answer = stream, answer
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="auto", input="hi")
    assert caught.value.param == "input"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="auto", input="hi", stream=True)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "input"
