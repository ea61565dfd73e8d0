"""A server takes requests in with identity first, in turn, within bounds, and keeps nothing. Real clients on real
sockets."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from pointsman.router.v1 import router_pb2

from libs.errors import DeadlineExceeded, InvalidArgument, PointsmanError, ResourceExhausted
from libs.intake import CALL_BYTES, BytesInFlight
from libs.rpc import health
from libs.rpc.channel import connect, metadata
from libs.rpc.server import TOLD
from libs.rpc.status import from_rpc_error
from tests.support.clock import ManualClock
from tests.support.http2 import HalfSent
from tests.support.scripted_router import (
    BOUNDS,
    GENERATE,
    SERVICE,
    STREAM_GENERATE,
    alive,
    scripted_router,
)

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = (GENERATE, STREAM_GENERATE)


def request(request_id: str = "", size: int = 0) -> bytes:
    """A serialized request: of both methods, whose requests have the same shape."""
    made = router_pb2.GenerateRequest()
    made.generation.request_id = request_id
    made.generation.messages.add(text="x" * size)
    return made.SerializeToString()


async def send(
    channel: grpc.aio.Channel, method: str, message: bytes, key: str = "key-a", **more: Any
) -> None:
    """A call with exactly these bytes. Raises what the status means."""
    try:
        if method == STREAM_GENERATE:
            stream: Any = channel.unary_stream(method)
            call = stream(message, metadata=metadata(key), **more)
            try:
                async for _ in call:
                    pass
            finally:
                call.cancel()
        else:
            unary: Any = channel.unary_unary(method)
            await unary(message, metadata=metadata(key), **more)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def refusal(
    channel: grpc.aio.Channel, method: str, message: bytes, key: str = "key-a"
) -> PointsmanError:
    with pytest.raises(PointsmanError) as caught:
        await send(channel, method, message, key)
    return caught.value


@pytest.mark.parametrize("method", METHODS)
async def test_the_message_of_an_unknown_caller_is_never_received(method: str) -> None:
    """Calls without a known key end although their messages never come to an end; nothing of them was in flight."""
    bytes_in_flight = BytesInFlight()
    async with scripted_router(bytes_in_flight) as (servicer, server, _):
        half_sent = HalfSent(f"127.0.0.1:{server.port}", method, 9_000_000)
        await asyncio.wait_for(half_sent.hold(20), 30)
        assert half_sent.ended == 20
        assert not servicer.calls
        assert bytes_in_flight.total == 0


async def test_unknown_callers_are_answered_at_a_rate_and_known_ones_are_not_slowed() -> None:
    """Of a flood some are told UNAUTHENTICATED and the rest to come back later; between them a tenant's calls all
    pass. Both kinds are counted."""
    async with (
        scripted_router() as (_, server, metrics),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        told: Counter[str] = Counter()
        for _ in range(20):
            flood = [refusal(channel, GENERATE, request(size=10_000), f"unknown-{n}") for n in range(20)]
            for error in await asyncio.gather(*flood):
                told[error.reason] += 1
                assert error.retry_after or error.reason == "KEY_UNKNOWN"
            await send(channel, GENERATE, request())
        assert set(told) == {"KEY_UNKNOWN", "UNKNOWN_CALLERS"}
        for reason, status in (("KEY_UNKNOWN", "UNAUTHENTICATED"), ("UNKNOWN_CALLERS", "RESOURCE_EXHAUSTED")):
            labels = {"rpc_method": GENERATE[1:], "rpc_response_status_code": status}
            name = "pointsman_rpc_server_call_duration_seconds_count"
            assert metrics.registry.get_sample_value(name, labels) == told[reason]


async def while_time_passes(clock: ManualClock, step: float, task: asyncio.Task[None]) -> None:
    """Moves the server's clock on by so many seconds again and again until the task has ended."""
    async with asyncio.timeout(60):
        while not task.done():
            clock.advance(step)
            # A server looks for what takes too long every quarter of a second.
            await asyncio.wait({task}, timeout=0.5)
    await task


