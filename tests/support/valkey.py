"""A real Valkey for tests, started once per session and emptied by who uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.engines import RedisServer, valkey


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_server() -> AsyncIterator[RedisServer]:
    """Shared: use a limit domain of your own. A test that stops, kills or empties the server starts its own with
    `tests.support.engines.valkey()`."""
    async with valkey() as server:
        yield server
