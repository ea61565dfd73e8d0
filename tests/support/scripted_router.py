"""A router's gRPC server with a servicer that does what the request's id says, in this process or as one of its own.

As a process (`python -m tests.support.scripted_router`) it prints its port, collects garbage as a service does, and
for each line on stdin prints its resident bytes, how many requests and errors are alive, and the bytes in flight.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from pointsman.router.v1 import router_pb2, router_pb2_grpc

from libs.clock import Clock, SystemClock
from libs.errors import FieldViolation, InvalidArgument, Unauthenticated, Unavailable
from libs.intake import BytesInFlight
from libs.rpc.receive import MessageBounds
from libs.rpc.server import GrpcServer, Registration
from libs.telemetry import Metrics
from tests.support.address import fresh_address
from tests.support.server import grpc_server

SERVICE = "pointsman.router.v1.Router"
GENERATE, STREAM_GENERATE = f"/{SERVICE}/Generate", f"/{SERVICE}/StreamGenerate"
#: Of one request: a router's own.
BOUNDS = MessageBounds(message_bytes=10 * 1024 * 1024, elements=50_000)


class Tenants:
    """The tenant `a` has the key `key-a`, and so every other."""

    def authenticate(self, key: str | None) -> str:
        if key is None or not key.startswith("key-"):
            raise Unauthenticated("No tenant has this key", reason="KEY_UNKNOWN")
        return key.removeprefix("key-")


class Scripted(router_pb2_grpc.RouterServicer):
    """Fails or waits as `request_id` says."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.calls: Counter[str] = Counter()

    async def Generate(self, request: Any, context: Any) -> router_pb2.GenerateResponse:
        await self._act(request)
        return router_pb2.GenerateResponse()

    async def StreamGenerate(
        self, request: Any, context: Any
    ) -> AsyncIterator[router_pb2.StreamGenerateResponse]:
        yield router_pb2.StreamGenerateResponse()
        await self._act(request)

    async def _act(self, request: Any) -> None:
        does = request.generation.request_id
        self.calls[does] += 1
        if does == "refused":
            raise InvalidArgument([FieldViolation("generation", "is wrong")])
        if does == "chained":
            await self._fail_for_a_reason(request)
        if does == "bug":
            raise ValueError("a bug")
        if does == "waits":
            await self.release.wait()

    async def _fail_for_a_reason(self, request: Any) -> None:
        """The commonest circle: a frame that keeps the error that passed through it."""
        kept: Exception | None = None
        try:
            raise ConnectionError(request.generation.request_id)
        except ConnectionError as error:
            kept = error
        raise Unavailable("not now") from kept


@asynccontextmanager
async def scripted_router(
    bytes_in_flight: BytesInFlight | None = None, clock: Clock | None = None
) -> AsyncIterator[tuple[Scripted, GrpcServer, Metrics]]:
    """The server, serving."""
    clock, metrics, servicer = clock or SystemClock(), Metrics(), Scripted()  # type: ignore[abstract]  # of the other methods
    add = router_pb2_grpc.add_RouterServicer_to_server
    server = grpc_server(
        [Registration(add, servicer, SERVICE, bounds=BOUNDS)],
        Tenants(),
        metrics=metrics,
        clock=clock,
        bytes_in_flight=bytes_in_flight,
    )
    await server.start(fresh_address())
    server.begin_serving()
    try:
        yield servicer, server, metrics
    finally:
        servicer.release.set()
        await server.drain(0)


def alive() -> int:
    """Requests and errors that something still holds."""
    kinds = (router_pb2.GenerateRequest, router_pb2.StreamGenerateRequest, BaseException)
    return sum(isinstance(one, kinds) for one in gc.get_objects())


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise LookupError("no VmRSS")


async def _serve() -> None:
    bytes_in_flight = BytesInFlight()
    async with scripted_router(bytes_in_flight) as (_, server, _):
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        print(server.port, flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
        )
        while await lines.readline():
            print(_resident_bytes(), alive(), bytes_in_flight.total, flush=True)


if __name__ == "__main__":
    uvloop.run(_serve())
