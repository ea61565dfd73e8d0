"""The meaning to a client of a status that no servicer of ours has made."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from libs.client.connection import CLOCKS_APART, _failure
from libs.errors import DeadlineExceeded, Unavailable


def bare(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="")


@pytest.mark.parametrize(
    ("code", "left", "error", "reason"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, 0.0, DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, 0.0, DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, CLOCKS_APART / 2, DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, 60.0, Unavailable, "TRANSPORT_UNAVAILABLE"),
        (grpc.StatusCode.UNAVAILABLE, 60.0, Unavailable, "TRANSPORT_UNAVAILABLE"),
    ],
)
async def test_a_deadline_has_one_name_whoever_sees_it_pass(
    code: grpc.StatusCode, left: float, error: type[Exception], reason: str
) -> None:
    """A server that ends the call a moment before our clock does has seen the deadline pass; one that ends it with
    time left was stopped."""
    failure = _failure(bare(code), asyncio.get_running_loop().time() + left)
    assert (type(failure), failure.reason) == (error, reason)
