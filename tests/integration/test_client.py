"""The client against a router on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from pointsman.router.v1 import router_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.client import Client, Completed, Delta, Restarted, Selected, TextAssembler, Tls
from libs.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.types import ErrorClass
from tests.support.names import limit_key
from tests.support.router import KEY, NAME, Answer, FakeRouter, fake_router, result, selection

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    async with fake_router() as running:
        yield running


@pytest.fixture
async def client(router: FakeRouter) -> AsyncIterator[Client]:
    async with Client(router.address, key=KEY) as connected:
        yield connected


def raising(error: PointsmanError) -> Answer:
    """An answer that fails."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise error

    return answer


async def forever(generation: pb.Generation) -> pb.Result:
    await asyncio.Event().wait()
    raise AssertionError


async def test_three_lines_generate(router: FakeRouter) -> None:
    """The quickstart works as written."""
    async with Client(router.address, key=KEY) as client:
        answer = await client.generate("a blue mug", content_type="product_description")
    assert answer.text == "About: a blue mug"
    assert (answer.selection.provider, answer.cost_micro_usd, len(answer.attempts)) == ("alpha", 50, 1)
    assert router.requests[0].content_type == "product_description"
    assert router.metadata[0]["authorization"] == f"Bearer {KEY}"


async def test_a_stream_gives_events_and_ends_with_completed(router: FakeRouter, client: Client) -> None:
    """Selected first, completed last, and a stream read to its end is no cancellation for the server."""
    events = [event async for event in client.stream("a mug", request_id="s-1")]
    assert isinstance(events[0], Selected)
    assert isinstance(events[-1], Completed)
    assert [e.text for e in events if isinstance(e, Delta)] == ["About: ", "a mug"]
    await router.until(lambda r: "s-1" in r.finished)
    assert router.cancelled == []


async def test_a_restarted_stream_assembles_to_the_second_answer(router: FakeRouter, client: Client) -> None:
    """The part before Restarted is not in the answer."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield pb.StreamGenerateResponse(selected=pb.Selected(request_id="r", selection=selection()))
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="half of"))
        yield pb.StreamGenerateResponse(
            restarted=pb.Restarted(
                from_provider="alpha",
                selection=selection("beta"),
                error_class=types_pb2.ERROR_CLASS_STALLED,
            )
        )
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="whole"))
        yield pb.StreamGenerateResponse(completed=pb.Completed(result=result("r", "", failed=("alpha",))))

    router.stream = stream
    assembler = TextAssembler()
    restarts = []
    async for event in client.stream("x"):
        assembler.feed(event)
        restarts += [event] if isinstance(event, Restarted) else []
    assert assembler.result is not None
    assert assembler.result.text == "whole"
    assert [(e.from_provider, e.error_class) for e in restarts] == [("alpha", ErrorClass.STALLED)]


async def test_a_stream_without_completed_is_an_error(router: FakeRouter, client: Client) -> None:
    """A cut answer never passes for a whole one, even where the transport says OK."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="half"))

    router.stream = stream
    with pytest.raises(Unavailable) as caught:
        [event async for event in client.stream("x")]
    assert caught.value.reason == "STREAM_INCOMPLETE"


async def test_an_error_in_mid_stream_carries_its_details(router: FakeRouter, client: Client) -> None:
    """Events before the failure arrive; then the typed exception."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="half"))
        raise Unavailable("all failed", reason="ALL_PROVIDERS_FAILED", retry_after=2.5)

    router.stream = stream
    seen = []

    async def read() -> None:
        async for event in client.stream("x"):
            seen.append(event)  # noqa: PERF401  # a comprehension would lose them with the error

    with pytest.raises(Unavailable) as caught:
        await read()
    assert seen == [Delta("half")]
    assert (caught.value.reason, caught.value.retry_after) == ("ALL_PROVIDERS_FAILED", 2.5)


async def test_closing_the_stream_cancels_the_call(router: FakeRouter, client: Client) -> None:
    """A caller that leaves early stops the server's work."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        while True:
            yield pb.StreamGenerateResponse(delta=pb.Delta(text="more "))
            await asyncio.sleep(0.01)

    router.stream = stream
    async with aclosing(client.stream("x", request_id="left")) as events:
        async for _ in events:
            break
    await router.until(lambda r: r.cancelled == ["left"])


