"""The health service as a process, the way `dev up` and Kubernetes run it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from pointsman.health.v1 import health_pb2 as pb
from pointsman.types.v1 import types_pb2

from dev.engines.child import free_port
from libs.rpc.channel import metadata
from tests.support.engines import RedisServer, valkey
from tests.support.health_process import CATALOG, Stub, process


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG.format(domain="test"))
    return path


async def report(stub: Stub, error: types_pb2.ErrorClass, count: int) -> None:
    summary = pb.OutcomeSummary(provider="acme", model="large")
    summary.failures.add(error_class=error, count=count)
    call = stub.ReportOutcomes()
    await call.write(pb.ReportOutcomesRequest(sequence=1, outcomes=[summary]))
    assert (await anext(aiter(call))).sequence == 1
    call.cancel()


async def until(condition: Callable[[list[pb.ProviderHealthState]], bool], stub: Stub) -> None:
    async with asyncio.timeout(30):
        while True:
            listed = await stub.ListProviders(pb.ListProvidersRequest())
            if condition(list(listed.providers)):
                return
            await asyncio.sleep(0.05)


async def test_it_survives_a_crash_with_what_it_knew(server: RedisServer, catalog: Path) -> None:
    """Circuits and operators' words outlive `kill -9` of the only replica; SIGTERM ends one with open streams by
    itself, with status 0."""
    options = {"redis_url": server.url, "probe": "false", "drain_seconds": "0.5"}
    async with process(catalog, options) as running, running.stub() as stub:
        await report(stub, types_pb2.ERROR_CLASS_SERVER_ERROR, 3)
        word = pb.SetProviderModeRequest(
            provider="acme", mode=pb.PROVIDER_MODE_DRAIN, author="ann", reason="why"
        )
        await stub.SetProviderMode(word)
        running.child.send_signal(signal.SIGKILL)
        assert await running.child.wait() == -signal.SIGKILL
    async with process(catalog, options) as running, running.stub() as stub:
        watch = stub.WatchProviders(pb.WatchProvidersRequest(watcher_id="test"))
        messages = aiter(watch)
        states = {s.model: s for s in (await anext(messages)).providers}
        assert states[""].mode == pb.PROVIDER_MODE_DRAIN
        assert states["large"].circuit.state == pb.CIRCUIT_STATE_OPEN
        assert "faults" in states["large"].reason
        running.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                [message async for message in messages]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with asyncio.timeout(30):
            assert await running.child.wait() == 0


async def test_it_starts_without_valkey_and_judges_alone(catalog: Path) -> None:
    """No store is no reason not to serve; the free endpoint that nobody answers opens the idle provider's circuit."""
    options = {
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "probe_idle_interval": "1",
    }
    async with process(catalog, options) as running, running.stub() as stub:
        await until(lambda states: states[0].circuit.state == pb.CIRCUIT_STATE_OPEN, stub)
        await report(stub, types_pb2.ERROR_CLASS_SERVER_ERROR, 3)
        await until(lambda states: states[1].status == pb.PROVIDER_STATUS_DOWN, stub)


async def test_a_changed_catalog_is_taken_over(server: RedisServer, catalog: Path) -> None:
    """Another model appears without a restart."""
    options = {"redis_url": server.url, "probe": "false"}
    async with process(catalog, options) as running, running.stub() as stub:
        good = catalog.read_text()
        catalog.write_text(good.replace("acme/large", "acme/next"))
        await until(lambda states: [s.model for s in states] == ["", "next"], stub)


async def test_a_service_token_keeps_strangers_out(server: RedisServer, catalog: Path) -> None:
    """Every method asks for the service token that is set."""
    options = {"redis_url": server.url, "probe": "false"}
    async with process(catalog, options, POINTSMAN_SERVICE_TOKEN="s3cret") as running, running.stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListProviders(pb.ListProvidersRequest())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        listed = await stub.ListProviders(pb.ListProvidersRequest(), metadata=metadata("s3cret"))
        assert len(listed.providers) == 2


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "POINTSMAN_HEALTH_REDIS_URL"),
        ({"redis_url": "http://secret-password@host"}, "POINTSMAN_HEALTH_REDIS_URL"),
        ({"redis_url": "redis://127.0.0.1:1/0", "heartbeat": "9"}, "POINTSMAN_HEALTH_HEARTBEAT"),
        ({"redis_url": "redis://127.0.0.1:1/0", "degraded_rate": "-1"}, "POINTSMAN_HEALTH_DEGRADED_RATE"),
    ],
)
async def test_bad_settings_end_it_with_one_clear_line(
    catalog: Path, variables: dict[str, str], named: str
) -> None:
    """Status 64, the variable's name, and never its value."""
    async with process(catalog, variables) as running:
        assert await running.child.wait() == 64
        said = running.log.read_text()
    assert named in said
    assert "secret-password" not in said
    assert len(said.splitlines()) == 1
