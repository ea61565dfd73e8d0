"""Figures from attempts and requests of which no sums are kept: hedges, cut answers, refusals, the two shares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from services.analytics.database.postgres_database import Database
from services.analytics.recommendations.evidence import (
    CutAnswers,
    Details,
    HedgeUse,
    Refusals,
    StrategyUse,
    Window,
)
from services.analytics.recommendations.measurement import LEFT_PARTS, Share, ShareDay
from services.analytics.recommendations.recommendation import SavedUnit, Subject

#: Rows of one kind of figures.
MAX_DETAILS: Final = 20_000
_IN_WINDOW = "started >= to_timestamp($1::float8) AND started < to_timestamp($2::float8)"
#: A day's place in the window: `$3` are the beginnings of its days.
_DAY = "width_bucket(extract(epoch FROM started)::float8, $3::float8[]) - 1"
_HEDGES = f"""
    WITH hedged AS (SELECT DISTINCT request_id, tenant FROM analytics.attempts WHERE hedge AND {_IN_WINDOW})
    SELECT {_DAY} AS day, content_type, count(*) FILTER (WHERE hedge) AS hedges,
        count(*) FILTER (WHERE hedge AND outcome = 'success') AS won,
        coalesce(sum(cost_micro_usd) FILTER (
            WHERE outcome = 'cancelled' OR (hedge AND outcome <> 'success')), 0)::bigint AS extra_cost
    FROM analytics.attempts JOIN hedged USING (request_id, tenant)
    WHERE {_IN_WINDOW} GROUP BY 1, 2 ORDER BY hedges DESC, day, content_type LIMIT {MAX_DETAILS}
"""  # noqa: S608  # made of constants
_CUT = f"""
    SELECT {_DAY} AS day, tenant, content_type, count(*) AS answers, sum(cost_micro_usd)::bigint AS cost
    FROM analytics.attempts WHERE {_IN_WINDOW} AND finish_reason = 'length' AND outcome = 'success'
    GROUP BY 1, 2, 3 ORDER BY cost DESC, day, tenant, content_type LIMIT {MAX_DETAILS}
"""  # noqa: S608
_REFUSALS = f"""
    SELECT {_DAY} AS day, tenant, count(*) AS requests
    FROM analytics.requests WHERE {_IN_WINDOW} AND error_reason = 'LIMIT_EXCEEDED'
    GROUP BY 1, 2 ORDER BY requests DESC, day, tenant LIMIT {MAX_DETAILS}
"""  # noqa: S608
_STRATEGIES = f"""
    SELECT strategy, count(*) AS requests FROM analytics.requests
    WHERE {_IN_WINDOW} AND strategy <> '' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100
"""  # noqa: S608
#: The amount of a request, by the unit of a saving.
_AMOUNTS: Final = {
    SavedUnit.MICRO_USD: "cost_micro_usd::float8",
    SavedUnit.FAILED_CALLS: "(attempts - (outcome = 'success' AND attempts > 0)::integer)::float8",
    SavedUnit.REFUSED_REQUESTS: "(error_reason = 'LIMIT_EXCEEDED')::integer::float8",
}


def _shares_sql(amount: str) -> str:
    """Returns the statement of both shares; `left_as_it_was` is the same in Python."""
    return f"""
        SELECT day, is_left, count(*) AS requests, sum(amount) AS total, sum(amount * amount) AS squares
        FROM (
            SELECT date_trunc('day', started, 'UTC') AS day, {amount} AS amount,
                get_byte(digest, 0) * 256 + get_byte(digest, 1) < {LEFT_PARTS} AS is_left
            FROM analytics.requests,
                LATERAL (SELECT sha256(convert_to($3::text || ':' || request_id, 'UTF8')) AS digest) AS hashed
            WHERE {_IN_WINDOW} AND ($4::text = '' OR tenant = $4) AND ($5::text = '' OR content_type = $5)
        ) AS amounts
        GROUP BY day, is_left ORDER BY day
    """  # noqa: S608


_SHARES: Final = {unit: _shares_sql(amount) for unit, amount in _AMOUNTS.items()}


class PostgresDetails:
    """Satisfies `DetailReader` and `ShareReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def details(self, window: Window) -> Details:
        """See the port."""
        range_of = (window.starts[0], window.end)
        days = (*range_of, list(window.starts))
        async with self._database.reading() as connection:
            return Details(
                [HedgeUse(*row.values()) for row in await connection.fetch(_HEDGES, *days)],
                [CutAnswers(*row.values()) for row in await connection.fetch(_CUT, *days)],
                [Refusals(*row.values()) for row in await connection.fetch(_REFUSALS, *days)],
                [StrategyUse(*row.values()) for row in await connection.fetch(_STRATEGIES, *range_of)],
            )

    async def shares(
        self, recommendation_id: str, subject: Subject, unit: SavedUnit, since: float, until: float
    ) -> Sequence[ShareDay]:
        """See the port."""
        only = (recommendation_id, subject.tenant, subject.content_type)
        async with self._database.reading() as connection:
            rows = await connection.fetch(_SHARES[unit], since, until, *only)
        days: dict[datetime, dict[bool, Share]] = {}
        for row in rows:
            share = Share(row["requests"], row["total"], row["squares"])
            days.setdefault(row["day"].astimezone(UTC), {})[row["is_left"]] = share
        return [ShareDay(both.get(True, Share()), both.get(False, Share())) for both in days.values()]
