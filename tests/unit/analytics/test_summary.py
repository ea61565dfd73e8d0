"""The summary: its figures, its periods, and one reading for all who watch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest

from libs.errors import Unavailable
from libs.telemetry import Metrics
from services.analytics.ledger.attempt import Outcome
from services.analytics.reports.query import GroupBy
from services.analytics.summary.feed import HEARTBEAT, LOOK, SummaryFeed
from services.analytics.summary.summary import (
    MODELS,
    TENANTS,
    SummaryKey,
    SummaryRow,
    SummaryUpdate,
    periods_at,
    summarise,
)
from tests.support.clock import ManualClock
from tests.support.ledger import NOW, MemoryLedger, an_attempt

Rows = dict[SummaryKey, SummaryRow]


def added(rows: Rows, update: SummaryUpdate) -> Rows:
    """Returns the rows known to one who knew `rows` and is told the update."""
    if update.snapshot:
        return dict(update.rows)
    return {key: row for key, row in {**rows, **update.rows}.items() if key not in update.gone}


class Watched:
    """A feed on a ledger in memory; `look` is its watchers' pause in real time, which the clock does not see."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.alerts = 0
        self.asked = 0
        self.feed = SummaryFeed(self.ledger, self._count, "UTC", self.clock, self.metrics, look=0.001)

    async def _count(self, now: float) -> int:
        self.asked += 1
        return self.alerts

    @property
    def readings(self) -> float:
        name = "pointsman_analytics_summary_readings_total"
        return self.metrics.registry.get_sample_value(name) or 0.0

    async def spend(self, attempt_id: str, **fields: object) -> None:
        await self.ledger.record([an_attempt(attempt_id, **{"cost_micro_usd": 5, **fields})])


@asynccontextmanager
async def watching(feed: SummaryFeed) -> AsyncIterator[AsyncIterator[SummaryUpdate]]:
    async with aclosing(feed.updates()) as updates:  # type: ignore[type-var]  # an async generator
        yield updates


@pytest.mark.parametrize(
    ("now", "zone", "today", "month"),
    [
        ("2026-11-30T23:59:59+00:00", "UTC", "2026-11-30T00:00:00+00:00", "2026-11-01T00:00:00+00:00"),
        ("2026-12-01T00:00:00+00:00", "UTC", "2026-12-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00"),
        # A month begins in summer time, a day of 25 hours too.
        (
            "2026-10-25T20:00:00+01:00",
            "Europe/Berlin",
            "2026-10-25T00:00:00+02:00",
            "2026-10-01T00:00:00+02:00",
        ),
        # There is no midnight on that day: it begins at one.
        (
            "2026-09-06T12:00:00-03:00",
            "America/Santiago",
            "2026-09-06T01:00:00-03:00",
            "2026-09-01T00:00:00-04:00",
        ),
    ],
)
def test_periods_are_those_of_the_owners_zone(now: str, zone: str, today: str, month: str) -> None:
    """Days and months begin when the zone says; all periods hold the instant, at midnight too."""
    instant = datetime.fromisoformat(now).timestamp()
    found = periods_at(instant, zone)
    assert datetime.fromtimestamp(found.today, UTC) == datetime.fromisoformat(today)
    assert datetime.fromtimestamp(found.month, UTC) == datetime.fromisoformat(month)
    assert found.month <= found.today <= instant < found.until <= instant + 300
    assert found.hour == found.until - 3600


async def test_a_summary_is_what_the_reports_say() -> None:
    """Everything, providers and models with performance and reliability, tenants with costs; today and the last hour
    are told apart."""
    ledger = MemoryLedger()
    await ledger.record(
        [
            an_attempt("a1", cost_micro_usd=7, started=NOW - 7200),
            an_attempt("a2", cost_micro_usd=2, provider="anthropic", outcome=Outcome.FAILURE, tenant="zoo"),
            an_attempt("a3", cost_micro_usd=1, started=NOW - 86_400 * 2),
        ]
    )
    found = await summarise(ledger, NOW, "UTC", 3, None)
    assert (found.month.cost_micro_usd, found.standing_alerts) == (10, 3)
    everything = found.rows[SummaryKey()]
    assert everything.today is not None
    assert everything.reliability is not None
    assert (everything.today.cost_micro_usd, everything.today.requests) == (9, 2)
    assert (everything.reliability.attempts, everything.reliability.availability) == (1, 0.0)
    openai = found.rows[SummaryKey(GroupBy.PROVIDER, "openai")]
    assert openai.today is not None
    assert (openai.today.cost_micro_usd, openai.performance, openai.reliability) == (7, None, None)
    assert SummaryKey(GroupBy.MODEL, "anthropic/gpt-4o") in found.rows
    zoo = found.rows[SummaryKey(GroupBy.TENANT, "zoo")]
    assert zoo.today is not None
    assert (zoo.today.cost_micro_usd, zoo.performance) == (2, None)


