"""The history that the detection reads, from the rows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.analytics.alerts.alert import Subject
from services.analytics.alerts.postgres_alerts import instant
from services.analytics.alerts.shares import Count
from services.analytics.alerts.usage_series import CALLERS_OWN, MOST_VALUES, Use
from services.analytics.database.postgres_database import Database

_COLUMNS: Final = {
    "tenant": "tenant",
    "provider": "provider",
    "model": "provider || '/' || model",
    "content_type": "content_type",
    "campaign": "campaign",
    "error_class": "error_class",
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
        rows = await self._fetch(
            f"""
            SELECT {_value(dimension)} AS value, width_bucket(started, $1::timestamptz[]) AS span,
                count(*) FILTER (WHERE outcome IN ('success', 'failure')) AS ended,
                count(*) FILTER (WHERE outcome = 'failure') AS failed,
                sum(cost_micro_usd)::bigint AS cost
            FROM analytics.attempts WHERE started >= $2 AND started < $3{where}
            GROUP BY 1, 2
            """,  # noqa: S608
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
            SELECT {_value(dimension)} AS value, width_bucket(started, $1::timestamptz[]) AS span,
                count(*) AS ended, count(*) FILTER (WHERE outcome = 'failure') AS failed, 0::bigint AS cost
            FROM analytics.requests
            WHERE started >= $2 AND started < $3
                AND (outcome = 'success' OR (outcome = 'failure' AND error_reason <> ALL($4::text[])))
            GROUP BY 1, 2
            """,  # noqa: S608
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
        """Returns the rows of a grouped statement, of the MOST_VALUES with most that ended."""
        bounded = f"""
            WITH rows AS MATERIALIZED ({statement}), most AS (
                SELECT value FROM rows GROUP BY value ORDER BY sum(ended) DESC, value LIMIT {MOST_VALUES}
            )
            SELECT rows.* FROM rows JOIN most USING (value)
        """  # noqa: S608
        ordered = [instant(bound) for bound in bounds]
        async with self._database.reading() as connection:
            found = await connection.fetch(bounded, ordered, ordered[0], ordered[-1], *parameters)
        return [tuple(row) for row in found]


def _value(dimension: str | None) -> str:
    return "''" if dimension is None else _COLUMNS[dimension]
