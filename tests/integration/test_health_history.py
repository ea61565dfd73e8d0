"""Operators' words outlive what keeps them: health processes on a real Valkey, analytics on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from pointsman.health.v1 import health_pb2 as pb
from redis.asyncio import Redis

from libs.change import Change
from libs.rpc.change_wire import change_from_proto
from tests.support.address import fresh_address
from tests.support.analytics import analytics
from tests.support.engines import PostgresServer, RedisServer, valkey
from tests.support.health_process import CATALOG, Running, Stub, process
from tests.support.postgres import fresh_database

MORE = """\
  acme/small: {context_window: 8000, max_output_tokens: 1000, price: {input: 1, output: 1}}
content_types:
  general: {max_output_tokens: 500}
  blog: {max_output_tokens: 500}
"""


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@pytest.fixture
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG.format(domain="test").partition("content_types:")[0] + MORE)
    return path


@pytest.fixture
def options(server: RedisServer) -> dict[str, str]:
    return {
        "redis_url": server.url,
        "probe": "false",
        "drain_seconds": "0.5",
        "share_interval": "0.1",
        "analytics_target": fresh_address(),
    }


async def speak(stub: Stub) -> list[str]:
    """Says all kinds of things, and returns the ids of the changes."""
    now = int(time.time())
    window = pb.MaintenanceWindow(
        provider="acme",
        model="small",
        starts=Timestamp(seconds=now - 60),
        ends=Timestamp(seconds=now + 3600),
        weekly=True,
        time_zone="Europe/Berlin",
        drain=Duration(seconds=60),
        reason="racks",
    )
    blocked = await stub.SetProviderMode(
        pb.SetProviderModeRequest(
            provider="acme", model="large", mode=pb.PROVIDER_MODE_BLOCKED, author="ann", reason="bad key"
        )
    )
    rehabilitated = await stub.SetProviderMode(
        pb.SetProviderModeRequest(
            provider="acme",
            model="large",
            mode=pb.PROVIDER_MODE_REHABILITATING,
            by_hand=True,
            author="bob",
            reason="new key",
        )
    )
    added = await stub.AddMaintenanceWindow(pb.AddMaintenanceWindowRequest(window=window, author="ann"))
    of_all = await stub.TriggerFailover(
        pb.TriggerFailoverRequest(
            provider="acme", reason="region", author="ann", duration=Duration(seconds=3600)
        )
    )
    of_some = await stub.TriggerFailover(
        pb.TriggerFailoverRequest(
            provider="acme",
            model="small",
            reason="slow",
            author="ann",
            duration=Duration(seconds=3600),
            content_types=["blog"],
            to_provider="acme",
            to_model="large",
        )
    )
    changes = (blocked.change, rehabilitated.change, added.change, of_all.change, of_some.change)
    return [change.change_id for change in changes]


async def snapshot(stub: Stub) -> Any:
    """Everything that follows from operators' words."""
    listed = await stub.ListProviders(pb.ListProvidersRequest())
    windows = await stub.ListMaintenanceWindows(pb.ListMaintenanceWindowsRequest())
    states = [
        (
            *(s.provider, s.model, s.mode, s.status, s.mode_version, s.ramp, s.reason, s.circuit.state),
            round(s.circuit.open_until.ToNanoseconds() / 1e9, 2),
            [failover.SerializeToString() for failover in s.failovers],
        )
        for s in listed.providers
    ]
    return states, [w.SerializeToString() for w in windows.windows]


async def history(stub: analytics_pb2_grpc.AnalyticsAsyncStub) -> list[Change]:
    listed = await stub.ListChanges(analytics_pb2.ListChangesRequest())
    return [change_from_proto(change) for change in listed.changes]


async def recorded(stub: analytics_pb2_grpc.AnalyticsAsyncStub, ids: list[str]) -> list[Change]:
    """The history, once it has these."""
    async with asyncio.timeout(20):
        while True:
            found = await history(stub)
            if set(ids) <= {change.change_id for change in found}:
                return found
            await asyncio.sleep(0.05)


async def settled(stub: Stub, expected: object) -> None:
    """Returns once the replica says the same."""
    async with asyncio.timeout(20):
        while await snapshot(stub) != expected:
            await asyncio.sleep(0.05)


async def kill(replica: Running) -> None:
    replica.child.send_signal(signal.SIGKILL)
    await replica.child.wait()


async def lose_data(server: RedisServer) -> None:
    async with Redis.from_url(server.url) as client:
        await client.flushall()


async def test_all_replicas_killed_and_valkey_emptied_the_state_is_that_of_before(
    server: RedisServer, catalog: Path, options: dict[str, str], dsn: str
) -> None:
    """Modes, windows, failovers, versions, circuits: equal to the full snapshot, at the first answer."""
    async with analytics(dsn, listen=options["analytics_target"]) as kept:
        async with AsyncExitStack() as stack:
            a, b = [await stack.enter_async_context(process(catalog, options, name)) for name in "ab"]
            async with a.stub() as stub, b.stub() as other:
                ids = await speak(stub)
                before = await snapshot(stub)
                await settled(other, before)
                found = await recorded(kept.stub, ids)
                assert {change.change_id for change in found} == set(ids)
                assert {change.author for change in found} == {"ann", "bob"}
                await kill(a)
                await kill(b)
        await lose_data(server)
        async with process(catalog, options, "c") as fresh, fresh.stub() as stub:
            assert await snapshot(stub) == before
            undone = await stub.UndoChange(
                pb.UndoChangeRequest(change_id=ids[1], author="eve", reason="not yet")
            )
            assert undone.change.undoes == ids[1]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.UndoChange(pb.UndoChangeRequest(change_id=ids[0], author="eve", reason="x"))
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            after = await snapshot(stub)
            await recorded(kept.stub, [undone.change.change_id])
        async with process(catalog, options, "d") as last, last.stub() as stub:
            assert await snapshot(stub) == after


async def test_valkey_emptied_under_a_living_replica_a_late_one_knows_all(
    server: RedisServer, catalog: Path, options: dict[str, str]
) -> None:
    """Though there is no history at all."""
    del options["analytics_target"]
    async with process(catalog, options, "a") as a, a.stub() as stub:
        await speak(stub)
        before = await snapshot(stub)
        await lose_data(server)
        async with process(catalog, options, "b") as b, b.stub() as other:
            await settled(other, before)
        assert await snapshot(stub) == before


async def test_changes_made_while_analytics_is_gone_arrive_though_their_replica_died(
    server: RedisServer, catalog: Path, options: dict[str, str], dsn: str
) -> None:
    """They wait in Valkey, through its restart; each is written once, whoever sends it."""
    async with process(catalog, options, "a") as a, a.stub() as stub:
        ids = await speak(stub)
        before = await snapshot(stub)
        await kill(a)
    await server.restart()
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(process(catalog, options, name)) for name in "bc"]
        stubs = [await stack.enter_async_context(replica.stub()) for replica in replicas]
        for stub in stubs:
            assert await snapshot(stub) == before
        async with analytics(dsn, listen=options["analytics_target"]) as kept:
            found = await recorded(kept.stub, ids)
            assert sorted(change.change_id for change in found) == sorted(ids)
            async with Redis.from_url(server.url) as client, asyncio.timeout(20):
                while await client.hlen("{pointsman:test:health:1}:unrecorded"):
                    await asyncio.sleep(0.05)
