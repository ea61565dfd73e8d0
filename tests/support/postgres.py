"""A real PostgreSQL for tests: one server per session, a fresh database per test that wants one.

Every test has the fixture: `async with fresh_database(postgres_server) as dsn`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest_asyncio

from tests.support.engines import PostgresServer, postgres


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """A server that loses its data at the end of the session."""
    async with postgres(durable=False) as server:
        yield server


@asynccontextmanager
async def fresh_database(server: PostgresServer) -> AsyncIterator[str]:
    """The DSN of an empty database, dropped afterwards."""
    name = f"test_{secrets.token_hex(8)}"
    base, _, _ = server.dsn.rpartition("/")
    admin = await asyncpg.connect(server.dsn)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{base}/{name}"
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()
