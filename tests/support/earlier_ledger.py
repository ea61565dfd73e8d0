"""The ledger of the version before partitions, its writers, and migrations of it that are killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from pathlib import Path

import asyncpg

from libs.errors import Unavailable
from libs.ids import TimeOrderedIds, first_id
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_partitions import DAY
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_attempts import CASTS, COLUMNS
from services.analytics.ledger.postgres_ledger import PostgresLedger
from tests.support.ledger import NOW, an_attempt

ROOT = Path(__file__).resolve().parents[2]
#: Columns that it did not have.
NEWER = frozenset({"price_version", "cache_saving_micro_usd", "route_key", "route_endpoint", "switched"})


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


async def fill(dsn: str, rows: int) -> None:
    """Puts rows of every kind of id, so many of the earlier versions', into a ledger that is not cut yet."""
    connection = await asyncpg.connect(dsn)
    try:
        columns = (
            "tenant, campaign, content_type, provider, model, started, outcome, error_class, http_status, "
            "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, accuracy, "
            "cost_micro_usd, finish_reason, streamed, hedge, trace_id, rank"
        )
        for prefix, count in (("md5", rows), ("t", 1000), ("zzz", 10)):
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
