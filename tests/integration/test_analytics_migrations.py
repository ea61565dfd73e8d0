"""Migrations on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from services.analytics.database.postgres_migrations import (
    Migration,
    MigrationRefused,
    migrate,
    read_migrations,
)
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database

OURS = read_migrations()
NEXT = Migration(len(OURS) + 1, "9999_more.sql", "CREATE TABLE analytics.more (x integer);", "abc")


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


async def run(dsn: str, *migrations: Migration) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return await migrate(connection, migrations)
    finally:
        await connection.close()


async def test_replicas_that_start_together_migrate_once(dsn: str) -> None:
    """Of eight at once, one applies everything and the others wait and find it done."""
    results = await asyncio.gather(*(run(dsn, *OURS) for _ in range(8)))
    assert sorted(map(len, results)) == [*[0] * 7, len(OURS)]


async def test_only_what_is_missing_is_applied(dsn: str) -> None:
    """A new file is applied to an old database; an old service leaves a newer database alone."""
    assert await run(dsn, *OURS) == [migration.name for migration in OURS]
    assert await run(dsn, *OURS, NEXT) == [NEXT.name]
    assert await run(dsn, *OURS) == []


async def test_a_changed_old_migration_is_refused(dsn: str) -> None:
    """The message names the file and what to do; nothing is applied."""
    await run(dsn, *OURS)
    changed = replace(OURS[0], sha256="0" * 64)
    with pytest.raises(MigrationRefused, match=r"0001_attempts\.sql was changed .* restore the file"):
        await run(dsn, changed, *OURS[1:], NEXT)
    assert await run(dsn, *OURS, NEXT) == [NEXT.name]


async def test_a_migration_that_fails_leaves_nothing_behind(dsn: str) -> None:
    """All or nothing: the first file is rolled back with the second."""
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await run(dsn, *OURS, replace(NEXT, sql="CREATE TABLE analytics.half (x integer); NONSENSE;"))
    assert await run(dsn, *OURS) == [migration.name for migration in OURS]


def test_files_are_numbered_without_gaps(tmp_path: Path) -> None:
    """A gap, a repeat or a malformed name is refused; line ends do not change the checksum."""
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT 1;\r\n")
    (one,) = read_migrations(tmp_path)
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT 1;\n")
    assert read_migrations(tmp_path) == (one,)
    (tmp_path / "0003_c.sql").write_text("SELECT 3;")
    with pytest.raises(MigrationRefused, match="without gaps"):
        read_migrations(tmp_path)
    (tmp_path / "0003_c.sql").rename(tmp_path / "two.sql")
    with pytest.raises(MigrationRefused, match=r"two\.sql must be named"):
        read_migrations(tmp_path)
