"""The ledger in PostgreSQL: each batch is one transaction, together with all that is kept in step with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from libs.errors import Unavailable
from services.analytics.database.postgres_database import RETRY_AFTER, Connection, Database
from services.analytics.ledger.attempt import Attempt, best_by_id
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.postgres_rows import CASTS, COLUMNS, attempt_of


@dataclass(frozen=True, slots=True)
class Replaced:
    """An attempt whose record gave way to a better one."""

    before: Attempt
    after: Attempt


@dataclass(frozen=True, slots=True)
class Changes:
    """All that a transaction changes in the ledger."""

    inserted: Sequence[Attempt] = ()
    replaced: Sequence[Replaced] = ()


#: Called in the transaction of each batch that changes anything, before it commits; it raises nothing of its own.
ChangeHook = Callable[[Connection, Changes], Awaitable[None]]

_NAMES = [name for name, _, _ in COLUMNS]
_ARRAYS = ", ".join(f"${i}::{kind}[]" for i, (_, kind, _) in enumerate(COLUMNS, 1))
_GIVEN = f"unnest({_ARRAYS}) AS given ({', '.join(_NAMES)})"
_INSERT = f"""
    INSERT INTO analytics.attempts ({", ".join(_NAMES)})
    SELECT {", ".join(CASTS.get(name, name) for name in _NAMES)} FROM {_GIVEN}
    ON CONFLICT (attempt_id) DO NOTHING RETURNING attempt_id
"""  # noqa: S608  # made of the constants above
#: Ordered, so that two writers of the same rows wait for one another and never in a circle.
_LOCK = f"""
    SELECT {", ".join(_NAMES)} FROM analytics.attempts WHERE attempt_id = ANY($1::text[])
    ORDER BY attempt_id FOR UPDATE
"""  # noqa: S608
_REPLACE = f"""
    UPDATE analytics.attempts AS kept
    SET {", ".join(f"{n} = given.{n}" for n in _NAMES if n != "attempt_id")}, replaced_at = now()
    FROM (SELECT {", ".join(f"{CASTS.get(n, n)} AS {n}" for n in _NAMES)} FROM {_GIVEN}) AS given
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

    async def record(self, attempts: Sequence[Attempt]) -> Recorded:
        """See the port. Rows are written in the order of their ids, so that two writers of the same rows wait for
        one another and never in a circle."""
        best = best_by_id(attempts)
        if not best:
            return Recorded()
        refused: dict[str, str] = {}
        async with self._database.writing() as connection:
            inserted, replaced = await self._write(connection, [best[key] for key in sorted(best)], refused)
        lost = sum(attempt.attempt_id in refused for attempt in attempts) if refused else 0
        return Recorded(inserted, replaced, len(attempts) - inserted - replaced - lost, refused)

    async def _write(
        self, connection: Connection, rows: Sequence[Attempt], refused: dict[str, str]
    ) -> tuple[int, int]:
        """Writes all rows that can be written: a batch that the server cannot take is halved until the row to blame
        stands alone. Returns how many were inserted and replaced."""
        try:
            async with connection.transaction():
                changes = await _change(connection, rows)
                if self._on_change is not None and (changes.inserted or changes.replaced):
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
                refused[rows[0].attempt_id] = f"the database cannot keep it ({type(error).__name__})"
                return 0, 0
            middle = len(rows) // 2
            first = await self._write(connection, rows[:middle], refused)
            second = await self._write(connection, rows[middle:], refused)
            return first[0] + second[0], first[1] + second[1]
        return len(changes.inserted), len(changes.replaced)


async def _change(connection: Connection, rows: Sequence[Attempt]) -> Changes:
    """Inserts what is new and replaces what is worse. What another transaction is inserting is waited for, so a row
    that is not inserted here is there to be read and compared."""
    new = {row["attempt_id"] for row in await connection.fetch(_INSERT, *_arrays(rows))}
    inserted = [row for row in rows if row.attempt_id in new]
    if len(inserted) == len(rows):
        return Changes(inserted)
    known = {row.attempt_id: row for row in rows if row.attempt_id not in new}
    kept = await connection.fetch(_LOCK, list(known))
    replaced = [
        Replaced(before, known[before.attempt_id])
        for before in map(attempt_of, kept)
        if known[before.attempt_id].rank > before.rank
    ]
    if replaced:
        await connection.execute(_REPLACE, *_arrays([change.after for change in replaced]))
    return Changes(inserted, replaced)


def _arrays(rows: Sequence[Attempt]) -> list[list[object]]:
    return [[value(row) for row in rows] for _, _, value in COLUMNS]
