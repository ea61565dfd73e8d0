"""Alerts and silences in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from libs.errors import FailedPrecondition, NotFound
from services.analytics.alerts.alert import Acknowledged, Alert, KeptAlert, Severity, Silence
from services.analytics.alerts.store import MAX_SILENCES, AlertFilter, Place
from services.analytics.database.postgres_database import Database

#: Condition that an alert of `kept` stands; $1 is now.
STANDS = "(kept.cleared IS NULL AND (kept.ends IS NULL OR kept.ends > $1))"
#: Condition that a silence in force matches an alert of `kept`; $1 is now.
SILENCED = (
    "EXISTS (SELECT FROM analytics.alert_silences AS s "
    "WHERE s.since <= $1 AND $1 < s.until AND kept.labels @> s.matchers)"
)
#: Of an upsert: the later record counts; it is worse than the last one; it is raised again, or worse.
_LATER = "excluded.as_of > kept.as_of"
_RANK = f"array_position(ARRAY[{', '.join(map(repr, map(str, Severity)))}], {{}}.labels->>'severity')"
_HIGHER = f"(excluded.percent > kept.percent OR {_RANK.format('excluded')} > {_RANK.format('kept')})"
_AGAIN = f"({_LATER} AND excluded.cleared IS NULL AND (kept.cleared IS NOT NULL OR {_HIGHER}))"
_RECORD = f"""
    INSERT INTO analytics.alerts AS kept
        (alert_id, labels, as_of, raised, cleared, ends, percent, figures)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (alert_id) DO UPDATE SET
        raised = least(kept.raised, excluded.raised),
        as_of = greatest(kept.as_of, excluded.as_of),
        turn = kept.turn + CASE WHEN {_AGAIN} THEN 1 ELSE 0 END,
        acknowledged = CASE WHEN {_AGAIN} AND {_HIGHER} THEN NULL ELSE kept.acknowledged END,
        {
    ", ".join(
        f"{name} = CASE WHEN {_LATER} THEN excluded.{name} ELSE kept.{name} END"
        for name in ("labels", "cleared", "ends", "percent", "figures")
    )
}
"""  # noqa: S608  # made of constants
COLUMNS = (
    "kept.alert_id, kept.figures, kept.raised, kept.turn, kept.acknowledged, kept.acknowledged_by, kept.note"
)
_SELECT = f"SELECT {COLUMNS}, {SILENCED} AS silenced FROM analytics.alerts AS kept"  # noqa: S608
_LIST = f"""
    SELECT * FROM (
        SELECT {COLUMNS}, kept.labels, {STANDS} AS stands, {SILENCED} AS silenced FROM analytics.alerts AS kept
        WHERE kept.cleared IS NULL OR kept.raised >= $2
    ) AS found
    WHERE (stands OR raised >= $2)
        AND (cardinality($3::text[]) = 0 OR labels->>'kind' = ANY($3))
        AND (cardinality($4::text[]) = 0 OR labels->>'severity' = ANY($4))
        AND labels @> $5
        AND ($6::boolean IS NULL OR (acknowledged IS NOT NULL) = $6)
        AND ($7::boolean IS NULL OR silenced = $7)
        AND ($8::boolean IS NULL OR stands < $8
            OR (stands = $8 AND (raised < $9 OR (raised = $9 AND alert_id > $10))))
    ORDER BY stands DESC, raised DESC, alert_id
    LIMIT $11
