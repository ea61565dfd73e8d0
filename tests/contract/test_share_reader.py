"""The contract of every reader of shares, and the details that the one in PostgreSQL counts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.types import FinishReason
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.request import RequestRecord
from services.analytics.recommendations.evidence import CutAnswers, HedgeUse, Refusals, StrategyUse, Window
from services.analytics.recommendations.measurement import Share, ShareReader
from services.analytics.recommendations.postgres_details import PostgresDetails
from services.analytics.recommendations.recommendation import SavedUnit, Subject
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, an_attempt
from tests.support.postgres import fresh_database
from tests.support.recommendations import DAY, MemoryDetails

DAYS = 3
WINDOW = Window(tuple(NOW - back * DAY for back in range(DAYS, 0, -1)), NOW, "UTC")


def requests() -> list[RequestRecord]:
    """Requests of two tenants for two content types over three days; limits refuse some."""
    rng = random.Random(6)
    found = []
    for i in range(600):
        refused = rng.random() < 0.2
        found.append(
            RequestRecord(
                record_id=f"q{i}",
                request_id=f"order-{i}-ü",
                tenant=rng.choice(["acme", "zeta"]),
                content_type=rng.choice(["blog", "ad"]),
                started=NOW - rng.uniform(0, DAYS * DAY),
                latency=0.5,
                outcome=Outcome.FAILURE if refused else Outcome.SUCCESS,
                error_reason="LIMIT_EXCEEDED" if refused else "",
                attempts=0 if refused else rng.randrange(1, 4),
                cost_micro_usd=0 if refused else rng.randrange(1000),
                strategy=rng.choice(["balanced", "cost_first", "cost_first"]),
            )
        )
    return found


def attempts() -> list[Attempt]:
    """On the last day a hedge that won, one that lost and one whose request its caller left; and cut answers."""
    at = NOW - 100

    def one(name: str, number: int, outcome: Outcome, cost: int, *, hedge: bool = False) -> Attempt:
        return an_attempt(
            f"{name}-{number}",
            request_id=name,
            attempt_number=number,
            started=at,
            outcome=outcome,
            cost_micro_usd=cost,
            content_type="blog",
            hedge=hedge,
        )

    cut = an_attempt(
        "cut", started=at - DAY, cost_micro_usd=40, finish_reason=FinishReason.LENGTH, content_type="ad"
    )
    return [
        one("won", 1, Outcome.CANCELLED, 10),
        one("won", 2, Outcome.SUCCESS, 20, hedge=True),
        one("lost", 1, Outcome.SUCCESS, 100),
        one("lost", 2, Outcome.CANCELLED, 7, hedge=True),
        one("plain", 1, Outcome.CANCELLED, 1000),
        one("plain", 2, Outcome.SUCCESS, 1000),
        cut,
        an_attempt("whole", started=at - DAY, cost_micro_usd=40, finish_reason=FinishReason.STOP),
        an_attempt("old", started=NOW - 5 * DAY, finish_reason=FinishReason.LENGTH),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        await PostgresLedger(database).record(attempts(), requests())
        yield database


@pytest.fixture(params=["memory", "postgres"])
def shares(request: pytest.FixtureRequest, database: Database) -> ShareReader:
    return MemoryDetails(requests=requests()) if request.param == "memory" else PostgresDetails(database)


@pytest.mark.parametrize("unit", SavedUnit)
@pytest.mark.parametrize(
    "subject", [Subject(), Subject("acme"), Subject("", "blog"), Subject("zeta", "ad", "a", "b")]
)
async def test_each_request_is_in_the_same_share_by_whoever_asks(
    shares: ShareReader, unit: SavedUnit, subject: Subject
) -> None:
    """Counted by day, share and amount, the same in Python and in PostgreSQL; a tenth is left."""
    since = NOW - 2.5 * DAY
    found = await shares.shares("cheaper_model-x", subject, unit, since, NOW)
    expected = await MemoryDetails(requests=requests()).shares("cheaper_model-x", subject, unit, since, NOW)
    assert found == expected
    assert sum(day.changed.requests for day in found) > 5 * sum(day.left.requests for day in found) > 0


async def test_nothing_is_read_outside_of_the_time(shares: ShareReader) -> None:
    """An empty time has no days."""
    assert list(await shares.shares("x", Subject(), SavedUnit.MICRO_USD, NOW, NOW + DAY)) == []
    (day,) = await shares.shares(
        "x", Subject(), SavedUnit.MICRO_USD, requests()[0].started, requests()[0].started + 1e-3
    )
    assert day.left.requests + day.changed.requests == 1
    assert Share() in (day.left, day.changed)


async def test_details_are_counted_by_day(database: Database) -> None:
    """Of a hedged request all that lost is extra cost, and nothing of other requests; cut answers, refusals and
    strategies of the window only."""
    found = await PostgresDetails(database).details(WINDOW)
    assert found.hedges == [HedgeUse(2, "blog", 2, 1, 10 + 7)]
    assert found.cut == [CutAnswers(1, "acme", "ad", 1, 40)]
    expected: dict[tuple[int, str], int] = {}
    for one in requests():
        day = int((one.started - WINDOW.starts[0]) // DAY)
        if one.error_reason:
            expected[day, one.tenant] = expected.get((day, one.tenant), 0) + 1
    assert {(row.day, row.tenant): row for row in found.refusals} == {
        key: Refusals(*key, count) for key, count in expected.items()
    }
    counts = [sum(one.strategy == name for one in requests()) for name in ("cost_first", "balanced")]
    assert found.strategies == [StrategyUse("cost_first", counts[0]), StrategyUse("balanced", counts[1])]
