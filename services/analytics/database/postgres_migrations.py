"""Brings the schema up to date: plain SQL files, applied in order, each once, never changed afterwards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from services.analytics.database.postgres_partitions import LOCK_TIMEOUT

MIGRATIONS = Path(__file__).parent / "migrations"
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
#: Names our advisory lock among all of a database's; any fixed number does.
_LOCK = 0x706F696E74

_BOOTSTRAP = """
CREATE SCHEMA IF NOT EXISTS analytics;
CREATE TABLE IF NOT EXISTS analytics.migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


class MigrationRefused(Exception):
    """The database's history and our files contradict each other; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `sha256` is of its text with Unix line ends."""

    version: int
    name: str
    sql: str
    sha256: str


def read_migrations(folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """Reads the files, in order. Raises MigrationRefused where a name is malformed, or numbers are not 1, 2, 3 …"""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationRefused(f"Migration {path.name} must be named NNNN_words.sql")
        sql = path.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), path.name, sql, hashlib.sha256(sql.encode()).hexdigest()))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationRefused("Migrations must be numbered 0001, 0002, … without gaps or repeats")
    return tuple(found)


async def migrate(
    connection: asyncpg.Connection[asyncpg.Record], migrations: Sequence[Migration]
) -> list[str]:
    """Applies what is missing, all or nothing, and returns the names. Replicas that start together wait for one
    another. A database ahead of our files is left alone: a newer version of the service is being rolled out.
    Raises MigrationRefused where a file was changed after it had been applied."""
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        # Nobody who reads or writes shall queue for long behind one who waits for a lock: then it is tried again.
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute(_BOOTSTRAP)
        history = {
            row["version"]: row
            for row in await connection.fetch("SELECT version, name, sha256 FROM analytics.migrations")
        }
        for migration in migrations:
            past = history.get(migration.version)
            if past is None:
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO analytics.migrations (version, name, sha256) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.sha256,
                )
                applied.append(migration.name)
            elif past["sha256"] != migration.sha256:
                raise MigrationRefused(
                    f"Migration {migration.name} was changed after this database had applied it (as {past['name']}, "
                    f"sha256 {past['sha256'][:12]}, now {migration.sha256[:12]}): restore the file and add a new one"
                )
    return applied
