"""The server's layers, seen from a real client on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pointsman.ratelimit.v1 import ratelimit_pb2, ratelimit_pb2_grpc

from libs.errors import (
    FieldViolation,
    InvalidArgument,
    QuotaViolation,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.rpc.channel import connect, metadata
from libs.rpc.identity import ServiceToken
from libs.rpc.observe import current_span
from libs.rpc.server import GrpcServer, Registration
from libs.rpc.status import from_rpc_error
from tests.support.address import fresh_address
from tests.support.names import limit_key
from tests.support.server import grpc_server

SERVICE = "pointsman.ratelimit.v1.RateLimiter"


class Scripted(ratelimit_pb2_grpc.RateLimiterServicer):
    """Fails as told; its lease stream never ends by itself."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.release = asyncio.Event()
        self.reached = asyncio.Event()
        self.trace_id = 0

    async def Reserve(self, request: Any, context: Any) -> ratelimit_pb2.ReserveResponse:
        self.trace_id = current_span().context.trace_id
        if request.reservation_id == "slow":
            self.reached.set()
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return ratelimit_pb2.ReserveResponse()

    async def Lease(self, requests: Any, context: Any) -> AsyncIterator[ratelimit_pb2.LeaseResponse]:
        yield ratelimit_pb2.LeaseResponse(opened=ratelimit_pb2.LeaseOpened(epoch="e"))
        await asyncio.Event().wait()


@asynccontextmanager
async def serve(
    token: str = "",
) -> AsyncIterator[tuple[Scripted, GrpcServer, grpc.aio.Channel, ratelimit_pb2_grpc.RateLimiterAsyncStub]]:
    servicer = Scripted()  # type: ignore[abstract]  # nobody calls the other methods
    server = grpc_server(
        [
            Registration(
                ratelimit_pb2_grpc.add_RateLimiterServicer_to_server, servicer, SERVICE, frozenset({"Lease"})
            )
        ],
        ServiceToken(token),
    )
    await server.start(fresh_address())
    server.begin_serving()
    async with connect(f"127.0.0.1:{server.port}", health_service=SERVICE) as channel:
        yield servicer, server, channel, ratelimit_pb2_grpc.RateLimiterStub(channel)
    await server.drain(0)


def health_stub(channel: grpc.aio.Channel) -> Any:
    """The library's types know none of its methods."""
    return health_pb2_grpc.HealthStub(channel)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_an_error_reaches_the_client_with_every_detail() -> None:
    """ResourceExhausted arrives as the same type with its reason, retry time and one violation per dimension."""
    async with serve() as (servicer, _, _, stub):
        servicer.error = ResourceExhausted(
            "full",
            [QuotaViolation(limit_key("tenant:a requests minute"), "5 of 5", limit=5)],
            retry_after=1.5,
        )
        error = from_rpc_error(await failure(stub.Reserve(ratelimit_pb2.ReserveRequest())))
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.retry_after) == ("RESOURCE_EXHAUSTED", 1.5)
        assert [(v.subject, v.limit) for v in error.violations] == [("tenant:a requests minute", 5)]
        servicer.error = InvalidArgument(
            [FieldViolation("a.b", "must be > 0"), FieldViolation("c", "missing")]
        )
        error = from_rpc_error(await failure(stub.Reserve(ratelimit_pb2.ReserveRequest())))
        assert isinstance(error, InvalidArgument)
        assert [v.field for v in error.violations] == ["a.b", "c"]


async def test_a_bug_is_reported_without_its_text() -> None:
    """An unexpected exception becomes INTERNAL; its message, which may hold anything, stays inside."""
    async with serve() as (servicer, _, _, stub):
        servicer.error = ValueError("sk-secret")
        error = await failure(stub.Reserve(ratelimit_pb2.ReserveRequest()))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "sk-secret" not in repr(error)
        assert from_rpc_error(error).reason == "INTERNAL"


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, Unauthenticated),
        ("Bearer wrong", Unauthenticated),
        ("Basic abc", InvalidArgument),
        ("Bearer " + "x" * 600, InvalidArgument),
    ],
)
async def test_a_call_without_the_right_token_is_refused(authorization: str | None, expected: type) -> None:
    """No key and a wrong one are UNAUTHENTICATED; a header that is no Bearer key INVALID_ARGUMENT."""
    async with serve("right") as (_, _, _, stub):
        sent = () if authorization is None else (("authorization", authorization),)
        error = await failure(stub.Reserve(ratelimit_pb2.ReserveRequest(), metadata=sent))
        assert isinstance(from_rpc_error(error), expected)
        await stub.Reserve(ratelimit_pb2.ReserveRequest(), metadata=metadata("right"))


async def test_health_needs_no_token_and_names_each_service() -> None:
    """Check answers anyone: SERVING for the server and the service, NOT_FOUND for others."""
    async with serve("right") as (_, _, channel, _):
        health = health_stub(channel)
        for name in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        error = await failure(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_draining_server_answers_callers_until_they_have_turned_away() -> None:
    """Calls that come after NOT_SERVING was said are answered; once none comes any more the drain ends long before
    its time.
    time."""
    # The second channel is of a caller that does not watch the server's health.
    async with serve() as (_, server, _, _), connect(f"127.0.0.1:{server.port}") as channel:
        stub: Any = ratelimit_pb2_grpc.RateLimiterStub(channel)
        await stub.Reserve(ratelimit_pb2.ReserveRequest())
        draining = asyncio.create_task(server.drain(3600))
        await asyncio.sleep(0)
        await asyncio.gather(*(stub.Reserve(ratelimit_pb2.ReserveRequest()) for _ in range(3)))
        await asyncio.wait_for(draining, 60)


async def test_drain_lets_calls_finish_and_ends_endless_streams() -> None:
    """While draining, a running unary call completes, an endless stream ends UNAVAILABLE, a health watcher sees
    NOT_SERVING, and the drain does not wait out its grace."""
    async with serve() as (servicer, server, channel, stub):
        watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        lease = stub.Lease()
        await lease.read()
        slow = asyncio.ensure_future(stub.Reserve(ratelimit_pb2.ReserveRequest(reservation_id="slow")))
        await servicer.reached.wait()
        draining = asyncio.create_task(server.drain(60))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        error = from_rpc_error(await failure(lease.read()))
        assert isinstance(error, Unavailable)
        assert error.reason == "DRAINING"
        assert not slow.done()
        servicer.release.set()
        assert await slow == ratelimit_pb2.ReserveResponse()
        await asyncio.wait_for(draining, 30)


async def test_a_call_is_a_child_of_its_callers_trace() -> None:
    """The servicer runs inside the trace that the caller's traceparent names."""
    async with serve() as (servicer, _, _, stub):
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        sent = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
        await stub.Reserve(ratelimit_pb2.ReserveRequest(), metadata=sent)
        assert f"{servicer.trace_id:032x}" == trace_id
