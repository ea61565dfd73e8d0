"""Chat completions and models through the gateway: the official client, real sockets, a router that obeys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pointsman.router.v1 import router_pb2 as pb
from pointsman.types.v1 import types_pb2

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
from libs.rpc.convert import duration_to_proto
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.names import limit_key
from tests.support.router import KEY, FakeRouter, fake_router, result, selection

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
async def router() -> AsyncIterator[FakeRouter]:
    async with fake_router() as running:
        yield running


@pytest.fixture
async def gateway(router: FakeRouter) -> AsyncIterator[RunningGateway]:
    async with running_gateway(router.address) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with gateway.client() as connected:
        yield connected


def raising(error: PointsmanError) -> Callable[[pb.Generation], Awaitable[pb.Result]]:
    """An answer that fails."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise error

    return answer


def selected(generation: pb.Generation, provider: str = "alpha") -> pb.StreamGenerateResponse:
    """The first event."""
    chosen = pb.Selected(request_id=generation.request_id, selection=selection(provider))
    return pb.StreamGenerateResponse(selected=chosen)


def text(words: str) -> pb.StreamGenerateResponse:
    """More of the answer."""
    return pb.StreamGenerateResponse(delta=pb.Delta(text=words))


def completed(generation: pb.Generation) -> pb.StreamGenerateResponse:
    """The last event."""
    return pb.StreamGenerateResponse(completed=pb.Completed(result=result(generation.request_id, "")))


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


async def test_one_answer_and_its_account_in_the_headers(client: AsyncOpenAI, router: FakeRouter) -> None:
    """The whole answer in OpenAI's shape; who, how often and for how much in headers; the tenant's key goes on."""

    async def after_a_failure(generation: pb.Generation) -> pb.Result:
        return result(generation.request_id, "A mug.", failed=("beta",))

    router.answer = after_a_failure
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
    assert router.metadata[0]["authorization"] == f"Bearer {KEY}"
    assert router.time_remaining == [None]


async def test_everything_that_can_be_asked_reaches_the_router(
    client: AsyncOpenAI, router: FakeRouter
) -> None:
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
    call = pb.ToolCall(id="c1", name="weather", arguments_json='{"city":"x"}')
    schema = pb.ResponseFormat(
        kind=pb.ResponseFormat.KIND_JSON_SCHEMA, schema_json='{"type":"object"}', schema_name="x"
    )
    parameters = '{"type":"object","properties":{"city":{"type":"string"}}}'
    assert router.requests == [
        pb.Generation(
            request_id="mine",
            content_type="seo_meta",
            messages=[
                pb.Message(role=pb.ROLE_SYSTEM, text="be brief"),
                pb.Message(role=pb.ROLE_USER, text="one two"),
                pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[call]),
                pb.Message(role=pb.ROLE_TOOL, text="rain", tool_call_id="c1"),
            ],
            max_output_tokens=7,
            temperature=0.5,
            top_p=0.9,
            seed=3,
            stop_sequences=["END"],
            response_format=schema,
            tools=[pb.Tool(name="weather", description="of a city", parameters_json=parameters)],
            tool_choice="weather",
            reasoning_effort=pb.REASONING_EFFORT_LOW,
            presence_penalty=0.1,
            frequency_penalty=-0.1,
            models=["large", "beta/small", "alpha/small"],
            strategy=pb.STRATEGY_COST_FIRST,
            priority=types_pb2.PRIORITY_BULK,
            campaign="summer",
            max_cost=types_pb2.Money(micro_usd=10_000),
            max_attempts=2,
            hedge=True,
            labels={"user": "u1", "page": "7"},
        )
    ]
    remaining = router.time_remaining[0]
    assert remaining is not None
    assert 0 < remaining <= 9


async def test_the_least_that_can_be_asked(client: AsyncOpenAI, router: FakeRouter) -> None:
    """What is not set stays unset: the catalog decides."""
    await client.chat.completions.create(model="pointsman/seo_meta", messages=ASK)
    user = pb.Message(role=pb.ROLE_USER, text="a blue mug")
    assert router.requests == [pb.Generation(request_id="r-1", content_type="seo_meta", messages=[user])]


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
    pb.LimitState(unit="requests", period="minute", limit=60, remaining=41, reset=duration_to_proto(19.0)),
    pb.LimitState(
        unit="total_tokens", period="day", limit=9000, remaining=100, reset=duration_to_proto(7200.0)
    ),
)
LIMIT_HEADERS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "41",
    "x-ratelimit-reset-requests": "19000ms",
    "x-ratelimit-limit-tokens": "9000",
    "x-ratelimit-remaining-tokens": "100",
}


