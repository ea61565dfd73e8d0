"""An error arrives as what it is, however long it is and in whatever script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pointsman.ratelimit.v1 import ratelimit_pb2, ratelimit_pb2_grpc

from libs.errors import (
    FieldViolation,
    InvalidArgument,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unavailable,
)
from libs.rpc.channel import connect
from libs.rpc.server import Registration
from libs.rpc.status import code_of, from_rpc_error, to_status, trailers_of
from tests.support.address import fresh_address
from tests.support.server import grpc_server

SERVICE = "pointsman.ratelimit.v1.RateLimiter"
#: What a peer takes by default: RFC 9113's count of the names and values, and 32 bytes for each.
PEER_TAKES = 8 * 1024


class Failing(ratelimit_pb2_grpc.RateLimiterServicer):
    """Fails as told, on a call and on a stream."""

    error: PointsmanError

    async def Reserve(self, request: Any, context: Any) -> ratelimit_pb2.ReserveResponse:
        raise self.error

    async def Lease(self, requests: Any, context: Any) -> AsyncIterator[ratelimit_pb2.LeaseResponse]:
        yield ratelimit_pb2.LeaseResponse()
        raise self.error


@asynccontextmanager
async def failing() -> AsyncIterator[tuple[Failing, ratelimit_pb2_grpc.RateLimiterAsyncStub]]:
    servicer = Failing()  # type: ignore[abstract]  # nobody calls the other methods
    add = ratelimit_pb2_grpc.add_RateLimiterServicer_to_server
    server = grpc_server([Registration(add, servicer, SERVICE)])
    await server.start(fresh_address())
    async with connect(f"127.0.0.1:{server.port}") as channel:
        yield servicer, ratelimit_pb2_grpc.RateLimiterStub(channel)
    await server.drain(0)


def sent_size(error: PointsmanError) -> int:
    """Bytes of a status's trailers as a peer counts them."""
    message, trailers = trailers_of(error)
    encoded = sum(
        1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in message.encode()
    )  # gRPC's percent-encoding
    size = len("grpc-status") + 2 + 32 + len("grpc-message") + encoded + 32
    return size + sum(len(name) + (len(value) + 2) // 3 * 4 + 32 for name, value in trailers)


texts = st.one_of(
    st.text(st.characters(), max_size=50),
    st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=4), st.integers(1, 1500)),
)
errors: st.SearchStrategy[PointsmanError] = st.one_of(
    st.builds(
        Unavailable,
        texts,
        reason=st.one_of(st.none(), texts),
        metadata=st.dictionaries(texts, texts, max_size=30),
        retry_after=st.one_of(st.none(), st.floats(allow_nan=False)),
    ),
    st.builds(InvalidArgument, st.lists(st.builds(FieldViolation, texts, texts), max_size=60)),
    st.builds(
        ResourceExhausted,
        texts,
        st.lists(st.builds(QuotaViolation, texts, texts, st.integers()), max_size=60),
        metadata=st.dictionaries(texts, texts, max_size=30),
    ),
)


@settings(deadline=None)
@given(errors)
@example(Unavailable("错" * 1000))
@example(Unavailable("\ud83d" * 1000, metadata={"\ud83d": "\udc00"}, retry_after=float("inf")))
@example(ResourceExhausted("x", [QuotaViolation("😀" * 500, "😀" * 500, 2**70)] * 60))
def test_no_status_is_longer_than_a_peer_takes(error: PointsmanError) -> None:
    """Message, reason, metadata and violations together, counted as they are sent, leave room for a proxy's own."""
    assert sent_size(error) <= PEER_TAKES - 1000


@given(errors)
def test_what_is_cut_ends_with_a_whole_character(error: PointsmanError) -> None:
    """A long message is told by its beginning; a lone surrogate, which cannot be sent, is a question mark."""
    whole = error.message.encode(errors="replace").decode()
    assert whole.startswith(to_status(error).message)
    assert whole.startswith(trailers_of(error)[0])


async def test_errors_of_any_text_arrive_with_their_own_code() -> None:
    """Through a real server to a real client, from a call and from a stream that has begun: never another status."""
    async with failing() as (servicer, stub):
        wrong = []
        for error in _found(errors, 60):
            servicer.error = error
            with pytest.raises(grpc.aio.AioRpcError) as unary:
                await stub.Reserve(ratelimit_pb2.ReserveRequest())
            with pytest.raises(grpc.aio.AioRpcError) as stream:
                async for _ in stub.Lease():
                    pass
            for caught in (unary.value, stream.value):
                arrived = from_rpc_error(caught)
                if caught.code() is not code_of(error) or type(arrived) is not type(error):
                    wrong.append((caught.code(), caught.details(), error))
                elif not isinstance(error, InvalidArgument):
                    assert arrived.message == (
                        to_status(error).message or caught.details() or arrived.message
                    )
        assert not wrong


@pytest.mark.parametrize("count", [700, 1000])
async def test_a_long_error_in_chinese_is_never_taken_for_another(count: int) -> None:
    """UNAVAILABLE of 700 and of 1,000 characters, a hundred times each, with what fits of its text."""
    async with failing() as (servicer, stub):
        servicer.error = Unavailable("错" * count, retry_after=1.0)
        for _ in range(100):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Reserve(ratelimit_pb2.ReserveRequest())
            arrived = from_rpc_error(caught.value)
            assert isinstance(arrived, Unavailable)
            assert arrived.retry_after == 1.0
            assert arrived.message == "错" * 500


def test_a_short_error_is_told_whole() -> None:
    """Nothing is cut that fits: an ordinary refusal keeps its text, its violations and its metadata."""
    violations = [FieldViolation(f"generation.messages[{n}].role", "must be set") for n in range(20)]
    status = to_status(InvalidArgument(violations, metadata={"content_type": "seo"}))
    assert status.message == "; ".join(f"{v.field}: must be set" for v in violations)
    assert len(status.details) == 2


def _found(strategy: st.SearchStrategy[PointsmanError], count: int) -> list[PointsmanError]:
    """Examples of a strategy, always the same ones."""
    found: list[PointsmanError] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(error: PointsmanError) -> None:
        found.append(error)

    collect()
    return found
