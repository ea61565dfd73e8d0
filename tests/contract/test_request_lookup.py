"""The contract of every RequestLookup: the fake and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from libs.types import RoutePart
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.postgres_lookup import PostgresLookup
from services.analytics.ledger.request import ConsideredModel, RequestRecord
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, MemoryLedger, an_attempt
from tests.support.postgres import fresh_database

#: Every field set, to values that a column of the wrong type or an order mixed up would change.
FULL = RequestRecord(
    record_id="q1",
    request_id="r1",
    tenant="acme",
    started=NOW - 61.25,
    latency=2.000001,
    outcome=Outcome.FAILURE,
    campaign="spring",
    content_type="seo",
    labels={"sku": "1", "ä": 'quote"'},
    time_to_first_token=0.5,
    error_reason="PROVIDERS_FAILED",
    attempts=2,
    failed_over=True,
    degradation="queued",
    strategy="balanced",
    policy="default",
    policy_version="0123456789ab",
    estimated_input_tokens=10,
    max_output_tokens=20,
    capabilities=("json", 'a,"b'),
    candidates=(
        ConsideredModel("a/m", "", 0, 0.5, 0.25, 1.0, 0.125, 0.75, 30),
        ConsideredModel("b/m", 'is "down"', 1, estimated_micro_usd=40),
    ),
    provider="a",
    model="m",
    probability=0.25,
    queued=0.25,
    paused=0.5,
    cost_micro_usd=7,
    streamed=True,
    cached=True,
    trace_id="f" * 32,
)


def a_request(record_id: str, request_id: str = "r1", **fields: Any) -> RequestRecord:
    """One that ran from 61 to 59 seconds ago."""
    given = {"tenant": "acme", "started": NOW - 61, "latency": 2.0, "outcome": Outcome.SUCCESS, **fields}
    return RequestRecord(record_id=record_id, request_id=request_id, **given)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def both(request: pytest.FixtureRequest, database: Database) -> Any:
    """A ledger, and the lookup in what it keeps."""
    if request.param == "memory":
        memory = MemoryLedger()
        return memory, memory
    async with database.writing() as connection:
        await connection.execute("TRUNCATE analytics.attempts, analytics.requests")
    return PostgresLedger(database), PostgresLookup(database)


async def test_a_request_is_kept_once_and_read_as_it_was_given(both: Any) -> None:
    """Every field comes back; a second record of the same id changes nothing."""
    ledger, lookup = both
    assert await ledger.record([], [FULL, FULL]) == Recorded(requests=1)
    assert await ledger.record([], [replace(FULL, cost_micro_usd=8)]) == Recorded()
    (account,) = await lookup.by_request("r1", "")
    assert account.record == FULL
    assert account.attempts == ()


async def test_an_account_holds_every_attempt_in_order(both: Any) -> None:
    """Found by the request's id or by any attempt's, each as it was recorded."""
    ledger, lookup = both
    first = an_attempt("a1", request_id="r1", started=NOW - 61, outcome=Outcome.FAILURE, price_version="free")
    second = an_attempt("a2", request_id="r1", started=NOW - 60, attempt_number=2, labels={"k": "v"})
    second = replace(second, route_key="KEY_B", route_endpoint="eu.test/v1", switched=RoutePart.KEY)
    await ledger.record([second, first, an_attempt("a3", request_id="r2")], [a_request("q1")])
    for found in (await lookup.by_request("r1", "acme"), await lookup.by_attempt("a2")):
        (account,) = found
        assert account.record == a_request("q1")
        assert account.attempts == (first, second)


async def test_an_id_that_was_used_again_gives_each_request_its_attempts(both: Any) -> None:
    """The latest first; an attempt is asked for with the request that it was a part of."""
    ledger, lookup = both
    again = a_request("q2", started=NOW - 30)
    await ledger.record(
        [an_attempt("a1", request_id="r1"), an_attempt("a2", request_id="r1", started=NOW - 29)],
        [a_request("q1"), again],
    )
    found = await lookup.by_request("r1", "")
    told = [(a.record.record_id, [x.attempt_id for x in a.attempts]) for a in found if a.record]
    assert told == [("q2", ["a2"]), ("q1", ["a1"])]
    assert [a.record for a in await lookup.by_attempt("a2")] == [again]


async def test_attempts_whose_router_died_have_an_account_without_a_record(both: Any) -> None:
    """Attempts are shown although nobody saw their end."""
    ledger, lookup = both
    lost = an_attempt("a1", request_id="r1", outcome=Outcome.UNKNOWN)
    await ledger.record([lost])
    (account,) = await lookup.by_request("r1", "")
    assert (account.record, account.attempts) == (None, (lost,))


async def test_tenants_do_not_see_each_others_requests(both: Any) -> None:
    """Two tenants may use the same id at the same time."""
    ledger, lookup = both
    mine, theirs = an_attempt("a1", request_id="r1"), an_attempt("a2", request_id="r1", tenant="other")
    await ledger.record([mine, theirs], [a_request("q1"), a_request("q2", tenant="other")])
    (account,) = await lookup.by_request("r1", "other")
    assert account.attempts == (theirs,)
    assert len(await lookup.by_request("r1", "")) == 2


async def test_an_unknown_id_is_nothing(both: Any) -> None:
    """Neither a request's nor an attempt's."""
    _, lookup = both
    assert await lookup.by_request("r9", "") == []
    assert await lookup.by_attempt("a9") == []