async def test_what_is_left_of_the_tenants_limits_is_told_on_success_too(
    client: AsyncOpenAI, router: FakeRouter
) -> None:
    """In the headers of a whole answer, and in a stream's head with the attempts until then."""

    async def answer(generation: pb.Generation) -> pb.Result:
        told = result(generation.request_id, "A mug.")
        told.limits.extend(LIMITS)
        return told

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation)
        head = pb.Head(attempts=2, cached=True, limits=LIMITS)
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="A mug.", head=head))
        yield completed(generation)

    router.answer, router.stream = answer, stream
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


async def test_a_stream_as_it_is_on_the_wire(gateway: RunningGateway, router: FakeRouter) -> None:
    """Every event is one data line of JSON; the last word is [DONE]; text of any kind survives the quoting."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation)
        for piece in ('"quoted"\n', "\u2028ünï 😀", "\x00\x1f\\"):
            yield text(piece)
        yield completed(generation)

    router.stream = stream
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(
            f"{gateway.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {KEY}"},
            json={"model": "auto", "messages": ASK, "stream": True},
        )
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == '"quoted"\n\u2028ünï 😀\x00\x1f\\'


async def test_tool_calls_whole_and_streamed(client: AsyncOpenAI, router: FakeRouter) -> None:
    """A call of a function comes out as OpenAI's clients expect it, in one piece or in several."""
    arguments = '{"city": "Rome"}'

    def calls(answer: pb.Result) -> pb.Result:
        answer.finish_reason = types_pb2.FINISH_REASON_TOOL_CALLS
        return answer

    async def whole(generation: pb.Generation) -> pb.Result:
        answer = calls(result(generation.request_id, ""))
        answer.tool_calls.add(id="c1", name="weather", arguments_json=arguments)
        return answer

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation)
        first = pb.ToolCallDelta(index=0, id="c1", name="weather", arguments_json=arguments[:5])
        yield pb.StreamGenerateResponse(delta=pb.Delta(tool_calls=[first]))
        second = pb.ToolCallDelta(index=0, arguments_json=arguments[5:])
        yield pb.StreamGenerateResponse(delta=pb.Delta(tool_calls=[second]))
        ended = pb.Completed(result=calls(result(generation.request_id, "")))
        yield pb.StreamGenerateResponse(completed=ended)

    router.answer, router.stream = whole, stream
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
    router: FakeRouter,
    error: PointsmanError,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    param: str | None,
    streamed: bool,
) -> None:
    """Whole or streamed: before any content a failure is a status of its own, with OpenAI's code and the param's name
    in the client's terms."""
    router.answer = raising(error)

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation)
        raise error

    router.stream = stream
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="auto", messages=ASK, stream=streamed)
    assert caught.value.status_code == status
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id == "r-1"
    assert "secret" not in caught.value.message


async def test_a_wrong_key_and_no_key(gateway: RunningGateway) -> None:
    """401 either way; without a key the router is not asked."""
    async with gateway.client(key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.chat.completions.create(model="auto", messages=ASK)
    assert caught.value.code == "invalid_api_key"
    async with httpx.AsyncClient(trust_env=False) as http:
        for headers in ({}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}):
            answer = await http.post(f"{gateway.url}/v1/chat/completions", headers=headers, json={})
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_when_to_come_back_and_how_full_it_is(client: AsyncOpenAI, router: FakeRouter) -> None:
    """Retry-After in whole seconds and in milliseconds, and of the rate-limit set what is known."""
    router.answer = raising(ResourceExhausted("full", [QUOTA], retry_after=7.2))
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
    gateway: RunningGateway, router: FakeRouter, error: PointsmanError, calls: int
) -> None:
    """With retries on, the official client leaves a spent budget alone and asks a router in trouble again."""
    router.answer = raising(error)
    async with gateway.client(max_retries=2) as patient:
        with pytest.raises(openai.APIStatusError):
            await patient.chat.completions.create(model="auto", messages=ASK)
    assert len(router.requests) == calls


async def test_no_router_is_a_503(gateway: RunningGateway) -> None:
    """A gateway whose router is gone says so at once, and is not ready."""
    async with running_gateway("127.0.0.1:9") as lonely, lonely.client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="auto", messages=ASK)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "1"
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{lonely.url}/readyz")).status_code == 503
            assert (await http.get(f"{lonely.url}/healthz")).status_code == 200
            assert (await http.get(f"{gateway.url}/readyz")).status_code == 200


async def test_a_stream_that_breaks_is_an_error_not_an_end(client: AsyncOpenAI, router: FakeRouter) -> None:
    """After content a failure is raised while reading, and no finish reason came before it."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation)
        yield text("half ")
        raise Unavailable("no provider could go on", reason="PROVIDERS_FAILED", retry_after=3)

    router.stream = stream
    chunks: list[ChatCompletionChunk] = []
    answer = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="no provider could go on") as caught:
        await read_into(chunks, answer)
    assert caught.value.code == "providers_failed"
    assert [c.choices[0].delta.content for c in chunks] == ["", "half "]
    assert all(c.choices[0].finish_reason is None for c in chunks)


async def test_another_provider_going_on_is_not_seen(client: AsyncOpenAI, router: FakeRouter) -> None:
    """The text simply continues; who answered to the end is in the account."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation, "beta")
        yield text("half ")
        switched = pb.SwitchedProvider(from_provider="beta", selection=selection("alpha"))
        yield pb.StreamGenerateResponse(switched_provider=switched)
        yield text("and half")
        yield completed(generation)

    router.stream = stream
    said, chunks = await collect(
        await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    )
    assert said == "half and half"
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["pointsman"]["provider"] == "alpha"


