"""A provider that does not keep to what was asked: answers without end, keys in its words, work that grows with the
square of what it sends. The client ends it, hides it, or fails it with a type."""

# ruff: noqa: E501

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from msgspec import structs

from libs.catalog.model import Provider
from libs.catalog.secrets import Keys
from libs.clock import SystemClock
from libs.conversation import Message, Role, ToolCallDelta
from libs.rpc.channel import MAX_MESSAGE_BYTES
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.generate.accounting import Ending, ending_of
from services.router.providers.answer_limit import MAX_WHOLE_BYTES, StreamLimit
from services.router.providers.http_transport import HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.provider_client import ProviderClient
from services.router.providers.timeouts import AttemptTimeouts
from services.router.providers.wires.fields import decode as json_decode
from services.router.providers.wires.schemas import is_strict, schema
from services.router.providers.wires.sse import MAX_EVENT_BYTES, FramingError, SseParser
from services.router.providers.wires.tool_calls import ToolCalls
from services.router.providers.wires.wires import wires
from services.router.request.generation import Prompt, ProviderFailure, StreamEnd, StreamEvent, TextDelta
from services.router.request.usage import ToldUsage
from tests.support.growth import cost, grows_linearly
from tests.support.routing import model
from tests.unit.router.providers.test_provider_client import DONE, FINISH, ScriptedTransport, delta
from tests.unit.router.providers.wires.samples import WIRES, sse, tool_chunk

KEY = "PROVKEY-0123456789/+abcdef"
PROVIDER = Provider("a", "openai_compatible", "http://a.test/v1", api_key_env="KEY")
MODEL = model("a/m")
PROMPT = Prompt((Message(Role.USER, "Describe a shovel"),), 50)
LONG = AttemptTimeouts(total=20.0, first_content=20.0, silence=20.0, content=20.0)
#: Bytes of a stream's content that a 50-token request may have at most.
MOST = 17_184


def client(transport: HttpTransport) -> ProviderClient:
    clock = SystemClock()
    return ProviderClient(transport, wires(clock), Keys({"KEY": KEY}), clock, LimitLearner())


async def streamed(transport: HttpTransport, provider: Provider = PROVIDER) -> list[StreamEvent]:
    batches = client(transport).stream(provider, MODEL, PROMPT, LONG, ToldUsage())
    return [event async for batch in batches for event in batch]


def size(events: Sequence[StreamEvent]) -> int:
    text = sum(len(event.text) for event in events if isinstance(event, TextDelta))
    return text + sum(len(event.arguments_json) for event in events if isinstance(event, ToolCallDelta))


def called(arguments: str) -> bytes:
    """A piece of a tool call."""
    return sse(tool_chunk(0, "a", "f", arguments))


USAGE_FIRST = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}\n\n'


@pytest.mark.parametrize(
    "piece",
    [delta("word " * 1000), delta("x" * 1_000_000), called("9" * 5000), called("y" * 900_000)],
    ids=["text", "one long text", "arguments", "one long argument"],
)
async def test_a_stream_beyond_what_was_asked_ends_as_one_that_reached_its_length(piece: bytes) -> None:
    """The caller has what came so far, up to a bound; the connection is closed; what the provider had told of
    usage is not all of it, so that the attempt's account counts what came."""
    transport = ScriptedTransport(USAGE_FIRST, *[piece] * 1000)
    events = await streamed(transport)
    end = events[-1]
    assert isinstance(end, StreamEnd)
    assert end.finish_reason is FinishReason.LENGTH
    assert 0 < size(events) <= MOST
    assert end.usage == Usage(7, 1, accuracy=UsageAccuracy.ESTIMATED)
    assert transport.closed == 1


async def test_a_stream_that_says_nothing_of_its_usage_is_counted_from_its_text() -> None:
    """No usage is made up: the attempt's account counts."""
    events = await streamed(ScriptedTransport(*[delta("word " * 1000)] * 1000))
    assert isinstance(events[-1], StreamEnd)
    assert events[-1].usage is None


async def test_a_stream_without_content_ends_too() -> None:
    """Bytes that hold nothing for the caller (thoughts, comments) have a bound as well, far above any real stream."""
    noise = b": " + b"p" * 60_000 + b"\n\n"
    transport = ScriptedTransport(delta("Hi"), *[noise] * 1000)
    events = await streamed(transport)
    assert size(events) == 2
    assert isinstance(events[-1], StreamEnd)
    assert events[-1].finish_reason is FinishReason.LENGTH


