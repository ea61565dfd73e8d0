"""The ledger's partitions on a real PostgreSQL: the way there under load, and their keeping."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.errors import Unavailable
from libs.ids import TimeOrderedIds
from libs.telemetry import Metrics
from libs.types import Usage, UsageAccuracy
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.database.postgres_partitions import AHEAD, ATTEMPTS, DAY, WEEK, week_of
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.postgres_ledger import Changes, PostgresLedger
from services.analytics.ledger.postgres_retention import PartitionKeeper
from tests.support.clock import ManualClock
from tests.support.earlier_ledger import EarlierLedger, Writer, fill, kill_migrators
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, an_attempt
from tests.support.postgres import fresh_database

ROOT = Path(__file__).resolve().parents[2]
OURS = read_migrations()
#: Rows before the migration: enough that building an index and proving the bound take some time.
ROWS = 150_000


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


@asynccontextmanager
async def prepared(dsn: str, *, migrations: int = len(OURS)) -> AsyncIterator[Database]:
    """The database of the service, or of an earlier version with fewer migrations."""
    async with Database(dsn, OURS[:migrations]) as database:
        await database.prepare()
        yield database


async def test_the_migration_loses_nothing_though_it_is_killed_again_and_again_under_load(dsn: str) -> None:
    """Replicas of the earlier version write throughout. In the end every row and every acknowledged attempt is there
    once, what was in the table before is in a partition of its own, and a duplicate of it is one."""
    connection = await asyncpg.connect(dsn)
    async with prepared(dsn, migrations=2) as before:
        await fill(dsn, ROWS)
        now = float(await connection.fetchval("SELECT extract(epoch FROM now())"))
        writer = Writer(EarlierLedger(before), now)
        writing = asyncio.create_task(writer.run())
        await kill_migrators(dsn, [0.02, 0.1, 0.3, 0.6])
        async with Database(dsn, OURS) as after:
            await after.keep_preparing()
            writer.ledger, acknowledged = PostgresLedger(after), len(writer.acknowledged)
            while len(writer.acknowledged) < acknowledged + 100:
                await asyncio.sleep(0.01)
            writer.stopping.set()
            await writing
            old = an_attempt("c4ca4238a0b923820dcc509a6f75849b", outcome=Outcome.UNKNOWN, usage=UNCERTAIN)
            assert await PostgresLedger(after).record([old]) == Recorded(duplicates=1)
    rows = await connection.fetch(
        "SELECT attempt_id, tableoid::regclass::text AS place FROM analytics.attempts"
    )
    found = [row["attempt_id"] for row in rows]
    assert len(found) == len(set(found)) == ROWS + 1010 + len(writer.acknowledged)
    assert writer.acknowledged <= set(found)
    places = {row["attempt_id"]: row["place"] for row in rows}
    assert {places[i] for i in found if i < "t"} == {"analytics.attempts_old"}
    assert {places[i] for i in found if i > "u"} == {"analytics.attempts_default"}
    await connection.close()


UNCERTAIN = Usage(accuracy=UsageAccuracy.UNCERTAIN)


async def test_a_ledger_of_today_begins_with_partitions(dsn: str) -> None:
    """A keeper makes those from last week to three weeks ahead, once; every attempt goes where its id says."""
    async with prepared(dsn) as database:
        clock = ManualClock()
        keeper = PartitionKeeper(database, [ATTEMPTS], None, clock, Metrics())
        await keeper.keep()
        await keeper.keep()
        ledger, ids = PostgresLedger(database), TimeOrderedIds(random.Random(1))
        made = [ids.make(NOW + day * DAY) for day in (-7, 0, 1, 6, 13, 20)]
        assert (await ledger.record([an_attempt(name) for name in made])).inserted == len(made)
        assert (await ledger.record([an_attempt(name) for name in made])).duplicates == len(made)
        async with database.reading() as connection:
            partitions = await connection.fetch(
                "SELECT * FROM analytics.partitions WHERE parent = 'attempts' ORDER BY until"
            )
            default = await connection.fetchval("SELECT count(*) FROM analytics.attempts_default")
    assert default == 0
    assert [row["name"] for row in partitions[:3]] == [
        "attempts_old",
        "attempts_20270104",
        "attempts_20270111",
    ]
    ends = [row["until"].timestamp() for row in partitions[1:]]
    assert ends == [week_of(NOW - WEEK) + WEEK * i for i in range(1, len(ends) + 1)]
    assert NOW + AHEAD <= ends[-1] < NOW + AHEAD + WEEK


async def test_rows_that_came_before_their_partition_move_into_it(dsn: str) -> None:
    """The default partition takes what has no other; a partition that is made later takes it over, and duplicates
    are still told from new ones."""
    async with prepared(dsn) as database:
        ledger, early = PostgresLedger(database), TimeOrderedIds(random.Random(1)).make(NOW)
        assert (await ledger.record([an_attempt(early), an_attempt("zz")])).inserted == 2
        await PartitionKeeper(database, [ATTEMPTS], None, ManualClock(), Metrics()).keep()
        assert await ledger.record([an_attempt(early), an_attempt("zz")]) == Recorded(duplicates=2)
        async with database.reading() as connection:
            places = await connection.fetch(
                "SELECT tableoid::regclass::text AS place FROM analytics.attempts"
            )
    assert {row["place"] for row in places} == {"analytics.attempts_20270111", "analytics.attempts_default"}


async def test_retention_drops_whole_weeks_and_nothing_that_is_younger(dsn: str) -> None:
    """Rows are kept for the time that is asked, and for a week and a day more at most; also those of old ids, and
    of ids of nobody's making."""
    async with prepared(dsn) as database:
        clock = ManualClock()
        keeper = PartitionKeeper(database, [ATTEMPTS], 35 * DAY, clock, Metrics())
        await keeper.keep()
        ledger, ids = PostgresLedger(database), TimeOrderedIds(random.Random(1))
        for name in ("0f-1", ids.make(clock.now()), "zz-1"):
            await ledger.record([an_attempt(name, started=clock.now())])
        left = []
        for _ in range(8):
            clock.advance(WEEK)
            await keeper.keep()
            async with database.reading() as connection:
                left.append(await connection.fetchval("SELECT count(*) FROM analytics.attempts"))
            # As long as they are kept, they are known.
            if left[-1] == 3:
                assert (await ledger.record([an_attempt("0f-1")])).duplicates == 1
    assert left[:5] == [3] * 5
    assert left[-1] == 0


