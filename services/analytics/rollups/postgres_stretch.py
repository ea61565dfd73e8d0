"""The size of the stretches in which the ledger is recounted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.analytics.database.postgres_database import Connection
from services.analytics.rollups.state import FIVE_MINUTES, HOUR

#: A step of a rebuild holds up commits while it counts; it takes the longest of these stretches with at most so many
#: attempts.
_STEPS = (24 * HOUR, 6 * HOUR, HOUR, FIVE_MINUTES, timedelta(seconds=10))
_EPOCH = datetime.fromtimestamp(0, UTC)
_STEP_ATTEMPTS = 20_000


async def stretch(connection: Connection, start: datetime) -> timedelta:
    """Returns how much to recount at once from `start` on, up to the end of its day, quarter, hour …"""
    for step in _STEPS[:-1]:
        end = start - (start - _EPOCH) % step + step
        if not await exceed(connection, start, end, _STEP_ATTEMPTS):
            return end - start
    return _STEPS[-1]


async def exceed(connection: Connection, start: datetime, end: datetime, most: int) -> bool:
    """Returns True if more than `most` attempts began in [start, end)."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM "
        "(SELECT FROM analytics.attempts WHERE started >= $1 AND started < $2 LIMIT $3) AS found",
        *(start, end, most + 1),
    )
    return found > most
