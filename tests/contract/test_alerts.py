"""The contract of every store of alerts and of what is to be sent: the same suite for the fake and for a real
PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol

import pytest
import pytest_asyncio

from libs.errors import FailedPrecondition, NotFound
from services.analytics.alerts.alert import Acknowledged, Alert, AlertKind, KeptAlert, Severity, Silence
from services.analytics.alerts.postgres_alerts import PostgresAlerts
from services.analytics.alerts.postgres_deliveries import PostgresDeliveries
from services.analytics.alerts.store import (
    MAX_SILENCES,
    AlertFilter,
    AlertStore,
    Deliveries,
    Place,
    Word,
)
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from tests.support.alerts import BURN, SPEND, MemoryAlerts
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW
from tests.support.postgres import fresh_database

ALL = AlertFilter()
THRESHOLD = replace(BURN, kind=AlertKind.BUDGET_THRESHOLD, percent=50)


class Store(AlertStore, Deliveries, Protocol):
    """Both ports."""


class PostgresStore(PostgresAlerts, PostgresDeliveries):
    """Both in one."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def store(request: pytest.FixtureRequest, database: Database) -> Store:
    if request.param == "memory":
        return MemoryAlerts()
    async with database.writing() as connection:
        await connection.execute("TRUNCATE analytics.alerts, analytics.alert_silences CASCADE")
    return PostgresStore(database)


async def standing(store: Store, now: float = NOW, choice: AlertFilter = ALL) -> list[Alert]:
    return [kept.alert for kept in await store.find(choice, now, None, 10)]


def a_silence(name: str, now: float = NOW, **matchers: str) -> Silence:
    return Silence(name, matchers, now, now + 3600, "ann", "we know")


