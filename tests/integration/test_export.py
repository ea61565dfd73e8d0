"""`pointsman export` from a real PostgreSQL, read by DuckDB. Skipped where DuckDB is not installed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from cli.failure import CliError
from libs.ids import TimeOrderedIds
from libs.telemetry import Metrics
from libs.types import Usage, UsageAccuracy
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.database.postgres_partitions import DAY, PARTITIONED
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.postgres_retention import PartitionKeeper
from services.analytics.ledger.request import ConsideredModel, RequestRecord
from tests.support.clock import ManualClock
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, an_attempt
from tests.support.postgres import fresh_database
from tests.support.process import spawn

duckdb: Any = pytest.importorskip("duckdb")

ROOT = Path(__file__).resolve().parents[2]
#: Texts that a CSV could take for something else.
TEXTS = ["", "\\N", '"', 'a,"b"', "two\nlines", "\r\n", "NULL", "ünï ✓", "'", "a\tb", " "]


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


async def fill(dsn: str) -> list[str]:
    """Attempts and requests of old ids, of two weeks, and of ids of nobody's making; returns the attempts' ids."""
    ids = TimeOrderedIds(random.Random(1))
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        await PartitionKeeper(database, PARTITIONED, None, ManualClock(), Metrics()).keep()
        names = [f"{i:016x}-1" for i in range(300)] + [ids.make(NOW + i % 2 * 7 * DAY) for i in range(300)]
        names += [f"zz{i}" for i in range(len(TEXTS))]
        rows = [
            an_attempt(
                name,
                campaign=TEXTS[i % len(TEXTS)],
                labels={"k": TEXTS[i % len(TEXTS)]} if i % 3 else {},
                latency=None if i % 4 == 0 else i / 7,
                usage=Usage(i, i + 1),
                cost_micro_usd=10**12 - i,
                streamed=i % 2 == 0,
            )
            for i, name in enumerate(names)
        ]
        candidates = (ConsideredModel("a/m", 'is "down", so\nno', 0, 0.5, total_score=0.25),)
        request = RequestRecord(
            ids.make(NOW),
            "r1",
            "acme",
            NOW,
            1.5,
            Outcome.SUCCESS,
            capabilities=("json",),
            candidates=candidates,
        )
        await PostgresLedger(database).record(rows, [request])
    return names


def files_of(folder: Path) -> dict[str, float]:
    """The Parquet files and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*.parquet"))}


async def exported(dsn: str, folder: Path) -> Any:
    """Runs the command; returns what it wrote."""
    process = await start(dsn, folder)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def start(dsn: str, folder: Path) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen"), os.environ.get("PYTHONPATH", "")]),
        "POINTSMAN_ANALYTICS_POSTGRES_DSN": dsn,
    }
    code = "from cli.app import main; raise SystemExit(main())"
    return await spawn(
        *(sys.executable, "-c", code, "export", str(folder), "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_every_row_and_value_is_in_the_files(dsn: str, tmp_path: Path) -> None:
    """DuckDB reads every column as PostgreSQL holds it, empty texts apart from none, instants in UTC."""
    names = await fill(dsn)
    told = await exported(dsn, tmp_path)
    assert set(told["files"]) == set(files_of(tmp_path)) == set(told["written"])
    assert {"attempts_old.parquet", "attempts_default.parquet", "attempts_20270111.parquet"} <= set(
        told["files"]
    )
    connection = await asyncpg.connect(dsn)
    for table, key in (("attempts", "attempt_id"), ("requests", "record_id")):
        rows = await connection.fetch(f'SELECT * FROM analytics.{table} ORDER BY {key} COLLATE "C"')
        with duckdb.connect() as engine:
            found = engine.execute(f"SELECT * FROM '{tmp_path}/{table}_*.parquet' ORDER BY {key}")
            columns = [column[0] for column in found.description]
            read = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
        assert len(read) == len(rows) == (len(names) if table == "attempts" else 1)
        for kept, seen in zip(rows, read, strict=True):
            assert list(seen) == list(kept.keys())
            for name, value in kept.items():
                if isinstance(value, list):
                    assert json.loads(seen[name]) == value
                elif hasattr(value, "tzinfo"):
                    assert seen[name] == value.replace(tzinfo=None)
                elif name in ("labels", "candidates") and value is not None:
                    assert json.loads(seen[name]) == json.loads(value)
                else:
                    assert seen[name] == value, name
    await connection.close()


async def test_only_what_has_changed_is_written_again(dsn: str, tmp_path: Path) -> None:
    """A second export writes nothing; a new attempt, or a better record of an old one, its own partition alone."""
    names = await fill(dsn)
    await exported(dsn, tmp_path)
    before = files_of(tmp_path)
    assert (await exported(dsn, tmp_path))["written"] == {}
    assert files_of(tmp_path) == before
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        ledger = PostgresLedger(database)
        await ledger.record([an_attempt("zz-new")])
        uncertain = Usage(accuracy=UsageAccuracy.UNCERTAIN)
        await ledger.record([an_attempt("00-unknown", outcome=Outcome.UNKNOWN, usage=uncertain)])
        written = (await exported(dsn, tmp_path))["written"]
        assert set(written) == {"attempts_default.parquet", "attempts_old.parquet"}
        await ledger.record([an_attempt("00-unknown")])
        written = (await exported(dsn, tmp_path))["written"]
        assert set(written) == {"attempts_old.parquet"}
    with duckdb.connect() as engine:
        (count,) = engine.execute(f"SELECT count(*) FROM '{tmp_path}/attempts_*.parquet'").fetchone()
    assert count == len(names) + 2


async def test_an_export_that_is_killed_goes_on(dsn: str, tmp_path: Path) -> None:
    """Whenever it is killed, no file is half, and the next run completes what is missing."""
    names = await fill(dsn)
    for delay in (0.4, 0.6, 0.8, 1.0):
        process = await start(dsn, tmp_path)
        await asyncio.sleep(delay)
        if process.returncode is None:
            process.kill()
        await process.communicate()
    await exported(dsn, tmp_path)
    assert not list(tmp_path.glob("*.new"))
    with duckdb.connect() as engine:
        found = engine.execute(f"SELECT attempt_id FROM '{tmp_path}/attempts_*.parquet'").fetchall()
    assert sorted(row[0] for row in found) == sorted(names)


async def test_a_database_that_is_away_is_told_without_its_address(tmp_path: Path) -> None:
    """The DSN holds a password."""
    from cli.parquet import export

    with pytest.raises(CliError) as caught:
        await export("postgresql://u:secret@127.0.0.1:1/x", tmp_path, ["attempts"], lambda name, rows: None)
    assert "secret" not in str(caught.value)
