"""A standby of an embedded PostgreSQL, and its promotion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from dev.engines.child import Child, EngineError
from dev.engines.postgres import ENV, USER, Postgres
from dev.engines.postgres_home import Home
from dev.engines.store import write_private

#: The name that the standby gives itself at the primary.
NAME = "standby"


@asynccontextmanager
async def synchronous_standby(primary: Postgres) -> AsyncIterator[Postgres]:
    """A standby that has every commit of the primary before the commit returns."""
    with TemporaryDirectory(prefix="pointsman-standby-") as temporary:
        standby = Postgres(Path(temporary))
        write_private(standby.directory / "password", primary.secret)
        await _copy(primary, standby)
        await standby.start()
        connection = await asyncpg.connect(primary.dsn)
        try:
            # After the copy: the standby must not wait for itself once it is promoted.
            await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
            await connection.execute("SELECT pg_reload_conf()")
            state = "SELECT sync_state FROM pg_stat_replication WHERE application_name = $1"
            async with asyncio.timeout(30):
                while await connection.fetchval(state, NAME) != "sync":
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()
        try:
            yield standby
        finally:
            await standby.stop()


async def promote(standby: Postgres) -> None:
    """Makes it the primary; returns once it takes writes."""
    connection = await asyncpg.connect(standby.dsn)
    try:
        assert await connection.fetchval("SELECT pg_promote()")
    finally:
        await connection.close()


async def _copy(primary: Postgres, standby: Postgres) -> None:
    home = await asyncio.to_thread(Home.of, standby.directory)
    fresh = home.empty_sibling()
    source = (
        f"host=127.0.0.1 port={primary.port} user={USER} password={primary.secret} application_name={NAME}"
    )
    copying = Child(
        "pg_basebackup",
        [str(home.program("pg_basebackup")), "-D", str(fresh), "-R", "-c", "fast", "-d", source],
        ENV,
        standby.directory / "copy.log",
        account=home.account,
    )
    try:
        await copying.start()
        if await copying.wait() != 0:
            raise EngineError(f"The standby could not be made:\n{copying.tail()}")
    finally:
        await copying.kill()
    fresh.rename(home.data)
