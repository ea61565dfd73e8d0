"""The contract of every HealthStore: the fake in memory and the real one on a real Valkey."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.change import Change
from libs.clock import SystemClock
from libs.errors import Unavailable
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.types import ErrorClass, RoutePart
from services.health.adapters.redis_store import RedisHealthStore
from services.health.domain.evidence import Outcome, ProbeResult
from services.health.domain.routes import RouteChange
from services.health.domain.target import Target
from services.health.ports import Exchange, HealthStore
from tests.support.clock import ManualClock
from tests.support.engines import RedisServer, valkey
from tests.support.health import FakeHealthStore, Hub

NOW = SystemClock().now()
ACME = Target("acme")
LARGE = Target("acme", "org/large:v1")
DRAINED = Change(
    *(
        "c2",
        "mode",
        "acme",
        2,
        NOW,
        "ann",
        "„Wartung“ 'quoted' \"twice\"",
        '{"mode":"blocked"}',
        '{"mode":"drain"}',
    ),
    undoes="c0",
)


@dataclass
class Fleet:
    """Replicas' stores over one shared thing that can be stopped and started."""

    replica: Callable[[str], HealthStore]
    stop: Callable[[], Awaitable[None]]
    start: Callable[[], Awaitable[None]]
    pass_time: Callable[[float], Awaitable[None]]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


def connect(server: RedisServer) -> Redis:
    return Redis.from_url(
        server.url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 1)
    )


@pytest.fixture(params=["fake", "valkey"])
async def fleet(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Fleet]:
    if request.param == "fake":
        clock = ManualClock(now=NOW)
        hub = Hub(clock)

        async def set_down(down: bool) -> None:
            hub.down = down

        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        yield Fleet(
            lambda name: FakeHealthStore(hub, name), lambda: set_down(True), lambda: set_down(False), advance
        )
        return
    domain, clients = secrets.token_hex(4), []

    def replica(name: str) -> HealthStore:
        clients.append(connect(server))
        numbers = itertools.count()
        return RedisHealthStore(
            clients[-1], domain, name, lambda: f"{name}{next(numbers)}", SystemClock(), timeout=1.0
        )

    async def expire(seconds: float) -> None:
        """Makes everything that expires within `seconds` expired, without waiting for it."""
        client = connect(server)
        keys = [key async for key in client.scan_iter(match=f"*{domain}*permits*")]
        for key in keys:
            members: Any = await client.zrange(key, 0, -1)
            for member in members:
                await client.zincrby(key, -1000 * seconds, member)
        async for key in client.scan_iter(match=f"*{domain}*claim*"):
            if await client.pttl(key) <= 1000 * seconds:
                await client.delete(key)
        await client.aclose()

    yield Fleet(replica, server.stop, server.start, expire)
    await server.start()
    for client in clients:
        await client.aclose()


def opened(generation: int, until: float = NOW + 15.123456) -> BreakerState:
    return BreakerState(CircuitState.OPEN, generation, until, TripCause.FAULTS, NOW, 1)


async def test_what_one_replica_knows_the_others_hear(fleet: Fleet) -> None:
    """Circuits, changes and evidence arrive exactly as they were; one's own evidence does not come back."""
    a, b = fleet.replica("a"), fleet.replica("b")
    await b.exchange(Exchange())
    circuits = {ACME: opened(3), LARGE: BreakerState(generation=8, since=NOW, trips=2)}
    outcome = Outcome(
        "acme", "org/large:v1", 2, {ErrorClass.TIMEOUT: 1}, 3.5, 0.7, 1, 90, NOW + 9.5, "1.2.x", 4, 5
    )
    probe = ProbeResult("acme", 0.25, ErrorClass.OVERLOADED, "HTTP status 503")
    route = RouteChange(
        "acme", RoutePart.KEY, "ACME_KEY", "", ErrorClass.AUTHENTICATION, NOW, NOW + 60.5, 2, "abc"
    )
    sent = Exchange(circuits, (outcome,), (probe,), (route,), changes=(DRAINED,), unrecorded=(DRAINED,))
    own = await a.exchange(sent)
    assert (own.outcomes, own.probes, own.routes) == ((), (), ())
    assert await b.exchange(Exchange()) == sent
    again = await b.exchange(Exchange())
    assert (again.outcomes, again.probes, again.routes) == ((), (), ())


async def test_a_late_replica_hears_states_but_no_old_evidence(fleet: Fleet) -> None:
    """Whoever joins starts from what was concluded, not from what led to it."""
    a = fleet.replica("a")
    await a.exchange(Exchange({ACME: opened(1)}, (Outcome("acme", "m", 1),)))
    late = fleet.replica("late")
    received = await late.exchange(Exchange())
    assert received.circuits[ACME] == opened(1)
    assert received.outcomes == ()


