"""The contract of every Ledger and of the reports from it: the same suite for the fake and for a real PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator
from dataclasses import astuple
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from libs.errors import FailedPrecondition
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.ledger import Ledger, Recorded
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.reports.postgres_reports import PostgresReports
from services.analytics.reports.query import Group, GroupBy, Interval, Query
from services.analytics.reports.report import CostRow, Quantiles
from services.analytics.reports.reports import Reports
from services.analytics.rollups.postgres_rollups import PostgresRollups
from services.analytics.rollups.tables import TABLES
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, MemoryLedger, an_attempt
from tests.support.postgres import fresh_database

EXACT, ESTIMATED, UNCERTAIN = UsageAccuracy
DAY = Query(NOW - 86_400, NOW)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(params=["memory", "postgres"], loop_scope="session")
async def ledger(request: pytest.FixtureRequest, database: Database) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    async with database.writing() as connection:
        await connection.execute(
            f"TRUNCATE analytics.attempts, {', '.join(f'analytics.{t.name}' for t in TABLES)}"
        )
    return PostgresLedger(database, PostgresRollups(database).follow)


@pytest.fixture
def reports(ledger: Ledger, database: Database) -> Reports:
    """Reports from what `ledger` keeps."""
    return ledger if isinstance(ledger, MemoryLedger) else PostgresReports(database)


async def cost_of(reports: Reports, **filters: str) -> CostRow:
    return (await reports.costs(Query(NOW - 86_400, NOW, **filters))).total  # type: ignore[arg-type]


def near(found: Quantiles | None, expected: Quantiles | None) -> bool:
    """Within 1 %, as quantiles from rollups are."""
    if found is None or expected is None:
        return found is expected
    pairs = zip(astuple(found), astuple(expected), strict=True)
    return all(math.isclose(a, b, rel_tol=0.0101, abs_tol=2e-6) for a, b in pairs)


def epoch(zone: str, *fields: int) -> float:
    return datetime(*fields, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[arg-type,misc]


async def test_an_attempt_is_kept_once_however_often_it_comes(ledger: Ledger, reports: Reports) -> None:
    """Duplicates across batches and within one change nothing and are counted as such."""
    batch = [an_attempt("a1", cost_micro_usd=5), an_attempt("a2", cost_micro_usd=7)]
    assert await ledger.record(batch) == Recorded(inserted=2)
    assert await ledger.record(batch) == Recorded(duplicates=2)
    assert await ledger.record([*batch, an_attempt("a3"), an_attempt("a3")]) == Recorded(1, 0, 3)
    total = await cost_of(reports)
    assert (total.attempts, total.cost_micro_usd) == (3, 12)


async def test_nothing_is_written_for_nothing(ledger: Ledger) -> None:
    """An empty batch is fine."""
    assert await ledger.record([]) == Recorded()


RECORDS = [
    an_attempt(outcome=Outcome.UNKNOWN, usage=Usage(accuracy=UNCERTAIN), cost_micro_usd=500),
    an_attempt(outcome=Outcome.UNKNOWN, usage=Usage(accuracy=EXACT), cost_micro_usd=400),
    an_attempt(outcome=Outcome.FAILURE, usage=Usage(accuracy=UNCERTAIN), cost_micro_usd=300),
    an_attempt(outcome=Outcome.CANCELLED, usage=Usage(accuracy=ESTIMATED), cost_micro_usd=200),
    an_attempt(outcome=Outcome.SUCCESS, usage=Usage(accuracy=EXACT), cost_micro_usd=100),
]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("together", [True, False])
async def test_the_better_record_wins_in_any_order(
    ledger: Ledger, reports: Reports, seed: int, together: bool
) -> None:
    """A known end beats an unknown one, then exact beats estimated beats uncertain, whichever comes first."""
    shuffled = random.Random(seed).sample(RECORDS * 2, k=len(RECORDS) * 2)
    for batch in [shuffled] if together else [[record] for record in shuffled]:
        await ledger.record(batch)
    for worse, better in itertools.pairwise(RECORDS):
        assert worse.rank < better.rank
    assert await cost_of(reports) == CostRow(Group(), 100, 0, 0, Usage(accuracy=EXACT), 1, 1)


async def test_an_equally_good_record_does_not_replace(ledger: Ledger, reports: Reports) -> None:
    """The first of two equally good records stays: a redelivery cannot rewrite history."""
    await ledger.record([an_attempt(cost_micro_usd=1)])
    assert await ledger.record([an_attempt(cost_micro_usd=2)]) == Recorded(duplicates=1)
    assert (await cost_of(reports)).cost_micro_usd == 1


async def test_writers_of_the_same_attempts_do_not_deadlock(ledger: Ledger) -> None:
    """Batches with the same attempts in opposite orders, at once: each attempt is kept once."""
    batch = [an_attempt(f"a{i}", cost_micro_usd=1) for i in range(200)]
    results = await asyncio.gather(*(ledger.record(batch[:: 1 if i % 2 else -1]) for i in range(8)))
    assert sum(result.inserted for result in results) == 200
    assert sum(result.duplicates for result in results) == 1400


async def test_costs_sum_exactly_and_by_accuracy(ledger: Ledger, reports: Reports) -> None:
    """Sums beyond 2^53 are exact; estimated and uncertain money are told apart; accuracy is that of the worst."""
    big = 10**12
    rows = [an_attempt(f"a{i}", cost_micro_usd=big - i, usage=Usage(10**9, 1, 2, 3, 4)) for i in range(10)]
    rows += [
        an_attempt("b1", cost_micro_usd=3, usage=Usage(1, accuracy=ESTIMATED)),
        an_attempt("b2", cost_micro_usd=4, usage=Usage(1, accuracy=UNCERTAIN)),
    ]
    await ledger.record(rows)
    report = await reports.costs(DAY)
    usage = Usage(10 * 10**9 + 2, 10, 20, 30, 40, UNCERTAIN)
    assert report.total == CostRow(Group(), 10 * big - 45 + 7, 3, 4, usage, 12, 12)
    assert report.rows == (report.total,)


async def test_no_attempts_give_no_rows_and_a_total_of_nothing(ledger: Ledger, reports: Reports) -> None:
    """Groups without attempts are left out, with and without group_by."""
    for query in (DAY, Query(NOW - 1, NOW, (GroupBy.TENANT,), Interval.HOUR)):
        assert (await reports.costs(query)).total == (await MemoryLedger().costs(query)).total
        assert (await reports.costs(query)).rows == ()
        assert (await reports.performance(query)).rows == ()
        assert (await reports.reliability(query)).rows == ()


async def test_a_request_in_several_groups_counts_once_in_the_total(ledger: Ledger, reports: Reports) -> None:
    """A failed-over request is a request of both providers and one request in all."""
    await ledger.record(
        [
            an_attempt("a1", request_id="r", provider="openai", outcome=Outcome.FAILURE),
            an_attempt("a2", request_id="r", provider="anthropic", model="claude", attempt_number=2),
        ]
    )
    report = await reports.costs(Query(NOW - 86_400, NOW, (GroupBy.PROVIDER,)))
    assert [(row.group.values, row.requests) for row in report.rows] == [
        (("anthropic",), 1),
        (("openai",), 1),
    ]
    assert report.total.requests == 1


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (GroupBy.TENANT, "acme"),
        (GroupBy.PROVIDER, "openai"),
        (GroupBy.MODEL, "openai/gpt-4o"),
        (GroupBy.CONTENT_TYPE, "product_description"),
        (GroupBy.CAMPAIGN, ""),
        (GroupBy.ERROR_CLASS, "timeout"),
    ],
)
async def test_every_dimension_groups(
    ledger: Ledger, reports: Reports, dimension: GroupBy, value: str
) -> None:
    """Each dimension names its groups by its own value; an attempt without one is in the group ""."""
    await ledger.record(
        [
            an_attempt(
                content_type="product_description", outcome=Outcome.FAILURE, error_class=ErrorClass.TIMEOUT
            )
        ]
    )
    query = Query(NOW - 86_400, NOW, (dimension,))
    assert [row.group for row in (await reports.costs(query)).rows] == [Group((value,))]
    assert [row.group for row in (await reports.performance(query)).rows] == [Group((value,))]
    assert [row.group for row in (await reports.reliability(query)).rows] == [Group((value,))]


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("tenant", "acme", "evil' OR '1'='1"),
        ("provider", "openai", "$1"),
        ("model", "gpt-4o", "gpt-4o-mini"),
        ("model", "openai/gpt-4o", "azure/gpt-4o"),
        ("content_type", "seo", "SEO"),
        ("campaign", "summer", "summer; DROP TABLE analytics.attempts"),
    ],
)
async def test_filters_take_exactly_what_they_name(
    ledger: Ledger, reports: Reports, name: str, value: str, other: str
) -> None:
    """A filter is a value, never SQL, and is compared exactly."""
    await ledger.record([an_attempt(content_type="seo", campaign="summer")])
    assert (await cost_of(reports, **{name: value})).attempts == 1
    assert (await cost_of(reports, **{name: other})).attempts == 0


async def test_the_range_begins_inclusive_and_ends_exclusive(ledger: Ledger, reports: Reports) -> None:
    """To the microsecond."""
    await ledger.record(
        [an_attempt(f"a{i}", started=NOW + offset) for i, offset in enumerate((-1e-6, 0, 1, 2 - 1e-6, 2))]
    )
    assert (await reports.costs(Query(NOW, NOW + 2))).total.attempts == 3


# Berlin: clocks went 02:00 → 03:00 on 2027-03-28 and 03:00 → 02:00 on 2027-10-31.
CASES: list[tuple[Interval, str, list[float], list[float]]] = [
    (
        Interval.DAY,
        "Europe/Berlin",
        [epoch("UTC", 2027, 3, 27, 22, 59), epoch("UTC", 2027, 3, 27, 23), epoch("UTC", 2027, 3, 28, 21, 59)],
        [epoch("Europe/Berlin", 2027, 3, 27), *[epoch("Europe/Berlin", 2027, 3, 28)] * 2],
    ),
    (
        Interval.DAY,
        "Europe/Berlin",
        [epoch("UTC", 2027, 10, 30, 22), epoch("UTC", 2027, 10, 31, 22, 59), epoch("UTC", 2027, 10, 31, 23)],
        [*[epoch("Europe/Berlin", 2027, 10, 31)] * 2, epoch("Europe/Berlin", 2027, 11, 1)],
    ),
    (
        Interval.HOUR,
        "Europe/Berlin",
        [epoch("UTC", 2027, 10, 31, h, 30) for h in (0, 1, 2)],
        [epoch("UTC", 2027, 10, 31, h) for h in (0, 1, 2)],
    ),
    (
        Interval.HOUR,
        "Asia/Kathmandu",
        [epoch("UTC", 2027, 1, 1, 0, 14), epoch("UTC", 2027, 1, 1, 0, 15)],
        [epoch("UTC", 2026, 12, 31, 23, 15), epoch("UTC", 2027, 1, 1, 0, 15)],
    ),
    (
        Interval.MONTH,
        "America/New_York",
        [epoch("UTC", 2027, 4, 1, 3, 59), epoch("UTC", 2027, 4, 1, 4)],
        [epoch("America/New_York", 2027, 3, 1), epoch("America/New_York", 2027, 4, 1)],
    ),
    (
        Interval.MINUTE,
        "UTC",
        [epoch("UTC", 2027, 1, 1, 0, 0, 59), epoch("UTC", 2027, 1, 1, 0, 1)],
        [epoch("UTC", 2027, 1, 1), epoch("UTC", 2027, 1, 1, 0, 1)],
    ),
]


@pytest.mark.parametrize(("interval", "zone", "instants", "buckets"), CASES)
async def test_buckets_are_cut_in_the_owners_time_zone(
    ledger: Ledger,
    reports: Reports,
    interval: Interval,
    zone: str,
    instants: list[float],
    buckets: list[float],
) -> None:
    """Days and months are the owner's; days of 23 and 25 hours are one bucket; a repeated hour is two."""
    await ledger.record([an_attempt(f"a{i}", started=instant) for i, instant in enumerate(instants)])
    query = Query(min(instants), max(instants) + 1, (), interval, zone)
    expected = sorted({bucket: buckets.count(bucket) for bucket in buckets}.items())
    assert [(row.group.bucket, row.attempts) for row in (await reports.costs(query)).rows] == expected
    assert [(row.group.bucket, row.attempts) for row in (await reports.performance(query)).rows] == expected
    assert [(row.group.bucket, row.attempts) for row in (await reports.reliability(query)).rows] == expected


