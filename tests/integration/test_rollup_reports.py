"""Reports from rollups are those that attempts give, in every zone, and a self-check finds what is wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import pytest_asyncio

from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.reports.postgres_reports import PostgresReports
from services.analytics.reports.query import Group, GroupBy, Interval, Query
from services.analytics.reports.report import CostRow
from services.analytics.reports.sources import Source
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.engines import PostgresServer
from tests.support.ledger import MemoryLedger
from tests.support.postgres import fresh_database
from tests.support.random_history import BEGIN, DAYS, History

END = BEGIN + timedelta(days=DAYS)
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu"]


class Kept:
    """A ledger in PostgreSQL whose rollups are folded, and the same in memory."""

    def __init__(self, database: Database, memory: MemoryLedger) -> None:
        self.database = database
        self.memory = memory
        self.rollups = PostgresRollups(database)
        self.reports = PostgresReports(database)

    async def settle(self) -> None:
        while await self.rollups.rebuild_step():
            pass
        while await self.rollups.fold(END.timestamp() + 7200):
            pass


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kept(postgres_server: PostgresServer) -> AsyncIterator[Kept]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "UPDATE analytics.rollup_state SET hours_until = $1, days_until = $1, kept_from = $1", BEGIN
        )
        await connection.close()
        history = History(random.Random(7))
        ledger = PostgresLedger(database, PostgresRollups(database).follow)
        for _ in range(4):
            batch = history.batch(200)
            await ledger.record(batch)
            await history.ledger.record(batch)
        found = Kept(database, history.ledger)
        await found.settle()
        yield found


GROUPS = [
    (),
    (GroupBy.PROVIDER,),
    (GroupBy.MODEL,),
    (GroupBy.TENANT,),
    (GroupBy.CONTENT_TYPE, GroupBy.TENANT),
    (GroupBy.CAMPAIGN, GroupBy.TENANT),
    (GroupBy.PROVIDER, GroupBy.CONTENT_TYPE, GroupBy.TENANT),
]


@pytest.mark.parametrize("zone", ZONES[:2])
async def test_days_and_months_of_the_owners_zone_add_up(kept: Kept, zone: str) -> None:
    """A day of 25 hours and the end of a month: each day is what attempts say, and all of them are the whole.
    A zone of half hours, whose days are counted hour by hour, is in tests/hostile."""
    await kept.rollups.change_zone(zone)
    await kept.settle()
    since, until = BEGIN.timestamp(), END.timestamp()
    for groups in GROUPS:
        for interval in (Interval.DAY, Interval.MONTH, Interval.HOUR):
            query = Query(since, until, groups, interval, zone)
            costs, expected = await kept.reports.costs(query), await kept.memory.costs(query)
            assert (costs.rows, costs.total) == (expected.rows, expected.total)
            assert sum(row.cost_micro_usd for row in costs.rows) == costs.total.cost_micro_usd
            if interval is not Interval.HOUR:
                assert Source.DAYS in costs.basis.sources or Source.MONTHS in costs.basis.sources
    days = await kept.reports.reliability(Query(since, until, (), Interval.DAY, zone))
    expected_days = await kept.memory.reliability(Query(since, until, (), Interval.DAY, zone))
    assert days.rows == expected_days.rows
    assert len({row.group.bucket for row in days.rows}) == len(local_days(zone))


def local_days(zone: str) -> set[object]:
    hours = (BEGIN + timedelta(hours=n) for n in range(DAYS * 24))
    return {hour.astimezone(ZoneInfo(zone)).date() for hour in hours}


@pytest.mark.parametrize("seed", range(4))
async def test_any_question_is_answered_as_from_attempts(kept: Kept, seed: int) -> None:
    """Ranges to the microsecond, any groups and filters, buckets of any zone."""
    rng = random.Random(seed)
    for _ in range(12):
        since = BEGIN.timestamp() + rng.random() * DAYS * 86_400
        query = Query(
            round(since, 6),
            round(since + rng.choice([60, 4000, 90_000, 400_000]) * (0.1 + rng.random()), 6),
            rng.choice(GROUPS),
            rng.choice([None, Interval.FIVE_MINUTES, Interval.HOUR, Interval.DAY, Interval.MONTH]),
            rng.choice([*ZONES, "Australia/Lord_Howe"]),
            tenant=rng.choice([None, "acme"]),
            provider=rng.choice([None, None, "openai"]),
            model=rng.choice([None, None, None, "openai/small", "large"]),
        )
        costs, expected = await kept.reports.costs(query), await kept.memory.costs(query)
        assert (costs.rows, costs.total) == (expected.rows, expected.total)
        assert (await kept.reports.reliability(query)).rows == (await kept.memory.reliability(query)).rows
        performance, plain = await kept.reports.performance(query), await kept.memory.performance(query)
        for row, same in zip(performance.rows, plain.rows, strict=True):
            assert (row.group, row.attempts, row.successes, row.requests, row.failovers) == (
                *(same.group, same.attempts, same.successes, same.requests, same.failovers),
            )
            assert (row.latency is None) == (same.latency is None)
            if row.latency is not None and same.latency is not None:
                assert row.latency.p95 == pytest.approx(same.latency.p95, rel=0.0101, abs=2e-6)


async def test_pages_are_the_whole_answer(kept: Kept) -> None:
    """Each row once, in order, with the same total."""
    query = Query(BEGIN.timestamp(), END.timestamp(), (GroupBy.MODEL, GroupBy.TENANT), Interval.DAY)
    whole = await kept.reports.costs(query)
    rows: list[CostRow] = []
    after: Group | None = None
    while True:
        page = await kept.reports.costs(
            Query(query.since, query.until, query.group_by, query.interval, page_size=7, after=after)
        )
        assert page.total == whole.total
        rows += page.rows
        after = page.next_after
        if after is None:
            break
        assert len(page.rows) == 7
    assert tuple(rows) == whole.rows


async def test_the_check_finds_a_wrong_row_and_a_rebuild_mends_it(kept: Kept) -> None:
    """Differences of every table are told; a rebuild of that time makes the answers right again."""
    rng = random.Random(1)
    for _ in range(5):
        assert not any((await kept.rollups.check(rng) or {}).values())
    async with kept.database.writing() as connection:
        await connection.execute("UPDATE analytics.rollup_models SET cost = cost + 1 WHERE width = 2")
        await connection.execute("DELETE FROM analytics.rollup_paid WHERE width = 2")
    wrong = {"rollup_models", "rollup_paid"}
    told: set[str] = set()
    for _ in range(50):
        if told == wrong:
            break
        told |= {table for table, rows in (await kept.rollups.check(rng) or {}).items() if rows}
    assert told == wrong
    await kept.rollups.rebuild()
    query = Query(BEGIN.timestamp(), END.timestamp(), (GroupBy.CAMPAIGN,), Interval.DAY)
    while True:
        # At every moment of the rebuild too.
        costs, expected = await kept.reports.costs(query), await kept.memory.costs(query)
        assert (costs.rows, costs.total) == (expected.rows, expected.total)
        if not await kept.rollups.rebuild_step():
            break
    await kept.settle()
    for _ in range(5):
        assert not any((await kept.rollups.check(rng) or {}).values())
