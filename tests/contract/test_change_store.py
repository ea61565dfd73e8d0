"""The contract of every store of changes: the same suite for the fake and for a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from services.analytics.changes.postgres_changes import PostgresChanges
from services.analytics.changes.store import ChangeFilter, ChangePlace, ChangeStore
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from tests.support.changes import A_CHANGE, MemoryChanges, later
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database

SECOND = later(A_CHANGE, "c2", reason="„Ende“ 'quoted'", after="")
OTHER = replace(A_CHANGE, change_id="w1", kind="window", name="w-1", at=A_CHANGE.at + 0.5)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def store(request: pytest.FixtureRequest, database: Database) -> ChangeStore:
    if request.param == "memory":
        return MemoryChanges()
    async with database.writing() as connection:
        await connection.execute("TRUNCATE analytics.changes")
    return PostgresChanges(database)


async def test_changes_are_kept_as_they_were_the_latest_first(store: ChangeStore) -> None:
    """Every field."""
    await store.record([OTHER, SECOND, A_CHANGE])
    assert await store.find(ChangeFilter(), 10) == [SECOND, OTHER, A_CHANGE]


async def test_a_change_is_written_once(store: ChangeStore) -> None:
    """Sent again, by several at once, or with other words: the first stands."""
    await store.record([A_CHANGE])
    forged = replace(A_CHANGE, author="mallory")
    await asyncio.gather(*[store.record([SECOND, forged, OTHER]) for _ in range(4)])
    assert await store.find(ChangeFilter(change_id="c1"), 10) == [A_CHANGE]
    assert len(await store.find(ChangeFilter(), 10)) == 3


async def test_the_standing_change_of_each_thing_is_found(store: ChangeStore) -> None:
    """That of the highest version, whenever it was made; of one version the later."""
    late = later(SECOND, "c0", seconds=-100.0)
    twin = replace(late, change_id="c00", at=late.at - 1)
    await store.record([A_CHANGE, SECOND, late, twin, OTHER])
    assert await store.find(ChangeFilter(standing=True), 10) == [OTHER, late]


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (ChangeFilter(kind="window"), [OTHER]),
        (ChangeFilter(name="acme"), [SECOND, A_CHANGE]),
        (ChangeFilter(since=OTHER.at), [SECOND, OTHER]),
        (ChangeFilter(change_id="none"), []),
    ],
)
async def test_changes_are_found_by(store: ChangeStore, choice: ChangeFilter, found: list[object]) -> None:
    """Kind, name, time, id."""
    await store.record([A_CHANGE, SECOND, OTHER])
    assert await store.find(choice, 10) == found


async def test_pages_show_each_change_once(store: ChangeStore) -> None:
    """Those of one instant too."""
    changes = [replace(A_CHANGE, change_id=f"c{n}", version=n) for n in range(1, 8)]
    await store.record(changes)
    shown, place = [], None
    while page := await store.find(ChangeFilter(), 3, place):
        shown += page
        place = ChangePlace(round(page[-1].at * 1e6), page[-1].change_id)
    assert shown == changes[::-1]