async def test_performance_counts_only_what_it_says(ledger: Ledger, reports: Reports) -> None:
    """Quantiles are of successes (first token: of streamed ones), values that occurred; speed is over summed time."""
    rows = [
        an_attempt(
            f"a{i}",
            latency=i / 10,
            time_to_first_token=i / 100,
            streamed=i % 2 == 0,
            usage=Usage(output_tokens=10),
        )
        for i in range(1, 11)
    ]
    rows += [
        an_attempt("b1", request_id="r1", outcome=Outcome.FAILURE, latency=100.0),
        an_attempt("b2", request_id="r1", attempt_number=2, latency=None, usage=Usage(output_tokens=10**6)),
    ]
    await ledger.record(rows)
    (row,) = (await reports.performance(DAY)).rows
    assert (row.attempts, row.successes, row.requests, row.failovers) == (12, 11, 10, 1)
    assert near(row.latency, Quantiles(0.5, 0.9, 1.0, 1.0))
    assert near(row.time_to_first_token, Quantiles(0.06, 0.1, 0.1, 0.1))
    assert row.output_tokens_per_second == pytest.approx(100 / 5.5)


async def test_unary_failures_alone_have_no_distribution(ledger: Ledger, reports: Reports) -> None:
    """No data is None, not zero."""
    await ledger.record([an_attempt(outcome=Outcome.FAILURE)])
    (row,) = (await reports.performance(DAY)).rows
    assert (row.latency, row.time_to_first_token, row.output_tokens_per_second) == (None, None, None)


