"""Deliveries to destinations in PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from services.analytics.alerts.postgres_alerts import COLUMNS, SILENCED, STANDS, instant, kept_of
from services.analytics.alerts.store import Announcement, Delivery, Word
from services.analytics.database.postgres_database import Database

#: Days after which nobody is told any more that an alert is over.
_LATE = "interval '7 days'"
_UNANNOUNCED = f"""
    SELECT {COLUMNS}, destination, word FROM analytics.alerts AS kept
    CROSS JOIN unnest($2::text[]) AS destination
    CROSS JOIN LATERAL (SELECT CASE WHEN {STANDS} THEN 'raised' ELSE 'cleared' END AS word) AS words
    WHERE (kept.cleared IS NULL OR kept.as_of > $1 - {_LATE})
        AND NOT EXISTS (
            SELECT FROM analytics.alert_deliveries AS d
            WHERE (d.alert_id, d.destination, d.turn, d.word) = (kept.alert_id, destination, kept.turn, words.word)
        )
        AND CASE words.word
            WHEN 'raised' THEN kept.acknowledged IS NULL AND NOT {SILENCED}
            ELSE EXISTS (
                SELECT FROM analytics.alert_deliveries AS d
                WHERE (d.alert_id, d.destination, d.turn, d.word) = (kept.alert_id, destination, kept.turn, 'raised')
            )
        END
    ORDER BY kept.raised, kept.alert_id, destination
    LIMIT $3
"""  # noqa: S608  # made of constants
#: A raising that was not taken before it was silenced waits like one that was not announced.
_CLAIM = f"""
    UPDATE analytics.alert_deliveries AS d SET due = $3
    FROM (
        SELECT delivery_id FROM analytics.alert_deliveries AS waiting
        WHERE destination = $2 AND ended IS NULL AND due <= $1 AND NOT (word = 'raised' AND EXISTS (
            SELECT FROM analytics.alerts AS kept WHERE kept.alert_id = waiting.alert_id AND {SILENCED}
        ))
        ORDER BY due, made, delivery_id LIMIT 1 FOR UPDATE SKIP LOCKED
    ) AS chosen
    WHERE d.delivery_id = chosen.delivery_id
    RETURNING d.delivery_id, d.destination, d.body, d.tries
"""  # noqa: S608


class PostgresDeliveries:
    """Satisfies `Deliveries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unannounced(self, destinations: Sequence[str], now: float, most: int) -> list[Announcement]:
        """See the port."""
        # Not of a replica, which may not have yet what was announced a moment ago.
        async with self._database.writing() as connection:
            rows = await connection.fetch(_UNANNOUNCED, instant(now), list(destinations), most)
        return [
            Announcement(kept_of(row, silenced=False), row["destination"], Word(row["word"])) for row in rows
        ]

    async def add(self, made: Sequence[tuple[Announcement, bytes]], now: float) -> None:
        """See the port."""
        rows = [
            (
                f"msg_{secrets.token_hex(12)}",
                one.kept.alert.alert_id,
                *(one.destination, one.kept.turn, one.word.value, body, instant(now)),
            )
            for one, body in made
        ]
        async with self._database.writing() as connection, connection.transaction():
            await connection.executemany(
                "INSERT INTO analytics.alert_deliveries "
                "(delivery_id, alert_id, destination, turn, word, body, made, due) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING",
                rows,
            )

    async def claim(self, destination: str, now: float, lease: float) -> Delivery | None:
        """See the port."""
        async with self._database.writing() as connection:
            row = await connection.fetchrow(_CLAIM, instant(now), destination, instant(now + lease))
        return None if row is None else Delivery(*row)

    async def retry(self, delivery_id: str, at: float) -> None:
        """See the port."""
        async with self._database.writing() as connection:
            await connection.execute(
                "UPDATE analytics.alert_deliveries SET due = $2, tries = tries + 1 WHERE delivery_id = $1",
                *(delivery_id, instant(at)),
            )

    async def end(self, delivery_id: str, now: float) -> None:
        """See the port."""
        async with self._database.writing() as connection:
            await connection.execute(
                "UPDATE analytics.alert_deliveries SET ended = $2, tries = tries + 1 WHERE delivery_id = $1",
                *(delivery_id, instant(now)),
            )
