"""A process that migrates a ledger and may be killed: `python -m tests.support.migrator`, the DSN on its input."""

from __future__ import annotations

import asyncio
import sys

from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations


async def main() -> None:
    """Says that it is ready, and migrates once it is told where."""
    print("ready", flush=True)
    dsn = sys.stdin.readline().strip()
    async with Database(dsn, read_migrations()) as database:
        await database.keep_preparing()
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
