"""The contract of FailoverReports: what failovers saved and cost, the same for the fake and for a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any, Protocol

import pytest
import pytest_asyncio

from libs.errors import InvalidArgument
from libs.types import ErrorClass
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.request import ConsideredModel, RequestRecord
from services.analytics.reports.postgres_reports import PostgresReports
from services.analytics.reports.query import Group, GroupBy, Interval, Query
from services.analytics.reports.report import FailoverReport, Quantiles
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, MemoryLedger, an_attempt
from tests.support.postgres import fresh_database

DAY = Query(NOW - 86_400, NOW)


class Kept(Protocol):
    """A ledger with reports on its failovers."""

    async def record(
        self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()
    ) -> Recorded: ...

    async def failovers(self, query: Query) -> FailoverReport: ...


class PostgresKept:
    def __init__(self, database: Database) -> None:
        self.record = PostgresLedger(database, PostgresRollups(database).follow).record
        self.failovers = PostgresReports(database).failovers


@pytest_asyncio.fixture(loop_scope="session")
async def postgres(postgres_server: PostgresServer) -> AsyncIterator[PostgresKept]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield PostgresKept(database)


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def kept(request: pytest.FixtureRequest, postgres: PostgresKept) -> Kept:
    return MemoryLedger() if request.param == "memory" else postgres


def failed(attempt_id: str, **fields: Any) -> Attempt:
    return an_attempt(
        attempt_id,
        outcome=Outcome.FAILURE,
        error_class=ErrorClass.OVERLOADED,
        **{"cost_micro_usd": 10, **fields},
    )


def a_record(request_id: str, **estimates: int) -> RequestRecord:
    """A decision, with the estimates of providers' gpt-4o."""
    considered = tuple(
        ConsideredModel(f"{provider}/gpt-4o", estimated_micro_usd=amount)
        for provider, amount in estimates.items()
    )
    return RequestRecord(
        f"t{request_id}", request_id, "acme", NOW - 61, 2.0, Outcome.SUCCESS, candidates=considered
    )


async def test_a_request_that_another_target_answered_was_saved(kept: Kept) -> None:
    """With the money of its failed attempts, the time until the one that answered began, and the difference to what
    the first target would have taken. One that the same target answered at last needed no other, and one that nobody
    answered was tried in vain."""
    second = {"attempt_number": 2, "provider": "azure"}
    await kept.record(
        [
            failed("a1", started=NOW - 60),
            an_attempt("a2", request_id="r1", started=NOW - 57.5, cost_micro_usd=300, **second),
            # The same target at the second try.
            failed("a3", started=NOW - 60),
            an_attempt("a4", request_id="r3", started=NOW - 59, attempt_number=2),
            # In vain: the first attempt would have been paid without failovers too.
            failed("a5", started=NOW - 60),
            failed("a6", request_id="r5", started=NOW - 59, **second),
            # Its first attempt went well.
            an_attempt("a7", started=NOW - 60),
            # A tenant of the same request id, and a request of which one target alone was tried.
            failed("a8", request_id="r1", tenant="other", started=NOW - 60),
        ],
        [a_record("r1", openai=100, azure=150), a_record("r3", openai=100, azure=150)],
    )
    (row,) = (await kept.failovers(DAY)).rows
    assert (row.requests, row.saved, row.in_vain, row.failed_micro_usd) == (4, 1, 1, 20)
    assert (row.added_latency, row.added) == (2.5, Quantiles(2.5, 2.5, 2.5, 2.5))
    assert (row.dearer_micro_usd, row.compared) == (100, 1)
    by = Query(
        NOW - 86_400, NOW, (GroupBy.PROVIDER, GroupBy.ERROR_CLASS), tenant="acme", interval=Interval.DAY
    )
    (row,) = (await kept.failovers(by)).rows
    assert (row.group.values, row.requests, row.saved) == (("openai", "overloaded"), 3, 1)
    assert not (await kept.failovers(Query(NOW - 86_400, NOW, provider="azure"))).rows


async def test_a_range_of_more_than_a_month_is_refused(kept: Kept) -> None:
    """Each request is looked at."""
    with pytest.raises(InvalidArgument):
        await kept.failovers(Query(NOW - 32 * 86_400, NOW))


@pytest.mark.parametrize("seed", range(4))
async def test_it_is_what_looking_at_each_request_gives(postgres: PostgresKept, seed: int) -> None:
    """Random attempts of few requests, ids in the hands of several callers, one of them of more than 64 attempts."""
    print(f"seed {seed}")
    rng, memory = Random(seed), MemoryLedger()
    attempts = [
        an_attempt(
            f"a{number}",
            request_id="r-all" if number < 70 else f"r{rng.randrange(60)}",
            attempt_number=rng.randint(1, 4),
            tenant=rng.choice(["acme", "other"]),
            provider=rng.choice(["openai", "azure"]),
            model=rng.choice(["gpt-4o", "m"]),
            started=NOW - rng.randrange(1, 8000) / 4,
            outcome=rng.choice([*Outcome, Outcome.FAILURE, Outcome.FAILURE]),
            cost_micro_usd=rng.randrange(100),
            labels={"team": rng.choice("ab")},
        )
        for number in range(250)
    ]
    records = [a_record(f"r{n}", openai=rng.randrange(9), azure=rng.randrange(9)) for n in range(40)]
    for kept in (memory, postgres):
        await kept.record(attempts, records)
    for fields in (
        {},
        {"group_by": (GroupBy.TENANT, GroupBy.MODEL)},
        {"group_by": (GroupBy.PROVIDER,), "group_by_label": "team", "interval": Interval.FIVE_MINUTES},
        {"model": "m", "labels": {"team": "a"}, "tenant": "acme"},
        {"group_by": (GroupBy.PROVIDER,), "page_size": 1},
        {"group_by": (GroupBy.PROVIDER,), "page_size": 1, "after": Group(("azure",))},
    ):
        query = Query(NOW - 1500, NOW - 100, **fields)
        expected, found = await memory.failovers(query), await postgres.failovers(query)
        assert found.rows == expected.rows
        assert found.next_after == expected.next_after
        assert expected.rows
