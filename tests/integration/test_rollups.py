"""Rollups on a real PostgreSQL equal a recount, whatever comes, in whatever order, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from services.analytics.database.postgres_database import Connection, Database, PoolOptions
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.postgres_attempts import attempt_of
from services.analytics.ledger.postgres_ledger import Changes, PostgresLedger
from services.analytics.rollups.contributions_sql import CROWD
from services.analytics.rollups.postgres_rollups import PostgresRollups, read_state
from tests.support.earlier_ledger import EarlierLedger, Writer, fill, kill_migrators
from tests.support.engines import PostgresServer
from tests.support.ledger import an_attempt
from tests.support.postgres import fresh_database
from tests.support.rollup_history import live_through_a_random_history, survive_kills
from tests.support.rollups import counted, held


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


async def test_rollups_equal_a_recount_whatever_comes_in_whatever_order(dsn: str) -> None:
    """Late, repeated, replaced and shuffled records; folds, rebuilds, deletions and zones changed in between. More of
    them are in tests/hostile."""
    await live_through_a_random_history(dsn, 0)


async def test_a_commit_reads_no_more_the_more_requests_a_caller_gives_one_id(dsn: str) -> None:
    """It read all of them: after some 50,000 no commit came within its time, and the ledger stood still for all."""
    read: list[int] = []
    sql = (
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables "
        "WHERE schemaname = 'analytics' AND relname LIKE 'attempts%'"
    )
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        rollups = PostgresRollups(database)

        async def follow(connection: Connection, changes: Changes) -> None:
            # As for a large table: a small one is read whole.
            await connection.execute("SET LOCAL enable_seqscan = off")
            before = await connection.fetchval(sql)
            await rollups.follow(connection, changes)
            read.append(int(await connection.fetchval(sql) - before))

        ledger = PostgresLedger(database, follow)
        for number in range(12):
            await ledger.record([an_attempt(f"a{number}-{i}", request_id="same") for i in range(50)])
    assert max(read[3:]) <= 3 * CROWD


async def test_rollups_equal_a_recount_across_the_migration_of_an_earlier_ledger(dsn: str) -> None:
    """The version before partitions and rollups writes on while the migration is killed and begun again; what was
    there before is counted by a rebuild, beside commits."""
    connection = await asyncpg.connect(dsn)
    async with Database(dsn, read_migrations()[:2]) as before:
        await before.prepare()
        await fill(dsn, 10_000)
        await connection.execute(
            "UPDATE analytics.attempts SET started = now() - random() * interval '10 days', "
            "outcome = (ARRAY['success', 'failure', 'cancelled'])[1 + floor(random() * 3)::int]"
        )
        now = float(await connection.fetchval("SELECT extract(epoch FROM now())"))
        writer = Writer(EarlierLedger(before), now)
        writing = asyncio.create_task(writer.run())
        await kill_migrators(dsn, [0.05, 0.3])
        async with Database(dsn, read_migrations(), PoolOptions(write_timeout=20.0)) as after:
            await after.keep_preparing()
            rollups = PostgresRollups(after)
            writer.ledger, acknowledged = PostgresLedger(after, rollups.follow), len(writer.acknowledged)
            while await rollups.rebuild_step() or len(writer.acknowledged) < acknowledged + 100:
                await asyncio.sleep(0.001)
            writer.stopping.set()
            await writing
            while await rollups.fold(now):
                pass
    async with connection.transaction(isolation="repeatable_read"):
        state = await read_state(connection)  # type: ignore[arg-type]
        kept = [attempt_of(row) for row in await connection.fetch("SELECT * FROM analytics.attempts")]
        assert await held(connection, state) == counted(kept, state)
    await connection.close()
    assert len(kept) == 11_010 + len(writer.acknowledged)


async def test_writers_a_rebuild_and_a_killed_server_lose_and_double_nothing() -> None:
    """Four replicas write the same requests while another folds and rebuilds; PostgreSQL is killed three times. There
    are longer ones in tests/hostile."""
    await survive_kills(0, batches=8)
