"""The router's picture of its targets against real health replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest

from libs.catalog.model import Model
from libs.clock import SystemClock
from libs.lifecycle import background
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.router.health.health_client import HealthMonitorClient
from services.router.health.target_health import Availability
from services.router.health.targets import Targets
from tests.support.engines import RedisServer, valkey
from tests.support.health_fleet import SETTINGS, Served, fleet, until

LARGE = Model("acme", "large", "large", 8000, 1000)
SMALL = Model("acme", "small", "small", 8000, 1000)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@asynccontextmanager
async def router(replica: Served, name: str) -> AsyncIterator[Targets]:
    """A router's targets, fed by a health client's loops, judgements arrived."""
    client = HealthMonitorClient(replica.channel, "", name, SystemClock(), Random(name), Metrics(), SETTINGS)
    async with AsyncExitStack() as stack:
        for task in (client.watch, client.report, client.probe):
            await stack.enter_async_context(background(name, task))
        await client.known.wait()
        yield client.targets


def fail(targets: Targets, model: Model, error: ErrorClass, retry_after: float | None = None) -> None:
    ticket = targets.begin_call(model)
    assert ticket is not None
    targets.record_failure(model, ticket, error, retry_after, "acme")


async def until_it_is(targets: Targets, model: Model, *wanted: Availability) -> None:
    async def reached() -> bool:
        return targets.health_of(model).availability in wanted

    await until(reached)


async def test_what_one_router_learns_all_routers_know(server: RedisServer) -> None:
    """One router's faults turn another one, at another replica, away; after one probe by one of them both return."""
    async with fleet(server) as start:
        one, two = await start("a"), await start("b")
        async with router(one, "r1") as first, router(two, "r2") as second:
            for _ in range(3):
                fail(first, LARGE, ErrorClass.SERVER_ERROR)
            await until_it_is(second, LARGE, Availability.DOWN)
            assert second.health_of(SMALL).availability is Availability.HEALTHY
            await until_it_is(second, LARGE, Availability.PROBING)
            ticket = second.begin_call(LARGE)
            assert ticket is not None
            assert second.begin_call(LARGE) is None
            second.record_success(LARGE, ticket, 0.5, 0.1, 50, "acme")
            for targets in (first, second):
                await until_it_is(targets, LARGE, Availability.DEGRADED, Availability.HEALTHY)
                await until_it_is(targets, LARGE, Availability.HEALTHY)


async def test_evidence_on_more_models_than_a_report_holds_arrives(server: RedisServer) -> None:
    """A router's evidence on 1,500 models since its last report is not refused for its length."""
    async with fleet(server) as start:
        one = await start("a")
        async with router(one, "r1") as first, router(one, "r2") as second:
            for number in range(1500):
                model = Model("acme", f"m{number}", f"m{number}", 8000, 1000)
                ticket = first.begin_call(model)
                assert ticket is not None
                first.record_success(model, ticket, 0.5, 0.1, 50, "acme")
            for _ in range(3):
                fail(first, LARGE, ErrorClass.SERVER_ERROR)
            await until_it_is(second, LARGE, Availability.DOWN)


async def test_a_rate_limit_ends_by_itself_for_all_routers(server: RedisServer) -> None:
    """Retry-After turns all routers away until then; afterwards nobody needs a probe."""
    async with fleet(server) as start:
        one = await start("a")
        async with router(one, "r1") as first, router(one, "r2") as second:
            fail(first, LARGE, ErrorClass.RATE_LIMITED, retry_after=1.5)
            await until_it_is(second, LARGE, Availability.DOWN)
            for targets in (first, second):
                await until_it_is(targets, LARGE, Availability.HEALTHY)
                assert targets.begin_call(LARGE) is not None


async def test_a_router_goes_on_without_health(server: RedisServer) -> None:
    """It keeps what it was told, and its own breaker opens, half-opens with a permit of its own and closes."""
    async with fleet(server) as start:
        one = await start("a")
        async with router(one, "r1") as targets:
            await one.server.drain(0.0)
            assert targets.health_of(LARGE).availability is Availability.HEALTHY
            for _ in range(3):
                fail(targets, LARGE, ErrorClass.TIMEOUT)
            assert targets.health_of(LARGE).availability is Availability.DOWN
            await until_it_is(targets, LARGE, Availability.PROBING)
            ticket = targets.begin_call(LARGE)
            assert ticket is not None
            targets.record_success(LARGE, ticket, 0.5, None, 50, "acme")
            assert targets.health_of(LARGE).availability is not Availability.DOWN
