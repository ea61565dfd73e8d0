"""Any process of the stack is killed or frozen while Generate is under load: callers notice no more than DESIGN
section 2 allows, the process comes back by itself, and the ledger holds every attempt once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import redis.asyncio as redis

from libs.client import Client
from libs.errors import ResourceExhausted, Unavailable
from tests.e2e.catalogs import BUDGETED_KEY, CRASHES, QUOTA, QUOTA_KEY
from tests.support.load import Load, under_load
from tests.support.stack import RunningStack, running_stack

#: Answers for each tenant before the fault, while a process is frozen, and after all is well again.
BEFORE, FROZEN, AFTER = 20, 20, 30


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """One stack for all: that it survives each is part of the claim."""
    async with running_stack(tmp_path_factory.mktemp("crashes"), CRASHES) as running:
        yield running


@pytest.fixture
async def clients(stack: RunningStack) -> AsyncIterator[dict[str, Client]]:
    """A tenant with rates alone, and one with a budget too. One provider fails now and then, too seldom to be left
    out."""
    busy = [{"kind": "status", "preset": "server_error", "when": {"every": 15}}]
    await stack.simulator.set("openai", latency_ms=20, ms_per_token=0.3, faults=busy)
    await stack.simulator.set("gemini", latency_ms=20, ms_per_token=0.3)
    async with AsyncExitStack() as opened:
        yield {
            "demo": await opened.enter_async_context(stack.client()),
            "budgeted": await opened.enter_async_context(stack.client(BUDGETED_KEY)),
        }


async def requests_seen(stack: RunningStack) -> int:
    """Generations that reached a provider since the test began."""
    return sum(report["counters"]["requests"] for report in (await stack.simulator.all()).values())


async def assert_ledger_agrees(stack: RunningStack, load: Load) -> None:
    """Every attempt that a provider saw is there once, at the cost that its caller was told; nothing else is."""
    attempts, seen = load.attempts, await requests_seen(stack)
    rows = await stack.settled_ledger(load.prefix, lambda found: len(found) >= seen)
    by_id = {row["attempt_id"]: row for row in rows}
    assert len(rows) == len(by_id) == seen
    assert set(attempts) <= set(by_id)
    for attempt_id, attempt in attempts.items():
        row = by_id[attempt_id]
        assert row["cost_micro_usd"] == attempt.cost_micro_usd
        assert row["outcome"] == ("success" if attempt.error_class is None else "failure")
    assert sum(by_id[key]["cost_micro_usd"] for key in attempts) == sum(
        result.cost_micro_usd for result in load.answers
    )
    # A record of a request comes with the attempt that answered it.
    requests = await stack.ledger(load.prefix, "requests")
    answered = [row for row in requests if row["outcome"] == "success"]
    assert sorted((row["request_id"], row["cost_micro_usd"], row["attempts"]) for row in answered) == sorted(
        (result.request_id, result.cost_micro_usd, len(result.attempts)) for result in load.answers
    )
    # What callers were not told of belongs to calls that were refused after a first attempt.
    refused = {failure.request_id for failure in load.failures}
    assert {by_id[key]["request_id"] for key in set(by_id) - set(attempts)} <= refused


def assert_only_closed_budgets(load: Load) -> None:
    """Fails unless only budgets were refused, with when to come back: without a limiter money is closed, and rates
    are not."""
    for failure in load.failures:
        assert failure.tenant == "budgeted", failure
        assert failure.error.retry_after is not None
        # Where the budget was closed when a failed attempt was to be repeated, the provider's failure is the reason.
        assert failure.error.reason in {"LIMITER_UNAVAILABLE", "PROVIDERS_FAILED"}, failure


async def test_a_dead_health_service_is_not_noticed(stack: RunningStack, clients: dict[str, Client]) -> None:
    """Routers go on with the last known view."""
    await killed(stack, clients, "health")


async def test_a_dead_ledger_service_is_not_noticed(stack: RunningStack, clients: dict[str, Client]) -> None:
    """Usage waits on the routers' disks."""
    await killed(stack, clients, "analytics")


async def test_a_dead_postgres_is_not_noticed(stack: RunningStack, clients: dict[str, Client]) -> None:
    """Analytics stops acknowledging; nothing is lost and nothing doubled."""
    await killed(stack, clients, "postgres")


@pytest.mark.parametrize("name", ["ratelimit", "valkey"])
async def test_without_the_limiter_rates_go_on_and_money_is_closed(
    stack: RunningStack, clients: dict[str, Client], name: str
) -> None:
    """Leases are lived off first; whoever is refused after that is told that the limiter is what is missing."""
    await killed(stack, clients, name, may_close=True)


