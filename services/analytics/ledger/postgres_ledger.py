"""The ledger in PostgreSQL: each batch is one transaction, together with all that is kept in step with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from libs.errors import Unavailable
from services.analytics.database.postgres_database import RETRY_AFTER, Connection, Database
from services.analytics.ledger.attempt import Attempt, best_by_id
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.postgres_attempts import CASTS, COLUMNS, attempt_of
from services.analytics.ledger.postgres_requests import REQUEST_CASTS, REQUEST_COLUMNS
from services.analytics.ledger.request import RequestRecord

Row = Attempt | RequestRecord
#: Name, type of the array it travels in, value.
Column = tuple[str, str, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Replaced:
    """An attempt whose record gave way to a better one."""

    before: Attempt
    after: Attempt


@dataclass(frozen=True, slots=True)
class Changes:
    """All that a transaction changes in the ledger: attempts and requests that are new, and attempts replaced."""

    inserted: Sequence[Attempt] = ()
    replaced: Sequence[Replaced] = ()
    requests: Sequence[RequestRecord] = ()


#: Called in the transaction of each batch that changes anything, before it commits; it raises nothing of its own.
ChangeHook = Callable[[Connection, Changes], Awaitable[None]]


def _insert(table: str, columns: Sequence[Column], casts: Mapping[str, str]) -> str:
    """Returns the SQL that inserts rows with new keys, the first column, and returns these keys."""
    names = [name for name, _, _ in columns]
    return f"""
        INSERT INTO analytics.{table} ({", ".join(names)})
        SELECT {", ".join(casts.get(name, name) for name in names)} FROM {_given(columns)}
        ON CONFLICT ({names[0]}) DO NOTHING RETURNING {names[0]}
    """  # noqa: S608  # made of constants


def _given(columns: Sequence[Column]) -> str:
    arrays = ", ".join(f"${i}::{kind}[]" for i, (_, kind, _) in enumerate(columns, 1))
    return f"unnest({arrays}) AS given ({', '.join(name for name, _, _ in columns)})"


_NAMES = [name for name, _, _ in COLUMNS]
_INSERT = _insert("attempts", COLUMNS, CASTS)
_INSERT_REQUESTS = _insert("requests", REQUEST_COLUMNS, REQUEST_CASTS)
#: Ordered, so that two writers of the same rows wait for one another and never in a circle.
_LOCK = f"""
    SELECT {", ".join(_NAMES)} FROM analytics.attempts WHERE attempt_id = ANY($1::text[])
    ORDER BY attempt_id FOR UPDATE
"""  # noqa: S608
_REPLACE = f"""
    UPDATE analytics.attempts AS kept
    SET {", ".join(f"{n} = given.{n}" for n in _NAMES if n != "attempt_id")}, replaced_at = now()
    FROM (SELECT {", ".join(f"{CASTS.get(n, n)} AS {n}" for n in _NAMES)} FROM {_given(COLUMNS)}) AS given
    WHERE kept.attempt_id = given.attempt_id
"""  # noqa: S608
#: The server or the client library cannot take a value, whoever sends it and however often.
_REJECTED_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class PostgresLedger:
    """Satisfies `Ledger`. `on_change`: keeps more in step with the ledger, in the same transaction."""

    def __init__(self, database: Database, on_change: ChangeHook | None = None) -> None:
        self._database = database
        self._on_change = on_change

    async def record(self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()) -> Recorded:
        """See the port. Rows are written in the order of their ids, so that two writers of the same rows wait for
        one another and never in a circle."""
        best = best_by_id(attempts)
        first = {request.record_id: request for request in reversed(requests)}
        rows: list[Row] = [*(best[key] for key in sorted(best)), *(first[key] for key in sorted(first))]
        if not rows:
            return Recorded()
        refused: dict[str, str] = {}
        async with self._database.writing() as connection:
            done = await self._write(connection, rows, refused)
        lost = sum(attempt.attempt_id in refused for attempt in attempts) if refused else 0
        duplicates = len(attempts) - done.inserted - done.replaced - lost
        return Recorded(done.inserted, done.replaced, duplicates, refused, done.requests)

    async def _write(self, connection: Connection, rows: Sequence[Row], refused: dict[str, str]) -> Recorded:
        """Writes all rows that can be written: a batch that the server cannot take is halved until the row to blame
        stands alone. Returns how many were inserted and replaced."""
        try:
            async with connection.transaction():
                changes = await _change(connection, rows)
                if self._on_change is not None and (changes.inserted or changes.replaced or changes.requests):
                    await self._on_change(connection, changes)
        except asyncpg.CheckViolationError as error:
            # The table is being cut into partitions, and this id belongs to one that is not there yet.
            raise Unavailable(
                "The ledger's tables are being reorganised",
                reason="LEDGER_UNAVAILABLE",
                retry_after=RETRY_AFTER,
            ) from error
        except _REJECTED_ERRORS as error:
            if len(rows) == 1:
                refused[_key(rows[0])] = f"the database cannot keep it ({type(error).__name__})"
                return Recorded()
            middle = len(rows) // 2
            one = await self._write(connection, rows[:middle], refused)
            two = await self._write(connection, rows[middle:], refused)
            return Recorded(
                one.inserted + two.inserted, one.replaced + two.replaced, requests=one.requests + two.requests
            )
        return Recorded(len(changes.inserted), len(changes.replaced), requests=len(changes.requests))


def _key(row: Row) -> str:
    return row.attempt_id if isinstance(row, Attempt) else row.record_id


async def _change(connection: Connection, rows: Sequence[Row]) -> Changes:
    """Inserts what is new and replaces what is worse. What another transaction is inserting is waited for, so a row
    that is not inserted here is there to be read and compared."""
    attempts = [row for row in rows if isinstance(row, Attempt)]
    requests = [row for row in rows if isinstance(row, RequestRecord)]
    inserted = await _inserted(connection, _INSERT, COLUMNS, attempts)
    recorded = await _inserted(connection, _INSERT_REQUESTS, REQUEST_COLUMNS, requests)
    if len(inserted) == len(attempts):
        return Changes(inserted, (), recorded)
    new = {row.attempt_id for row in inserted}
    known = {row.attempt_id: row for row in attempts if row.attempt_id not in new}
    kept = await connection.fetch(_LOCK, list(known))
    replaced = [
        Replaced(before, known[before.attempt_id])
        for before in map(attempt_of, kept)
        if known[before.attempt_id].rank > before.rank
    ]
    if replaced:
        await connection.execute(_REPLACE, *_arrays(COLUMNS, [change.after for change in replaced]))
    return Changes(inserted, replaced, recorded)


async def _inserted(
    connection: Connection, sql: str, columns: Sequence[Column], rows: Sequence[Any]
) -> list[Any]:
    """Inserts the rows with new keys; returns them."""
    if not rows:
        return []
    new = {record[0] for record in await connection.fetch(sql, *_arrays(columns, rows))}
    return [row for row in rows if _key(row) in new]


def _arrays(columns: Sequence[Column], rows: Sequence[Any]) -> list[list[object]]:
    return [[value(row) for row in rows] for _, _, value in columns]
