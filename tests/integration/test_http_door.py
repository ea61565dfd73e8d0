"""Chat completions and models through the HTTP door: the official client, real sockets, a router that obeys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionFunctionToolParam, ChatCompletionMessageParam

from libs.answer import Completed, Delta, Event, Head, LimitState, Result
from libs.conversation import Message, ReasoningEffort, ResponseFormat, Role, Tool, ToolCall, ToolCallDelta
from libs.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PermissionDenied,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unavailable,
)
from libs.limits import Period, Unit
from libs.selection import Strategy
from libs.tracing import current
from libs.types import ErrorClass, FinishReason, Priority
from services.router.api.accept import Draft
from services.router.request.generation import Prompt
from tests.support.http_door import (
    FakeEntry,
    RunningDoor,
    attempt,
    completed,
    delta,
    restarted,
    result,
    running_door,
    selected,
    switched,
)
from tests.support.names import limit_key
from tests.support.router import KEY

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "a blue mug"}]
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def entry() -> FakeEntry:
    return FakeEntry()


@pytest.fixture
async def door(entry: FakeEntry) -> AsyncIterator[RunningDoor]:
    async with running_door(entry) as running:
        yield running


@pytest.fixture
async def client(door: RunningDoor) -> AsyncIterator[AsyncOpenAI]:
    async with door.client() as connected:
        yield connected


def raising(error: PointsmanError) -> Callable[[Draft], Awaitable[Result]]:
    """An answer that fails."""

    async def answer(draft: Draft) -> Result:
        raise error

    return answer


async def collect(stream: openai.AsyncStream[ChatCompletionChunk]) -> tuple[str, list[ChatCompletionChunk]]:
    """The text and the chunks."""
    chunks = [chunk async for chunk in stream]
    parts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    return "".join(parts), chunks


async def read_into(
    chunks: list[ChatCompletionChunk], stream: openai.AsyncStream[ChatCompletionChunk]
) -> None:
    """Keeps what came where reading ends with an exception."""
    async for chunk in stream:
        chunks.append(chunk)  # noqa: PERF401 - extend would lose them


async def test_one_answer_and_its_account_in_the_headers(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """The whole answer in OpenAI's shape; who, how often and for how much in headers; the key's tenant asks."""

    async def after_a_failure(draft: Draft) -> Result:
        failed = [attempt("beta/small", ErrorClass.SERVER_ERROR)]
        return result(draft.request_id, "A mug.", failed=failed)

    entry.answer = after_a_failure
    raw = await client.chat.completions.with_raw_response.create(model="auto", messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content == "A mug."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id == "chatcmpl-r-1"
    assert answer.model == "alpha/small"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        10,
        20,
        30,
    )
    wanted = {
        "x-request-id": "r-1",
        "x-pointsman-provider": "alpha",
        "x-pointsman-model": "small",
        "x-pointsman-attempts": "2",
        "x-pointsman-cached": "false",
        "x-pointsman-cost-usd": "0.000050",
    }
    assert {name: raw.headers.get(name) for name in wanted} == wanted
    assert answer.model_extra is not None
    assert answer.model_extra["pointsman"]["failed"] == ["beta/small: server_error"]
    assert (entry.callers, entry.remaining) == (["acme"], [None])


async def test_everything_that_can_be_asked_reaches_the_router(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """Each of OpenAI's parameters has one place in a Generation, and so has each header of ours."""
    await client.chat.completions.create(
        model="large",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"x"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop="END",
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        reasoning_effort="minimal",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        user="u1",
        metadata={"page": "7"},
        extra_body={"models": ["beta/small"], "fallbacks": ["alpha/small", "large"], "unheard_of": 1},
        extra_headers={
            "x-request-id": "mine",
            "x-pointsman-content-type": "seo_meta",
            "x-pointsman-strategy": "cost_first",
            "x-pointsman-priority": "bulk",
            "x-pointsman-campaign": "summer",
            "x-pointsman-max-cost-usd": "0.01",
            "x-pointsman-max-attempts": "2",
            "x-pointsman-hedge": "true",
            "x-pointsman-timeout": "9",
        },
    )
    call = ToolCall("c1", "weather", '{"city":"x"}')
    parameters = '{"type":"object","properties":{"city":{"type":"string"}}}'
    prompt = Prompt(
        (
            Message(Role.SYSTEM, "be brief"),
            Message(Role.USER, "one two"),
            Message(Role.ASSISTANT, tool_calls=(call,)),
            Message(Role.TOOL, "rain", tool_call_id="c1"),
        ),
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop_sequences=("END",),
        response_format=ResponseFormat('{"type":"object"}', "x"),
        tools=(Tool("weather", "of a city", parameters),),
        tool_choice="weather",
        parallel_tool_calls=False,
        reasoning_effort=ReasoningEffort.LOW,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
    )
    assert entry.drafts == [
        Draft(
            prompt,
            request_id="mine",
            content_type="seo_meta",
            needs_schema=True,
            models=("large", "beta/small", "alpha/small"),
            strategy=Strategy.COST_FIRST,
            priority=Priority.BULK,
            campaign="summer",
            max_cost_micro_usd=10_000,
            max_attempts=2,
            hedge=True,
            labels={"user": "u1", "page": "7"},
        )
    ]
    assert entry.remaining == [9.0]


