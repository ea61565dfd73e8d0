"""Rollups kept on a real PostgreSQL beside whatever may happen meanwhile, and then compared with a recount."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from libs.errors import Unavailable
from services.analytics.database.postgres_database import Database, PoolOptions
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.rollups.postgres_rollups import PostgresRollups, read_state
from tests.support.engines import postgres
from tests.support.ledger import MemoryLedger
from tests.support.random_history import BEGIN, DAYS, History
from tests.support.rollups import counted, held

#: Replicas that write at once, and kills of PostgreSQL under them.
WRITERS, KILLS = 4, 3


@dataclass
class Delivered:
    """Batches that writers have brought in."""

    batches: int = 0


async def live_through_a_random_history(dsn: str, seed: int) -> None:
    """Late, repeated, replaced and shuffled records; folds, rebuilds, deletions and changed zones in between. Fails
    unless the rollups equal a recount now and then and in the end. `dsn`: an empty database."""
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


async def survive_kills(seed: int, batches: int) -> None:
    """Replicas write the same requests, so many batches each, while another folds and rebuilds; PostgreSQL is killed
    again and again. Fails if anything is lost or doubled in the end."""
    rng = random.Random(seed)
    history = History(rng)
    work = [[history.batch(20) for _ in range(batches)] for _ in range(WRITERS)]
    now = BEGIN + timedelta(days=DAYS)
    async with postgres() as server, AsyncExitStack() as opened:
        databases = [
            await opened.enter_async_context(
                Database(server.dsn, read_migrations(), PoolOptions(write_timeout=5.0))
            )
            for _ in range(WRITERS + 1)
        ]
        for database in databases:
            await database.prepare()
        await place(server.dsn)
        rollups = PostgresRollups(databases[-1])

        async def go_on() -> None:
            while True:
                with suppress(Unavailable):
                    await keep(rollups, rng, now)
                await asyncio.sleep(0.005)

        keeping = asyncio.create_task(go_on())
        delivered = Delivered()
        writing = [
            asyncio.create_task(
                deliver(PostgresLedger(database, PostgresRollups(database).follow), mine, delivered)
            )
            for database, mine in zip(databases, work, strict=False)
        ]
        for number in range(1, KILLS + 1):
            while delivered.batches < number * WRITERS * batches // (KILLS + 1):
                await asyncio.sleep(0.005)
            await server.kill()
            await server.start()
        await asyncio.gather(*writing)
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await settle(rollups, now)
        await agree_with_ledger(server.dsn, history, work)


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


async def deliver(ledger: PostgresLedger, batches: Sequence[Sequence[Attempt]], delivered: Delivered) -> None:
    """Records every batch, again where the database was gone; counts them in `delivered`."""
    for batch in batches:
        while True:
            with suppress(Unavailable):
                await ledger.record(batch)
                delivered.batches += 1
                break
            await asyncio.sleep(0.02)


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