"""  # noqa: S608


class PostgresAlerts:
    """Satisfies `AlertStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, alerts: Sequence[Alert]) -> None:
        """See the port. In the order of their names, so that two writers of the same rows never wait in a circle."""
        rows = [
            (
                alert.alert_id,
                _json(alert.labels),
                instant(alert.as_of),
                instant(alert.raised),
                None if alert.cleared is None else instant(alert.cleared),
                None if alert.ends is None else instant(alert.ends),
                alert.percent,
                _json(alert),
            )
            for alert in sorted(alerts, key=lambda alert: (alert.alert_id, alert.as_of))
        ]
        async with self._database.writing() as connection, connection.transaction():
            await connection.executemany(_RECORD, rows)

    async def find(
        self, choice: AlertFilter, now: float, since: float | None, most: int, after: Place | None = None
    ) -> list[KeptAlert]:
        """See the port."""
        severities = list(Severity)
        wanted = severities[severities.index(choice.severity) :] if choice.severity is not None else []
        async with self._database.reading() as connection:
            rows = await connection.fetch(
                _LIST,
                instant(now),
                datetime.max.replace(tzinfo=UTC) if since is None else instant(since),
                [kind.value for kind in choice.kinds],
                [severity.value for severity in wanted],
                _json(dict(choice.labels)),
                choice.acknowledged,
                choice.silenced,
                after.standing if after is not None else None,
                _EPOCH + timedelta(microseconds=after.raised if after is not None else 0),
                after.alert_id if after is not None else "",
                most,
            )
        return [kept_of(row, silenced=row["silenced"]) for row in rows]

    async def get(self, alert_ids: Collection[str], now: float) -> list[KeptAlert]:
        """See the port."""
        async with self._database.reading() as connection:
            rows = await connection.fetch(
                f"{_SELECT} WHERE kept.alert_id = ANY($2)", instant(now), list(alert_ids)
            )
        return [kept_of(row, silenced=row["silenced"]) for row in rows]

    async def acknowledge(self, alert_id: str, word: Acknowledged, now: float) -> KeptAlert:
        """See the port."""
        async with self._database.writing() as connection, connection.transaction():
            await connection.execute(
                "UPDATE analytics.alerts SET acknowledged = $2, acknowledged_by = $3, note = $4 "
                "WHERE alert_id = $1 AND acknowledged IS NULL",
                *(alert_id, instant(word.at), word.by, word.note),
            )
            row = await connection.fetchrow(f"{_SELECT} WHERE kept.alert_id = $2", instant(now), alert_id)
        if row is None:
            raise NotFound("No alert has this id", reason="ALERT_NOT_FOUND")
        return kept_of(row, silenced=row["silenced"])

    async def silence(self, silence: Silence, now: float) -> None:
        """See the port."""
        async with self._database.writing() as connection:
            done = await connection.execute(
                "INSERT INTO analytics.alert_silences (silence_id, matchers, since, until, made_by, reason) "
                "SELECT $2, $3, $4, $5, $6, $7 "
                "WHERE (SELECT count(*) FROM analytics.alert_silences WHERE until > $1) < $8",
                instant(now),
                silence.silence_id,
                _json(dict(silence.matchers)),
                *(instant(silence.since), instant(silence.until)),
                *(silence.by, silence.reason, MAX_SILENCES),
            )
        if done == "INSERT 0 0":
            raise FailedPrecondition(
                f"{MAX_SILENCES} silences are in force or to come; delete some", reason="TOO_MANY_SILENCES"
            )

    async def silences(self, now: float) -> list[Silence]:
        """See the port."""
        async with self._database.reading() as connection:
            rows = await connection.fetch(
                "SELECT * FROM analytics.alert_silences WHERE until > $1 ORDER BY until, silence_id LIMIT $2",
                *(instant(now), MAX_SILENCES),
            )
        return [
            Silence(
                row["silence_id"],
                msgspec.json.decode(row["matchers"], type=dict[str, str]),
                *(row["since"].timestamp(), row["until"].timestamp(), row["made_by"], row["reason"]),
            )
            for row in rows
        ]

    async def delete_silence(self, silence_id: str, now: float) -> None:
        """See the port."""
        async with self._database.writing() as connection:
            done = await connection.execute(
                "DELETE FROM analytics.alert_silences WHERE silence_id = $1 AND until > $2",
                *(silence_id, instant(now)),
            )
        if done == "DELETE 0":
            raise NotFound("No silence of this id is in force or to come", reason="SILENCE_NOT_FOUND")

    async def forget(self, before: float) -> None:
        """See the port."""
        async with self._database.writing() as connection:
            await connection.execute(
                "DELETE FROM analytics.alerts WHERE cleared < $1 OR ends < $1", instant(before)
            )
            await connection.execute("DELETE FROM analytics.alert_silences WHERE until < $1", instant(before))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(seconds: float) -> datetime:
    """Returns the instant of epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def kept_of(row: asyncpg.Record, *, silenced: bool) -> KeptAlert:
    """Returns the alert of a row with COLUMNS."""
    alert = msgspec.json.decode(row["figures"], type=Alert)
    word = None
    if row["acknowledged"] is not None:
        word = Acknowledged(row["acknowledged_by"], row["acknowledged"].timestamp(), row["note"])
    return KeptAlert(replace(alert, raised=row["raised"].timestamp()), row["turn"], word, silenced)