async def test_reliability_is_what_callers_saw(ledger: Ledger, reports: Reports) -> None:
    """A failed-over request was answered; a failed one was not; a cancelled or unknown one says nothing."""
    failed = {"outcome": Outcome.FAILURE, "error_class": ErrorClass.OVERLOADED}
    await ledger.record(
        [
            an_attempt("a1", request_id="over", **failed),
            an_attempt("a2", request_id="over", attempt_number=2, provider="anthropic"),
            an_attempt("a3", request_id="lost", **failed),
            an_attempt(
                "a4", request_id="lost", attempt_number=2, provider="anthropic", outcome=Outcome.FAILURE
            ),
            an_attempt("a5", request_id="gone", outcome=Outcome.CANCELLED, error_class=ErrorClass.CANCELLED),
            an_attempt("a6", request_id="dark", outcome=Outcome.UNKNOWN),
            an_attempt("a7", request_id="good"),
        ]
    )
    (row,) = (await reports.reliability(DAY)).rows
    assert (row.attempts, row.successes, row.failures, row.cancelled, row.unknown) == (7, 2, 3, 1, 1)
    assert row.errors == {ErrorClass.OVERLOADED: 2, None: 1}
    assert (row.requests, row.answered, row.unanswered, row.failovers) == (5, 2, 1, 1)
    assert (row.success_rate, row.failover_rate) == (2 / 5, 1 / 2)
    assert row.availability == pytest.approx(2 / 3)
    anthropic, openai = (await reports.reliability(Query(NOW - 86_400, NOW, (GroupBy.PROVIDER,)))).rows
    assert (anthropic.availability, openai.availability) == (1 / 2, 1 / 3)