async def test_a_stream_within_what_was_asked_is_not_touched() -> None:
    """Twice the tokens at eight characters each pass, and so does an honest end."""
    events = await streamed(ScriptedTransport(delta("x" * 16 * 50), FINISH, DONE))
    assert size(events) == 800
    assert isinstance(events[-1], StreamEnd)
    assert events[-1].finish_reason is FinishReason.STOP
    assert not StreamLimit(Prompt((), 100_000), b"").count_events([TextDelta("x" * 1_000_000)])


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Any]) -> AsyncIterator[tuple[HttpTransport, Provider]]:
    """A server that gives one answer, and a way to it."""
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with HttpTransport() as transport:
            yield (
                transport,
                Provider("a", "openai_compatible", f"http://127.0.0.1:{port}/v1", api_key_env="KEY"),
            )
    finally:
        await runner.cleanup()


def whole(text: str) -> bytes:
    """A whole answer with this text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


async def test_a_whole_answer_beyond_what_was_asked_is_read_no_further() -> None:
    """It fails with a type, as something that was paid for, and memory grows by the bound, not by the answer: plain,
    and compressed a thousandfold."""
    bomb = gzip.compress(whole("a" * 50_000_000))

    async def packed(_: web.Request) -> web.Response:
        return web.Response(
            body=bomb, headers={"content-encoding": "gzip", "content-type": "application/json"}
        )

    async def plain(_: web.Request) -> web.Response:
        return web.Response(body=whole("a" * 3_000_000), content_type="application/json")

    for answer in (packed, plain):
        async with serving(answer) as (transport, provider):
            tracemalloc.start()
            with pytest.raises(ProviderFailure) as caught:
                await client(transport).complete(provider, MODEL, PROMPT, LONG)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert (caught.value.error_class, caught.value.retry_same) == (ErrorClass.MALFORMED, False)
        assert ending_of(caught.value) is Ending.BROKEN_OFF
        if answer is packed:
            assert peak < 4_000_000


@pytest.mark.parametrize(
    ("status", "hangs", "error_class", "ending"),
    [
        (200, False, ErrorClass.TRANSPORT, Ending.BROKEN_OFF),
        (200, True, ErrorClass.TIMEOUT, Ending.BROKEN_OFF),
        (503, False, ErrorClass.OVERLOADED, Ending.REFUSED),
        (429, True, ErrorClass.RATE_LIMITED, Ending.REFUSED),
    ],
)
async def test_a_body_that_breaks_off_leaves_its_status(
    status: int, hangs: bool, error_class: ErrorClass, ending: Ending
) -> None:
    """A good answer was being made, and an error status says no without its body."""

    over = asyncio.Event()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"content-length": "1000"})
        await response.prepare(request)
        await response.write(whole("half")[:20])
        if hangs:
            await over.wait()
        assert request.transport is not None
        request.transport.close()
        return response

    timeouts = structs.replace(LONG, total=0.5)
    async with serving(half) as (transport, provider):
        with pytest.raises(ProviderFailure) as caught:
            await client(transport).complete(provider, MODEL, PROMPT, timeouts)
        over.set()
    failure = caught.value
    assert (failure.error_class, failure.http_status, ending_of(failure)) == (error_class, status, ending)


async def test_a_compressed_answer_within_the_bound_is_read() -> None:
    """Some servers compress though they were asked not to."""

    async def packed(_: web.Request) -> web.Response:
        body = gzip.compress(whole("A fine shovel."))
        return web.Response(body=body, headers={"content-encoding": "gzip"})

    async with serving(packed) as (transport, provider):
        assert (await client(transport).complete(provider, MODEL, PROMPT, LONG)).text == "A fine shovel."


def test_whatever_is_read_can_be_handed_on() -> None:
    """The largest answer fits a message between services though each of its bytes became three."""
    assert 3 * MAX_WHOLE_BYTES < MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: a\r\n" % i for i in range(5000)) + b"\r\n",
        b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        f"Bearer {KEY} is no status line\r\n\r\n".encode(),
        b"\x00" * 70_000,
    ],
    ids=["long header", "many headers", "long status", "long length", "a key", "zeros"],
)
async def test_a_head_of_any_kind_is_a_failure_of_the_transport(head: bytes) -> None:
    """Typed, and without what it holds of the key."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, HttpTransport() as transport:
        provider = Provider("a", "openai_compatible", url, api_key_env="KEY")
        calls = client(transport)
        for work in (streamed(transport, provider), calls.complete(provider, MODEL, PROMPT, LONG)):
            with pytest.raises(ProviderFailure) as caught:
                await work
            assert caught.value.error_class is ErrorClass.TRANSPORT
            assert "PROVKEY" not in str(caught.value)
            assert caught.value.__cause__ is None


def error(text: str) -> bytes:
    return json.dumps({"error": {"message": text, "type": "invalid_request_error"}}).encode()


def event(text: str) -> bytes:
    return b"data: " + error(text) + b"\n\n"