async def killed(
    stack: RunningStack, clients: dict[str, Client], name: str, *, may_close: bool = False
) -> None:
    """SIGKILL under load, the restart, and the accounts."""
    async with under_load(clients, f"kill-{name}") as load:
        await load.until(more=BEFORE)
        pid = stack.kill(name)
        seconds = await stack.back(name, pid)
        await load.until(more=AFTER)
    print(f"{load.story()}, back after {seconds:.2f} s")
    if may_close:
        assert_only_closed_budgets(load)
    else:
        assert not load.failures
    await assert_ledger_agrees(stack, load)


@pytest.mark.parametrize("name", ["health", "analytics", "postgres", "ratelimit", "valkey"])
async def test_a_frozen_process_stops_nobody(
    stack: RunningStack, clients: dict[str, Client], name: str
) -> None:
    """SIGSTOP: sockets stay open and nothing answers. Rates go on, money does until the leases are used up, and all
    is accounted for after SIGCONT."""
    async with under_load(clients, f"stop-{name}") as load:
        await load.until(more=BEFORE)
        with stack.frozen(name):
            await load.until(more=FROZEN, tenants={"demo"})
            if name in {"ratelimit", "valkey"}:
                await load.until_failed(tenant="budgeted")
                await load.until(more=FROZEN, tenants={"demo"})
        await load.until(more=AFTER)
    print(load.story())
    if name in {"ratelimit", "valkey"}:
        assert_only_closed_budgets(load)
    else:
        assert not load.failures
    await assert_ledger_agrees(stack, load)


async def test_a_dead_router_forgets_no_attempt(stack: RunningStack, clients: dict[str, Client]) -> None:
    """Whatever a provider saw is in the ledger once: as it ended, or as uncertain where the router did not live to
    see it."""
    workers = 4
    async with under_load(clients, "kill-router", workers=workers) as load:
        await load.until(more=BEFORE)
        pid = stack.kill("router")
        seconds = await stack.back("router", pid)
        await load.until(more=AFTER)
    print(f"{load.story()}, back after {seconds:.2f} s")
    assert all(isinstance(failure.error, Unavailable) for failure in load.failures), load.failures
    attempts, seen = load.attempts, await requests_seen(stack)
    rows = await stack.settled_ledger(load.prefix, lambda found: len(found) >= seen)
    by_id = {row["attempt_id"]: row for row in rows}
    unknown = [row for row in rows if row["outcome"] == "unknown"]
    print(
        f"ledger {len(rows)}, providers saw {seen}, callers know of {len(attempts)}, unknown {len(unknown)}"
    )
    assert set(attempts) <= set(by_id)
    assert all(by_id[key]["cost_micro_usd"] == attempt.cost_micro_usd for key, attempt in attempts.items())
    assert len(unknown) <= workers * len(clients)
    assert all(row["accuracy"] == "uncertain" and row["cost_micro_usd"] > 0 for row in unknown)
    # The record of a request is with the attempt that answered it, whether or not its caller got the answer.
    recorded = {row["request_id"] for row in await stack.ledger(load.prefix, "requests")}
    assert {result.request_id for result in load.answers} <= recorded
    assert recorded >= {row["request_id"] for row in rows if row["outcome"] == "success"}
    # An attempt is written down before its bytes leave: some may never have reached the provider.
    assert seen <= len(rows) <= seen + len(unknown)


async def test_a_daily_quota_is_never_exceeded_whatever_dies(
    stack: RunningStack, clients: dict[str, Client]
) -> None:
    """Valkey, the limiter and the router are killed while a tenant uses its quota up: never a call too many. What the
    dead router had leased counts as used, since nobody knows what it did with it."""
    async with stack.client(QUOTA_KEY) as client, under_load({"quota": client}, "quota") as load:
        for name in ("valkey", "ratelimit", "router"):
            await load.until(more=10)
            pid = stack.kill(name)
            await stack.back(name, pid)
        async with asyncio.timeout(60):
            while not any(used_up(failure.error) for failure in load.failures[-4:]):
                await asyncio.sleep(0.05)
    seen = await requests_seen(stack)
    print(f"{load.story()}, providers saw {seen} of {QUOTA}")
    assert seen <= QUOTA
    assert len(await stack.settled_ledger("quota", lambda found: len(found) >= seen)) >= seen


def used_up(error: Exception) -> bool:
    """Refused for the quota by a limiter that is there."""
    return isinstance(error, ResourceExhausted) and any(
        v.subject == "tenant:quota requests day" for v in error.violations
    )


async def test_the_store_of_limits_loses_no_acknowledged_write(stack: RunningStack) -> None:
    """The limiter here trusts it over restarts. With appendfsync everysec, SIGKILL of a Valkey on a busy disk lost
    grants that a router already lived off, and a quota of 400 calls admitted 421."""
    password = (stack.data / "valkey" / "password").read_text()
    client = redis.from_url(f"redis://:{password}@{stack.addresses['valkey']}/0", decode_responses=True)
    assert await client.config_get("appendfsync") == {"appendfsync": "always"}
    await client.aclose()
