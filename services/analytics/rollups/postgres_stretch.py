"""The size of the stretches in which the ledger is recounted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.analytics.database.postgres_database import Connection
from services.analytics.rollups.state import FIVE_MINUTES, HOUR

_STEPS = (24 * HOUR, 12 * HOUR, 6 * HOUR, HOUR, FIVE_MINUTES, timedelta(seconds=10))
_EPOCH = datetime.fromtimestamp(0, UTC)


class StepSize:
    """The attempts that a step of a rebuild may count, while which commits wait: fewer after a step that failed,
    perhaps because it took too long, and more again by and by."""

    MOST, LEAST = 50_000, 500

    def __init__(self) -> None:
        self.attempts = self.MOST

    def failed(self) -> None:
        """Halves it."""
        self.attempts = max(self.LEAST, self.attempts // 2)

    def succeeded(self) -> None:
        """Lets it grow by a tenth."""
        self.attempts = min(self.MOST, self.attempts * 11 // 10)


async def stretch(connection: Connection, start: datetime, most: int) -> timedelta:
    """Returns how much to recount at once from `start` on: up to the end of its day, half or quarter of a day, hour,
    five minutes or ten seconds, the longest with at most so many attempts."""
    for step in _STEPS[:-1]:
        end = start - (start - _EPOCH) % step + step
        if not await exceed(connection, start, end, most):
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
