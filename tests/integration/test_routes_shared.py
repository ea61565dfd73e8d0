"""A key that one router finds refused is left alone by all, by way of real health replicas and a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Provider
from libs.catalog.routes import ProviderKey
from libs.catalog.secrets import Keys
from libs.clock import SystemClock
from libs.lifecycle import background
from libs.telemetry import Metrics
from libs.types import ErrorClass, RoutePart
from services.router.health.health_client import HealthMonitorClient
from services.router.routes.routes import ProviderRoutes
from tests.support.engines import RedisServer, valkey
from tests.support.health_fleet import SETTINGS, Served, fleet, until
from tests.support.routing import catalog, fail, model

LARGE = model("acme/large")
POOL = Provider(
    "acme", "openai_compatible", "http://acme.test", keys=(ProviderKey("A", weight=1000), ProviderKey("B"))
)
CATALOG = replace(catalog([LARGE]), providers={"acme": POOL})


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@asynccontextmanager
async def router(
    replica: Served, name: str, environ: dict[str, str], *, already_refused: bool = False
) -> AsyncIterator[ProviderRoutes]:
    """A router's routes, told of others' by a health client's loops; its key A may be out already, and told."""
    clock, metrics = SystemClock(), Metrics()
    client = HealthMonitorClient(replica.channel, "", name, clock, Random(name), metrics, SETTINGS)

    def present() -> Catalog:
        return CATALOG

    routes = client.routes = ProviderRoutes(
        present, Keys(environ), lambda _: (), clock, Random(name), metrics
    )
    if already_refused:
        refuse(routes)
        routes.take_changes()
    async with AsyncExitStack() as stack:
        for task in (client.watch, client.report):
            await stack.enter_async_context(background(name, task))
        await client.known.wait()
        yield routes


def refuse(routes: ProviderRoutes, called: Model = LARGE) -> None:
    """A call by key A that began now is refused."""
    by_a = POOL.routes[0]
    failure = fail(ErrorClass.AUTHENTICATION, status=401)
    routes.record_failure(by_a, called, SystemClock().now(), failure)
    assert failure.next_route is RoutePart.KEY


async def until_out(routes: ProviderRoutes, *keys: str) -> None:
    async def reached() -> bool:
        return sorted(outage.place.name for outage in routes.all_out()) == sorted(keys)

    await until(reached)


async def test_a_refused_key_is_known_to_all_and_so_is_its_return(server: RedisServer) -> None:
    """One call is refused, at one router; those at another replica leave the key alone too, but for the one that has
    another key under that name. One that starts later is told; when the key is replaced at one, all have it back."""
    first_keys, second_keys = {"A": "a1", "B": "b"}, {"A": "a1", "B": "b"}
    async with fleet(server) as start:
        one, two = await start("a"), await start("b")
        async with (
            router(one, "r1", first_keys) as first,
            router(two, "r2", second_keys) as second,
            router(two, "r3", {"A": "a2", "B": "b"}) as newer,
        ):
            refuse(first)
            await until_out(second, "A")
            chosen = second.choose(POOL, LARGE)
            assert chosen is not None
            assert chosen.key_name == "B"
            assert newer.all_out() == []
            async with router(one, "r4", {"A": "a1", "B": "b"}) as late:
                await until_out(late, "A")
            first_keys["A"] = second_keys["A"] = "a2"
            found = first.choose(POOL, LARGE)
            assert found is not None
            assert found.key_name == "A"
            await until_out(second)


async def test_a_health_service_that_has_not_heard_of_it_is_told(server: RedisServer) -> None:
    """A router that connects, for the first time or again, tells whatever replica answers all that is out."""
    async with fleet(server) as start:
        one = await start("a")
        async with (
            router(one, "r1", {"A": "a1", "B": "b"}) as listening,
            router(one, "r2", {"A": "a1", "B": "b"}, already_refused=True),
        ):
            await until_out(listening, "A")