async def test_a_hook_learns_what_a_batch_changed_in_its_transaction(dsn: str) -> None:
    """New rows, and replaced ones as they were and as they are; nothing for duplicates; an error takes all back."""
    seen: list[Changes] = []
    failing = False

    async def hook(connection: object, changes: Changes) -> None:
        seen.append(changes)
        if failing:
            raise Unavailable("no", reason="LEDGER_UNAVAILABLE", retry_after=1.0)

    async with prepared(dsn) as database:
        ledger = PostgresLedger(database, hook)
        worse = an_attempt("a1", outcome=Outcome.UNKNOWN, usage=UNCERTAIN, labels={"k": "v"}, latency=None)
        better = replace(
            worse, outcome=Outcome.SUCCESS, latency=0.123457, time_to_first_token=0.1, cost_micro_usd=9
        )
        await ledger.record([worse])
        await ledger.record([an_attempt("a2"), better])
        await ledger.record([worse, better])
        failing = True
        with pytest.raises(Unavailable):
            await ledger.record([an_attempt("a3")])
        async with database.reading() as connection:
            assert await connection.fetchval("SELECT count(*) FROM analytics.attempts") == 2
    first, second, third = seen
    assert (list(first.inserted), first.replaced) == ([worse], ())
    assert list(second.inserted) == [an_attempt("a2")]
    assert [(change.before, change.after) for change in second.replaced] == [(worse, better)]
    assert [attempt.attempt_id for attempt in third.inserted] == ["a3"]
