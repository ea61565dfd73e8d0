"""Recommendations and decisions in PostgreSQL. A finding is kept as JSON: nothing asks for a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import msgspec

from services.analytics.database.postgres_database import Database
from services.analytics.recommendations.decision import (
    Decision,
    KeptRecommendation,
    Standing,
    Verdict,
    decide,
    in_order,
    no_such,
)
from services.analytics.recommendations.recommendation import Recommendation

_DECODER = msgspec.json.Decoder(Recommendation)
#: A look at the same instant by two replicas: the first one stands.
_LOOK = """
    INSERT INTO analytics.recommendation_look AS kept (as_of, summary) VALUES ($1, $2)
    ON CONFLICT (single) DO UPDATE SET as_of = excluded.as_of, summary = excluded.summary
    WHERE excluded.as_of > kept.as_of RETURNING 1
"""
_KEEP = """
    INSERT INTO analytics.recommendations AS kept (id, content, found, seen, standing, version)
    VALUES ($1, $2::jsonb, $3, $3, 'open', 0)
    ON CONFLICT (id) DO UPDATE SET
        content = CASE WHEN kept.standing = 'accepted' THEN kept.content ELSE excluded.content END,
        seen = excluded.seen
"""
_COLUMNS = """
    r.id, r.content::text, r.found, r.seen, r.standing, r.version,
    d.version AS of_version, d.verdict, d.decided_by, d.decided_at, d.note, d.snoozed_until
"""
_LAST = """
    LEFT JOIN analytics.recommendation_decisions AS d ON d.id = r.id AND d.version = r.version - 1
"""
_ALL = f"""
    SELECT {_COLUMNS} FROM analytics.recommendations AS r {_LAST}
    WHERE r.standing <> 'open' OR r.seen = (SELECT as_of FROM analytics.recommendation_look)
"""  # noqa: S608  # made of constants
_LOCK = "SELECT id FROM analytics.recommendations WHERE id = $1 FOR UPDATE"
_ONE = f"""
    SELECT {_COLUMNS}, (SELECT as_of FROM analytics.recommendation_look) AS looked
    FROM analytics.recommendations AS r {_LAST} WHERE r.id = $1
"""  # noqa: S608
_DECIDED = "UPDATE analytics.recommendations SET standing = $2, version = $3 WHERE id = $1"
_DECISION = """
    INSERT INTO analytics.recommendation_decisions (id, version, verdict, decided_by, decided_at, note, snoozed_until)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


class PostgresRecommendations:
    """Satisfies `RecommendationStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_look(self) -> tuple[float, bytes] | None:
        """See the port. From the database that is written to: a replica may not have the look yet."""
        async with self._database.writing() as connection:
            row = await connection.fetchrow("SELECT as_of, summary FROM analytics.recommendation_look")
        return None if row is None else (row["as_of"].timestamp(), row["summary"])

    async def keep(self, found: Sequence[Recommendation], at: float, summary: bytes) -> None:
        """See the port. In the order of ids, so that two writers of the same rows never wait in a circle."""
        instant = _instant(at)
        rows = [
            (one.id, msgspec.json.encode(one).decode(), instant)
            for one in sorted(found, key=lambda one: one.id)
        ]
        async with self._database.writing() as connection, connection.transaction():
            if await connection.fetchval(_LOOK, instant, summary) is not None:
                await connection.executemany(_KEEP, rows)

    async def all(self) -> list[KeptRecommendation]:
        """See the port."""
        async with self._database.writing() as connection:
            found = [_kept(row) for row in await connection.fetch(_ALL)]
        return sorted(found, key=in_order)

    async def decide(self, decision: Decision) -> KeptRecommendation:
        """See the port. The row is locked before it and its last decision are read, by a statement of their own: what
        a decision that was waited for has written is then seen."""
        async with self._database.writing() as connection, connection.transaction():
            if await connection.fetchval(_LOCK, decision.id) is None:
                raise no_such(decision.id)
            row = await connection.fetchrow(_ONE, decision.id)
            assert row is not None, "locked"
            kept = _kept(row)
            after = decide(kept, decision, row["looked"].timestamp())
            if after is not kept:
                await connection.execute(_DECIDED, decision.id, after.standing, after.version)
                await connection.execute(
                    _DECISION,
                    *(decision.id, decision.version, decision.verdict, decision.by, _instant(decision.at)),
                    *(decision.note, None if decision.until is None else _instant(decision.until)),
                )
        return after


def _kept(row: asyncpg.Record) -> KeptRecommendation:
    last = None
    if row["verdict"] is not None:
        until = row["snoozed_until"]
        last = Decision(
            *(row["id"], row["of_version"], Verdict(row["verdict"]), row["decided_by"]),
            *(row["decided_at"].timestamp(), row["note"], None if until is None else until.timestamp()),
        )
    return KeptRecommendation(
        _DECODER.decode(row["content"]),
        row["found"].timestamp(),
        row["seen"].timestamp(),
        Standing(row["standing"]),
        row["version"],
        last,
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
