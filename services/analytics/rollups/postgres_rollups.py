"""Rollups in PostgreSQL: kept with each commit, folded, rebuilt, checked. Every step is one transaction."""

# ruff: noqa: S608 -- SQL is put together from the constants of `tables`; all else is a parameter.

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import asyncpg

from libs.errors import Unavailable
from services.analytics.database.postgres_database import Connection, Database
from services.analytics.ledger.postgres_ledger import Changes
from services.analytics.rollups.contributions_sql import (
    COUNTED_OF_RANGE,
    add_sql,
    difference_sql,
    fold_sql,
)
from services.analytics.rollups.postgres_follow import follow_changes
from services.analytics.rollups.postgres_stretch import StepSize, exceed, stretch
from services.analytics.rollups.state import (
    FIVE_MINUTES,
    HOUR,
    KEPT,
    RollupState,
    floor_day,
    floor_five_minutes,
    floor_hour,
    floor_month,
    whole_hours,
)
from services.analytics.rollups.tables import TABLES, Width

_STATE = "SELECT * FROM analytics.rollup_state"
_IN_RANGE = "started >= $1 AND started < $2"
_REBUILT_WIDTHS = (Width.FIVE_MINUTES, Width.HOUR)
_RECOUNT = add_sql(COUNTED_OF_RANGE, where=_IN_RANGE, widths=_REBUILT_WIDTHS)
_RECOUNT_HOURS = add_sql(COUNTED_OF_RANGE, where=_IN_RANGE, widths=_REBUILT_WIDTHS, into_empty=True)
_RECOUNT_DAYS = add_sql(COUNTED_OF_RANGE, where=_IN_RANGE, widths=(Width.DAY, Width.MONTH))
#: Each width by itself, which its index answers with one row.
_NEXT_ROW = "SELECT least({}, {})".format(
    *(
        "(SELECT min(bucket) FROM analytics.rollup_served "
        f"WHERE width = {width} AND bucket >= $1 AND bucket < $2)"
        for width in (Width.FIVE_MINUTES, Width.HOUR)
    )
)
#: Attempts that a check recounts at most.
_CHECK_ATTEMPTS = 50_000
#: Rows deleted in one transaction.
_DELETED = 20_000


