"""The partitions of the ledger's tables: made ahead of time, dropped by age, and the way there from one whole table.

A table is cut by the weeks in which its ids were made (`libs.ids`), so the id alone finds a row, one unique key
holds over all partitions, and old rows go as whole files. `<table>_old` holds what was there before;
`<table>_default` takes ids of no time at all, or of a time for which there is no partition, so no row is ever refused
for its id. Partitions are made weeks ahead; what the default one has of a new partition's range moves into it. Locks
that keep others from reading or writing are held for catalogue changes alone, and are given up after `LOCK_TIMEOUT`
to be tried again, so that nobody queues behind them for long.
"""

# ruff: noqa: S608 -- names of tables are constants below or made of dates here, bounds are ids of ours.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from libs.ids import first_id

AnyConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

DAY = 86_400.0
WEEK = 7 * DAY
#: The epoch was a Thursday.
_MONDAY = 4 * DAY
#: Partitions exist at least so long ahead of the clock, seconds: more than any reporter's clock may be ahead.
AHEAD = 3 * WEEK
#: A reporter's clock may have been behind by so much when it made an id, seconds.
BEHIND = 8 * DAY
#: The longest that a change of the schema waits for a lock while others queue behind it.
LOCK_TIMEOUT = "2s"
#: Rows that one statement of the retention deletes of a default partition at most.
DELETED_AT_ONCE = 10_000
#: Seconds for what reads a whole table.
_LONG = 86_400.0
#: Names our advisory locks among all of a database's.
_PREPARE_LOCK, _KEEP_LOCK = 0x706F696E75, 0x706F696E76


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table of the schema that is cut by the range of its ids, and kept by the age of its rows."""

    name: str
    id_column: str
    time_column: str = "started"


ATTEMPTS = PartitionedTable("attempts", "attempt_id")
REQUESTS = PartitionedTable("requests", "record_id")
#: All tables that are cut.
PARTITIONED = (ATTEMPTS, REQUESTS)


def week_of(instant: float) -> float:
    """Returns the beginning of the week (Monday, UTC) of an instant; epoch seconds."""
    return (instant - _MONDAY) // WEEK * WEEK + _MONDAY


async def prepare_attempts(connection: AnyConnection) -> None:
    """Does all of migration 0003 that takes long, while others write; nothing where it is done. Killed at any place,
    it goes on from there when it is called again."""
    await connection.execute("SELECT pg_advisory_lock($1)", _PREPARE_LOCK, timeout=_LONG)
    try:
        if not await _is_one_table(connection):
            return
        valid = await connection.fetchval(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('analytics.attempts_old_request')"
        )
        if valid is False:
            await connection.execute("DROP INDEX CONCURRENTLY analytics.attempts_old_request", timeout=_LONG)
        if not valid:
            await connection.execute(
                "CREATE INDEX CONCURRENTLY attempts_old_request ON analytics.attempts (request_id)",
                timeout=_LONG,
            )
        bound = await _bound_attempts(connection)
        # The bound keeps more of them out; until they are in their place, a record of theirs is not acknowledged.
        await connection.execute(
            "WITH moved AS (DELETE FROM analytics.attempts WHERE attempt_id >= $1 RETURNING *) "
            "INSERT INTO analytics.attempts_default SELECT * FROM moved",
            bound,
            timeout=_LONG,
        )
        await connection.execute(
            "ALTER TABLE analytics.attempts VALIDATE CONSTRAINT attempts_before", timeout=_LONG
        )
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _PREPARE_LOCK)


async def _is_one_table(connection: AnyConnection) -> bool:
    """Returns True if the attempts are in one table that is not cut yet."""
    kind = await connection.fetchval(
        "SELECT relkind::text FROM pg_class WHERE oid = to_regclass('analytics.attempts')"
    )
    return bool(kind == "r")


async def _bound_attempts(connection: AnyConnection) -> str:
    """Lets no more ids into the table than its partition may hold; returns the first that it may not."""
    known: str | None = await connection.fetchval(
        "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint "
        "WHERE conrelid = 'analytics.attempts'::regclass AND conname = 'attempts_before'"
    )
    if known is not None:
        return known
    now = float(await connection.fetchval("SELECT extract(epoch FROM now())"))
    bound = first_id(now // DAY * DAY + 2 * DAY)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute(
            f"""
            CREATE TABLE IF NOT EXISTS analytics.attempts_default
                (LIKE analytics.attempts INCLUDING DEFAULTS INCLUDING INDEXES);
            ALTER TABLE analytics.attempts
                ADD CONSTRAINT attempts_before CHECK (attempt_id < '{bound}') NOT VALID;
            COMMENT ON CONSTRAINT attempts_before ON analytics.attempts IS '{bound}';
            """
        )
    return bound


async def keep_partitions(
    connection: AnyConnection, tables: Sequence[PartitionedTable], now: float, retention: float | None
) -> None:
    """Makes the partitions that are missing, and drops what is older than `retention` (seconds, None: nothing is).
    Does nothing while another replica does it. `now`: epoch seconds."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _KEEP_LOCK):
        return
    try:
        for table in tables:
            await _add_missing(connection, table, now)
            if retention is not None:
                await _drop_older(connection, table, now - retention)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _KEEP_LOCK)


