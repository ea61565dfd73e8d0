"""The ledger's partitions on a real PostgreSQL: the way there under load, and their keeping."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.errors import Unavailable
from libs.ids import TimeOrderedIds, first_id
from libs.telemetry import Metrics
from libs.types import Usage, UsageAccuracy
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.database.postgres_partitions import AHEAD, ATTEMPTS, DAY, WEEK, week_of
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.postgres_attempts import CASTS, COLUMNS
from services.analytics.ledger.postgres_ledger import Changes, PostgresLedger
from services.analytics.ledger.postgres_retention import PartitionKeeper
from tests.support.clock import ManualClock
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


#: Columns that it did not have.
NEWER = frozenset({"price_version", "cache_saving_micro_usd"})


class EarlierLedger:
    """Records attempts with the statement of the version before partitions, on whatever table there is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._columns = [column for column in COLUMNS if column[0] not in NEWER]
        names = [name for name, _, _ in self._columns]
        arrays = ", ".join(f"${i}::{kind}[]" for i, (_, kind, _) in enumerate(self._columns, 1))
        self._sql = f"""
            WITH written AS (
                INSERT INTO analytics.attempts AS kept ({", ".join(names)})
                SELECT {", ".join(CASTS.get(name, name) for name in names)}
                FROM unnest({arrays}) AS given ({", ".join(names)})
                ON CONFLICT (attempt_id) DO UPDATE
                SET {", ".join(f"{n} = excluded.{n}" for n in names[1:])}, replaced_at = now()
                WHERE excluded.rank > kept.rank
                RETURNING xmax = 0 AS inserted
            )
            SELECT count(*) FILTER (WHERE inserted) AS inserted, count(*) FILTER (WHERE NOT inserted) AS replaced
            FROM written
        """

    async def record(self, attempts: list[Attempt]) -> None:
        rows = sorted(attempts, key=lambda a: a.attempt_id)
        async with self._database.writing() as connection:
            try:
                done = await connection.fetchrow(
                    self._sql, *([value(row) for row in rows] for _, _, value in self._columns)
                )
            except (asyncpg.CheckViolationError, asyncpg.FeatureNotSupportedError) as error:
                # The second once the table is cut: from then on only replicas of today's version can write.
                raise Unavailable("being cut", reason="LEDGER_UNAVAILABLE", retry_after=1.0) from error
        assert done is not None
        assert done["replaced"] == 0


class Writer:
    """Records attempts until it is told to stop: old ids and new ones, ids of nobody's making, and every batch
    twice. What is not acknowledged is given again, to whichever `ledger` there is by then."""

    def __init__(self, ledger: EarlierLedger | PostgresLedger, now: float) -> None:
        self.ledger = ledger
        self._now = now
        self.stopping = asyncio.Event()
        self.acknowledged: set[str] = set()

    async def run(self) -> None:
        ids, rng = TimeOrderedIds(random.Random(3)), random.Random(4)
        for number in itertools.count():
            if self.stopping.is_set():
                return
            skew = rng.choice([-DAY, 0.0, 0.0, DAY])
            names = [
                f"{rng.getrandbits(64):016x}-{number:x}",
                ids.make(self._now + number),
                first_id(self._now + skew) + f"{number:06x}{'f' * 12}",
                f"zz-{number}",
            ]
            batch = [an_attempt(name, started=self._now, cost_micro_usd=1) for name in names]
            for _ in range(2):
                await self._give(batch)

    async def _give(self, batch: list[Attempt]) -> None:
        while True:
            try:
                await self.ledger.record(batch)
            except Unavailable:
                await asyncio.sleep(0.01)
                continue
            self.acknowledged.update(attempt.attempt_id for attempt in batch)
            return


async def fill(dsn: str) -> None:
    """Puts rows of every kind of id into a ledger that is not cut yet."""
    connection = await asyncpg.connect(dsn)
    try:
        columns = (
            "tenant, campaign, content_type, provider, model, started, outcome, error_class, http_status, "
            "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, accuracy, "
            "cost_micro_usd, finish_reason, streamed, hedge, trace_id, rank"
        )
        for prefix, count in (("md5", ROWS), ("t", 1000), ("zzz", 10)):
            text = {"md5": "md5(i::text)", "t": f"'{first_id(NOW)}' || i", "zzz": "'zzz-' || i"}[prefix]
            await connection.execute(
                f"INSERT INTO analytics.attempts (attempt_id, request_id, attempt_number, {columns}) "
                f"SELECT {text}, 'r' || i, 1, 'acme', '', '', 'p', 'm', now(), 'unknown', '', 0, "
                "0, 0, 0, 0, 0, 'uncertain', 1, '', false, false, '', 1 "
                f"FROM generate_series(1, {count}) AS i"
            )
    finally:
        await connection.close()


async def kill_migrators(dsn: str, delays: list[float]) -> None:
    """Starts the migration once for each delay, and kills it with SIGKILL so many seconds after it began."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")])}
    for delay in delays:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.migrator",
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        process.stdin.write(dsn.encode() + b"\n")
        await process.stdin.drain()
        await asyncio.sleep(delay)
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_migration_loses_nothing_though_it_is_killed_again_and_again_under_load(dsn: str) -> None:
    """Replicas of the earlier version write throughout. In the end every row and every acknowledged attempt is there
    once, what was in the table before is in a partition of its own, and a duplicate of it is one."""
    connection = await asyncpg.connect(dsn)
    async with prepared(dsn, migrations=2) as before:
        await fill(dsn)
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