async def test_the_larger_part_stays_whoever_writes_last(fleet: Fleet) -> None:
    """A replica that is behind cannot undo a circuit or an operator's word; each part is compared alone."""
    a, b = fleet.replica("a"), fleet.replica("b")
    older = replace(DRAINED, version=1, at=NOW + 9, change_id="z")
    await a.exchange(Exchange({ACME: opened(2)}, changes=(DRAINED,)))
    await b.exchange(Exchange({ACME: opened(9)}, changes=(older,)))
    await b.exchange(Exchange({ACME: opened(8, NOW + 999)}))
    received = await a.exchange(Exchange())
    assert received.circuits[ACME] == opened(9)
    assert received.changes == (DRAINED,)


async def test_changes_of_one_thing_follow_each_other(fleet: Fleet) -> None:
    """One that does not follow the one that stands is refused, with that one, and nothing has happened."""
    a, b = fleet.replica("a"), fleet.replica("b")
    assert await a.change(DRAINED, "", unrecorded=True) is None
    twin = replace(DRAINED, change_id="c9", at=NOW + 5)
    assert await b.change(twin, "", unrecorded=True) == DRAINED
    next_one = replace(DRAINED, change_id="c3", version=3, at=NOW + 5, after="")
    assert await b.change(next_one, "c9", unrecorded=True) == DRAINED
    assert (await a.exchange(Exchange())).changes == (DRAINED,)
    assert await b.change(next_one, DRAINED.change_id, unrecorded=False) is None
    # A store that was behind takes what is far ahead.
    far = replace(next_one, change_id="c7", version=7)
    assert await b.change(far, "c6", unrecorded=True) is None
    received = await a.exchange(Exchange())
    assert received.changes == (far,)
    assert {change.change_id for change in received.unrecorded} == {"c2", "c7"}


async def test_who_records_changes_takes_them_out_for_all(fleet: Fleet) -> None:
    """A replica that still holds one hands it over once only, and again to a store that was gone."""
    a, b = fleet.replica("a"), fleet.replica("b")
    holding = Exchange(unrecorded=(DRAINED,))
    assert (await a.exchange(holding)).unrecorded == (DRAINED,)
    await b.recorded([DRAINED.change_id, "unknown"])
    assert (await a.exchange(holding)).unrecorded == ()


async def test_permits_are_limited_for_the_whole_fleet_and_return(fleet: Fleet) -> None:
    """One at a time however many ask; released, expired or of another generation, the next one is free."""
    a, b = fleet.replica("a"), fleet.replica("b")
    first = await a.acquire(LARGE, 4, "3.4.", 1, 30.0)
    assert first is not None
    assert first.id.startswith("3.4.")
    assert NOW + 29.0 < first.expires <= SystemClock().now() + 30.5
    assert await b.acquire(LARGE, 4, "3.4.", 1, 30.0) is None
    assert await b.acquire(LARGE, 5, "3.5.", 1, 30.0) is not None
    assert await b.acquire(ACME, 4, "4.0.", 1, 30.0) is not None
    await b.release(LARGE, 4, "3.4.unknown")
    assert await b.acquire(LARGE, 4, "3.4.", 1, 30.0) is None
    await b.release(LARGE, 4, first.id)
    assert await b.acquire(LARGE, 4, "3.4.", 1, 30.0) is not None
    assert await a.acquire(LARGE, 4, "3.4.", 1, 30.0) is None
    await fleet.pass_time(30.1)
    assert await a.acquire(LARGE, 4, "3.4.", 1, 30.0) is not None
    assert await a.acquire(LARGE, 4, "3.4.", 2, 30.0) is not None
    assert await a.acquire(LARGE, 4, "3.4.", 2, 30.0) is None


async def test_a_turn_is_claimed_once(fleet: Fleet) -> None:
    """One replica per period, whichever comes first; names do not disturb each other."""
    a, b = fleet.replica("a"), fleet.replica("b")
    assert await a.claim("probe:acme", 20.0)
    assert not await b.claim("probe:acme", 20.0)
    assert not await a.claim("probe:acme", 20.0)
    assert await b.claim("probe:zeta", 20.0)
    await fleet.pass_time(20.1)
    assert await b.claim("probe:acme", 20.0)