async def test_the_least_that_can_be_asked(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """Options that are not set stay unset: the catalog decides."""
    await client.chat.completions.create(model="pointsman/seo_meta", messages=ASK)
    prompt = Prompt((Message(Role.USER, "a blue mug"),), 0)
    assert entry.drafts == [Draft(prompt, request_id="r-1", content_type="seo_meta")]


async def test_a_stream_with_usage(client: AsyncOpenAI) -> None:
    """Role first, then the text as it comes, the finish reason, and the usage with the account in the last chunk."""
    async with client.chat.completions.with_streaming_response.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-request-id"] == "r-1"
        assert raw.headers["x-pointsman-provider"] == "alpha"
        assert raw.headers["x-pointsman-model"] == "small"
        said, chunks = await collect(await raw.parse())
    assert said == "About: a blue mug"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None, None, None, "stop"]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 30
    assert last.model_extra is not None
    assert last.model_extra["pointsman"]["cost_usd"] == "0.000050"
    assert last.model_extra["pointsman"]["attempts"] == 1
    assert {(chunk.id, chunk.model) for chunk in chunks} == {("chatcmpl-r-1", "alpha/small")}


LIMITS = (
    LimitState(Unit.REQUESTS, Period.MINUTE, 60, 41, 19.0),
    LimitState(Unit.TOTAL_TOKENS, Period.DAY, 9000, 100, 7200.0),
)
LIMIT_HEADERS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "41",
    "x-ratelimit-reset-requests": "19000ms",
    "x-ratelimit-limit-tokens": "9000",
    "x-ratelimit-remaining-tokens": "100",
}


async def test_what_is_left_of_the_tenants_limits_is_told_on_success_too(
    client: AsyncOpenAI, entry: FakeEntry
) -> None:
    """In the headers of a whole answer, and in a stream's head with the attempts until then."""

    async def answer(draft: Draft) -> Result:
        return result(draft.request_id, "A mug.", limits=LIMITS)

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield Delta("A mug.", (), Head(2, True, LIMITS))
        yield completed()

    entry.answer, entry.events = answer, stream
    whole = await client.chat.completions.with_raw_response.create(model="auto", messages=ASK)
    assert {name: whole.headers.get(name) for name in LIMIT_HEADERS} == LIMIT_HEADERS
    async with client.chat.completions.with_streaming_response.create(
        model="auto", messages=ASK, stream=True
    ) as raw:
        wanted = LIMIT_HEADERS | {"x-pointsman-attempts": "2", "x-pointsman-cached": "true"}
        assert {name: raw.headers.get(name) for name in wanted} == wanted