async def test_cancelling_the_task_cancels_the_call(router: FakeRouter, client: Client) -> None:
    """A cancelled caller does not leave a generation running."""
    router.answer = forever
    task = asyncio.create_task(client.generate("x", request_id="gone"))
    await router.until(lambda r: len(r.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await router.until(lambda r: r.cancelled == ["gone"])


async def test_select_and_estimate(client: Client) -> None:
    """The dry runs come back typed, excluded candidates with their reason."""
    chosen = await client.select("x")
    assert (chosen.selection.provider, chosen.selection.estimated_cost_micro_usd) == ("alpha", 40)
    assert [c.excluded_because for c in chosen.alternatives] == ["", "circuit open"]
    (estimate,) = await client.estimate("x")
    assert (estimate.expected_micro_usd, estimate.maximum_micro_usd) == (30, 90)


async def test_deadlines_default_and_per_call(router: FakeRouter) -> None:
    """The client's timeout is every call's deadline unless the call names its own."""
    async with Client(router.address, key=KEY, timeout=40.0) as client:
        await client.generate("x")
        await client.generate("x", timeout=9.0)
    async with Client(router.address, key=KEY, timeout=None) as client:
        await client.generate("x")
    default, own, none = router.time_remaining
    assert default is not None
    assert own is not None
    # The wire rounds deadlines up a little; only which of the two it is matters.
    assert 20.0 < default < 60.0
    assert own < 20.0
    assert none is None


async def test_a_deadline_that_passes_is_deadline_exceeded(router: FakeRouter, client: Client) -> None:
    """And the server's work is cancelled. One type and one reason, whether our clock, the server's or the router's
    plan noticed."""
    router.answer = forever
    with pytest.raises(DeadlineExceeded) as ours:
        await client.generate("x", timeout=0.2, request_id="slow")
    await router.until(lambda r: r.cancelled == ["slow"])
    router.answer = raising(DeadlineExceeded("no time for another attempt"))
    with pytest.raises(DeadlineExceeded) as theirs:
        await client.generate("x")
    assert ours.value.reason == theirs.value.reason == "DEADLINE_EXCEEDED"


async def test_quota_details_survive_the_wire(router: FakeRouter, client: Client) -> None:
    """A denial names each dimension and when to come back."""
    violations = [
        QuotaViolation(limit_key("tenant:acme requests minute"), "100 of 100 used", limit=100),
        QuotaViolation(limit_key("provider:alpha total_tokens minute"), "no room", limit=5000),
    ]
    router.answer = raising(
        ResourceExhausted("no room", violations, reason="LIMIT", retry_after=1.25, metadata={"a": "b"})
    )
    with pytest.raises(ResourceExhausted) as caught:
        await client.generate("x")
    error = caught.value
    assert (error.reason, error.retry_after, error.metadata) == ("LIMIT", 1.25, {"a": "b"})
    assert [(v.subject, v.description, v.limit) for v in error.violations] == [
        (v.subject, v.description, v.limit) for v in violations
    ]


async def test_bad_request_details_survive_the_wire(router: FakeRouter, client: Client) -> None:
    """Every wrong field is named."""
    violations = (FieldViolation("generation.content_type", "unknown"), FieldViolation("b", "too long"))
    router.answer = raising(InvalidArgument(violations))
    with pytest.raises(InvalidArgument) as caught:
        await client.generate("x")
    assert caught.value.violations == violations


async def test_a_content_refusal_is_told_from_other_preconditions(router: FakeRouter, client: Client) -> None:
    """The reason survives."""
    router.answer = raising(FailedPrecondition("refused", reason="CONTENT_REFUSED"))
    with pytest.raises(FailedPrecondition) as caught:
        await client.generate("x")
    assert caught.value.reason == "CONTENT_REFUSED"


async def test_a_bug_in_the_server_is_an_internal_error(router: FakeRouter, client: Client) -> None:
    """Anything outside of the table is the base class."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise ZeroDivisionError

    router.answer = answer
    with pytest.raises(PointsmanError) as caught:
        await client.generate("x")
    assert (type(caught.value), caught.value.reason) == (PointsmanError, "INTERNAL")


async def test_a_wrong_key_is_unauthenticated(router: FakeRouter) -> None:
    """Nothing reaches the servicer."""
    async with Client(router.address, key="wrong") as client:
        with pytest.raises(Unauthenticated):
            await client.generate("x")
    assert router.requests == []


async def test_a_dead_channel_is_unavailable_with_a_reason_of_its_own() -> None:
    """The caller can tell "no router answers" from "all providers failed"."""
    async with fake_router() as gone:
        address = gone.address
    async with Client(address, key=KEY) as client:
        with pytest.raises(Unavailable) as caught:
            await client.generate("x")
        assert caught.value.reason == "TRANSPORT_UNAVAILABLE"
        assert caught.value.retry_after is None
        with pytest.raises(Unavailable) as waited:
            await client.ready(0.2)
        assert waited.value.reason == "UNREACHABLE"


async def test_a_generate_is_never_sent_twice_by_the_transport(router: FakeRouter, client: Client) -> None:
    """UNAVAILABLE from the server reaches the caller after one request: it may have been paid for."""
    router.answer = raising(Unavailable("down"))
    with pytest.raises(Unavailable):
        await client.generate("x")
    assert len(router.requests) == 1


async def test_a_router_that_comes_back_is_used_again() -> None:
    """The channel reconnects by itself."""
    async with fake_router() as first:
        address = first.address
        client = await Client(address, key=KEY).__aenter__()
        await client.generate("x")
    try:
        with pytest.raises(Unavailable):
            await client.generate("x")
        async with fake_router(listen=address):
            await client.ready(30.0)
            assert (await client.generate("again")).text == "About: again"
    finally:
        await client.__aexit__(None, None, None)


async def test_a_router_that_is_not_serving_gets_no_calls(router: FakeRouter, client: Client) -> None:
    """Client health checking takes a draining server out of the rotation."""
    await client.generate("x")
    router.health.set(NAME, serving=False)

    async def until_refused() -> None:
        while True:
            await client.generate("x")

    # The verdict travels on its own stream: calls pass until it has arrived.
    with pytest.raises(Unavailable):
        await until_refused()
    assert len(router.requests) == len(router.finished)


async def test_the_callers_trace_goes_along(router: FakeRouter, client: Client) -> None:
    """W3C traceparent of the current span, and none where there is no span."""
    await client.generate("x")
    span = NonRecordingSpan(
        SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, TraceFlags(1))
    )
    with trace.use_span(span):
        await client.generate("x")
        [event async for event in client.stream("x")]
    expected = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert [m.get("traceparent") for m in router.metadata] == [None, expected, expected]


async def test_tls_carries_the_key_as_call_credentials() -> None:
    """The same three lines over TLS; a client that does not trust the server fails."""
    certificate = (SUPPORT / "localhost_cert.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([((SUPPORT / "localhost_key.pem").read_bytes(), certificate)])
    async with fake_router(credentials=credentials) as router:
        address = router.address.replace("127.0.0.1", "localhost")
        async with Client(address, key=KEY, tls=Tls(certificate)) as client:
            assert (await client.generate("x")).text == "About: x"
        assert router.metadata[0]["authorization"] == f"Bearer {KEY}"
        async with Client(address, key=KEY, tls=Tls()) as client:
            with pytest.raises(Unavailable):
                await client.generate("x")


async def test_one_channel_for_many_callers(router: FakeRouter) -> None:
    """`as_caller` sends another key over the same channel; a client with a key of its own does not lend it."""
    async with Client(router.address) as client:
        await client.as_caller(KEY).generate("hi")
        with pytest.raises(Unauthenticated):
            await client.as_caller("another").generate("hi")
        with pytest.raises(ValueError, match="printable ASCII"):
            client.as_caller("not a key")
    assert [metadata["authorization"] for metadata in router.metadata] == [f"Bearer {KEY}"]
    with pytest.raises(ValueError, match="no key of its own"):
        Client(router.address, key=KEY).as_caller("another")


async def test_what_may_be_named(client: Client) -> None:
    """Models in the catalog's order, and content types."""
    listing = await client.list_models()
    assert [model.id for model in listing.models] == ["alpha/small", "beta/large", "beta/small"]
    assert listing.content_types == ("general", "seo_meta")
