"""The contract of every store of alerts on quotas: the same suite for the fake and for a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from services.analytics.alerts.postgres_quota_alerts import PostgresQuotaAlerts
from services.analytics.alerts.quota_alert import AlertKind, QuotaAlert
from services.analytics.alerts.quota_alerts import QuotaAlerts
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, MemoryQuotaAlerts
from tests.support.postgres import fresh_database

DAWN = NOW - 8 * 3600
FAST = QuotaAlert(
    "tenant:acme", "micro_usd", "day", AlertKind.BURN_FAST, DAWN, NOW, NOW, None, 1000, 400, 15.5, 0.9, 60.25
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def alerts(request: pytest.FixtureRequest, database: Database) -> QuotaAlerts:
    if request.param == "memory":
        return MemoryQuotaAlerts()
    async with database.writing() as connection:
        await connection.execute("TRUNCATE analytics.quota_alerts")
    return PostgresQuotaAlerts(database)


async def test_an_alert_is_kept_as_it_was_said(alerts: QuotaAlerts) -> None:
    """Every field, unset ones too; saying it again changes nothing."""
    bare = replace(FAST, kind=AlertKind.EXHAUSTED, probability=None, p50=None)
    for _ in range(2):
        await alerts.record([FAST, bare])
    assert await alerts.list("", NOW, None, 10) == [FAST, bare]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_last_word_stands_in_whatever_order_they_come(
    alerts: QuotaAlerts, order: tuple[int, ...]
) -> None:
    """Two replicas raise it, one a little later; one clears it: it is over, and was raised when first seen."""
    words = [
        FAST,
        replace(FAST, as_of=NOW + 5, raised=NOW + 5, used=450),
        replace(FAST, as_of=NOW + 60, cleared=NOW + 60, used=500),
    ]
    for i in order:
        await alerts.record([words[i]])
    assert await alerts.list("", NOW + 61, None, 10) == []
    assert await alerts.list("", NOW + 61, NOW, 10) == [words[2]]


async def test_it_may_be_raised_again_in_the_same_window(alerts: QuotaAlerts) -> None:
    """It stands again, raised when it was first."""
    again = replace(FAST, as_of=NOW + 90, raised=NOW + 90)
    await alerts.record([FAST, replace(FAST, as_of=NOW + 60, cleared=NOW + 60), again])
    assert await alerts.list("", NOW + 91, None, 10) == [replace(again, raised=NOW)]


async def test_those_that_stand_come_first_then_the_latest(alerts: QuotaAlerts) -> None:
    """Of one scope or of all, at most so many; what was raised before `since` and is over is left out."""
    over = replace(FAST, scope="tenant:b", as_of=NOW + 50, raised=NOW + 40, cleared=NOW + 50)
    old = replace(FAST, scope="tenant:c", raised=NOW - 500, cleared=NOW - 400)
    later = replace(FAST, scope="tenant:d", raised=NOW + 10)
    await alerts.record([over, old, FAST, later])
    assert await alerts.list("", NOW + 60, NOW, 10) == [later, FAST, over]
    assert await alerts.list("", NOW + 60, NOW, 2) == [later, FAST]
    assert await alerts.list("tenant:b", NOW + 60, NOW, 10) == [over]
    assert await alerts.list("", NOW + 60, None, 10) == [later, FAST]


async def test_an_alert_does_not_outlive_its_window(alerts: QuotaAlerts) -> None:
    """Also where the limiter that raised it died: a day later it does not stand any more, but is remembered."""
    await alerts.record([FAST])
    assert await alerts.list("", DAWN + 90_001, None, 10) == []
    assert await alerts.list("", DAWN + 90_001, NOW, 10) == [FAST]