async def _add_missing(connection: AnyConnection, table: PartitionedTable, now: float) -> None:
    last: datetime = await connection.fetchval(
        "SELECT max(until) FROM analytics.partitions WHERE parent = $1", table.name
    )
    since = max(last.timestamp(), week_of(now - BEHIND))
    while since < now + AHEAD:
        until = week_of(since) + WEEK
        await _add(connection, table, since, until)
        since = until


async def _add(connection: AnyConnection, table: PartitionedTable, since: float, until: float) -> None:
    parent, column = table.name, table.id_column
    begin, end = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)
    name = f"{parent}_{begin:%Y%m%d}"
    low, high = first_id(since), first_id(until)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute(
            f"""
            CREATE TABLE analytics.{name} (LIKE analytics.{parent} INCLUDING DEFAULTS INCLUDING INDEXES);
            LOCK TABLE analytics.{parent}_default IN ACCESS EXCLUSIVE MODE;
            WITH moved AS (
                DELETE FROM analytics.{parent}_default WHERE {column} >= '{low}' AND {column} < '{high}' RETURNING *
            )
            INSERT INTO analytics.{name} SELECT * FROM moved;
            ALTER TABLE analytics.{parent} ATTACH PARTITION analytics.{name}
                FOR VALUES FROM ('{low}') TO ('{high}');
            """
        )
        await connection.execute(
            "INSERT INTO analytics.partitions (name, parent, since, until) VALUES ($1, $2, $3, $4)",
            name,
            parent,
            begin,
            end,
        )


async def _drop_older(connection: AnyConnection, table: PartitionedTable, horizon: float) -> None:
    """Drops what is older than an instant (epoch seconds): whole partitions, and rows of the default one."""
    # The clock that made an id may have been a day behind the one that says how old its row is.
    before = datetime.fromtimestamp(horizon - DAY, UTC)
    for row in await connection.fetch(
        "SELECT name FROM analytics.partitions WHERE parent = $1 AND until <= $2 ORDER BY until",
        table.name,
        before,
    ):
        # The table of before has all times of its day: it goes when its last row does.
        newest = await connection.fetchval(f"SELECT max({table.time_column}) FROM analytics.{row['name']}")
        if newest is not None and newest > before:
            continue
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute(
                f"ALTER TABLE analytics.{table.name} DETACH PARTITION analytics.{row['name']};"
                f"DROP TABLE analytics.{row['name']};"
            )
            await connection.execute("DELETE FROM analytics.partitions WHERE name = $1", row["name"])
    deleted: Any = f"DELETE {DELETED_AT_ONCE}"
    while deleted == f"DELETE {DELETED_AT_ONCE}":
        deleted = await connection.execute(
            f"DELETE FROM analytics.{table.name}_default WHERE {table.id_column} IN (SELECT {table.id_column} "
            f"FROM analytics.{table.name}_default WHERE {table.time_column} < $1 LIMIT {DELETED_AT_ONCE})",
            before,
        )
