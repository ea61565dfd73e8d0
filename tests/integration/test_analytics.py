"""Analytics through real gRPC on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from dev import engines
from libs.errors import DeadlineExceeded, InvalidArgument, Unavailable
from libs.lifecycle import StartError
from libs.rpc.status import from_rpc_error
from services.analytics.database.postgres_database import Database, PoolOptions
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.reports.postgres_reports import PostgresReports
from services.analytics.reports.query import Query
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.analytics import Analytics, Sender, an_event, analytics, send
from tests.support.engines import PostgresServer, postgres
from tests.support.ledger import NOW, an_attempt
from tests.support.postgres import fresh_database


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


@pytest_asyncio.fixture(loop_scope="session")
async def service(dsn: str) -> AsyncIterator[Analytics]:
    async with analytics(dsn) as running:
        yield running


def an_hour() -> pb.Query:
    now = int(time.time())
    return pb.Query(from_time=Timestamp(seconds=now - 3600), to_time=Timestamp(seconds=now + 3600))


async def total(service: Analytics) -> pb.Cost:
    return (await service.stub.GetCosts(pb.GetCostsRequest(query=an_hour()))).total


async def test_batches_are_acknowledged_in_order_and_kept_once(service: Analytics) -> None:
    """Duplicates within a batch, across batches and across streams leave one row per attempt."""
    now = time.time()
    events = [an_event(f"a{i}", now, cost_micro_usd=i) for i in range(100)]
    first = await send(service.stub, events[:60], [*events[40:], *events[40:]], events[::-1])
    assert [(ack.sequence, len(ack.rejected)) for ack in first] == [(1, 0), (2, 0), (3, 0)]
    await asyncio.gather(*(send(service.stub, events) for _ in range(5)))
    answer = await total(service)
    assert (answer.attempts, answer.requests, answer.cost.micro_usd) == (100, 100, sum(range(100)))
    assert not answer.HasField("group")
    assert service.events("inserted") == 100
    assert service.events("duplicate") == 60 + 120 + 100 + 500 - 100


async def test_a_better_record_replaces_a_worse_one_in_any_order(service: Analytics) -> None:
    """Unknown, then estimated, then exact; and backwards."""
    now = time.time()
    records = []
    for outcome, accuracy, cost in (
        (pb.OUTCOME_UNKNOWN, types_pb2.USAGE_ACCURACY_UNCERTAIN, 900),
        (pb.OUTCOME_CANCELLED, types_pb2.USAGE_ACCURACY_ESTIMATED, 50),
        (pb.OUTCOME_SUCCESS, types_pb2.USAGE_ACCURACY_EXACT, 7),
    ):
        event = an_event("", now, cost)
        event.outcome, event.usage.accuracy = outcome, accuracy
        records.append(event)
    for name, order in (("up", records), ("down", records[::-1])):
        for record in order:
            record.attempt_id = name
            await send(service.stub, [record])
    answer = await total(service)
    assert (answer.attempts, answer.cost.micro_usd, answer.uncertain_cost.micro_usd) == (2, 14, 0)
    assert service.events("replaced") == 2


async def test_the_unusable_is_named_and_the_rest_of_the_batch_is_kept(service: Analytics) -> None:
    """NUL bytes, negative tokens, no outcome, the far future: rejected one by one, each with its reason."""
    now = time.time()
    nul, negative, endless, future = (an_event(f"bad{i}", now) for i in range(4))
    nul.tenant = "a\0b"
    negative.usage.input_tokens = -1
    endless.ClearField("outcome")
    future.started.seconds += 7 * 86_400
    huge = an_event("x" * 500, now)
    good = [an_event("good1", now), an_event("good2", now)]
    (ack,) = await send(service.stub, [good[0], nul, negative, endless, future, huge, good[1]])
    reasons = {rejected.attempt_id: rejected.reason for rejected in ack.rejected}
    assert set(reasons) == {"bad0", "bad1", "bad2", "bad3", "x" * 128}
    assert "NUL" in reasons["bad0"]
    assert "input_tokens" in reasons["bad1"]
    assert "outcome" in reasons["bad2"]
    assert "future" in reasons["bad3"]
    assert (await total(service)).attempts == 2
    assert service.events("rejected") == 5


async def test_what_only_the_database_refuses_does_not_hold_up_the_rest(dsn: str) -> None:
    """A row that PostgreSQL cannot take is found by halving and refused alone, wherever it stands."""
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        ledger = PostgresLedger(database, PostgresRollups(database).follow)
        # A lone surrogate cannot come through a proto; it stands for whatever validation does not know of.
        rows = [an_attempt(f"a{i:02}", tenant="\ud800" if i in (3, 9) else "acme") for i in range(10)]
        recorded = await ledger.record([*rows, rows[3]])
        assert set(recorded.refused) == {"a03", "a09"}
        assert (recorded.inserted, recorded.duplicates) == (8, 0)
        assert (await PostgresReports(database).costs(Query(NOW - 3600, NOW))).total.attempts == 8


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RecordUsageRequest(sequence=1), "events"),
        (pb.RecordUsageRequest(sequence=1, events=[pb.UsageEvent()] * 1001), "events"),
        (pb.RecordUsageRequest(events=[pb.UsageEvent()]), "sequence"),
        (pb.RecordUsageRequest(sequence=1, reporter_id="x" * 129, events=[pb.UsageEvent()]), "reporter_id"),
    ],
)
async def test_a_batch_out_of_bounds_ends_the_stream(
    service: Analytics, request_: pb.RecordUsageRequest, field: str
) -> None:
    """INVALID_ARGUMENT naming the field."""
    call = service.stub.RecordUsage()
    await call.write(request_)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    error = from_rpc_error(failure.value)
    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.violations] == [field]


async def test_the_three_questions_answer_over_the_wire(service: Analytics) -> None:
    """Groups, buckets, quantiles, rates and error classes as the proto says."""
    now = time.time()
    lost = an_event("a1", now)
    lost.request_id, lost.outcome = "r", pb.OUTCOME_FAILURE
    lost.error_class = types_pb2.ERROR_CLASS_OVERLOADED
    won = an_event("a2", now)
    won.request_id, won.attempt_number, won.provider, won.model = "r", 2, "anthropic", "claude"
    await send(service.stub, [lost, won])
    query = an_hour()
    query.group_by.extend([pb.GROUP_BY_MODEL, pb.GROUP_BY_TENANT])
    query.interval = pb.INTERVAL_DAY
    query.time_zone = "Europe/Berlin"
    costs = await service.stub.GetCosts(pb.GetCostsRequest(query=query))
    assert [list(row.group.values) for row in costs.rows] == [
        ["anthropic/claude", "acme"],
        ["openai/gpt-4o", "acme"],
    ]
    assert all(row.group.HasField("bucket") for row in costs.rows)
    assert costs.total.usage.output_tokens == 40
    performance = await service.stub.GetPerformance(pb.GetPerformanceRequest(query=query))
    assert performance.rows[0].failovers == 1
    assert performance.rows[0].latency.p50.seconds == 1
    assert performance.rows[0].output_tokens_per_second == 20
    assert not performance.rows[1].HasField("output_tokens_per_second")
    assert not performance.rows[1].HasField("latency")
    reliability = await service.stub.GetReliability(pb.GetReliabilityRequest(query=an_hour()))
    (row,) = reliability.rows
    assert (row.answered, row.unanswered, row.availability, row.success_rate) == (1, 0, 1.0, 0.5)
    assert [(error.error_class, error.count) for error in row.errors] == [
        (types_pb2.ERROR_CLASS_OVERLOADED, 1)
    ]


async def test_answers_tell_their_basis_their_change_and_the_next_page(service: Analytics) -> None:
    """Sources, the last commit and its lag; pages by token; the change against the period before; waste; labels."""
    now = time.time()
    rows = [an_event(f"a{i}", now - 10, cost_micro_usd=10 + i) for i in range(5)]
    for i, event in enumerate(rows):
        event.tenant, event.cache_saving.micro_usd = f"t{i}", i
    rows[0].outcome = pb.OUTCOME_FAILURE
    await send(service.stub, [*rows, an_event("before", now - 7200)])
    query = pb.Query(group_by=[pb.GROUP_BY_TENANT], page_size=2)
    query.from_time.seconds = int(now) - 3600
    seen: list[str] = []
    while True:
        answer = await service.stub.GetCosts(pb.GetCostsRequest(query=query, compare=True))
        seen += [row.group.values[0] for row in answer.rows]
        query.page_token = answer.next_page_token
        if not answer.next_page_token:
            break
    assert seen == [f"t{i}" for i in range(5)]
    total = answer.total
    assert (total.cost.micro_usd, total.waste.failed.micro_usd, total.cache_saving.micro_usd) == (60, 10, 10)
    change = total.change
    assert change.volume + change.mix + change.price == 60 - change.before.micro_usd
    assert pb.SOURCE_FIVE_MINUTES in answer.basis.computed_from
    assert answer.basis.lag.seconds >= 8
    assert abs(answer.basis.last_commit.seconds - now) < 60
    labelled = pb.Query(labels={"sku": "a3"}, group_by_label="sku")
    (row,) = (await service.stub.GetCosts(pb.GetCostsRequest(query=labelled))).rows
    assert (list(row.group.values), row.cost.micro_usd) == (["a3"], 13)
    query.page_token = "forged"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.stub.GetPerformance(pb.GetPerformanceRequest(query=query))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_rebuild_is_begun_over_the_wire(service: Analytics) -> None:
    """The answer tells which hours wait; reports are the same meanwhile. A reversed range is refused."""
    now = time.time()
    await send(service.stub, [an_event(f"a{i}", now - 10) for i in range(5)])
    waiting = await service.stub.RebuildRollups(pb.RebuildRollupsRequest())
    assert waiting.next.seconds <= now - 10 < waiting.until.seconds
    answer = await service.stub.GetCosts(pb.GetCostsRequest(query=an_hour()))
    assert (answer.total.attempts, pb.SOURCE_ATTEMPTS in answer.basis.computed_from) == (5, True)
    reversed_ = pb.RebuildRollupsRequest(from_time=Timestamp(seconds=2), to_time=Timestamp(seconds=1))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.stub.RebuildRollups(reversed_)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_wrong_questions_are_invalid_arguments(service: Analytics) -> None:
    """Named fields, through every method."""
    query = pb.Query(group_by=[pb.GROUP_BY_TENANT] * 2, time_zone="Mars/Olympus")
    for call in (
        service.stub.GetCosts(pb.GetCostsRequest(query=query)),
        service.stub.GetPerformance(pb.GetPerformanceRequest(query=query)),
        service.stub.GetReliability(pb.GetReliabilityRequest(query=query)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call
        error = from_rpc_error(failure.value)
        assert isinstance(error, InvalidArgument)
        assert [violation.field for violation in error.violations] == ["query.group_by", "query.time_zone"]


async def test_reading_can_never_write(dsn: str) -> None:
    """The pool that answers questions is read-only on the server's side."""
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        with pytest.raises(Unavailable):
            async with database.reading() as connection:
                await connection.execute("DELETE FROM analytics.attempts")


