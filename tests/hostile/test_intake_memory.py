"""Memory of a server process under calls that fail: it does not grow with their number."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from pointsman.router.v1 import router_pb2

from libs.rpc.channel import connect, metadata
from tests.support.http2 import HalfSent
from tests.support.scripted_router import GENERATE, STREAM_GENERATE

MIB = 1024 * 1024
#: Of one request's text. It is sent compressed: 500 bytes on the wire.
SIZE = MIB // 2
#: Of one message that is sent by halves.
HALF = 9 * MIB
#: What calls one after another may take, with room for what the allocator keeps: a few copies of one request.
ROOM = 40 * MIB


@dataclass(frozen=True, slots=True)
class State:
    """Of the process: resident bytes, requests and errors alive, bytes in flight."""

    resident: int
    alive: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Served:
    """A server process. `state` asks it for its state."""

    process: asyncio.subprocess.Process
    address: str

    async def state(self) -> State:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        return State(*map(int, (await self.process.stdout.readline()).split()))


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.scripted_router",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield Served(process, f"127.0.0.1:{port}")
    finally:
        process.stdin.close()
        await process.wait()


async def fail(channel: grpc.aio.Channel, method: str, message: bytes, key: str, times: int) -> set[str]:
    """Calls one after another; the codes that they ended with."""
    codes = set()
    for _ in range(times):
        try:
            if method == STREAM_GENERATE:
                stream: Any = channel.unary_stream(method)
                async for _ in stream(message, metadata=metadata(key), compression=grpc.Compression.Gzip):
                    pass
            else:
                unary: Any = channel.unary_unary(method)
                await unary(message, metadata=metadata(key), compression=grpc.Compression.Gzip)
        except grpc.aio.AioRpcError as error:
            codes.add(error.code().name)
    return codes


@pytest.mark.parametrize("method", [GENERATE, STREAM_GENERATE])
@pytest.mark.parametrize(
    ("key", "does", "times", "codes"),
    [
        ("unknown", "", 500, {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}),
        ("key-a", "refused", 60, {"INVALID_ARGUMENT"}),
    ],
)
async def test_large_calls_that_fail_leave_no_memory_behind(
    method: str, key: str, does: str, times: int, codes: set[str]
) -> None:
    """After n and after 2n of them the process has grown by no more than a few calls take, whoever sent them."""
    request = router_pb2.GenerateRequest()
    request.generation.request_id = does
    request.generation.messages.add(text="x" * SIZE)
    message = request.SerializeToString()
    async with served() as server, connect(server.address) as channel:
        before = await server.state()
        for _ in range(2):
            assert await fail(channel, method, message, key, times) <= codes
            after = await server.state()
            assert after.resident < before.resident + ROOM
            assert after.alive <= before.alive + 5
            assert after.in_flight == 0


@pytest.mark.parametrize(
    "headers", [[], [(b"authorization", b"Bearer key-a")]], ids=["unknown caller", "tenant"]
)
async def test_halves_of_large_messages_do_not_add_up(headers: list[tuple[bytes, bytes]]) -> None:
    """Twice as many calls that keep back the last byte of 9 MiB take no more memory: 6 turns of one caller, and a
    window of each connection."""
    async with served() as server:
        before = await server.state()
        peaks = []
        for connections in (4, 8):
            halves = [HalfSent(server.address, GENERATE, HALF, headers) for _ in range(connections)]
            holding = [asyncio.create_task(one.hold(5)) for one in halves]
            peak = 0
            while sum(half.ended for half in halves) < 5 * connections:
                peak = max(peak, (await server.state()).resident)
                await asyncio.sleep(0.1)
            peaks.append(peak - before.resident)
            await asyncio.gather(*holding)
        assert max(peaks) < 6 * HALF + 2 * ROOM
        assert peaks[1] < peaks[0] + ROOM
