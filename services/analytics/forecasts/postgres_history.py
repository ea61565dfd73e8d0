"""Hourly use from the ledger's rows in PostgreSQL: one statement a question."""

# ruff: noqa: S608 -- SQL is put together from the closed enum below only; all else is a parameter.

from __future__ import annotations

from collections.abc import Collection, Sequence

from libs.errors import FailedPrecondition
from services.analytics.database.postgres_database import Database
from services.analytics.forecasts.history import HOUR, MAX_HISTORY_ROWS, Filters, HourOfUse, Part, UseKey

_COLUMNS = {Part.TENANT: ("tenant",), Part.PROVIDER: ("provider",), Part.MODEL: ("provider", "model")}


class PostgresUseHistory:
    """Satisfies `UseHistory`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hours(
        self, first: int, end: int, parts: Collection[Part], filters: Filters
    ) -> Sequence[HourOfUse]:
        """See the port."""
        named = [name for name in ("tenant", "provider", "model") if any(name in _COLUMNS[p] for p in parts)]
        keys = ", ".join(["hour", *named])
        sql = f"""
            SELECT {keys}, sum(cost_micro_usd)::float8 AS cost, sum(input_tokens)::float8 AS input_tokens,
                sum(output_tokens)::float8 AS output_tokens,
                (count(*) FILTER (WHERE attempt_number = 1))::float8 AS requests, count(*)::float8 AS attempts
            FROM (
                SELECT *, floor(extract(epoch FROM started) / {HOUR})::bigint AS hour
                FROM analytics.attempts
                WHERE started >= to_timestamp($1::bigint) AND started < to_timestamp($2::bigint)
                    AND ($3::text IS NULL OR tenant = $3) AND ($4::text IS NULL OR provider = $4)
                    AND ($5::text IS NULL OR model = $5 OR provider || '/' || model = $5)
            ) AS rows
            GROUP BY {keys}
            LIMIT {MAX_HISTORY_ROWS + 1}
        """
        only = (filters.tenant, filters.provider, filters.model)
        async with self._database.reading() as connection:
            rows = await connection.fetch(sql, first * HOUR, end * HOUR, *only)
        if len(rows) > MAX_HISTORY_ROWS:
            raise FailedPrecondition(
                f"The history has more than {MAX_HISTORY_ROWS} rows: ask for one tenant or provider",
                reason="TOO_MANY_ROWS",
            )
        return [
            HourOfUse(
                UseKey(**{name: row[name] for name in named}),
                row["hour"],
                (
                    row["cost"],
                    row["input_tokens"],
                    row["output_tokens"],
                    row["requests"],
                    row["attempts"],
                ),
            )
            for row in rows
        ]