async def test_a_question_that_takes_too_long_is_ended(dsn: str) -> None:
    """DEADLINE_EXCEEDED with what to do, and the connection is good again."""
    async with Database(dsn, read_migrations(), PoolOptions(readers=1, read_timeout=0.2)) as database:
        await database.prepare()
        with pytest.raises(DeadlineExceeded, match="shorter range"):
            async with database.reading() as connection:
                await connection.execute("SELECT pg_sleep(30)")
        assert (await PostgresReports(database).costs(Query(0, NOW))).rows == ()


async def test_a_changed_history_is_a_sentence_at_start(dsn: str) -> None:
    """The service does not start on a database whose applied migrations differ from its files."""
    async with analytics(dsn):
        pass
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("UPDATE analytics.migrations SET sha256 = 'x'")
    finally:
        await connection.close()
    with pytest.raises(StartError, match="was changed after this database had applied it"):
        async with analytics(dsn):
            pass


async def test_it_starts_without_postgres_and_recovers_by_itself() -> None:
    """UNAVAILABLE with RetryInfo until PostgreSQL is there, then it works; no restart."""
    async with postgres() as server:
        await server.stop()
        async with analytics(server.dsn) as service:
            for call in (
                service.stub.GetCosts(pb.GetCostsRequest()),
                send(service.stub, [an_event("a", time.time())]),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await call
                error = from_rpc_error(failure.value)
                assert isinstance(error, Unavailable)
                assert error.reason == "LEDGER_UNAVAILABLE"
                assert error.retry_after == 1.0
            await server.start()
            sender = Sender(service.stub)
            await sender.deliver([[an_event("a", time.time())]])
            assert (await total(service)).attempts == 1


async def test_postgres_killed_under_load_loses_and_doubles_nothing() -> None:
    """Four senders, PostgreSQL killed with SIGKILL three times: every acknowledged event is there exactly once, and
    senders get everything through by sending again what was not acknowledged."""
    batches, size, senders = 30, 20, 4
    async with postgres() as server, analytics(server.dsn) as service:
        now = time.time()
        work = [
            [[an_event(f"s{s}b{b}e{e}", now, e) for e in range(size)] for b in range(batches)]
            for s in range(senders)
        ]
        spools = [Sender(service.stub) for _ in range(senders)]
        running = [asyncio.create_task(spool.deliver(mine)) for spool, mine in zip(spools, work, strict=True)]
        for kill in range(1, 4):
            await reached(spools, kill * senders * batches * size // 5, running)
            await server.kill()
            acknowledged = set().union(*(spool.acknowledged for spool in spools))
            await server.start()
            assert acknowledged <= await attempt_ids(server.dsn)
        await asyncio.gather(*running)
        everything = {event.attempt_id for mine in work for batch in mine for event in batch}
        assert await attempt_ids(server.dsn) == everything
        assert sum(spool.streams for spool in spools) > senders
        answer = await total(service)
        assert answer.attempts == len(everything) == senders * batches * size
        assert answer.cost.micro_usd == senders * batches * sum(range(size))


async def test_postgres_stopped_in_its_tracks_is_unavailable_not_a_hang() -> None:
    """A server that takes connections and does not answer (SIGSTOP) fails commits by timeout; going on, it works."""
    async with engines.postgres() as server, analytics(server.dsn) as service:  # its processes are stopped
        await send(service.stub, [an_event("a", time.time())])
        pids = await processes(server)
        freeze(pids, stop=True)
        try:
            call = service.stub.RecordUsage()
            await call.write(pb.RecordUsageRequest(sequence=1, events=[an_event("b", time.time())]))
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call.read()
            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            freeze(pids, stop=False)
        await Sender(service.stub).deliver([[an_event("b", time.time())]])
        assert (await total(service)).attempts == 2


async def test_a_drain_ends_streams_and_keeps_what_was_acknowledged(dsn: str) -> None:
    """An idle stream does not hold up the end of the service."""
    async with analytics(dsn) as service:
        call = service.stub.RecordUsage()
        await call.write(pb.RecordUsageRequest(sequence=1, events=[an_event("a", time.time())]))
        ack = await call.read()
        assert isinstance(ack, pb.RecordUsageResponse)
        draining = asyncio.create_task(service.server.drain(30))
        assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(draining, 10)
    assert await attempt_ids(dsn) == {"a"}


async def reached(spools: list[Sender], events: int, running: list[asyncio.Task[None]]) -> None:
    while sum(len(spool.acknowledged) for spool in spools) < events:
        for task in running:
            if task.done():
                task.result()
        await asyncio.sleep(0.005)


async def attempt_ids(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT attempt_id FROM analytics.attempts")
    finally:
        await connection.close()
    ids = [row["attempt_id"] for row in rows]
    assert len(ids) == len(set(ids))
    return set(ids)


async def processes(server: engines.Postgres) -> list[int]:
    """The postmaster and all that it has started, this question's own backend left out."""
    connection = await asyncpg.connect(server.dsn)
    try:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    finally:
        await connection.close()
    return [server.pid, *(row["pid"] for row in rows)]


def freeze(pids: list[int], *, stop: bool) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP if stop else signal.SIGCONT)
