"""The contract of every store of recommendations: the same suite for the fake and for a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from libs.errors import Aborted, NotFound
from libs.forecast.intervals import Band
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.recommendations.decision import (
    Decision,
    KeptRecommendation,
    RecommendationStore,
    Standing,
    Verdict,
)
from services.analytics.recommendations.postgres_recommendations import PostgresRecommendations
from services.analytics.recommendations.recommendation import LimitChange, Proposal
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW
from tests.support.postgres import fresh_database
from tests.support.recommendations import MemoryRecommendations, a_recommendation

BLOG, AD = a_recommendation("blog", 100.0), a_recommendation("ad", 500.0)
LIMIT = replace(BLOG, proposal=Proposal(limit=LimitChange("tenant:a", "requests", "day", 10, 20)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def store(request: pytest.FixtureRequest, database: Database) -> RecommendationStore:
    if request.param == "memory":
        return MemoryRecommendations()
    async with database.writing() as connection:
        await connection.execute(
            "TRUNCATE analytics.recommendations, analytics.recommendation_decisions, analytics.recommendation_look"
        )
    return PostgresRecommendations(database)


def decided(verdict: Verdict, version: int = 0, by: str = "ann", until: float | None = None) -> Decision:
    return Decision(BLOG.id, version, verdict, by, NOW + 60, "because", until)


async def test_a_look_is_kept_as_it_was(store: RecommendationStore) -> None:
    """All fields of what it found, the largest saving first, and its summary."""
    assert await store.last_look() is None
    await store.keep([BLOG, AD, LIMIT], NOW, b"{}")
    assert await store.last_look() == (NOW, b"{}")
    assert len({BLOG.id, AD.id, LIMIT.id}) == 3
    first, *rest = await store.all()
    assert first == KeptRecommendation(AD, NOW, NOW)
    assert {one.recommendation.id: one.recommendation for one in rest} == {BLOG.id: BLOG, LIMIT.id: LIMIT}


async def test_the_next_look_replaces_what_nobody_accepted(store: RecommendationStore) -> None:
    """A finding that it does not make again is shown no more, one that it makes again keeps its first instant;
    an earlier look changes nothing."""
    await store.keep([BLOG, AD], NOW, b"first")
    larger = replace(BLOG, saving=Band(200.0, 300.0, 400.0))
    await store.keep([larger], NOW + 10, b"second")
    await store.keep([BLOG, AD], NOW + 5, b"late")
    assert await store.last_look() == (NOW + 10, b"second")
    assert await store.all() == [KeptRecommendation(larger, NOW, NOW + 10)]


@pytest.mark.parametrize(
    ("verdict", "standing", "until"),
    [
        (Verdict.ACCEPT, Standing.ACCEPTED, None),
        (Verdict.REJECT, Standing.REJECTED, None),
        (Verdict.SNOOZE, Standing.SNOOZED, NOW + 3600.123456789),
    ],
)
async def test_a_decision_stands_whatever_is_found_later(
    store: RecommendationStore, verdict: Verdict, standing: Standing, until: float | None
) -> None:
    """By whom, when and why; what is accepted stays as it was accepted. A repeated decision is the same one."""
    await store.keep([BLOG], NOW, b"")
    decision = decided(verdict, until=until)
    kept = KeptRecommendation(BLOG, NOW, NOW, standing, 1, decision)
    assert await store.decide(decision) == kept
    assert await store.decide(replace(decision, at=NOW + 90)) == kept
    larger = replace(BLOG, saving=Band(200.0, 300.0, 400.0))
    await store.keep([larger], NOW + 100, b"")
    await store.keep([], NOW + 200, b"")
    content = BLOG if verdict is Verdict.ACCEPT else larger
    assert await store.all() == [KeptRecommendation(content, NOW, NOW + 100, standing, 1, decision)]


async def test_undone_it_is_open_again(store: RecommendationStore) -> None:
    """And shown where the last look found it."""
    await store.keep([BLOG], NOW, b"")
    await store.decide(decided(Verdict.ACCEPT))
    undo = decided(Verdict.UNDO, 1)
    await store.decide(undo)
    assert await store.all() == [KeptRecommendation(BLOG, NOW, NOW, Standing.OPEN, 2, undo)]
    await store.keep([], NOW + 100, b"")
    assert await store.all() == []
    with pytest.raises(NotFound):
        await store.decide(decided(Verdict.REJECT, 2))


async def test_after_its_snooze_it_is_decided_about_again(store: RecommendationStore) -> None:
    """By whoever sees it open."""
    await store.keep([BLOG], NOW, b"")
    await store.decide(decided(Verdict.SNOOZE, until=NOW + 100))
    later = replace(decided(Verdict.ACCEPT, 1), at=NOW + 200)
    assert (await store.decide(later)).standing is Standing.ACCEPTED


async def test_of_two_who_decide_at_once_one_is_told(store: RecommendationStore) -> None:
    """The other reads again."""
    await store.keep([BLOG], NOW, b"")
    ends = await asyncio.gather(
        *(store.decide(decided(Verdict.ACCEPT, by=name)) for name in ("ann", "bob")), return_exceptions=True
    )
    assert sorted(type(end).__name__ for end in ends) == [Aborted.__name__, KeptRecommendation.__name__]


async def test_an_unknown_id_is_told(store: RecommendationStore) -> None:
    """NOT_FOUND, by its reason; also one that means something to SQL."""
    with pytest.raises(NotFound) as refused:
        await store.decide(replace(decided(Verdict.ACCEPT), id="'; DROP TABLE x; --"))
    assert refused.value.reason == "RECOMMENDATION_NOT_FOUND"
