"""The contract of every SpendHistory: the same suite for the fake, and for analytics on a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from dev.engines.child import free_port
from libs.errors import Unavailable
from libs.rpc.channel import connect
from libs.rpc.convert import timestamp_to_proto
from services.ratelimit.adapters.analytics_client import AnalyticsHistory
from services.ratelimit.ports import SpendHistory
from tests.support.analytics import an_event, analytics, send
from tests.support.engines import PostgresServer
from tests.support.limiter import MemoryHistory, Spent
from tests.support.limits import limit
from tests.support.postgres import fresh_database

#: 2026-03-10T12:00:00Z.
NOW = 1_773_144_000.0
HOUR = 3600.0


@dataclass(slots=True)
class Ledger:
    """A history, how to add to it, and one that does not answer."""

    history: SpendHistory
    add: Callable[..., Awaitable[None]]
    gone: SpendHistory


def event(spent: Spent) -> pb.UsageEvent:
    """As a router reports it."""
    made = an_event(secrets.token_hex(8), spent.at, spent.micro_usd)
    started = timestamp_to_proto(spent.at)
    assert started is not None
    made.started.CopyFrom(started)
    for name in ("tenant", "provider", "model", "campaign", "content_type"):
        setattr(made, name, getattr(spent, name))
    made.usage.CopyFrom(
        types_pb2.Usage(
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            accuracy=types_pb2.USAGE_ACCURACY_EXACT,
        )
    )
    return made


@pytest_asyncio.fixture(params=["memory", "analytics"], loop_scope="session")
async def ledger(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        memory, gone = MemoryHistory(), MemoryHistory()
        gone.gone = True

        async def remember(*attempts: Spent) -> None:
            memory.attempts += attempts

        yield Ledger(memory, remember, gone)
        return
    async with (
        fresh_database(postgres_server) as dsn,
        analytics(dsn) as running,
        connect(f"127.0.0.1:{running.server.port}") as channel,
        connect(f"127.0.0.1:{free_port()}") as nowhere,
    ):

        async def report(*attempts: Spent) -> None:
            (answer,) = await send(running.stub, [event(a) for a in attempts])
            assert not answer.rejected

        yield Ledger(AnalyticsHistory(channel, ""), report, AnalyticsHistory(nowhere, ""))


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        ("tenant:acme", 5),
        ("tenant:other", 1),
        ("tenant:nobody", 0),
        ("provider:openai", 5),
        ("model:openai/gpt-4o", 4),
        ("model:azure/gpt-4o", 1),
        ("tenant_provider:acme/openai", 4),
        ("tenant_content:acme/blog_post", 2),
        ("campaign:acme/black friday/2", 1),
        ("campaign:other/black friday/2", 0),
    ],
)
async def test_a_scope_has_its_own_attempts(ledger: Ledger, scope: str, count: int) -> None:
    """And nobody else's."""
    await ledger.add(
        Spent(NOW - 1),
        Spent(NOW - 2, content_type="blog_post"),
        Spent(NOW - 3, content_type="blog_post", campaign="black friday/2"),
        Spent(NOW - 4, provider="azure"),
        Spent(NOW - 5, model="gpt-4o-mini"),
        Spent(NOW - 6, tenant="other", content_type="seo"),
    )
    assert await ledger.history.spent(limit("requests", "day", 9, scope), NOW) == count


async def test_every_unit_is_summed_exactly(ledger: Ledger) -> None:
    """Attempts, tokens in and out, money."""
    await ledger.add(
        Spent(NOW - 1, input_tokens=100, output_tokens=7, micro_usd=10**12),
        Spent(NOW - 2, input_tokens=20, output_tokens=3, micro_usd=1),
    )
    units = ("requests", "input_tokens", "output_tokens", "total_tokens", "micro_usd")
    found = [await ledger.history.spent(limit(unit, "day", 9), NOW) for unit in units]
    assert found == [2, 120, 10, 130, 10**12 + 1]


async def test_the_window_begins_where_the_limits_time_zone_says(ledger: Ledger) -> None:
    """At noon UTC, Los Angeles' day is five hours old (summer time began two days before), Tokyo's 21, and the month
    began on the first."""
    await ledger.add(
        *(Spent(NOW - hours * HOUR) for hours in (1, 4.9, 5.1, 11.9, 12.1, 20.9, 21.1, 200, 400))
    )
    for period, zone, count in (
        ("day", "America/Los_Angeles", 2),
        ("day", "UTC", 4),
        ("day", "Asia/Tokyo", 6),
        ("month", "UTC", 8),
    ):
        found = await ledger.history.spent(limit("requests", period, 9, time_zone=zone), NOW)
        assert (zone, found) == (zone, count)


async def test_what_the_ledger_does_not_keep_is_not_taken_for_nothing(ledger: Ledger) -> None:
    """None for a provider's key: the ledger has no keys."""
    assert await ledger.history.spent(limit("micro_usd", "day", 9, "key:openai/primary"), NOW) is None


async def test_a_ledger_that_is_gone_is_unavailable(ledger: Ledger) -> None:
    """Never zero."""
    with pytest.raises(Unavailable):
        await ledger.gone.spent(limit("micro_usd", "day", 9), NOW)
