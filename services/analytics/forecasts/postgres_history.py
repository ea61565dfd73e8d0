"""Hourly use from PostgreSQL, one statement a question: from the rollups as far as they go, then from attempts."""

# ruff: noqa: S608 -- SQL is put together from closed enums and our own constants only; all else is a parameter.

from __future__ import annotations

from collections.abc import Collection, Sequence

from libs.errors import FailedPrecondition
from services.analytics.database.postgres_database import Database
from services.analytics.forecasts.history import HOUR, MAX_HISTORY_ROWS, Filters, HourOfUse, Part, UseKey
from services.analytics.rollups.tables import MODELS, SERVED, Width

_COLUMNS = {Part.TENANT: ("tenant",), Part.PROVIDER: ("provider",), Part.MODEL: ("provider", "model")}


def _listed(names: Sequence[str]) -> str:
    return "".join(f"{name}, " for name in names)


def _only(*, by_tenant: bool) -> str:
    """Returns the SQL of the filters $3 to $5; without a tenant's column $3 is NULL."""
    tenant = "tenant = $3" if by_tenant else "false"
    return (
        f"($3::text IS NULL OR {tenant}) AND ($4::text IS NULL OR provider = $4) "
        "AND ($5::text IS NULL OR model = $5 OR provider || '/' || model = $5)"
    )


class PostgresUseHistory:
    """Satisfies `UseHistory`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hours(
        self, first: int, end: int, parts: Collection[Part], filters: Filters
    ) -> Sequence[HourOfUse]:
        """See the port."""
        named = [name for name in ("tenant", "provider", "model") if any(name in _COLUMNS[p] for p in parts)]
        by_tenant = "tenant" in named or filters.tenant is not None
        keys = ", ".join(["hour", *named])
        # Rows of hours hold all attempts before the mark and no other; from there on attempts are counted.
        sql = f"""
            WITH mark AS (
                SELECT least(hours_until, rebuild_next) AS mark FROM analytics.rollup_state
            ), counted AS (
                SELECT bucket AS at, {_listed(named)} cost, input_tokens, output_tokens, requests, attempts
                FROM analytics.{SERVED.name if by_tenant else MODELS.name}, mark
                WHERE width = {int(Width.HOUR)} AND bucket >= to_timestamp($1::bigint)
                    AND bucket < least(to_timestamp($2::bigint), mark) AND {_only(by_tenant=by_tenant)}
                UNION ALL
                SELECT started, {_listed(named)} cost_micro_usd, input_tokens, output_tokens,
                    (attempt_number = 1)::integer, 1
                FROM analytics.attempts, mark
                WHERE started >= greatest(to_timestamp($1::bigint), mark) AND started < to_timestamp($2::bigint)
                    AND {_only(by_tenant=True)}
            )
            SELECT {keys}, sum(cost)::float8 AS cost, sum(input_tokens)::float8 AS input_tokens,
                sum(output_tokens)::float8 AS output_tokens, sum(requests)::float8 AS requests,
                sum(attempts)::float8 AS attempts
            FROM (SELECT *, floor(extract(epoch FROM at) / {HOUR})::bigint AS hour FROM counted) AS hours
            GROUP BY {keys}
            HAVING sum(attempts) > 0
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
