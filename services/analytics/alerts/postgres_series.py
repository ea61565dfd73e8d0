"""The history that the detection reads: from rollups as far as they go, then from the rows of the ledger."""

# ruff: noqa: S608 -- SQL is put together from our own constants only; all else is a parameter.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.analytics.alerts.alert import Subject
from services.analytics.alerts.postgres_alerts import instant
from services.analytics.alerts.shares import Count
from services.analytics.alerts.usage_series import CALLERS_OWN, MOST_VALUES, Use
from services.analytics.database.postgres_database import Database
from services.analytics.rollups.tables import MODELS, TENANTS, Width

#: Seconds of the buckets of rollups.
_WIDTHS: Final = ((3600, Width.HOUR), (300, Width.FIVE_MINUTES))
_COLUMNS: Final = {
    None: "''",
    "tenant": "tenant",
    "provider": "provider",
    "model": "provider || '/' || model",
    "content_type": "content_type",
    "campaign": "campaign",
    "error_class": "error_class",
}
_TABLES: Final = {None: MODELS.name, "provider": MODELS.name, "model": MODELS.name, "tenant": TENANTS.name}
#: The instant up to which a width's rows hold all attempts from $2 on, and from which on attempts are counted.
_MARKS: Final = {
    Width.HOUR: "least(hours_until, rebuild_next)",
    Width.FIVE_MINUTES: "CASE WHEN kept_from <= $2 THEN coalesce(rebuild_next, 'infinity') ELSE '-infinity' END",
}


class PostgresSeries:
    """Satisfies `UsageSeries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attempts(
        self, dimension: str | None, bounds: Sequence[float], subject: Subject = ()
    ) -> Mapping[str, Sequence[Use]]:
        """See the port."""
        # A dimension is one of ours; what it is compared with is bound.
        where = "".join([f" AND {_COLUMNS[name]} = ${i}" for i, (name, _) in enumerate(subject, 4)])
        value = _COLUMNS[dimension]
        width = next((w for seconds, w in _WIDTHS if not any(bound % seconds for bound in bounds)), None)
        table = _TABLES.get(dimension)
        mark, rolled_up = "'-infinity'", ""
        if width is not None and table is not None and not subject:
            mark = f"(SELECT {_MARKS[width]} FROM analytics.rollup_state)"
            rolled_up = f"""
                SELECT {value} AS value, bucket AS at, cost, (successes + failures)::bigint AS ended,
                    failures::bigint AS failed
                FROM analytics.{table}, mark
                WHERE width = {int(width)} AND bucket >= $2 AND bucket < least($3, mark)
                UNION ALL
            """
        rows = await self._fetch(
            f"""
            WITH mark AS (SELECT {mark}::timestamptz AS mark), counted AS (
                {rolled_up}
                SELECT {value} AS value, started AS at, cost_micro_usd AS cost,
                    (outcome IN ('success', 'failure'))::int::bigint AS ended,
                    (outcome = 'failure')::int::bigint AS failed
                FROM analytics.attempts, mark
                WHERE started >= greatest($2, mark) AND started < $3{where}
            )
            SELECT value, width_bucket(at, $1::timestamptz[]) AS span, sum(ended)::bigint AS ended,
                sum(failed)::bigint AS failed, sum(cost)::bigint AS cost
            FROM counted GROUP BY 1, 2
            """,
            bounds,
            *(value for _, value in subject),
        )
        found: dict[str, list[Use]] = {}
        for value, span, ended, failed, cost in rows:
            spans = found.setdefault(value, [Use(0, Count())] * (len(bounds) - 1))
            spans[span - 1] = Use(cost, Count(ended, failed))
        return found

    async def requests(self, dimension: str | None, bounds: Sequence[float]) -> Mapping[str, Sequence[Count]]:
        """See the port."""
        rows = await self._fetch(
            f"""
            SELECT {_COLUMNS[dimension]} AS value, width_bucket(started, $1::timestamptz[]) AS span,
                count(*) AS ended, count(*) FILTER (WHERE outcome = 'failure') AS failed, 0::bigint AS cost
            FROM analytics.requests
            WHERE started >= $2 AND started < $3
                AND (outcome = 'success' OR (outcome = 'failure' AND error_reason <> ALL($4::text[])))
            GROUP BY 1, 2
            """,
            bounds,
            list(CALLERS_OWN),
        )
        found: dict[str, list[Count]] = {}
        for value, span, ended, failed, _ in rows:
            spans = found.setdefault(value, [Count()] * (len(bounds) - 1))
            spans[span - 1] = Count(ended, failed)
        return found

    async def _fetch(
        self, statement: str, bounds: Sequence[float], *parameters: object
    ) -> list[tuple[str, int, int, int, int]]:
        """Returns the rows of a grouped statement, of the MOST_VALUES that are foremost."""
        bounded = f"""
            WITH rows AS MATERIALIZED ({statement}), places AS (
                SELECT value, {_place("ended")} AS by_ended,
                    CASE WHEN sum(cost) > 0 THEN {_place("cost")} END AS by_cost,
                    CASE WHEN sum(failed) > 0 THEN {_place("failed")} END AS by_failed
                FROM rows GROUP BY value
            ), most AS (
                SELECT value FROM places
                ORDER BY least(by_cost, by_ended, by_failed), by_ended, value LIMIT {MOST_VALUES}
            )
            SELECT rows.* FROM rows JOIN most USING (value)
        """
        ordered = [instant(bound) for bound in bounds]
        async with self._database.reading() as connection:
            found = await connection.fetch(bounded, ordered, ordered[0], ordered[-1], *parameters)
        return [tuple(row) for row in found]


def _place(column: str) -> str:
    """Returns the SQL of a value's place among all by a sum, from 1."""
    return f"row_number() OVER (ORDER BY sum({column}) DESC, value)"
