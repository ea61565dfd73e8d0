"""The contract of every UseHistory: the same suite for the fake and for a real PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from libs.types import Usage
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.forecasts.history import HOUR, Filters, HourOfUse, Part, UseHistory
from services.analytics.forecasts.postgres_history import PostgresUseHistory
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.engines import PostgresServer
from tests.support.forecasts import MemoryUseHistory
from tests.support.ledger import NOW, an_attempt
from tests.support.postgres import fresh_database

END = int(NOW // HOUR)


def attempts() -> list[Attempt]:
    """300 of them over ten hours; some lie on an hour's edge, and some requests have two attempts."""
    rng = random.Random(7)
    firsts = [
        an_attempt(
            f"a{i}",
            tenant=rng.choice(["acme", "globex"]),
            provider=rng.choice(["openai", "anthropic"]),
            model=rng.choice(["small", "large"]),
            started=NOW - rng.choice([rng.uniform(0, 10 * HOUR), HOUR * rng.randrange(10)]),
            cost_micro_usd=rng.randrange(1000),
            usage=Usage(input_tokens=rng.randrange(1000), output_tokens=rng.randrange(100)),
        )
        for i in range(240)
    ]
    return firsts + [replace(one, attempt_id=f"{one.attempt_id}b", attempt_number=2) for one in firsts[::4]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        rollups = PostgresRollups(database)
        await PostgresLedger(database, rollups.follow).record(attempts())
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rolled_up(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    """The same, of which the rows of hours hold all but the last three hours."""
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        rollups = PostgresRollups(database)
        async with database.writing() as connection:
            await connection.execute(
                "UPDATE analytics.rollup_state SET hours_until = to_timestamp($1), days_until = to_timestamp($1)",
                (END - 20) * HOUR,
            )
        await PostgresLedger(database, rollups.follow).record(attempts())
        while await rollups.fold((END - 3) * HOUR + 601):
            pass
        async with database.reading() as connection:
            assert await connection.fetchval(
                "SELECT hours_until = to_timestamp($1) FROM analytics.rollup_state", (END - 3) * HOUR
            )
        yield database


@pytest.fixture(params=["memory", "attempts", "rollups"])
def history(request: pytest.FixtureRequest, database: Database, rolled_up: Database) -> UseHistory:
    if request.param == "memory":
        return MemoryUseHistory(attempts())
    return PostgresUseHistory(database if request.param == "attempts" else rolled_up)


def ordered(rows: list[HourOfUse]) -> list[HourOfUse]:
    return sorted(rows, key=lambda row: (row.hour, str(row.key)))


@pytest.mark.parametrize(
    "parts", [(), (Part.TENANT,), (Part.PROVIDER,), (Part.MODEL,), (Part.TENANT, Part.MODEL, Part.PROVIDER)]
)
@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(tenant="acme"),
        Filters(provider="openai", model="small"),
        Filters(model="openai/small"),
    ],
)
async def test_use_is_summed_by_hour_and_part(
    history: UseHistory, parts: tuple[Part, ...], filters: Filters
) -> None:
    """Every attempt counts in the hour that it began in, once."""
    found = ordered(list(await history.hours(END - 10, END, parts, filters)))
    expected = await MemoryUseHistory(attempts()).hours(END - 10, END, parts, filters)
    assert found == ordered(list(expected))
    assert sum(row.amounts[4] for row in found) > 0


async def test_hours_out_of_range_are_left_out(history: UseHistory) -> None:
    """The first is in, the end is not; strange names are filters like any other."""
    assert {row.hour for row in await history.hours(END - 3, END - 1, (), Filters())} == {END - 3, END - 2}
    assert await history.hours(END, END + 5, (), Filters(tenant="'; DROP TABLE x; --")) == []