class PostgresRollups:
    """Satisfies `Rollups`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._step = StepSize()

    async def follow(self, connection: Connection, changes: Changes) -> None:
        """Counts what a transaction has changed in the ledger; it is `on_change` of the ledger. From here to their
        ends, the transactions of all replicas stand in one line."""
        await follow_changes(connection, changes)

    async def state(self) -> RollupState:
        """See the port."""
        async with self._database.reading() as connection:
            return await read_state(connection)

    async def change_zone(self, zone: str) -> bool:
        """See the port."""
        async with self._locked() as (connection, state):
            if state.zone == zone:
                return False
            earliest = await self._oldest_hour(connection)
            await self._drop_days(connection, state, earliest or state.hours_until, zone)
            return True

    async def fold(self, now: float) -> bool:
        """See the port."""
        async with self._locked() as (connection, state):
            if (end := state.hours_due(datetime.fromtimestamp(now, UTC))) is not None:
                start = state.hours_until
                await _fold(connection, Width.FIVE_MINUTES, {Width.HOUR: start}, start, end)
                await connection.execute("UPDATE analytics.rollup_state SET hours_until = $1", end)
                return True
            if (end := state.days_due()) is None:
                return False
            zone = ZoneInfo(state.zone)
            if not whole_hours(state.days_until, end, zone):
                end = min(end, state.days_until + HOUR)
                await connection.execute("UPDATE analytics.rollup_state SET days_until = $1", end)
                await connection.execute(_RECOUNT_DAYS, state.days_until, end)
                return True
            await connection.execute("UPDATE analytics.rollup_state SET days_until = $1", end)
            start = state.days_until
            buckets = {Width.DAY: floor_day(start, zone), Width.MONTH: floor_month(start, zone)}
            await _fold(connection, Width.HOUR, buckets, start, end)
            return True

    async def forget(self, now: float) -> bool:
        """See the port."""
        async with self._locked() as (connection, state):
            limit = min(floor_hour(datetime.fromtimestamp(now, UTC) - KEPT), state.hours_until)
            if limit > state.kept_from:
                await connection.execute("UPDATE analytics.rollup_state SET kept_from = $1", limit)
            limit = max(limit, state.kept_from)
            more = False
            for table in TABLES:
                # `= ANY (ARRAY ...)` finds rows by their place; an IN would join.
                partition = f"analytics.{table.name}_five_minutes"
                done = await connection.execute(
                    f"DELETE FROM {partition} WHERE ctid = ANY (ARRAY("
                    f"SELECT ctid FROM {partition} WHERE bucket < $1 LIMIT {_DELETED}))",
                    limit,
                )
                more |= done == f"DELETE {_DELETED}"
            return more

    async def rebuild(self, since: float | None = None, until: float | None = None) -> RollupState:
        """See the port."""
        async with self._locked() as (connection, state):
            first, last = await connection.fetchrow(
                "SELECT min(started), max(started) FROM analytics.attempts"
            ) or (None, None)
            start = _instant(since) or first or state.hours_until
            oldest = await self._oldest_hour(connection)
            if first is not None and oldest is not None and oldest < floor_hour(first):
                # Attempts before have been dropped: what is summed up of them is all that is left.
                start = max(start, floor_hour(first) + HOUR)
            end = max(_instant(until) or (last or start) + HOUR, start)
            start, end = floor_hour(start), floor_hour(end - timedelta(microseconds=1)) + HOUR
            if state.rebuild_next is not None and state.rebuild_until is not None:
                start, end = min(start, floor_hour(state.rebuild_next)), max(end, state.rebuild_until)
            await connection.execute(
                "UPDATE analytics.rollup_state SET rebuild_next = $1, rebuild_until = $2", start, end
            )
            if start < state.days_until:
                await self._drop_days(connection, state, start, state.zone)
            return await read_state(connection)

    async def rebuild_step(self) -> bool:
        """See the port."""
        try:
            more = await self._rebuild_step()
        except Unavailable:
            self._step.failed()
            raise
        self._step.succeeded()
        return more

    async def _rebuild_step(self) -> bool:
        async with self._locked() as (connection, state):
            start, until = state.rebuild_next, state.rebuild_until
            if start is None or until is None:
                return False
            end = min(until, start + await stretch(connection, start, self._step.attempts))
            for width, floor in ((Width.HOUR, floor_hour), (Width.FIVE_MINUTES, floor_five_minutes)):
                # Later parts of a bucket are added to what its first part began.
                first = (
                    start
                    if floor(start) == start
                    else floor(start) + (HOUR if width == Width.HOUR else FIVE_MINUTES)
                )
                for table in TABLES:
                    await connection.execute(
                        f"DELETE FROM analytics.{table.name} WHERE width = $1 AND bucket >= $2 AND bucket < $3",
                        *(width, first, end),
                    )
            following = await connection.fetchval(
                "SELECT min(started) FROM analytics.attempts WHERE started >= $1 AND started < $2", end, until
            )
            # An hour in between that has rows and no attempts must lose them, so none is skipped but empty ones.
            rows = await connection.fetchval(_NEXT_ROW, floor_hour(end), until)
            following = min((floor_hour(at) for at in (following, rows) if at is not None), default=None)
            after = None if following is None or end >= until else max(end, following)
            await connection.execute(
                "UPDATE analytics.rollup_state SET rebuild_next = $1::timestamptz, "
                "rebuild_until = CASE WHEN $1 IS NULL THEN NULL ELSE rebuild_until END",
                after,
            )
            # Rows of whole hours have just been deleted.
            whole = floor_hour(start) == start and floor_hour(end) == end
            await connection.execute(_RECOUNT_HOURS if whole else _RECOUNT, start, end)
            return True

    async def check(self, rng: Random) -> Mapping[str, int] | None:
        """See the port."""
        async with (
            self._database.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            state = await read_state(connection)
            first = await connection.fetchval("SELECT min(started) FROM analytics.attempts")
            # The hour of the first attempt may have lost others to the retention.
            hours = 0 if first is None else (state.hours_until - floor_hour(first)) // HOUR - 1
            if hours < 1:
                return None
            start = floor_hour(first) + HOUR * (1 + rng.randrange(hours))
            width, end = Width.HOUR, start + HOUR
            if await exceed(connection, start, end, _CHECK_ATTEMPTS):
                start += FIVE_MINUTES * rng.randrange(12)
                width, end = Width.FIVE_MINUTES, start + FIVE_MINUTES
                if start < state.kept_from or await exceed(connection, start, end, _CHECK_ATTEMPTS):
                    return None
            if not state.trusts(start, end):
                return None
            return {
                table.name: await connection.fetchval(difference_sql(table, width), start, end)
                for table in TABLES
            }

    async def _oldest_hour(self, connection: Connection) -> datetime | None:
        oldest: datetime | None = await connection.fetchval(
            "SELECT min(bucket) FROM analytics.rollup_served WHERE width = $1", Width.HOUR
        )
        return oldest

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[tuple[Connection, RollupState]]:
        async with self._database.writing() as connection, connection.transaction():
            # Thousands of groups are added up at once, which shall not go through files.
            await connection.execute("SET LOCAL work_mem = '64MB'")
            row = await connection.fetchrow(f"{_STATE} FOR UPDATE")
            assert row is not None, "the migration makes the row"
            yield connection, _state(row)

    async def _drop_days(
        self, connection: Connection, state: RollupState, start: datetime, zone: str
    ) -> None:
        """Lets days and months be folded again, from the month of `start`; from the first, where the zone changes."""
        begin = floor_month(start, ZoneInfo(zone))
        for table in TABLES:
            await connection.execute(
                f"DELETE FROM analytics.{table.name} WHERE width IN (3, 4) AND ($2 OR bucket >= $1)",
                *(begin, zone != state.zone),
            )
        await connection.execute(
            "UPDATE analytics.rollup_state SET zone = $1, days_until = least($2, hours_until)", zone, begin
        )


async def read_state(connection: Connection) -> RollupState:
    """Returns the marks in the connection's snapshot."""
    row = await connection.fetchrow(_STATE)
    assert row is not None, "the migration makes the row"
    return _state(row)


def _state(row: asyncpg.Record) -> RollupState:
    lag = row["last_lag_us"]
    return RollupState(
        *(row["zone"], row["hours_until"], row["days_until"], row["kept_from"]),
        *(row["rebuild_next"], row["rebuild_until"], row["last_commit"]),
        None if lag is None else lag / 1e6,
    )


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


async def _fold(
    connection: Connection,
    source: Width,
    buckets: Mapping[Width, datetime],
    start: datetime,
    end: datetime,
) -> None:
    """Adds the rows of a width in [start, end) to the bucket of each wider one."""
    for table in TABLES:
        await connection.execute(fold_sql(table, source, list(buckets)), start, end, *buckets.values())