async def test_a_stream_without_usage_ends_with_the_finish_reason(client: AsyncOpenAI) -> None:
    """No chunk more than was asked for; the account is in the last one there is."""
    said, chunks = await collect(
        await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    )
    assert said == "About: a blue mug"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["pointsman"]["provider"] == "alpha"
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_as_it_is_on_the_wire(door: RunningDoor, entry: FakeEntry) -> None:
    """Every event is one data line of JSON; the last word is [DONE]; text of any kind survives the quoting."""

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        for piece in ('"quoted"\n', "\u2028ünï 😀", "\x00\x1f\\"):
            yield delta(piece)
        yield completed()

    entry.events = stream
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(
            f"{door.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {KEY}"},
            json={"model": "auto", "messages": ASK, "stream": True},
        )
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == '"quoted"\n\u2028ünï 😀\x00\x1f\\'


async def test_tool_calls_whole_and_streamed(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """A call of a function comes out as OpenAI's clients expect it, in one piece or in several."""
    arguments = '{"city": "Rome"}'

    async def whole(draft: Draft) -> Result:
        call = ToolCall("c1", "weather", arguments)
        return result(draft.request_id, "", call, finish_reason=FinishReason.TOOL_CALLS)

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("", ToolCallDelta(0, "c1", "weather", arguments[:5]))
        # Two pieces of one call that came together are one entry of their chunk.
        yield delta("", ToolCallDelta(0, "", "", arguments[5:8]), ToolCallDelta(0, "", "", arguments[8:]))
        yield Completed(result(draft.request_id, finish_reason=FinishReason.TOOL_CALLS))

    entry.answer, entry.events = whole, stream
    answer = await client.chat.completions.create(model="auto", messages=ASK, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    async with client.chat.completions.stream(model="auto", messages=ASK, tools=[WEATHER]) as events:
        final = await events.get_final_completion()
    for completion in (answer, final):
        assert completion.choices[0].message.tool_calls is not None
        (call,) = completion.choices[0].message.tool_calls
        assert call.type == "function"
        assert (call.id, call.function.name, call.function.arguments) == ("c1", "weather", arguments)


QUOTA = QuotaViolation(
    limit_key("tenant:acme requests minute"), "acme is at 60 of 60 requests a minute", limit=60
)
BUDGET = QuotaViolation(limit_key("tenant:acme micro_usd day"), "acme has spent its budget", limit=1_000_000)
WRONG = FieldViolation("generation.messages[0].text", "must not be empty")
NO_MODEL = FieldViolation("generation.models[0]", "no model 'gpt-9'")
ERRORS = [
    (InvalidArgument([WRONG]), openai.BadRequestError, 400, "invalid_value", "messages[0].content"),
    (
        InvalidArgument([NO_MODEL], reason="UNKNOWN_MODEL"),
        openai.NotFoundError,
        404,
        "model_not_found",
        "model",
    ),
    (
        FailedPrecondition("refused", reason="CONTENT_REFUSED"),
        openai.BadRequestError,
        400,
        "content_filter",
        None,
    ),
    (
        FailedPrecondition("too long", reason="CONTEXT_TOO_LONG"),
        openai.BadRequestError,
        400,
        "context_length_exceeded",
        "messages",
    ),
    (PermissionDenied("no"), openai.PermissionDeniedError, 403, "permission_denied", None),
    (
        AlreadyExists("again", reason="REQUEST_ID_IN_USE"),
        openai.ConflictError,
        409,
        "request_id_in_use",
        None,
    ),
    (
        ResourceExhausted("full", [QUOTA], retry_after=7.2),
        openai.RateLimitError,
        429,
        "rate_limit_exceeded",
        None,
    ),
    (ResourceExhausted("broke", [BUDGET]), openai.RateLimitError, 429, "insufficient_quota", None),
    (PointsmanError("secret detail"), openai.InternalServerError, 500, "internal", None),
    (
        Unavailable("all down", reason="PROVIDERS_DOWN", retry_after=2.5),
        openai.InternalServerError,
        503,
        "providers_down",
        None,
    ),
    (DeadlineExceeded("late"), openai.InternalServerError, 504, "deadline_exceeded", None),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("error", "kind", "status", "code", "param"), ERRORS)
async def test_every_error_is_the_exception_that_the_client_has_for_it(
    client: AsyncOpenAI,
    entry: FakeEntry,
    error: PointsmanError,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    param: str | None,
    streamed: bool,
) -> None:
    """Whole or streamed: before any content a failure is a status of its own, with OpenAI's code and the param's name
    in the client's terms."""
    entry.answer = raising(error)

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        raise error

    entry.events = stream
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="auto", messages=ASK, stream=streamed)
    assert caught.value.status_code == status
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id == "r-1"
    assert "secret" not in caught.value.message


async def test_a_wrong_key_and_no_key(door: RunningDoor) -> None:
    """401 either way, and the message says which: no key, none that can be one, or one that nobody has."""
    async with door.client(key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.chat.completions.create(model="auto", messages=ASK)
    assert (caught.value.code, "Incorrect API key" in caught.value.message) == ("invalid_api_key", True)
    async with httpx.AsyncClient(trust_env=False) as http:
        for key in (None, b"Basic eDp5", b"Bearer", "Bearer clé".encode(), b"Bearer " + b"k" * 600):
            headers = {} if key is None else {b"authorization": key}
            answer = await http.post(f"{door.url}/v1/chat/completions", headers=headers, json={})
            assert answer.status_code == 401
            error = answer.json()["error"]
            told = "You didn't provide an API key" if key is None else "holds no valid API key"
            assert (error["code"], told in error["message"]) == ("invalid_api_key", True), key


async def test_when_to_come_back_and_how_full_it_is(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """Retry-After in whole seconds and in milliseconds, and of the rate-limit set what is known."""
    entry.answer = raising(ResourceExhausted("full", [QUOTA], retry_after=7.2))
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="auto", messages=ASK)
    headers = caught.value.response.headers
    assert caught.value.type == "requests"
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("8", "7200")
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "7200ms"
    assert "x-ratelimit-limit-tokens" not in headers


@pytest.mark.parametrize(
    ("error", "calls"),
    [(ResourceExhausted("broke", [BUDGET]), 1), (Unavailable("down", retry_after=0.001), 3)],
)
async def test_clients_retry_what_may_succeed_and_nothing_else(
    door: RunningDoor, entry: FakeEntry, error: PointsmanError, calls: int
) -> None:
    """With retries on, the official client leaves a spent budget alone and asks a router in trouble again."""
    entry.answer = raising(error)
    async with door.client(max_retries=2) as patient:
        with pytest.raises(openai.APIStatusError):
            await patient.chat.completions.create(model="auto", messages=ASK)
    assert len(entry.drafts) == calls


async def test_a_stream_that_breaks_is_an_error_not_an_end(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """After content a failure is raised while reading, and no finish reason came before it."""

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("half ")
        raise Unavailable("no provider could go on", reason="PROVIDERS_FAILED", retry_after=3)

    entry.events = stream
    chunks: list[ChatCompletionChunk] = []
    answer = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="no provider could go on") as caught:
        await read_into(chunks, answer)
    assert caught.value.code == "providers_failed"
    assert [c.choices[0].delta.content for c in chunks] == ["", "half "]
    assert all(c.choices[0].finish_reason is None for c in chunks)


async def test_another_provider_going_on_is_not_seen(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """The text simply continues; who answered to the end is in the account."""

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected("beta/small")
        yield delta("half ")
        yield switched("beta", "alpha/small")
        yield delta("and half")
        yield completed()

    entry.events = stream
    said, chunks = await collect(
        await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    )
    assert said == "half and half"
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["pointsman"]["provider"] == "alpha"


async def restarting(draft: Draft) -> AsyncGenerator[Event, None]:
    """A stream that must begin anew."""
    yield selected("beta/small")
    yield delta("half ")
    yield restarted("beta", "alpha/small")
    yield delta("another answer")
    if draft.content_type == "endless":
        await asyncio.Event().wait()
    yield completed()


async def test_an_answer_that_begins_anew_is_an_error(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """OpenAI's wire cannot take text back: half of one answer followed by another would be shown as one. The new
    answer is not paid for to its end."""
    entry.events = restarting
    chunks: list[ChatCompletionChunk] = []
    answer = await client.chat.completions.create(model="pointsman/endless", messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as caught:
        await read_into(chunks, answer)
    assert caught.value.code == "stream_restarted"
    assert [c.choices[0].delta.content for c in chunks] == ["", "half "]
    await asyncio.wait_for(entry.until(lambda e: e.cancelled == 1), 10)


async def test_who_asks_for_it_is_told_of_a_new_beginning(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """With `x-pointsman-on-restart: replace` a chunk without choices says that what came before is void."""
    entry.events = restarting
    said: list[str] = []
    async for chunk in await client.chat.completions.create(
        model="auto", messages=ASK, stream=True, extra_headers={"x-pointsman-on-restart": "replace"}
    ):
        if not chunk.choices and (chunk.model_extra or {})["pointsman"]["restarted"]:
            said.clear()
        said += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(said) == "another answer"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_goes_away_stops_the_router(
    door: RunningDoor, entry: FakeEntry, streamed: bool
) -> None:
    """Closing the connection cancels the call, whether it waits for a whole answer or reads a stream."""

    async def forever(draft: Draft) -> Result:
        await asyncio.Event().wait()
        raise AssertionError

    async def endless(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("one ")
        await asyncio.Event().wait()

    entry.answer, entry.events = forever, endless
    async with door.client() as client:
        if streamed:
            stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content == "one ":
                    break
            await stream.close()
        else:
            asking = asyncio.ensure_future(client.chat.completions.create(model="auto", messages=ASK))
            await entry.until(lambda e: len(e.drafts) == 1)
            asking.cancel()
        await asyncio.wait_for(entry.until(lambda e: e.cancelled == 1), 10)
    assert entry.finished == 0


async def test_models_and_one_model(client: AsyncOpenAI) -> None:
    """Every name that `model` may be; a model is found by its full name and by its own."""
    names = [model.id async for model in client.models.list()]
    assert names == [
        "auto",
        "pointsman/general",
        "pointsman/seo_meta",
        "alpha/small",
        "beta/large",
        "beta/small",
    ]
    assert (await client.models.retrieve("beta/large")).owned_by == "beta"
    assert (await client.models.retrieve("small")).owned_by == "alpha"
    assert (await client.models.retrieve("auto")).id == "auto"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


async def test_json_mode_and_structured_output(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """The SDK's parse helper gets an object of the schema it sent."""
    from pydantic import BaseModel

    class Mug(BaseModel):
        colour: str

    async def answer(draft: Draft) -> Result:
        return result(draft.request_id, '{"colour": "blue"}')

    entry.answer = answer
    parsed = await client.chat.completions.parse(model="auto", messages=ASK, response_format=Mug)
    assert parsed.choices[0].message.parsed == Mug(colour="blue")
    await client.chat.completions.create(model="auto", messages=ASK, response_format={"type": "json_object"})
    schema, anything = [draft.prompt.response_format for draft in entry.drafts]
    assert schema is not None
    assert json.loads(schema.schema_json)["properties"].keys() == {"colour"}
    assert anything == ResponseFormat()
    assert [draft.needs_schema for draft in entry.drafts] == [True, False]


async def test_a_trace_goes_through(client: AsyncOpenAI, entry: FakeEntry) -> None:
    """The router works within a span of the caller's trace, a child of the caller's."""
    traceparents = []

    async def answer(draft: Draft) -> Result:
        span = current.get()
        assert span is not None
        traceparents.append(span.traceparent)
        return result(draft.request_id, "A mug.")

    entry.answer = answer
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    await client.chat.completions.create(
        model="auto", messages=ASK, extra_headers={"traceparent": f"00-{trace}-{span}-01"}
    )
    (within,) = traceparents
    assert within.startswith(f"00-{trace}-")
    assert span not in within


async def test_requests_are_counted_by_route_and_status(door: RunningDoor, client: AsyncOpenAI) -> None:
    """Paths that callers make up do not become labels."""
    await client.chat.completions.create(model="auto", messages=ASK)
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"{door.url}/made/up/by/the/caller")
        await http.request("PURGE", f"{door.url}/v1/models/a")
    found = {
        (s.labels["http_request_method"], s.labels["http_route"], s.labels["http_response_status_code"])
        for metric in door.metrics.registry.collect()
        for s in metric.samples
        if s.name == "pointsman_http_server_request_duration_seconds_count"
    }
    assert found == {
        ("POST", "/v1/chat/completions", "200"),
        ("GET", "none", "404"),
        ("_OTHER", "none", "405"),
    }
