"""A router's set-aside entries, seen and cleared by operators over gRPC and from the command line; tenants may
not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from cli.app import main
from dev.engines.child import free_port
from libs.catalog.model import Tenant
from libs.client import Client, SetAsideClient
from libs.clock import SystemClock
from libs.errors import NotFound, PermissionDenied, PointsmanError, Unauthenticated
from libs.ids import TimeOrderedIds
from libs.lifecycle import background
from libs.rpc.change_sender import ChangeNotes, ChangeSender
from libs.rpc.channel import connect
from libs.rpc.server import Registration
from libs.types import ErrorClass
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.identity import TenantKeys
from services.router.api.servicer import RouterServicer
from tests.support.address import fresh_address
from tests.support.analytics import analytics
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database
from tests.support.routing import TENANT, Harness, catalog, fail, generation, model, new_id
from tests.support.server import grpc_server

TENANT_KEY, TOKEN = "acme-key", "service-token"
SERVICE = "pointsman.router.v1.Router"


@asynccontextmanager
async def router(
    token: str = TOKEN, changes: ChangeNotes | None = None
) -> AsyncIterator[tuple[str, Harness]]:
    """A router on a socket with fake providers, whose a/m is set aside as retired."""
    tenant = Tenant(TENANT.name, key_hashes=(hashlib.sha256(TENANT_KEY.encode()).hexdigest(),))
    known = replace(catalog([model("a/m")], [model("b/m")]), tenants={tenant.name: tenant})
    h = Harness(known, {"a/m": [fail(ErrorClass.MODEL_NOT_FOUND)], "b/m": ["fine"]})
    for n in range(3):
        await h.generate.whole(known, tenant, generation(request_id=f"r{n}", deadline=9e9))
    servicer = RouterServicer(
        Entry(lambda: known, h.generate, h.dry_run, h.clock, new_id), h.set_aside, Heartbeats(0.0), changes
    )
    server = grpc_server(
        [Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, SERVICE)],
        TenantKeys(lambda: known, token),
    )
    await server.start(fresh_address())
    server.begin_serving()
    try:
        yield f"127.0.0.1:{server.port}", h
    finally:
        await server.drain(0)


async def test_an_operator_sees_and_clears() -> None:
    """The entry comes with its kind, class and reason; cleared, it is gone, and a second time NOT_FOUND."""
    async with router() as (address, h), SetAsideClient(address, TOKEN, timeout=10) as operator:
        [entry] = await operator.list_set_aside()
        assert (entry.name, entry.kind, entry.times) == ("model:a/m", "model", 1)
        assert entry.error_class is ErrorClass.MODEL_NOT_FOUND
        assert "no such model" in entry.reason
        assert entry.until > h.clock.now()
        assert (await operator.clear_set_aside("model:a/m")).name == "model:a/m"
        assert await operator.list_set_aside() == ()
        with pytest.raises(NotFound):
            await operator.clear_set_aside("model:a/m")


async def test_what_is_put_back_is_noted(postgres_server: PostgresServer) -> None:
    """In the history, through a time without analytics: who, why, and what was set aside."""
    port = free_port()
    async with connect(f"127.0.0.1:{port}") as channel:
        changes = ChangeSender(channel, "", TimeOrderedIds(Random(1)), SystemClock())
        async with (
            router(changes=changes) as (address, _),
            SetAsideClient(address, TOKEN, timeout=10) as operator,
        ):
            await operator.clear_set_aside("model:a/m", author="ann", reason="it is back")
        await changes.send()
        async with (
            fresh_database(postgres_server) as dsn,
            analytics(dsn, listen=f"127.0.0.1:{port}") as kept,
            background("changes", changes.run),
            asyncio.timeout(20),
        ):
            while not (
                found := (await kept.stub.ListChanges(pb.ListChangesRequest(), wait_for_ready=True)).changes
            ):
                await asyncio.sleep(0.05)
            (change,) = found
            assert (change.kind, change.name, change.author) == ("set_aside", "model:a/m", "ann")
            assert (change.reason, change.after) == ("it is back", "")
            assert "no such model" in change.before


async def test_a_plan_says_why() -> None:
    """SelectProvider shows the tenant the reason beside the excluded model."""
    async with router() as (address, _), Client(address, TENANT_KEY, timeout=10) as caller:
        chosen = await caller.select("hello")
        [other] = chosen.alternatives
        assert other.excluded_because.startswith("set aside for another ")


@pytest.mark.parametrize(
    ("key", "token", "error"),
    [
        (TENANT_KEY, TOKEN, PermissionDenied),
        ("wrong", TOKEN, Unauthenticated),
        ("", TOKEN, Unauthenticated),
        # Without a service token nobody is an operator, whatever is sent.
        (TENANT_KEY, "", PermissionDenied),
        (TOKEN, "", Unauthenticated),
    ],
)
async def test_nobody_else_may(key: str, token: str, error: type[PointsmanError]) -> None:
    """Both calls are refused, and nothing changes."""
    async with router(token) as (address, h), SetAsideClient(address, key, timeout=10) as other:
        with pytest.raises(error):
            await other.list_set_aside()
        with pytest.raises(error):
            await other.clear_set_aside("model:a/m")
        assert len(h.set_aside.entries()) == 1


async def test_an_operator_is_no_tenant() -> None:
    """The service token buys no generation."""
    async with router() as (address, _), Client(address, TOKEN, timeout=10) as caller:
        with pytest.raises(PermissionDenied) as caught:
            await caller.list_models()
        assert caught.value.reason == "TENANT_KEY_REQUIRED"


async def test_the_command_line_without_a_health_monitor_still_clears(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--put-back` reaches the router before anything else is asked; a wrong name is one clear error."""
    async with router() as (address, h):
        monkeypatch.setenv("POINTSMAN_SERVICE_TOKEN", TOKEN)
        arguments = ["providers", "--json", "--router", address, "--health", "127.0.0.1:1", "--timeout", "5"]
        assert await asyncio.to_thread(main, [*arguments, "--put-back", "model:b/m"]) == 1
        assert json.loads(capsys.readouterr().err)["error"]["reason"] == "NOT_SET_ASIDE"
        assert await asyncio.to_thread(main, [*arguments, "--put-back", "model:a/m"]) == 1
        assert h.set_aside.entries() == []
