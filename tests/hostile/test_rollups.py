"""Long random histories on a real PostgreSQL: rollups equal a recount, whatever happens meanwhile. Short ones are in
tests/integration/test_rollups.py."""

from __future__ import annotations

import pytest

from tests.integration import test_rollup_reports as reports
from tests.integration.test_rollup_reports import Kept, kept
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database
from tests.support.rollup_history import live_through_a_random_history, survive_kills

__all__ = ["kept"]


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


async def test_days_of_a_zone_of_half_hours_add_up(kept: Kept) -> None:
    """Each day is what attempts say, and all of them are the whole; a rebuild in that zone mends a wrong row."""
    await reports.test_days_and_months_of_the_owners_zone_add_up(kept, "Asia/Kathmandu")
    await reports.test_the_check_finds_a_wrong_row_and_a_rebuild_mends_it(kept)