async def test_an_alert_is_kept_as_it_was_recorded(store: Store) -> None:
    """Every field, unset ones too; recording it again changes nothing."""
    bare = replace(BURN, kind=AlertKind.EXHAUSTED, probability=None, p50=None, burn_rate=None, ends=None)
    for _ in range(2):
        await store.record([SPEND, BURN, bare])
    found = await store.find(ALL, NOW, None, 10)
    assert sorted(found, key=repr) == sorted(map(KeptAlert, (SPEND, BURN, bare)), key=repr)
    assert await store.get([SPEND.alert_id, "nobody"], NOW) == [KeptAlert(SPEND)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_last_record_stands_in_whatever_order_they_come(
    store: Store, order: tuple[int, ...]
) -> None:
    """Two replicas raise it, one a little later; one clears it: it is over, and was raised when first seen."""
    records = [
        BURN,
        replace(BURN, as_of=NOW + 5, raised=NOW + 5, amount=450),
        replace(BURN, as_of=NOW + 60, cleared=NOW + 60, amount=500),
    ]
    for i in order:
        await store.record([records[i]])
    assert await standing(store, NOW + 61) == []
    (found,) = await store.find(ALL, NOW + 61, NOW, 10)
    assert (found.alert, found.turn) == (records[2], 1)


async def test_raised_again_is_a_new_turn_of_the_same_alert(store: Store) -> None:
    """In the same window, raised when it was first; whoever looked after it still does."""
    await store.record([BURN])
    await store.acknowledge(BURN.alert_id, Acknowledged("ann", NOW + 1), NOW)
    again = replace(BURN, as_of=NOW + 90, raised=NOW + 90)
    await store.record([replace(BURN, as_of=NOW + 60, cleared=NOW + 60)])
    await store.record([again])
    (found,) = await store.find(ALL, NOW + 91, None, 10)
    assert found == KeptAlert(replace(again, raised=NOW), 2, Acknowledged("ann", NOW + 1))


async def test_the_next_threshold_is_a_new_turn_that_nobody_has_acknowledged(store: Store) -> None:
    """A lower one that comes late changes nothing."""
    await store.record([THRESHOLD])
    await store.acknowledge(THRESHOLD.alert_id, Acknowledged("ann", NOW), NOW)
    higher = replace(THRESHOLD, as_of=NOW + 60, percent=80)
    for record in (higher, replace(THRESHOLD, as_of=NOW + 5), higher):
        await store.record([record])
    (found,) = await store.find(ALL, NOW + 61, None, 10)
    assert found == KeptAlert(higher, 2, None)


async def test_a_higher_severity_is_a_new_turn_that_nobody_has_acknowledged(store: Store) -> None:
    """A lower one is none."""
    await store.record([SPEND])
    for at, severity, turn in (
        *((1, Severity.CRITICAL, 2), (2, Severity.WARNING, 2), (3, Severity.INFO, 2)),
        *((4, Severity.WARNING, 3), (5, Severity.WARNING, 3)),
    ):
        await store.acknowledge(SPEND.alert_id, Acknowledged("ann", NOW), NOW)
        await store.record([replace(SPEND, as_of=NOW + at, severity=severity)])
        (kept,) = await store.find(ALL, NOW + at, None, 10)
        assert (kept.turn, kept.alert.severity) == (turn, severity)
        assert (kept.acknowledged is None) is (at in (1, 4))


async def test_those_that_stand_come_first_then_the_latest_and_pages_have_each_once(store: Store) -> None:
    """One that was raised before `since` and is over is left out; an alert does not outlive its window."""
    over = replace(SPEND, subject=(("tenant", "b"),), as_of=NOW + 50, raised=NOW + 40, cleared=NOW + 50)
    old = replace(SPEND, subject=(("tenant", "c"),), raised=NOW - 500, cleared=NOW - 400)
    later = replace(SPEND, subject=(("tenant", "d"),), raised=NOW + 10)
    ended = replace(BURN, raised=NOW + 20, ends=NOW + 30)
    await store.record([over, old, SPEND, later, ended])
    everything = [kept.alert for kept in await store.find(ALL, NOW + 60, NOW, 10)]
    assert everything == [later, SPEND, over, ended]
    found: list[Alert] = []
    after = None
    while page := await store.find(ALL, NOW + 60, NOW, 1, after):
        found.append(page[0].alert)
        after = Place(
            page[0].alert.stands(NOW + 60), round(page[0].alert.raised * 1e6), page[0].alert.alert_id
        )
    assert found == everything
    assert await standing(store, NOW + 60) == [later, SPEND]


async def test_alerts_raised_at_once_are_paged_by_id(store: Store) -> None:
    many = [replace(SPEND, subject=(("tenant", f"t{i}"),)) for i in range(7)]
    await store.record(many)
    found: list[KeptAlert] = []
    after = None
    while page := await store.find(ALL, NOW, None, 3, after):
        found += page
        after = Place(True, round(NOW * 1e6), page[-1].alert.alert_id)
    assert len(found) == len({kept.alert.alert_id for kept in found}) == 7


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (AlertFilter(kinds=frozenset({AlertKind.BURN_FAST})), [BURN]),
        (AlertFilter(severity=Severity.CRITICAL), []),
        (AlertFilter(severity=Severity.WARNING, labels={"period": "day"}), [BURN]),
        (AlertFilter(labels={"tenant": "ac"}), []),
        (AlertFilter(labels={"kind": "burn_fast"}), [BURN]),
        (AlertFilter(acknowledged=True), [SPEND]),
        (AlertFilter(acknowledged=False), [BURN]),
        (AlertFilter(silenced=True), [BURN]),
        (AlertFilter(silenced=False), [SPEND]),
    ],
)
async def test_a_filter_takes_what_has_all_of_it(
    store: Store, choice: AlertFilter, expected: Sequence[Alert]
) -> None:
    await store.record([SPEND, BURN])
    await store.acknowledge(SPEND.alert_id, Acknowledged("ann", NOW, "mine"), NOW)
    await store.silence(a_silence("s1", kind="burn_fast", tenant="acme"), NOW)
    assert await standing(store, NOW, choice) == list(expected)


async def test_the_first_acknowledgement_stands(store: Store) -> None:
    await store.record([SPEND])
    for by in ("ann", "bob"):
        found = await store.acknowledge(SPEND.alert_id, Acknowledged(by, NOW, f"{by}'s"), NOW)
    assert found.acknowledged == Acknowledged("ann", NOW, "ann's")
    with pytest.raises(NotFound) as caught:
        await store.acknowledge("nobody", Acknowledged("ann", NOW), NOW)
    assert caught.value.reason == "ALERT_NOT_FOUND"


async def test_silences_are_listed_until_they_end(store: Store) -> None:
    """Those that end first before the others; one that is over cannot be ended."""
    first, second = a_silence("s2", tenant="acme"), a_silence("s1", NOW + 10, kind="exhausted")
    for one in (second, first):
        await store.silence(one, NOW)
    assert await store.silences(NOW) == [first, second]
    await store.delete_silence("s1", NOW)
    assert await store.silences(NOW + 3599) == [first]
    assert await store.silences(NOW + 3600) == []
    for name, now in (("s1", NOW), ("s2", NOW + 3600)):
        with pytest.raises(NotFound):
            await store.delete_silence(name, now)


async def test_silences_are_bounded(store: Store) -> None:
    for i in range(MAX_SILENCES):
        await store.silence(a_silence(f"s{i}", tenant="acme"), NOW)
    with pytest.raises(FailedPrecondition):
        await store.silence(a_silence("more", tenant="acme"), NOW)
    await store.silence(a_silence("more", NOW + 4000, tenant="acme"), NOW + 4000)