async def test_a_request_across_a_boundary_is_one_request(ledger: Ledger, reports: Reports) -> None:
    """Its failed attempt before the hour and its answer after it make an answered request of the first hour."""
    hour = NOW - NOW % 3600
    await ledger.record(
        [
            an_attempt("a1", request_id="r", started=hour - 1, outcome=Outcome.FAILURE),
            an_attempt("a2", request_id="r", started=hour + 1, attempt_number=2),
        ]
    )
    first, second = (await reports.reliability(Query(hour - 3600, hour + 3600, (), Interval.HOUR))).rows
    assert (first.group.bucket, first.requests, first.answered, first.unanswered) == (hour - 3600, 1, 1, 0)
    assert (second.group.bucket, second.attempts, second.requests, second.answered) == (hour, 1, 0, 0)
    for query in (Query(hour, hour + 3600), Query(hour, hour + 3600, (GroupBy.ERROR_CLASS,))):
        (row,) = (await reports.costs(query)).rows
        assert (row.attempts, row.requests) == (1, 0)


async def test_too_many_rows_are_refused_not_cut(ledger: Ledger, reports: Reports) -> None:
    """10,000 rows are given whole; one more is an error."""
    rows = [an_attempt(f"a{i}", tenant=f"t{i}") for i in range(10_001)]
    await ledger.record(rows[:10_000])
    query = Query(NOW - 86_400, NOW, (GroupBy.TENANT,))
    assert len((await reports.costs(query)).rows) == 10_000
    await ledger.record(rows[10_000:])
    for ask in (reports.costs, reports.performance, reports.reliability):
        with pytest.raises(FailedPrecondition) as refusal:
            await ask(query)
        assert refusal.value.reason == "TOO_MANY_ROWS"


