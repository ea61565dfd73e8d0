"""Leases in PostgreSQL, and its time. A row outlives the connection that wrote it, so a pool of writers keeps all."""

from __future__ import annotations

from services.analytics.alerts.postgres_alerts import instant
from services.analytics.database.postgres_database import Database


class PostgresLeases:
    """Satisfies `Leases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, name: str, holder: str, now: float, seconds: float) -> bool:
        """See the port."""
        async with self._database.writing() as connection:
            found = await connection.fetchval(
                "INSERT INTO analytics.leases AS kept (name, holder, until) VALUES ($1, $2, $4) "
                "ON CONFLICT (name) DO UPDATE SET holder = $2, until = $4 "
                "WHERE kept.holder = $2 OR kept.until <= $3 RETURNING holder",
                *(name, holder, instant(now), instant(now + seconds)),
            )
        return found is not None


class PostgresClock:
    """Satisfies `StoreClock`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> float:
        """See the port."""
        async with self._database.writing() as connection:
            return float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