def stop(text: str) -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": f"error {text}"}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


ENTRANCES: list[tuple[int, Callable[[str], bytes]]] = [
    (400, error),
    (503, str.encode),
    (200, event),
    (200, stop),
]
FORMS = [
    KEY,
    f"Authorization: Bearer {KEY}",
    json.dumps(KEY),
    base64.b64encode(f"Bearer {KEY}".encode()).decode(),
]


@pytest.mark.parametrize(("status", "said"), ENTRANCES, ids=["error", "text", "event", "finish reason"])
@pytest.mark.parametrize("form", FORMS, ids=["bare", "header", "quoted", "base64"])
async def test_no_key_leaves_with_a_failure(status: int, said: Callable[[str], bytes], form: str) -> None:
    """Wherever a provider's words enter, and wherever the key stands in them, also where the message is cut."""
    for before in (0, 10, 270, 285, 290, 295, 1975, 1990, 3980):
        body = said("w " * (before // 2) + form + " were the headers")
        transport = ScriptedTransport(body, DONE, status=status)
        with pytest.raises(ProviderFailure) as caught:
            await streamed(transport)
        shown = caught.value.message
        assert len(shown) <= 300
        for secret in (KEY, base64.b64encode(KEY.encode()).decode(), FORMS[-1][8:]):
            assert not any(secret[at : at + 8] in shown for at in range(len(secret) - 7)), shown
        assert str(caught.value) == f"{caught.value.error_class}: {shown}"
        assert caught.value.unredacted == caught.value.deciding_words == ""
        assert caught.value.__cause__ is caught.value.__context__ is None


async def test_no_key_leaves_with_the_failure_of_a_whole_answer() -> None:
    """A refusal, and an error inside a 200."""
    for status in (200, 401):
        transport = ScriptedTransport(error(f"Headers were: {KEY}"), status=status)
        with pytest.raises(ProviderFailure) as caught:
            await client(transport).complete(PROVIDER, MODEL, PROMPT, LONG)
        assert caught.value.message.startswith("Headers were: [redacted]")


async def test_the_callers_own_words_take_no_provider_away() -> None:
    """A 400 that repeats what the request holds, quoted or not, is the caller's."""
    text = "Our account has been suspended and the payment method failed"
    prompt = Prompt((Message(Role.USER, text),), 50)
    for message in (f"Cannot parse: {text}", f"Cannot parse '{text}'"):
        transport = ScriptedTransport(error(message), status=400)
        with pytest.raises(ProviderFailure) as caught:
            await client(transport).complete(PROVIDER, MODEL, prompt, LONG)
        assert (caught.value.error_class, caught.value.explicit) == (ErrorClass.INVALID_REQUEST, True)
    transport = ScriptedTransport(error("Your account has been suspended"), status=400)
    with pytest.raises(ProviderFailure) as caught:
        await client(transport).complete(PROVIDER, MODEL, PROMPT, LONG)
    assert (caught.value.error_class, caught.value.explicit) == (ErrorClass.AUTHENTICATION, False)


@pytest.mark.parametrize("key", [None, 0])
@pytest.mark.parametrize("piece", ["9", '{"a":"b', "[", '"', "\\", "{}", " ", '{"x":1}'])
def test_pieces_of_tool_calls_cost_in_proportion_to_their_number(key: int | None, piece: str) -> None:
    """Without an id, with the name in every piece, whatever the pieces are; and as many calls with ids of their
    own and no index."""

    def one(count: int) -> Callable[[], object]:
        def work() -> None:
            calls = ToolCalls()
            for _ in range(count):
                calls.piece(key, "", "f", piece)

        return work

    def many(count: int) -> Callable[[], object]:
        def work() -> None:
            calls = ToolCalls()
            for number in range(count):
                calls.piece(key, f"id{number}", "f", piece)

        return work

    assert grows_linearly(one, 2500)
    assert grows_linearly(many, 1500)


WHOLE = [
    "{}",
    '{"a":"}"}',
    '{"a":"\\""}',
    '["{",1]',
    '"x"',
    "12",
    "true",
    '{"a" 1}',
    "{}{",
    "}",
    '{"a":"\\\\"}',
    "1{}",
]


@pytest.mark.parametrize("text", WHOLE)
def test_arguments_are_known_to_be_whole_however_they_are_cut(text: str) -> None:
    """The same as decoding all of it after each piece would tell: a call of the same name that follows whole
    arguments is another one."""
    try:
        json.loads(text)
        whole = True
    except ValueError:
        whole = False
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            calls = ToolCalls()
            for piece in (text[:first], text[first:second], text[second:]):
                if piece:
                    calls.piece(0, "", "" if calls.count else "f", piece)
            calls.piece(0, "", "f", "{}")
            assert calls.count == (2 if whole else 1), (text[:first], text[first:second], text[second:])


@pytest.mark.parametrize("digits", [20, 400, 5000, 100_000])
@pytest.mark.parametrize("kind", sorted(WIRES))
def test_numbers_of_any_length_raise_nothing_untyped(kind: str, digits: int) -> None:
    """In an answer's counts, a stream's events, an error's fields and in headers."""
    number = "9" * digits
    bodies = [
        f'{{"choices":[{{"index":{number},"message":{{"content":"a"}},"delta":{{"content":"a"}}}}],"usage":{{"prompt_tokens":{number}}}}}',
        f'{{"type":"message_start","index":{number},"message":{{"usage":{{"input_tokens":{number}}}}}}}',
        f'{{"usageMetadata":{{"promptTokenCount":{number}}},"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{{"n":{number}}}}}}}]}},"finishReason":{number}}}]}}',
        f'{{"error":{{"code":{number},"status":"{number}","message":"limit: 1 requested: {number}","retry_after":{number}}}}}',
        f'{{"results":[{{"outputText":"a","tokenCount":{number},"completionReason":"FINISH"}}],"inputTextTokenCount":{number}}}',
    ]
    headers = dict.fromkeys(
        ("retry-after", "x-amzn-bedrock-input-token-count", "x-ratelimit-limit-tokens", "x-ratelimit-reset"),
        number,
    )
    for body in bodies:
        WIRES[kind].failure(429, headers, body.encode())
        decoder = WIRES[kind].decoder()
        for action in (
            lambda body=body: WIRES[kind].completion(200, headers, body.encode()),
            lambda body=body, decoder=decoder: decoder.feed(b"data: " + body.encode() + b"\n\n"),
            lambda decoder=decoder: decoder.close(),
        ):
            with suppress(ProviderFailure):
                action()


@pytest.mark.parametrize(
    "piece", [b"data\n", b"data:\n", b"data: x\n", b"x" * 1000, b":\n\n\n", b": ping\n\n"]
)
def test_an_event_without_end_is_refused(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines take memory and time too, and so do comments."""
    monkeypatch.setattr("services.router.providers.wires.sse.MAX_EVENT_BYTES", 10_000)
    parser = SseParser()

    def feed() -> None:
        for _ in range(20_000):
            parser.feed(piece)

    with pytest.raises(FramingError):
        feed()
    assert MAX_EVENT_BYTES <= MAX_WHOLE_BYTES


CHUNKS: dict[str, Callable[[int], str]] = {
    "choices": lambda n: '{"choices":[' + "{}," * n + "{}]}",
    "calls": lambda n: '{"choices":[{"delta":{"tool_calls":[' + "{}," * n + "{}]}}]}",
    "blocks": lambda n: '{"choices":[{"delta":{"content":[' + "{}," * n + "{}]}}]}",
    "values": lambda n: "[" + "{}," * n + "{}]",
    "parts": lambda n: '{"candidates":[{"content":{"parts":[' + "{}," * n + "{}]}}]}",
    "output": lambda n: '{"type":"response.completed","response":{"output":[' + "{}," * n + "{}]}}",
    "counts": lambda n: (
        '{"type":"message_delta","usage":{' + "".join(f'"{i}":1,' for i in range(n)) + '"a":1}}'
    ),
    "kinds": lambda n: '{"messageStart":{},' + "".join(f'"{i}":1,' for i in range(n)) + '"a":1}',
    "details": lambda n: '{"error":{"details":[' + "{}," * n + "{}]}}",
}


@pytest.mark.parametrize("kind", {type(wire): kind for kind, wire in WIRES.items()}.values())
@pytest.mark.parametrize("make", CHUNKS.values(), ids=CHUNKS)
def test_one_event_costs_little_more_than_its_decoding(make: Callable[[int], str], kind: str) -> None:
    """However many values stand in it, no loop goes over all of them: fifty thousand values cost what decoding them
    does, and a little."""
    data = make(50_000).encode()
    frame = b"data: " + data + b"\n\n"

    def take() -> None:
        decoder = WIRES[kind].decoder()
        with suppress(ProviderFailure):
            decoder.feed(frame)

    decoding = min(cost(partial(json_decode, data)) for _ in range(3))
    assert min(cost(take) for _ in range(3)) <= 4 * decoding + 0.01


def test_a_schema_nested_deeper_than_calls_is_a_schema() -> None:
    """Strictness is told without recursion, and a list of required things that are no names is not strict."""
    depth = 900
    nested = '{"type":"array","items":' * depth + "{}" + "}" * depth
    assert is_strict(schema(nested))
    assert not is_strict(
        {"type": "object", "additionalProperties": False, "properties": {}, "required": [{}]}
    )