async def test_what_was_over_long_ago_is_forgotten(store: Store) -> None:
    over = replace(SPEND, cleared=NOW - 50)
    await store.record([over, BURN, replace(BURN, kind=AlertKind.EXHAUSTED, ends=NOW - 50)])
    await store.forget(NOW - 49)
    assert [kept.alert for kept in await store.find(ALL, NOW, 0, 10)] == [BURN]


async def words(store: Store, now: float = NOW) -> list[tuple[str, Word]]:
    """Announces what is missing; returns destinations and words."""
    missing = await store.unannounced(["a", "b"], now, 10)
    await store.add([(one, b"body") for one in missing], now)
    return [(one.destination, one.word) for one in missing]


async def test_each_turn_is_announced_once_to_each_destination(store: Store) -> None:
    """Raised, over, raised again; the end of what was never announced is no news."""
    await store.record([BURN])
    assert await words(store) == [("a", Word.RAISED), ("b", Word.RAISED)]
    assert await words(store) == []
    await store.record([replace(BURN, as_of=NOW + 5, cleared=NOW + 5)])
    assert await words(store, NOW + 6) == [("a", Word.CLEARED), ("b", Word.CLEARED)]
    await store.record([replace(BURN, as_of=NOW + 9)])
    assert await words(store, NOW + 10) == [("a", Word.RAISED), ("b", Word.RAISED)]
    await store.record([replace(SPEND, cleared=NOW + 11, as_of=NOW + 11)])
    assert await words(store, NOW + 12) == []
    assert BURN.ends is not None
    assert await words(store, BURN.ends) == [("a", Word.CLEARED), ("b", Word.CLEARED)]


async def test_two_replicas_that_announce_at_once_make_one_delivery(store: Store) -> None:
    await store.record([SPEND])
    first, second = [await store.unannounced(["a"], NOW, 10) for _ in range(2)]
    for missing in (first, second):
        await store.add([(one, b"body") for one in missing], NOW)
    assert await store.claim("a", NOW, 60) is not None
    assert await store.claim("a", NOW, 60) is None


async def test_a_silence_puts_off_and_an_acknowledgement_ends_announcements(store: Store) -> None:
    await store.record([SPEND, BURN])
    await store.silence(a_silence("s1", tenant="acme"), NOW)
    assert await words(store) == []
    await store.acknowledge(BURN.alert_id, Acknowledged("ann", NOW), NOW)
    assert await words(store, NOW + 3600) == [("a", Word.RAISED), ("b", Word.RAISED)]


async def test_what_was_not_taken_before_it_was_silenced_waits(store: Store) -> None:
    """Until all silences that match are over; that the alert is over is told all the same."""
    await store.record([SPEND])
    await words(store)
    await store.silence(a_silence("s1", tenant="acme"), NOW)
    await store.silence(replace(a_silence("s2", kind="spend_anomaly"), until=NOW + 5000), NOW)
    await store.silence(a_silence("s3", tenant="beta"), NOW)
    assert await store.claim("a", NOW, 60) is None
    assert await store.claim("a", NOW + 4000, 60) is None
    assert await store.claim("a", NOW + 5000, 60) is not None
    await store.record([replace(SPEND, as_of=NOW + 1, cleared=NOW + 1)])
    assert await words(store, NOW + 2) == [("a", Word.CLEARED), ("b", Word.CLEARED)]
    assert await store.claim("b", NOW + 2, 60) is not None
    assert await store.claim("b", NOW + 2, 60) is None


async def test_a_delivery_is_one_senders_until_its_lease_is_over(store: Store) -> None:
    """Then it is sent again, under the same id; delivered, it is never sent again."""
    await store.record([SPEND])
    await words(store)
    first = await store.claim("a", NOW, 60)
    assert first is not None
    assert (first.destination, first.body, first.tries) == ("a", b"body", 0)
    assert await store.claim("a", NOW + 59, 60) is None
    assert await store.claim("a", NOW + 60, 60) == first
    await store.end(first.delivery_id, NOW + 61)
    assert await store.claim("a", NOW + 1e6, 60) is None
    assert await store.claim("b", NOW, 60) is not None


async def test_a_try_that_failed_is_made_again_when_it_is_due(store: Store) -> None:
    await store.record([SPEND])
    await words(store)
    first = await store.claim("a", NOW, 60)
    assert first is not None
    await store.retry(first.delivery_id, NOW + 5)
    assert await store.claim("a", NOW + 4, 60) is None
    assert await store.claim("a", NOW + 5, 60) == replace(first, tries=1)
