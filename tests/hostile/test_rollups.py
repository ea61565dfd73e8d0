"""Long random histories on a real PostgreSQL: rollups equal a recount, whatever happens meanwhile. Short ones are in
tests/integration/test_rollups.py."""

from __future__ import annotations

import pytest

from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database
from tests.support.rollup_history import live_through_a_random_history, survive_kills


@pytest.mark.parametrize("seed", range(1, 6))
async def test_rollups_equal_a_recount_whatever_comes_in_whatever_order(
    postgres_server: PostgresServer, seed: int
) -> None:
    """Late, repeated, replaced and shuffled records; folds, rebuilds, deletions and zones changed in between."""
    async with fresh_database(postgres_server) as dsn:
        await live_through_a_random_history(dsn, seed)


@pytest.mark.parametrize("seed", range(2))
async def test_writers_a_rebuild_and_a_killed_server_lose_and_double_nothing(seed: int) -> None:
    """Four replicas write the same requests while another folds and rebuilds; PostgreSQL is killed three times."""
    await survive_kills(seed, batches=25)
