"""Rollups in PostgreSQL: kept with each commit, folded, rebuilt, checked. Every step is one transaction."""

# ruff: noqa: S608 -- SQL is put together from the constants of `tables`; all else is a parameter.

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import asyncpg

from libs.errors import Unavailable
from services.analytics.database.postgres_database import Connection, Database
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_attempts import CASTS, COLUMNS
from services.analytics.ledger.postgres_ledger import Changes, Replaced
from services.analytics.rollups.contributions_sql import (
    ATTEMPTS_OF,
    COUNTED_OF_RANGE,
    CROWD,
    add_sql,
    counted_alone_sql,
    counted_sql,
    difference_sql,
    fold_sql,
)
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
_COMMIT = """
    UPDATE analytics.rollup_state SET last_commit = clock_timestamp(),
        last_lag_us = greatest(0, extract(epoch FROM clock_timestamp() - $1::timestamptz) * 1000000)::bigint
"""
_NAMES = [name for name, _, _ in COLUMNS]


def _given(first: int) -> str:
    """Returns the SELECT of attempts that are parameters, an array a column, from the parameter `first` on."""
    arrays = ", ".join(f"${i}::{kind}[]" for i, (_, kind, _) in enumerate(COLUMNS, first))
    columns = ", ".join(f"{CASTS.get(name, name)} AS {name}" for name in _NAMES)
    return f"SELECT {columns} FROM unnest({arrays}) AS given ({', '.join(_NAMES)})"


_OF_REQUESTS = f"SELECT {', '.join(_NAMES)} FROM analytics.attempts WHERE request_id = ANY($1::text[])"
#: Attempts of the requests $1 as they were before those named in $2 were written; from $3 on: the replaced ones.
_BEFORE = f"""(
    {_OF_REQUESTS} AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS written (id) WHERE id = attempt_id)
    UNION ALL {_given(3)}
) AS attempts"""
_SUBTRACT = add_sql(counted_sql(_BEFORE), sign="-1")
_SUBTRACT_ALONE = add_sql(counted_alone_sql(f"({_given(1)}) AS attempts"), sign="-1")
#: The attempts of the requests $1, and as a request each those named in $2, and those of the ids $3. The bounds of
#: what is named choose its partitions.
_ADD = add_sql(
    " UNION ALL ".join(
        (
            counted_sql(f"({_OF_REQUESTS}) AS attempts"),
            counted_alone_sql(
                "(SELECT * FROM analytics.attempts WHERE attempt_id = ANY($2::text[]) "
                "AND attempt_id >= (SELECT min(id) FROM unnest($2::text[]) AS named (id)) "
                "AND attempt_id <= (SELECT max(id) FROM unnest($2::text[]) AS named (id))) AS attempts"
            ),
            counted_alone_sql(
                "(SELECT * FROM analytics.attempts WHERE request_id = ANY($3::text[])) AS attempts"
            ),
        )
    )
)
#: One look at the index for those of the ids $1 that have more than one attempt, as far as $2 attempts show it.
_SEVERAL = """
    WITH found AS MATERIALIZED (
        SELECT request_id FROM analytics.attempts WHERE request_id = ANY($1::text[]) LIMIT $2
    )
    SELECT (SELECT count(*) FROM found) AS seen,
        ARRAY(SELECT request_id FROM found GROUP BY request_id HAVING count(*) > 1) AS ids
"""
_IN_RANGE = "started >= $1 AND started < $2"
_RECOUNT = add_sql(COUNTED_OF_RANGE, where=_IN_RANGE, widths=(Width.FIVE_MINUTES, Width.HOUR))
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
        before = [change.before for change in changes.replaced]
        after = [*changes.inserted, *(change.after for change in changes.replaced)]
        if not after:
            return
        oldest_end = min(attempt.started + (attempt.latency or 0.0) for attempt in after)
        await connection.execute(_COMMIT, datetime.fromtimestamp(oldest_end, UTC))
        came = Counter(attempt.request_id for attempt in changes.inserted)
        left: Counter[str] = Counter()
        for change in changes.replaced:
            moved = change.before.request_id != change.after.request_id
            came[change.after.request_id] += moved
            left[change.before.request_id] += moved
        fresh = await _fresh(connection, came, changes.replaced)
        known: list[str] = []  # had attempts before, and are no crowd
        together: list[str] = []
        grown: list[str] = []
        crowded: set[str] = set()
        looked_at = sorted((came.keys() | left.keys()) - fresh)
        for row in await connection.fetch(ATTEMPTS_OF, looked_at, [came[id_] for id_ in looked_at]):
            request, attempts = row["id"], row["attempts"]
            attempts_before = attempts - came[request] + left[request]
            if attempts_before > CROWD:
                crowded.add(request)
                continue
            if attempts_before:
                known.append(request)
            (grown if attempts > CROWD else together).append(request)
        if known:
            replaced = [attempt for attempt in before if attempt.request_id not in crowded]
            written_ids = [attempt.attempt_id for attempt in after]
            await connection.execute(_SUBTRACT, known, written_ids, *_arrays(replaced))
        if any(attempt.request_id in crowded for attempt in before):
            await connection.execute(
                _SUBTRACT_ALONE, *_arrays([attempt for attempt in before if attempt.request_id in crowded])
            )
        alone = crowded | fresh
        await connection.execute(
            _ADD, together, [a.attempt_id for a in after if a.request_id in alone], grown
        )

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
            await connection.execute(_RECOUNT, start, end)
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


async def _fresh(connection: Connection, came: Mapping[str, int], replaced: Sequence[Replaced]) -> set[str]:
    """Returns ids of which one attempt came, and none was there before: all or most of them."""
    of_replaced = {attempt.request_id for change in replaced for attempt in (change.before, change.after)}
    once = sorted({id_ for id_, times in came.items() if times == 1} - of_replaced)
    if not once:
        return set()
    most = 2 * len(once) + 1
    row = await connection.fetchrow(_SEVERAL, once, most)
    assert row is not None, "a SELECT without FROM gives a row"
    return set() if row["seen"] == most else set(once).difference(row["ids"])


def _arrays(attempts: Sequence[Attempt]) -> list[list[object]]:
    return [[value(attempt) for attempt in attempts] for _, _, value in COLUMNS]


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