def random_attempt(rng: random.Random, number: int) -> Attempt:
    outcome = rng.choice(list(Outcome))
    request = rng.randrange(40)
    began = NOW - random.Random(request).random() * 86_400 * 3
    return an_attempt(
        f"a{number}",
        request_id=f"r{request}",
        attempt_number=rng.randint(1, 3),
        tenant=rng.choice(["acme", "zoo", "Ümläut ' \" \\ 🚂"]),
        provider=rng.choice(["openai", "anthropic"]),
        model=rng.choice(["small", "large/v2"]),
        campaign=rng.choice(["", "summer"]),
        content_type=rng.choice(["", "seo"]),
        started=round(began + rng.random() * 1800, 6),
        outcome=outcome,
        latency=rng.choice([None, round(rng.random() * 10, 6)]),
        time_to_first_token=rng.choice([None, round(rng.random(), 6)]),
        error_class=rng.choice(list(ErrorClass)) if outcome is Outcome.FAILURE else None,
        http_status=rng.choice([0, 200, 503]),
        usage=Usage(*rng.choices(range(1000), k=5), rng.choice(list(UsageAccuracy))),  # type: ignore[call-arg,arg-type]
        cost_micro_usd=rng.randrange(10**6),
        finish_reason=rng.choice([None, *FinishReason]),
        streamed=rng.random() < 0.5,
        hedge=rng.random() < 0.1,
        labels=rng.choice([{}, {"sku": "42", 'quo"te': "\\ ☃"}]),
    )


@pytest.mark.parametrize("seed", range(5))
async def test_answers_agree_with_the_oracle(ledger: Ledger, reports: Reports, seed: int) -> None:
    """On random histories every report equals that of the plain in-memory implementation."""
    rng = random.Random(seed)
    rows = [random_attempt(rng, i) for i in range(300)]
    oracle = MemoryLedger()
    for start in range(0, len(rows), 100):
        assert await ledger.record(rows[start : start + 100]) == await oracle.record(
            rows[start : start + 100]
        )
    for _ in range(8):
        query = Query(
            NOW - 86_400 * 2,
            NOW,
            tuple(rng.sample(list(GroupBy), k=rng.randint(0, 3))),
            rng.choice([None, Interval.FIVE_MINUTES, Interval.HOUR, Interval.DAY, Interval.MONTH]),
            rng.choice(["UTC", "Asia/Kathmandu", "America/New_York"]),
            tenant=rng.choice([None, "acme"]),
            model=rng.choice([None, None, "small", "openai/large/v2"]),
            labels=rng.choice([{}, {}, {}, {"sku": "42"}]),
            group_by_label=rng.choice([None, None, None, "sku"]),
        )
        costs, expected = await reports.costs(query), await oracle.costs(query)
        assert costs.total == expected.total
        assert costs.rows == expected.rows
        assert (await reports.reliability(query)).rows == (await oracle.reliability(query)).rows
        performance = {row.group: row for row in (await reports.performance(query)).rows}
        for row in (await oracle.performance(query)).rows:
            same = performance.pop(row.group)
            assert (same.attempts, same.successes, same.requests, same.failovers) == (
                row.attempts,
                row.successes,
                row.requests,
                row.failovers,
            )
            assert near(same.latency, row.latency)
            assert near(same.time_to_first_token, row.time_to_first_token)
            assert same.output_tokens_per_second == pytest.approx(row.output_tokens_per_second)
        assert not performance


async def test_every_field_is_kept(database: Database) -> None:
    """A row holds what the attempt held, unset as NULL."""
    async with database.writing() as connection:
        await connection.execute("TRUNCATE analytics.attempts")
    attempt = random_attempt(random.Random(1), 1)
    await PostgresLedger(database).record([attempt])
    async with database.reading() as connection:
        row = await connection.fetchrow("SELECT *, labels::text AS labels_text FROM analytics.attempts")
    assert row is not None
    assert row["started"] == datetime.fromtimestamp(attempt.started, UTC)
    assert row["latency_us"] == (None if attempt.latency is None else round(attempt.latency * 1e6))
    for column in ("attempt_id", "request_id", "tenant", "provider", "model", "campaign", "content_type"):
        assert row[column] == getattr(attempt, column)
    assert (row["outcome"], row["rank"], row["streamed"]) == (attempt.outcome, attempt.rank, attempt.streamed)


async def test_the_dearest_rows_come_dearest_first(ledger: Ledger, reports: Reports) -> None:
    """Of more groups than an answer may have; the total is of all."""
    await ledger.record([an_attempt(f"a{n}", tenant=f"t{n}", cost_micro_usd=n) for n in range(10_001)])
    query = Query(NOW - 3600, NOW, (GroupBy.TENANT,))
    report = await reports.costs(query, dearest=2)
    assert [row.group.values for row in report.rows] == [("t10000",), ("t9999",)]
    assert report.total.attempts == 10_001