async def test_a_caller_that_sends_halves_keeps_nobody_else_out() -> None:
    """While one tenant holds every turn it can have, another's calls pass, and its own end for want of their rest."""
    clock = ManualClock()
    async with (
        scripted_router(clock=clock) as (_, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        half_sent = HalfSent(
            f"127.0.0.1:{server.port}", GENERATE, 1_000_000, [(b"authorization", b"Bearer key-a")]
        )
        holding = asyncio.create_task(half_sent.hold(16))
        for _ in range(50):
            await send(channel, GENERATE, request(), "key-b", timeout=10)
        # The same tenant's whole requests have their turn too.
        whole = asyncio.create_task(send(channel, GENERATE, request(), "key-a", timeout=60))
        await while_time_passes(clock, 1.0, whole)
        await while_time_passes(clock, 10.0, holding)
        assert half_sent.ended == 16


@pytest.mark.parametrize("method", [CHECK, WATCH, REFLECT])
async def test_halves_sent_without_a_key_to_public_methods_end(method: str) -> None:
    """Health and reflection take messages from anyone: those that do not come to an end are ended, and meanwhile
    tenants' calls and whole health checks are answered."""
    clock = ManualClock()
    async with (
        scripted_router(clock=clock) as (_, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        half_sent = HalfSent(f"127.0.0.1:{server.port}", method, 1_000_000)
        holding = asyncio.create_task(half_sent.hold(6))
        for _ in range(20):
            await send(channel, GENERATE, request(), timeout=10)
        await while_time_passes(clock, 0.1, asyncio.create_task(send(channel, CHECK, b"", timeout=30)))
        await while_time_passes(clock, 10.0, holding)
        assert half_sent.ended == 6


async def test_a_long_message_to_a_public_method_is_refused() -> None:
    """Nobody needs more than a name to ask after health."""
    async with (
        scripted_router() as (_, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        long = health_pb2.HealthCheckRequest(service="x" * 5000).SerializeToString()
        error = await refusal(channel, CHECK, long, "")
        assert error.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("method", METHODS)
async def test_a_burst_of_small_calls_passes_at_once(method: str) -> None:
    """400 calls of one tenant in the same moment: turns at receiving refuse none of them."""
    async with (
        scripted_router() as (_, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        await asyncio.gather(*(send(channel, method, request(size=500), timeout=60) for _ in range(400)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x0a\xff\xff\xff\x03" + b"\x1a\x00" * 4_194_302 + b"\x1a\x01x", "TOO_MANY_ELEMENTS"),
        (b"\x0a\x00" * 200_000, "TOO_MANY_ELEMENTS"),
        (b"\x0a\xff" * 100_000, "BAD_MESSAGE"),
        (b"\xff" * 10, "BAD_MESSAGE"),
        (b"\x0a\x01\xff", "BAD_MESSAGE"),
    ],
)
async def test_what_is_no_request_is_refused_and_given_back(method: str, message: bytes, reason: str) -> None:
    """Millions of empty messages, and bytes that are none: INVALID_ARGUMENT, and nothing stays in flight."""
    bytes_in_flight = BytesInFlight()
    async with (
        scripted_router(bytes_in_flight) as (servicer, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        error = await refusal(channel, method, message)
        assert isinstance(error, InvalidArgument)
        assert error.reason == reason
        assert not servicer.calls
        assert bytes_in_flight.total == 0


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_beyond_the_bound_is_refused_with_its_reason(method: str) -> None:
    """As long as it is not much longer: one that is, the transport refuses, and its status has no details."""
    bytes_in_flight = BytesInFlight()
    async with (
        scripted_router(bytes_in_flight) as (servicer, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        for size in (BOUNDS.message_bytes + 1, BOUNDS.message_bytes + TOLD - 1000):
            error = await refusal(channel, method, request(size=size))
            assert (type(error), error.reason) == (InvalidArgument, "MESSAGE_TOO_LARGE")
        error = await refusal(channel, method, request(size=BOUNDS.message_bytes + TOLD + 1))
        assert isinstance(error, ResourceExhausted)
        assert not servicer.calls
        assert bytes_in_flight.total == 0


async def test_requests_beyond_the_bytes_in_flight_are_refused_until_others_end() -> None:
    """A tenant whose running requests hold its bytes is refused at once, another is not; when they end it is served
    again."""
    bytes_in_flight = BytesInFlight(most=30_000 + 2 * CALL_BYTES, most_of_one=20_000 + CALL_BYTES)
    async with (
        scripted_router(bytes_in_flight) as (servicer, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        running = asyncio.create_task(send(channel, GENERATE, request("waits", 15_000)))
        while not servicer.calls["waits"]:
            await asyncio.sleep(0.01)
        error = await refusal(channel, GENERATE, request(size=15_000))
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "BYTES_IN_FLIGHT"
        assert error.retry_after
        await send(channel, GENERATE, request(size=10_000), "key-b")
        servicer.release.set()
        await running
        await send(channel, GENERATE, request(size=15_000))
        assert bytes_in_flight.total == 0


@pytest.mark.parametrize("method", METHODS)
async def test_the_smallest_requests_are_bounded_too(method: str) -> None:
    """A tenant may have so many calls at once and no more, however small they are; another has its own."""
    bytes_in_flight = BytesInFlight(most=10 * CALL_BYTES, most_of_one=4 * CALL_BYTES)
    async with (
        scripted_router(bytes_in_flight) as (servicer, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        running = [asyncio.create_task(send(channel, method, request("waits"))) for _ in range(3)]
        while servicer.calls["waits"] < len(running):
            await asyncio.sleep(0.01)
        error = await refusal(channel, method, request())
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "BYTES_IN_FLIGHT"
        await send(channel, method, request(), "key-b")
        servicer.release.set()
        await asyncio.gather(*running)
        await send(channel, method, request())
        assert bytes_in_flight.total == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "how", ["", "refused", "chained", "bug", "unknown", "throttled", "cancelled", "deadline"]
)
async def test_a_call_leaves_nothing_behind_however_it_ends(method: str, how: str) -> None:
    """Neither requests nor errors are alive after many calls without a garbage collection; no bytes are held."""
    bytes_in_flight = BytesInFlight()
    async with (
        scripted_router(bytes_in_flight) as (servicer, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        if how == "throttled":
            for _ in range(120):
                await refusal(channel, method, b"", "unknown")
        key = "unknown" if how in ("unknown", "throttled") else "key-a"
        message = request("waits" if how in ("cancelled", "deadline") else how, 1000)
        gc.collect()
        before = alive()
        gc.disable()
        try:
            # A traceback in the log takes a second to be drawn.
            if how == "deadline":
                late = [send(channel, method, message, key, timeout=0.05) for _ in range(40)]
                assert {type(error) for error in await asyncio.gather(*late, return_exceptions=True)} == {
                    DeadlineExceeded
                }
            for _ in range({"bug": 8, "deadline": 2}.get(how, 40)):
                seen = servicer.calls["waits"]
                call = asyncio.create_task(
                    send(channel, method, message, key, timeout=0.05 if how == "deadline" else None)
                )
                while how == "cancelled" and servicer.calls["waits"] == seen:
                    await asyncio.sleep(0.001)
                if how == "cancelled":
                    call.cancel()
                await asyncio.wait({call})
                if not call.cancelled():
                    call.exception()
            del call
            async with asyncio.timeout(30):
                while alive() > before + 5 or bytes_in_flight.total:
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()


async def test_watchers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may watch health, but only so many from one address; who leaves makes room."""
    monkeypatch.setattr(health, "MOST_WATCHERS_OF_ONE", 2)
    async with (
        scripted_router() as (_, server, _),
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        watch: Any = channel.unary_stream(
            WATCH, response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        asked = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
        first, second = watch(asked), watch(asked)
        assert (await first.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await second.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch(asked).read()
        assert from_rpc_error(caught.value).reason == "TOO_MANY_WATCHERS"
        first.cancel()
        async with asyncio.timeout(30):
            while True:
                third = watch(asked)
                try:
                    await third.read()
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)
        second.cancel()
        third.cancel()
