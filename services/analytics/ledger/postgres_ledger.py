"""The ledger in PostgreSQL: one statement per batch written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import msgspec

from services.analytics.database.postgres_database import Connection, Database
from services.analytics.ledger.attempt import Attempt, best_by_id
from services.analytics.ledger.ledger import Recorded

_MICROS = 1_000_000


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _MICROS)


def _labels(attempt: Attempt) -> str | None:
    return msgspec.json.encode(dict(attempt.labels)).decode() if attempt.labels else None


#: Column, type of the array it travels in, value.
_COLUMNS: tuple[tuple[str, str, Callable[[Attempt], Any]], ...] = (
    ("attempt_id", "text", lambda a: a.attempt_id),
    ("request_id", "text", lambda a: a.request_id),
    ("attempt_number", "integer", lambda a: a.attempt_number),
    ("tenant", "text", lambda a: a.tenant),
    ("campaign", "text", lambda a: a.campaign),
    ("content_type", "text", lambda a: a.content_type),
    ("provider", "text", lambda a: a.provider),
    ("model", "text", lambda a: a.model),
    ("started", "bigint", lambda a: round(a.started * _MICROS)),
    ("latency_us", "bigint", lambda a: _micros(a.latency)),
    ("ttft_us", "bigint", lambda a: _micros(a.time_to_first_token)),
    ("outcome", "text", lambda a: a.outcome),
    ("error_class", "text", lambda a: a.error_class or ""),
    ("http_status", "integer", lambda a: a.http_status),
    ("input_tokens", "bigint", lambda a: a.usage.input_tokens),
    ("output_tokens", "bigint", lambda a: a.usage.output_tokens),
    ("cache_read_tokens", "bigint", lambda a: a.usage.cache_read_tokens),
    ("cache_write_tokens", "bigint", lambda a: a.usage.cache_write_tokens),
    ("reasoning_tokens", "bigint", lambda a: a.usage.reasoning_tokens),
    ("accuracy", "text", lambda a: a.usage.accuracy),
    ("cost_micro_usd", "bigint", lambda a: a.cost_micro_usd),
    ("finish_reason", "text", lambda a: a.finish_reason or ""),
    ("streamed", "boolean", lambda a: a.streamed),
    ("hedge", "boolean", lambda a: a.hedge),
    ("labels", "text", _labels),
    ("trace_id", "text", lambda a: a.trace_id),
    ("rank", "smallint", lambda a: a.rank),
)
#: Columns that travel as another type than they are kept as. Intervals count microseconds exactly; to_timestamp()
#: does not.
_CASTS = {
    "started": "timestamptz 'epoch' + started * interval '1 microsecond'",
    "labels": "labels::jsonb",
}


def _record_sql() -> str:
    names = [name for name, _, _ in _COLUMNS]
    arrays = ", ".join(f"${i}::{kind}[]" for i, (_, kind, _) in enumerate(_COLUMNS, 1))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name != "attempt_id")
    # A row that this statement inserted has no xmax; one that it replaced has.
    return f"""
        WITH written AS (
            INSERT INTO analytics.attempts AS kept ({", ".join(names)})
            SELECT {", ".join(_CASTS.get(name, name) for name in names)}
            FROM unnest({arrays}) AS given ({", ".join(names)})
            ON CONFLICT (attempt_id) DO UPDATE SET {updates}, replaced_at = now()
            WHERE excluded.rank > kept.rank
            RETURNING xmax = 0 AS inserted
        )
        SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE NOT inserted) AS replaced
        FROM written
    """  # noqa: S608  # made of the constants above


_RECORD_SQL = _record_sql()
#: The server or the client library cannot take a value, whoever sends it and however often.
_REJECTED_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class PostgresLedger:
    """Satisfies `Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, attempts: Sequence[Attempt]) -> Recorded:
        """See the port. Rows are written in the order of their ids, so that two writers of the same rows wait for
        one another and never in a circle."""
        best = best_by_id(attempts)
        if not best:
            return Recorded()
        refused: dict[str, str] = {}
        async with self._database.writing() as connection:
            inserted, replaced = await _write(connection, [best[key] for key in sorted(best)], refused)
        lost = sum(attempt.attempt_id in refused for attempt in attempts) if refused else 0
        return Recorded(inserted, replaced, len(attempts) - inserted - replaced - lost, refused)


async def _write(connection: Connection, rows: Sequence[Attempt], refused: dict[str, str]) -> tuple[int, int]:
    """Writes all rows that can be written: a batch that the server cannot take is halved until the row to blame
    stands alone. Returns how many were inserted and replaced."""
    try:
        done = await connection.fetchrow(
            _RECORD_SQL, *([value(row) for row in rows] for _, _, value in _COLUMNS)
        )
    except _REJECTED_ERRORS as error:
        if len(rows) == 1:
            refused[rows[0].attempt_id] = f"the database cannot keep it ({type(error).__name__})"
            return 0, 0
        middle = len(rows) // 2
        first = await _write(connection, rows[:middle], refused)
        second = await _write(connection, rows[middle:], refused)
        return first[0] + second[0], first[1] + second[1]
    assert done is not None, "an aggregate without GROUP BY gives one row"
    return done["inserted"], done["replaced"]
