"""The members of the stack: engines and services, each started until it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2

from dev.engines import EngineError, Postgres, Valkey
from dev.engines.child import Child


class Member(Protocol):
    """One process of the stack."""

    @property
    def name(self) -> str:
        """Returns its name for people."""
        ...

    @property
    def address(self) -> str:
        """Returns host:port."""
        ...

    @property
    def child(self) -> Child:
        """Returns the process itself."""
        ...

    async def start(self) -> None:
        """Start, and return once it serves. Raises EngineError with its last log lines where it does not."""
        ...

    async def stop(self, grace: float) -> None:
        """Ask it to end; make it after `grace` seconds."""
        ...


Probe = Callable[[str], Awaitable[None]]


class Process:
    """A Python module of ours that listens on `address`; `probe(address)` returns once it serves."""

    def __init__(
        self,
        name: str,
        address: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: Path,
        log: Path,
        probe: Probe,
        patience: float = 30.0,
    ) -> None:
        """`patience`: seconds until a start without success counts as failed."""
        self.name = name
        self.address = address
        self.child = Child(name, argv, env, log, cwd)
        self._probe = probe
        self._patience = patience

    async def start(self) -> None:
        """See `Member.start`."""
        await self.child.start()
        probe = asyncio.ensure_future(self._probe(self.address))
        ended = asyncio.ensure_future(self.child.wait())
        try:
            await asyncio.wait({probe, ended}, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise EngineError(
                    f"{self.name} did not start (status {ended.result()}):\n{self.child.tail()}"
                )
            if not probe.done():
                raise EngineError(
                    f"{self.name} did not serve within {self._patience:.0f} s:\n{self.child.tail()}"
                )
            probe.result()
        except BaseException:
            await self.child.kill()
            raise
        finally:
            probe.cancel()
            ended.cancel()

    async def stop(self, grace: float) -> None:
        """See `Member.stop`."""
        await self.child.stop(grace)


class Engine:
    """Valkey or PostgreSQL as a member."""

    def __init__(self, name: str, engine: Valkey | Postgres) -> None:
        self.name = name
        self.address = f"127.0.0.1:{engine.port}"
        self.child = engine.child
        self._engine = engine

    async def start(self) -> None:
        """See `Member.start`."""
        await self._engine.start()

    async def stop(self, grace: float) -> None:
        """See `Member.stop`."""
        await self._engine.stop(grace)


async def grpc_serving(address: str) -> None:
    """Return once the server's overall grpc.health.v1 status is SERVING."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 1_000),  # how long one attempt to connect may take
        ("grpc.max_reconnect_backoff_ms", 100),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            try:
                response = await check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            except grpc.aio.AioRpcError:
                response = None  # it went away between connecting and answering
            if response is not None and response.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.02)


def http_serving(path: str) -> Probe:
    """Returns a probe that waits until a server answers 200 to GET `path`: what merely accepts may be somebody
    else."""

    async def probe(address: str) -> None:
        while not await _answers(address, path):
            await asyncio.sleep(0.02)

    return probe


async def _answers(address: str, path: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    except (OSError, ValueError):
        return False
    finally:
        writer.close()
