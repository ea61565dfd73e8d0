"""Rollups on a real PostgreSQL equal a recount, whatever comes, in whatever order, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from libs.errors import Unavailable
from services.analytics.database.postgres_database import Connection, Database, PoolOptions
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_attempts import attempt_of
from services.analytics.ledger.postgres_ledger import Changes, PostgresLedger
from services.analytics.rollups.contributions_sql import CROWD
from services.analytics.rollups.postgres_rollups import PostgresRollups, read_state
from tests.support.earlier_ledger import EarlierLedger, Writer, fill, kill_migrators
from tests.support.engines import PostgresServer, postgres
from tests.support.ledger import MemoryLedger, an_attempt
from tests.support.postgres import fresh_database
from tests.support.random_history import BEGIN, DAYS, History
from tests.support.rollups import counted, held


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


async def place(dsn: str) -> None:
    """Puts the marks of a fresh database before the history."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "UPDATE analytics.rollup_state SET hours_until = $1, days_until = $1, kept_from = $1", BEGIN
        )
    finally:
        await connection.close()


async def agree(dsn: str, ledger: MemoryLedger) -> None:
    """The rows that are there are those that a recount gives."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            state = await read_state(connection)  # type: ignore[arg-type]
            assert state.rebuild_next is None
            rows, expected = await held(connection, state), counted(ledger.rows.values(), state)
    finally:
        await connection.close()
    assert {key: rows.get(key) for key in expected} == expected
    assert set(rows) == set(expected)


async def keep(rollups: PostgresRollups, rng: random.Random, now: datetime) -> None:
    """One random step of what goes on beside commits."""
    at = now.timestamp()
    step = rng.choice(["fold", "fold", "forget", "rebuild", "step", "zone"])
    if step == "fold":
        for _ in range(rng.randrange(30)):
            await rollups.fold(at)
    elif step == "forget":
        await rollups.forget(at)
    elif step == "rebuild":
        since = at - rng.random() * DAYS * 86_400
        await rollups.rebuild(*rng.choice([(None, None), (since, at), (since, since + 1)]))
    elif step == "step":
        await rollups.rebuild_step()
    else:
        await rollups.change_zone(
            rng.choice(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
        )


async def settle(rollups: PostgresRollups, now: datetime) -> None:
    while await rollups.rebuild_step():
        pass
    while await rollups.fold(now.timestamp()):
        pass


@pytest.mark.parametrize("seed", range(6))
async def test_rollups_equal_a_recount_whatever_comes_in_whatever_order(dsn: str, seed: int) -> None:
    """Late, repeated, replaced and shuffled records; folds, rebuilds, deletions and zones changed in between."""
    rng = random.Random(seed)
    history = History(rng)
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        await place(dsn)
        ledger, rollups = (
            PostgresLedger(database, PostgresRollups(database).follow),
            PostgresRollups(database),
        )
        now = BEGIN
        for _ in range(24):
            now += timedelta(hours=rng.randrange(8))
            batch = history.batch(rng.randrange(1, 60))
            assert await ledger.record(batch) == await history.ledger.record(batch)
            await keep(rollups, rng, now)
            if rng.random() < 0.2:
                await settle(rollups, now)
                await agree(dsn, history.ledger)
        await settle(rollups, now)
        await agree(dsn, history.ledger)


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


async def deliver(ledger: PostgresLedger, batches: Sequence[Sequence[Attempt]]) -> None:
    """Records every batch, again where the database was gone."""
    for batch in batches:
        while True:
            with suppress(Unavailable):
                await ledger.record(batch)
                break
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", range(2))
async def test_writers_a_rebuild_and_a_killed_server_lose_and_double_nothing(seed: int) -> None:
    """Four replicas write the same requests while another folds and rebuilds; PostgreSQL is killed three times."""
    rng = random.Random(seed)
    history = History(rng)
    work = [[history.batch(20) for _ in range(25)] for _ in range(4)]
    now = BEGIN + timedelta(days=DAYS)
    async with postgres() as server:
        databases = [
            Database(server.dsn, read_migrations(), PoolOptions(write_timeout=5.0)) for _ in range(5)
        ]
        for database in databases:
            await database.__aenter__()
            await database.prepare()
        await place(server.dsn)
        rollups = PostgresRollups(databases[4])

        async def go_on() -> None:
            while True:
                with suppress(Unavailable):
                    await keep(rollups, rng, now)
                await asyncio.sleep(0.005)

        keeping = asyncio.create_task(go_on())
        writing = [
            asyncio.create_task(deliver(PostgresLedger(database, PostgresRollups(database).follow), mine))
            for database, mine in zip(databases[:4], work, strict=True)
        ]
        for _ in range(3):
            await asyncio.sleep(0.2)
            await server.kill()
            await server.start()
        await asyncio.gather(*writing)
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await settle(rollups, now)
        await agree_with_ledger(server.dsn, history, work)
        for database in databases:
            await database.close()


async def agree_with_ledger(dsn: str, history: History, work: list[list[list[Attempt]]]) -> None:
    """Of equally good records the ledger kept the first to come, so its own rows are what is counted."""
    by_record: dict[tuple[str, int, int], Attempt] = {}
    for mine in work:
        for batch in mine:
            for attempt in batch:
                by_record.setdefault((attempt.attempt_id, attempt.rank, attempt.cost_micro_usd), attempt)
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT attempt_id, rank, cost_micro_usd FROM analytics.attempts")
    finally:
        await connection.close()
    for row in rows:
        attempt = by_record[row["attempt_id"], row["rank"], row["cost_micro_usd"]]
        history.ledger.rows[attempt.attempt_id] = attempt
    assert len(history.ledger.rows) == len({key[0] for key in by_record})
    await agree(dsn, history.ledger)