async def test_more_tenants_and_models_than_a_page_has_room_for_are_cut() -> None:
    """Those that cost most are there; the total has all; nothing is refused."""
    ledger = MemoryLedger()
    await ledger.record(
        [
            an_attempt(f"a{n}", tenant=f"t{n:05}", model=f"m{n:05}", cost_micro_usd=n, latency=None)
            for n in range(11_000)
        ]
    )
    rows = (await summarise(ledger, NOW, "UTC", 0, None)).rows
    tenants = {key.name for key in rows if key.by is GroupBy.TENANT}
    assert tenants == {f"t{n:05}" for n in range(11_000 - TENANTS, 11_000)}
    assert len([key for key in rows if key.by is GroupBy.MODEL]) == MODELS
    everything = rows[SummaryKey()].today
    assert everything is not None
    assert everything.requests == 11_000


@pytest.mark.parametrize("seed", range(5))
async def test_updates_add_up_to_the_summary(seed: int) -> None:
    """Whatever is spent, whoever comes late or skips: what was told adds up to what is."""
    rng = random.Random(seed)
    watched = Watched()
    async with watching(watched.feed) as quick, watching(watched.feed) as slow:
        known: dict[str, Rows] = {"quick": {}, "slow": {}}
        for n in range(40):
            await watched.spend(
                f"a{n}",
                tenant=f"t{rng.randrange(30)}",
                provider=rng.choice(["openai", "anthropic"]),
                cost_micro_usd=rng.randrange(1000),
                outcome=rng.choice(list(Outcome)),
                started=watched.clock.now() - rng.random() * 4000,
            )
            # Hours pass too: rows of the last hour go, and at midnight all that cost something.
            watched.clock.advance(rng.choice([1.0, 1.0, 400.0, 30_000.0]))
            known["quick"] = added(known["quick"], await anext(quick))
            if rng.random() < 0.2:
                known["slow"] = added(known["slow"], await anext(slow))
        watched.clock.advance(2 * HEARTBEAT)
        update = await anext(quick)
        assert added(known["quick"], update) == update.summary.rows
        update = await anext(slow)
        assert added(known["slow"], update) == update.summary.rows
        async with watching(watched.feed) as new:
            first = await anext(new)
        assert first.snapshot
        assert first.rows == update.summary.rows


async def test_a_hundred_watchers_share_each_reading_and_each_update() -> None:
    """As many readings as one watcher needs; the very same update for all who keep up."""
    watched = Watched()
    watchers = [watched.feed.updates() for _ in range(100)]
    first = await asyncio.gather(*(anext(watcher) for watcher in watchers))
    assert watched.readings == 1
    assert all(update.summary is first[0].summary for update in first)
    for n in range(3):
        await watched.spend(f"a{n}")
        watched.clock.advance(LOOK)
        updates = await asyncio.gather(*(anext(watcher) for watcher in watchers))
        assert watched.readings == n + 2
        assert all(update is updates[0] for update in updates)
    for watcher in watchers:
        await watcher.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_a_slow_watcher_gets_the_latest_and_nothing_in_between() -> None:
    """While it takes nothing, others are told a hundred updates; it is told one, with the last figures."""
    watched = Watched()
    async with watching(watched.feed) as slow, watching(watched.feed) as quick:
        told = await anext(slow)
        await anext(quick)
        for n in range(100):
            await watched.spend(f"a{n}")
            watched.clock.advance(LOOK)
            await anext(quick)
        update = await anext(slow)
        everything = update.summary.rows[SummaryKey()].today
        assert everything is not None
        assert everything.requests == 100
        assert added(dict(told.rows), update) == update.summary.rows


async def test_traffic_does_not_make_more_readings() -> None:
    """A thousand commits within a look are one reading."""
    watched = Watched()
    async with watching(watched.feed) as updates:
        await anext(updates)
        for n in range(1000):
            await watched.spend(f"a{n}")
        watched.clock.advance(LOOK)
        update = await anext(updates)
        assert update.summary.month.attempts == 1000
        assert watched.readings == 2


async def test_where_nothing_happens_a_heartbeat_tells_the_time() -> None:
    """No reading while nothing is committed; after five seconds an update without rows. An alert is told at once."""
    watched = Watched()
    async with watching(watched.feed) as updates:
        await anext(updates)
        pending = asyncio.ensure_future(anext(updates))
        for _ in range(4):
            watched.clock.advance(1.0)
            await asyncio.sleep(0.01)
        assert watched.readings == 1
        assert not pending.done()
        watched.clock.advance(1.0)
        update = await pending
        assert (dict(update.rows), update.gone, update.snapshot) == ({}, frozenset(), False)
        assert update.summary.as_of == watched.clock.now()
        watched.alerts = 1
        watched.clock.advance(LOOK)
        assert (await anext(updates)).summary.standing_alerts == 1


async def test_a_store_that_is_gone_ends_the_stream_and_the_next_one_begins_anew() -> None:
    """Unavailable for all who watch, by one reading: a store that hangs keeps nobody waiting for a hundred others."""
    watched = Watched()
    await watched.spend("a1")
    async with watching(watched.feed) as updates:
        await anext(updates)
        watched.ledger.gone = True
        watched.clock.advance(HEARTBEAT)
        with pytest.raises(Unavailable):
            await anext(updates)
    asked = watched.asked
    for _ in range(100):
        async with watching(watched.feed) as updates:
            with pytest.raises(Unavailable):
                await anext(updates)
    assert watched.asked == asked
    watched.ledger.gone = False
    watched.clock.advance(LOOK)
    async with watching(watched.feed) as updates:
        assert (await anext(updates)).snapshot
