"""Health replicas on a real Valkey, each behind its own gRPC server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from pointsman.health.v1 import health_pb2 as pb
from pointsman.health.v1 import health_pb2_grpc
from pointsman.types.v1 import types_pb2
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.clock import SystemClock
from libs.lifecycle import background
from libs.resilience.evidence import BreakerSettings
from libs.rpc.channel import connect
from libs.rpc.server import GrpcServer, Registration
from services.health.adapters.redis_store import RedisHealthStore
from services.health.servicer import SERVICE
from tests.support.address import fresh_address
from tests.support.engines import RedisServer
from tests.support.health import Replica
from tests.support.server import grpc_server

# Short, so that a test sees a whole life of a circuit; long enough that nothing happens by accident.
SETTINGS = BreakerSettings(open_seconds=0.4, open_cap=2.0, jitter=0.0, permit_ttl=1.0, ramp_seconds=0.5)
SHARE = 0.05


@dataclass
class Served:
    """One replica behind its own server, and a stub that talks to it."""

    replica: Replica
    stub: health_pb2_grpc.ProviderHealthAsyncStub
    channel: grpc.aio.Channel
    server: GrpcServer

    async def report(
        self, model: str, *, ok: int = 0, faults: int = 0, permit: str = "", transport: bool = False
    ) -> None:
        summary = pb.OutcomeSummary(provider="acme", model=model, successes=ok, probe_permit=permit)
        if faults:
            error = types_pb2.ERROR_CLASS_TRANSPORT if transport else types_pb2.ERROR_CLASS_SERVER_ERROR
            summary.failures.add(error_class=error, count=faults)
        await self.send(pb.ReportOutcomesRequest(reporter_id="t", sequence=1, outcomes=[summary]))

    async def send(self, *reports: pb.ReportOutcomesRequest) -> list[int]:
        call = self.stub.ReportOutcomes()
        for report in reports:
            await call.write(report)
        await call.done_writing()
        return [answer.sequence async for answer in call]

    async def state(self, provider: str, model: str = "") -> pb.ProviderHealthState:
        listed = await self.stub.ListProviders(pb.ListProvidersRequest(provider=provider))
        return next(s for s in listed.providers if s.model == model)

    async def circuit(self, model: str = "") -> int:
        return (await self.state("acme", model)).circuit.state


Start = Callable[[str], Awaitable[Served]]


@asynccontextmanager
async def fleet(server: RedisServer) -> AsyncIterator[Start]:
    """Starts replicas of one fleet."""
    domain = secrets.token_hex(4)
    async with AsyncExitStack() as stack:

        async def start(name: str) -> Served:
            redis = Redis.from_url(
                server.url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 1)
            )
            stack.push_async_callback(redis.aclose)
            store = RedisHealthStore(redis, domain, name, lambda: secrets.token_hex(4), SystemClock())
            replica = Replica(SystemClock(), store, name=name, settings=SETTINGS)
            replica.sharer._interval = SHARE
            registration = Registration(
                health_pb2_grpc.add_ProviderHealthServicer_to_server,
                replica.servicer(heartbeat=0.2),
                SERVICE,
                long_lived=frozenset({"WatchProviders", "ReportOutcomes"}),
            )
            replica_server = grpc_server([registration], metrics=replica.metrics)
            await replica_server.start(fresh_address())
            replica_server.begin_serving()
            stack.push_async_callback(replica_server.drain, 0.1)
            await replica.sharer.exchange()
            await stack.enter_async_context(background("judge", replica.judge.run))
            await stack.enter_async_context(background("share", replica.sharer.run))
            channel = connect(f"127.0.0.1:{replica_server.port}")
            stack.push_async_callback(channel.close)
            return Served(replica, health_pb2_grpc.ProviderHealthStub(channel), channel, replica_server)

        yield start


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Waits for a condition; fails when it does not come."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def all_in(replicas: list[Served], state: int, model: str = "large") -> None:
    async def agreed() -> bool:
        return {await replica.circuit(model) for replica in replicas} == {state}

    await until(agreed)