async def test_while_it_is_gone_everything_is_unavailable_and_then_it_works_again(fleet: Fleet) -> None:
    """No other error, no stuck connection; what a replica knows is told again to a store that lost it."""
    a = fleet.replica("a")
    known = Exchange({ACME: opened(2)}, changes=(DRAINED,), unrecorded=(DRAINED,))
    await a.exchange(known)
    await fleet.stop()
    with pytest.raises(Unavailable):
        await a.exchange(known)
    with pytest.raises(Unavailable):
        await a.change(DRAINED, "", unrecorded=True)
    with pytest.raises(Unavailable):
        await a.recorded(["c2"])
    with pytest.raises(Unavailable):
        await a.acquire(ACME, 1, "1.0.", 1, 1.0)
    with pytest.raises(Unavailable):
        await a.release(ACME, 1, "1.0.x")
    with pytest.raises(Unavailable):
        await a.claim("x", 1.0)
    await fleet.start()
    assert await a.exchange(known) == known
    assert await fleet.replica("b").exchange(Exchange()) == known


@st.composite
def circuits(draw: st.DrawFn) -> BreakerState:
    state = draw(st.sampled_from(list(CircuitState)))
    until = draw(st.sampled_from([NOW + 0.1, NOW + 60.0, NOW + 60.25])) if state is CircuitState.OPEN else 0.0
    return BreakerState(
        state,
        draw(st.integers(0, 3)),
        until,
        draw(st.sampled_from(list(TripCause))),
        draw(st.sampled_from([0.0, NOW])),
        draw(st.integers(0, 2)),
    )


async def test_the_real_store_merges_as_the_value_does(server: RedisServer) -> None:
    """Random circuits written in any order leave the one that `merge` leaves: the script and the domain agree."""
    rows: list[list[BreakerState]] = []

    @given(st.lists(circuits(), min_size=1, max_size=6))
    @settings(max_examples=80, deadline=None, database=None)
    def collect(row: list[BreakerState]) -> None:
        rows.append(row)

    collect()
    client = connect(server)
    domain = secrets.token_hex(4)
    for number, row in enumerate(rows):
        target, expected = Target("acme", f"m{number}"), BreakerState()
        for circuit in row:
            expected = expected.merge(circuit)
            # A fresh replica each time: it writes without knowing what is there.
            store = RedisHealthStore(client, domain, "w", lambda: "x", SystemClock())
            await store.exchange(Exchange({target: circuit}))
        received = await RedisHealthStore(client, domain, "r", lambda: "x", SystemClock()).exchange(
            Exchange()
        )
        assert received.circuits.get(target, BreakerState()) == expected
    await client.aclose()


async def test_what_cannot_be_understood_is_passed_over(server: RedisServer) -> None:
    """Rubbish and words of a later release in the store neither stop a replica nor stay where it has something."""
    client, domain = connect(server), secrets.token_hex(4)
    tag = f"{{pointsman:{domain}:health:1}}"
    store = RedisHealthStore(client, domain, "a", lambda: "x", SystemClock())
    await store.exchange(Exchange())
    rubbish = [
        b"",
        b"{",
        b"[1]",
        b'[1,7,0,0,0,""]',
        b'[1,2,0,0,0,"faults"]',
        b'{"a":1}',
        b'[9,0,0,0,0,"new"]',
    ]
    for number, value in enumerate(rubbish):
        await client.hset(f"{tag}:states", f"acme/{number}", value)
        await client.hset(f"{tag}:changes", f"mode acme/{number}", value)
        await client.hset(f"{tag}:unrecorded", f"c{number}", value)
        await client.hset(f"{tag}:modes", f"acme/{number}", value)
    await client.xadd(f"{tag}:evidence", {"from": "b", "evidence": b'{"outcomes":[{"provider":"acme"}]}'})
    await client.xadd(f"{tag}:evidence", {"unrelated": b"\xff"})
    received = await store.exchange(Exchange({Target("acme", "2"): opened(4)}))
    assert received.circuits == {Target("acme", "2"): opened(4)}
    assert (received.outcomes, received.changes, received.unrecorded) == ((), (), ())
    await client.aclose()


async def test_modes_of_an_earlier_release_hold(server: RedisServer) -> None:
    """An upgrade lets nobody in that was blocked."""
    client, domain = connect(server), secrets.token_hex(4)
    order = b'[3,1700000000.5,"blocked","too dear"]'
    await client.hset(f"{{pointsman:{domain}:health:1}}:modes", "acme/large", order)
    store = RedisHealthStore(client, domain, "a", lambda: "x", SystemClock())
    (change,) = (await store.exchange(Exchange())).changes
    assert (change.thing, change.version, change.at) == (("mode", "acme/large"), 3, 1700000000.5)
    assert (change.reason, change.after) == ("too dear", '{"mode":"blocked"}')
    await client.aclose()