async def restarting(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
    """A stream that must begin anew."""
    yield selected(generation, "beta")
    yield text("half ")
    restarted = pb.Restarted(from_provider="beta", selection=selection("alpha"))
    yield pb.StreamGenerateResponse(restarted=restarted)
    yield text("another answer")
    if generation.content_type == "endless":
        await asyncio.Event().wait()
    yield completed(generation)


async def test_an_answer_that_begins_anew_is_an_error(client: AsyncOpenAI, router: FakeRouter) -> None:
    """OpenAI's wire cannot take text back: half of one answer followed by another would be shown as one. The new
    answer is not paid for to its end."""
    router.stream = restarting
    chunks: list[ChatCompletionChunk] = []
    answer = await client.chat.completions.create(model="pointsman/endless", messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as caught:
        await read_into(chunks, answer)
    assert caught.value.code == "stream_restarted"
    assert [c.choices[0].delta.content for c in chunks] == ["", "half "]
    await asyncio.wait_for(router.until(lambda r: r.cancelled == ["r-1"]), 10)


async def test_who_asks_for_it_is_told_of_a_new_beginning(client: AsyncOpenAI, router: FakeRouter) -> None:
    """With `x-pointsman-on-restart: replace` a chunk without choices says that what came before is void."""
    router.stream = restarting
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
    gateway: RunningGateway, router: FakeRouter, streamed: bool
) -> None:
    """Closing the connection cancels the call, whether it waits for a whole answer or reads a stream."""

    async def forever(generation: pb.Generation) -> pb.Result:
        await asyncio.Event().wait()
        raise AssertionError

    async def endless(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield selected(generation)
        yield text("one ")
        await asyncio.Event().wait()

    router.answer, router.stream = forever, endless
    async with gateway.client() as client:
        if streamed:
            stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content == "one ":
                    break
            await stream.close()
        else:
            asking = asyncio.ensure_future(client.chat.completions.create(model="auto", messages=ASK))
            await router.until(lambda r: len(r.requests) == 1)
            asking.cancel()
        await asyncio.wait_for(router.until(lambda r: r.cancelled == ["r-1"]), 10)
    assert router.finished == []


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


async def test_json_mode_and_structured_output(client: AsyncOpenAI, router: FakeRouter) -> None:
    """The SDK's parse helper gets an object of the schema it sent."""
    from pydantic import BaseModel

    class Mug(BaseModel):
        colour: str

    async def answer(generation: pb.Generation) -> pb.Result:
        return result(generation.request_id, '{"colour": "blue"}')

    router.answer = answer
    parsed = await client.chat.completions.parse(model="auto", messages=ASK, response_format=Mug)
    assert parsed.choices[0].message.parsed == Mug(colour="blue")
    await client.chat.completions.create(model="auto", messages=ASK, response_format={"type": "json_object"})
    kinds = [generation.response_format.kind for generation in router.requests]
    assert kinds == [pb.ResponseFormat.KIND_JSON_SCHEMA, pb.ResponseFormat.KIND_JSON_OBJECT]
    assert json.loads(router.requests[0].response_format.schema_json)["properties"].keys() == {"colour"}


async def test_a_trace_goes_through(client: AsyncOpenAI, router: FakeRouter) -> None:
    """The router's span belongs to the caller's trace, as a child of the gateway's."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    await client.chat.completions.create(
        model="auto", messages=ASK, extra_headers={"traceparent": f"00-{trace}-{span}-01"}
    )
    sent = str(router.metadata[0]["traceparent"])
    assert sent.startswith(f"00-{trace}-")
    assert span not in sent


async def test_requests_are_counted_by_route_and_status(gateway: RunningGateway, client: AsyncOpenAI) -> None:
    """Paths that callers make up do not become labels."""
    await client.chat.completions.create(model="auto", messages=ASK)
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"{gateway.url}/made/up/by/the/caller")
        await http.request("PURGE", f"{gateway.url}/v1/models/a")
    found = {
        (s.labels["http_request_method"], s.labels["http_route"], s.labels["http_response_status_code"])
        for metric in gateway.metrics.registry.collect()
        for s in metric.samples
        if s.name == "pointsman_http_server_request_duration_seconds_count"
    }
    assert found == {
        ("POST", "/v1/chat/completions", "200"),
        ("GET", "none", "404"),
        ("_OTHER", "none", "405"),
    }
