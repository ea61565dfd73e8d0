"""Channels and how they connect."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.rpc.channel import connect
from libs.rpc.health import HealthServicer, add_health
from tests.support.address import fresh_address

#: Seconds that the first bytes from the server take: a far network, or a machine with much to do.
FAR = 0.3


async def test_a_call_survives_a_slow_handshake() -> None:
    """A connection that takes longer than the first retry interval is waited for, not given up: gRPC reads the least
    reconnect backoff as the time one attempt may take."""
    server = grpc.aio.server()
    health = HealthServicer()
    add_health(health, server)
    health.set("", serving=True)
    port = server.add_insecure_port(fresh_address())
    await server.start()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with suppress(ConnectionError):
            await asyncio.sleep(delay)
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        tasks.add(asyncio.create_task(pump(reader, forth, 0)))
        tasks.add(asyncio.create_task(pump(back, writer, FAR)))

    slow = await asyncio.start_server(through, "127.0.0.1", 0)
    try:
        async with connect(f"127.0.0.1:{slow.sockets[0].getsockname()[1]}") as channel:
            # The library's types know none of its methods.
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        slow.close()
        await server.stop(0)
        await asyncio.gather(*tasks)
