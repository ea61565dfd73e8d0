"""Asks PostgreSQL how it is, over a connection of its own: pools that are used up say nothing about the server."""

from __future__ import annotations

import asyncpg

from libs.clock import Clock
from libs.diagnosis import StoreAnswer
from services.analytics.database.postgres_database import CONNECT_TIMEOUT, UNAVAILABLE_ERRORS, unavailable


async def ask_postgres(dsn: str, clock: Clock) -> StoreAnswer:
    """Returns the server's version and clock, and the number of the last migration, 0 where there is none. Raises
    Unavailable."""
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=CONNECT_TIMEOUT,
            server_settings={"application_name": "pointsman-analytics-diagnosis"},
        )
        try:
            version = await connection.fetchval("SELECT current_setting('server_version')")
            began = clock.now()
            now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            middle = (began + clock.now()) / 2
            try:
                schema = await connection.fetchval("SELECT max(version) FROM analytics.migrations")
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                schema = None
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT)
    except UNAVAILABLE_ERRORS as error:
        raise unavailable(error) from error
    return StoreAnswer(f"PostgreSQL {version}", now - middle, schema or 0)
