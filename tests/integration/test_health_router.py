"""The router's picture of its targets against real health replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest
from pointsman.health.v1 import health_pb2 as pb

from libs.catalog.model import Model
from libs.clock import SystemClock
from libs.lifecycle import background
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.health.domain.target import Mode, Target
from services.router.health.health_client import HealthMonitorClient
from services.router.health.target_health import UNKNOWN, Availability
from services.router.health.targets import Targets
from tests.support.engines import RedisServer, valkey
from tests.support.health_fleet import SETTINGS, Served, fleet, until

LARGE = Model("acme", "large", "large", 8000, 1000)
SMALL = Model("acme", "small", "small", 8000, 1000)
#: Down for less than half a second, then open to one call.
TAKEN_OUT = (Availability.DOWN, Availability.PROBING)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@asynccontextmanager
async def router(replica: Served, name: str) -> AsyncIterator[Targets]:
    """A router's targets, fed by a health client's loops, judgements arrived."""
    client = HealthMonitorClient(replica.channel, "", name, SystemClock(), Random(name), Metrics(), SETTINGS)
    async with AsyncExitStack() as stack:
        for task in (client.watch, client.report):
            await stack.enter_async_context(background(name, task))
        await client.known.wait()
        yield client.targets


async def fail(targets: Targets, model: Model, error: ErrorClass, retry_after: float | None = None) -> None:
    ticket = await targets.begin_call(model, "acme")
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
                await fail(first, LARGE, ErrorClass.SERVER_ERROR)
            await until_it_is(second, LARGE, *TAKEN_OUT)
            assert second.health_of(SMALL).availability is Availability.HEALTHY
            await until_it_is(second, LARGE, Availability.PROBING)
            ticket = await second.begin_call(LARGE, "acme")
            assert ticket is not None
            assert await second.begin_call(LARGE, "acme") is None
            second.record_success(LARGE, ticket, 0.5, 0.1, 50, "acme")
            for targets in (first, second):
                await until_it_is(targets, LARGE, Availability.HEALTHY)


async def test_a_recovered_model_is_ramped_at_every_router(server: RedisServer) -> None:
    """Named regression: one side said DEGRADED while ramping, the other sorted DEGRADED last. What the service calls
    recovering gets a growing share at the router that probed and at the one that was told."""
    async with fleet(server) as start:
        one, two = await start("a"), await start("b")
        async with router(one, "r1") as first, router(two, "r2") as second:
            for _ in range(3):
                await fail(first, LARGE, ErrorClass.SERVER_ERROR)
            await until_it_is(second, LARGE, Availability.PROBING)
            ticket = await second.begin_call(LARGE, "acme")
            assert ticket is not None
            second.record_success(LARGE, ticket, 0.5, 0.1, 50, "acme")
            shares: dict[str, list[float]] = {"r1": [], "r2": []}

            async def ramped() -> bool:
                for name, targets in (("r1", first), ("r2", second)):
                    seen = targets.health_of(LARGE)
                    if seen.availability is Availability.HEALTHY:
                        shares[name].append(seen.ramp)
                return all(seen[-1:] == [1.0] for seen in shares.values())

            await until(ramped)
            for seen in shares.values():
                assert any(share < 1.0 for share in seen)


async def test_a_degraded_model_gets_a_share_at_every_router_and_its_provider_stays_well(
    server: RedisServer,
) -> None:
    """Every third call fails at one router: the other keeps a tenth of its calls there."""
    async with fleet(server) as start:
        one, two = await start("a"), await start("b")
        async with router(one, "r1") as first, router(two, "r2") as second:
            for number in range(90):
                if number % 3:
                    ticket = await first.begin_call(LARGE, "acme")
                    assert ticket is not None
                    first.record_success(LARGE, ticket, 0.5, 0.1, 50, "acme")
                else:
                    await fail(first, LARGE, ErrorClass.SERVER_ERROR)
            await until_it_is(second, LARGE, Availability.DEGRADED)
            assert second.health_of(LARGE).ramp == pytest.approx(0.1)
            assert second.health_of(SMALL) == UNKNOWN
            listed = await one.state("acme")
            assert listed.status == pb.PROVIDER_STATUS_HEALTHY


async def test_evidence_on_more_models_than_a_report_holds_arrives(server: RedisServer) -> None:
    """A router's evidence on 1,500 models since its last report is not refused for its length."""
    async with fleet(server) as start:
        one = await start("a")
        async with router(one, "r1") as first, router(one, "r2") as second:
            for number in range(1500):
                model = Model("acme", f"m{number}", f"m{number}", 8000, 1000)
                ticket = await first.begin_call(model, "acme")
                assert ticket is not None
                first.record_success(model, ticket, 0.5, 0.1, 50, "acme")
            for _ in range(3):
                await fail(first, LARGE, ErrorClass.SERVER_ERROR)
            await until_it_is(second, LARGE, *TAKEN_OUT)


async def test_a_rate_limit_ends_by_itself_for_all_routers(server: RedisServer) -> None:
    """Retry-After turns all routers away until then; afterwards nobody needs a probe."""
    async with fleet(server) as start:
        one = await start("a")
        async with router(one, "r1") as first, router(one, "r2") as second:
            await fail(first, LARGE, ErrorClass.RATE_LIMITED, retry_after=1.5)
            await until_it_is(second, LARGE, Availability.DOWN)
            for targets in (first, second):
                await until_it_is(targets, LARGE, Availability.HEALTHY)
                assert await targets.begin_call(LARGE, "acme") is not None


async def test_a_router_goes_on_without_health(server: RedisServer) -> None:
    """It keeps what it was told, and its own breaker opens, half-opens with a permit of its own and closes."""
    async with fleet(server) as start:
        one = await start("a")
        async with router(one, "r1") as targets:
            await one.server.drain(0.0)
            assert targets.health_of(LARGE).availability is Availability.HEALTHY
            for _ in range(3):
                await fail(targets, LARGE, ErrorClass.TIMEOUT)
            assert targets.health_of(LARGE).availability is Availability.DOWN
            await until_it_is(targets, LARGE, Availability.PROBING)
            ticket = await targets.begin_call(LARGE, "acme")
            assert ticket is not None
            targets.record_success(LARGE, ticket, 0.5, None, 50, "acme")
            assert targets.health_of(LARGE).availability is not Availability.DOWN


async def test_operators_words_reach_every_router_and_end_though_health_is_gone(server: RedisServer) -> None:
    """A share of a rehabilitation, and whose calls leave which target for how long."""
    async with fleet(server) as start:
        one, two = await start("a"), await start("b")
        async with router(one, "r1") as first, router(two, "r2") as second:
            await one.replica.set_mode(Target("acme"), Mode.REHABILITATING, share=0.25)
            await one.replica.fail_over(
                Target("acme", "small"), "contract", 3.0, Target("zeta"), tenants=("north",)
            )
            for targets in (first, second):

                async def heard(targets: Targets = targets) -> bool:
                    return bool(targets.failovers) and targets.health_of(LARGE).provider_share == 0.25

                await until(heard)
                now = SystemClock().now()
                found = targets.failovers.find(SMALL, "north", "general", now)
                assert found is not None
                assert (found.reason, found.to_provider, found.to_model) == ("contract", "zeta", "")
                assert 0 < found.until - now <= 3.0
                assert targets.failovers.find(SMALL, "south", "general", now) is None
                assert targets.failovers.find(LARGE, "north", "general", now) is None
            await two.server.drain(0.0)

            async def over() -> bool:
                return second.failovers.find(SMALL, "north", "general", SystemClock().now()) is None

            await until(over)
            assert bool(second.failovers)
