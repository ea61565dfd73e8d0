"""Changes in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from libs.change import Change
from services.analytics.changes.store import ChangeFilter, ChangePlace
from services.analytics.database.postgres_database import Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RECORD = """
    INSERT INTO analytics.changes (change_id, kind, name, version, at, author, reason, before, after, undoes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (change_id) DO NOTHING
"""
#: As `Change.order` says.
_STANDS = """
    NOT EXISTS (
        SELECT FROM analytics.changes AS later WHERE later.kind = c.kind AND later.name = c.name
        AND (later.version, later.at, later.change_id) > (c.version, c.at, c.change_id)
    )
"""
_FIND = f"""
    SELECT * FROM analytics.changes AS c
    WHERE ($1 = '' OR change_id = $1) AND ($2 = '' OR kind = $2) AND ($3 = '' OR name = $3)
        AND ($4::timestamptz IS NULL OR at >= $4)
        AND (NOT $5::boolean OR {_STANDS})
        AND ($6::timestamptz IS NULL OR (at, change_id) < ($6, $7))
    ORDER BY at DESC, change_id DESC LIMIT $8
"""  # noqa: S608  # made of constants


class PostgresChanges:
    """Satisfies `ChangeStore`. Reads from the database that is written to: what was acknowledged is there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, changes: Sequence[Change]) -> None:
        """See the port. In the order of ids, so that two writers of the same rows never wait in a circle."""
        rows = [
            (
                *(c.change_id, c.kind, c.name, c.version, _instant(round(c.at * 1e6))),
                *(c.author, c.reason, c.before, c.after, c.undoes),
            )
            for c in sorted(changes, key=lambda change: change.change_id)
        ]
        async with self._database.writing() as connection, connection.transaction():
            await connection.executemany(_RECORD, rows)

    async def find(self, choice: ChangeFilter, most: int, after: ChangePlace | None = None) -> list[Change]:
        """See the port."""
        async with self._database.writing() as connection:
            rows = await connection.fetch(
                _FIND,
                *(choice.change_id, choice.kind, choice.name),
                None if choice.since is None else _instant(round(choice.since * 1e6)),
                choice.standing,
                None if after is None else _instant(after.at),
                "" if after is None else after.change_id,
                most,
            )
        return [_change(row) for row in rows]


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _change(row: asyncpg.Record) -> Change:
    return Change(
        *(row["change_id"], row["kind"], row["name"], row["version"]),
        (row["at"] - _EPOCH) / timedelta(microseconds=1) / 1e6,
        *(row["author"], row["reason"], row["before"], row["after"], row["undoes"]),
    )
