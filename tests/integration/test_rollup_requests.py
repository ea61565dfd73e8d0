"""The ways by which rollups find the attempts of a request come to the same; histograms of before are taken over."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from services.analytics.database.postgres_database import Connection, Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.postgres_ledger import Changes, PostgresLedger
from services.analytics.rollups.contributions_sql import requests_ctes
from services.analytics.rollups.postgres_follow import fresh_requests
from services.analytics.rollups.postgres_rollups import PostgresRollups, read_state
from tests.support.engines import PostgresServer
from tests.support.ledger import an_attempt
from tests.support.postgres import fresh_database
from tests.support.random_history import BEGIN, DAYS, History
from tests.support.rollups import counted, held


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


async def record(dsn: str, database: Database, history: History) -> None:
    """Fills a fresh database, whose marks are put before the history."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE analytics.rollup_state SET hours_until = $1, days_until = $1, kept_from = $1", BEGIN
    )
    await connection.close()
    ledger = PostgresLedger(database, PostgresRollups(database).follow)
    for _ in range(4):
        batch = history.batch(200)
        await ledger.record(batch)
        await history.ledger.record(batch)


@pytest.mark.parametrize("most", [1, 50, 300])
async def test_requests_are_found_alike_whether_all_are_read_or_each_is_looked_at(
    dsn: str, most: int
) -> None:
    """The same crowded ids and the same attempts of the others, of any range."""
    history = History(random.Random(3))
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        await record(dsn, database, history)
        found = []
        async with database.reading() as connection:
            for attempts in (most, 10**6):
                ctes = requests_ctes("started >= $1 AND started < $2", attempts)
                found.append(
                    [
                        await connection.fetch(f"WITH {ctes} {select}", BEGIN, BEGIN + timedelta(days=DAYS))
                        for select in (
                            "SELECT id FROM crowds ORDER BY id",
                            "SELECT attempt_id FROM of_requests ORDER BY attempt_id",
                        )
                    ]
                )
    assert found[0] == found[1]
    assert all(found[0])


async def test_sums_that_an_earlier_version_had_not_are_added_up_by_the_migration(dsn: str) -> None:
    """Histograms by provider and of everything, sums by tenant and provider, failures by model; of every width, as if
    they had been kept from the beginning."""
    history = History(random.Random(5))
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        await record(dsn, database, history)
        rollups = PostgresRollups(database)
        while await rollups.fold((BEGIN + timedelta(days=DAYS - 2)).timestamp()):
            pass
    connection = await asyncpg.connect(dsn)
    assert await connection.execute("DELETE FROM analytics.rollup_durations WHERE slice > 3") != "DELETE 0"
    await connection.execute("DROP TABLE analytics.rollup_tenant_providers, analytics.rollup_model_failures")
    await connection.execute("DELETE FROM analytics.migrations WHERE version = 8")
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
    async with connection.transaction(isolation="repeatable_read"):
        state = await read_state(connection)  # type: ignore[arg-type]
        assert await held(connection, state) == counted(history.ledger.rows.values(), state)
    await connection.close()


async def test_a_commit_of_fresh_requests_reads_each_attempt_twice(dsn: str) -> None:
    """Once to see that it is alone, once to count it. It was read three times, once id by id in each partition."""
    read: list[int] = []
    sql = (
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables "
        "WHERE schemaname = 'analytics' AND relname LIKE 'attempts%'"
    )
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        rollups = PostgresRollups(database)

        async def follow(connection: Connection, changes: Changes) -> None:
            before = await connection.fetchval(sql)
            await rollups.follow(connection, changes)
            read.append(int(await connection.fetchval(sql) - before))

        ledger = PostgresLedger(database, follow)
        await ledger.record([an_attempt(f"a{i}", request_id=f"r{i}") for i in range(200)])
    assert read[0] <= 400


async def test_an_id_of_thousands_of_attempts_makes_no_others_be_looked_up_one_by_one(dsn: str) -> None:
    """A caller with one id for all of its requests sends one of them with each commit of others."""
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        ledger = PostgresLedger(database, PostgresRollups(database).follow)
        await ledger.record([an_attempt(f"old{i}", request_id="same") for i in range(1000)])
        others = [f"r{i}" for i in range(50)]
        await ledger.record([an_attempt(f"a{id_}", request_id=id_) for id_ in others])
        async with database.reading() as connection:
            found = await fresh_requests(connection, dict.fromkeys([*others, "same"], 1), ())
    assert found == set(others)
