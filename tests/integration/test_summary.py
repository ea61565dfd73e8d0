"""The summary's stream over real gRPC, from PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import grpc
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from tests.support.analytics import Analytics, an_event, analytics, send
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database

Rows = dict[tuple[int, str], pb.SummaryRow]


#: A zone where it is about noon, so that no midnight comes between.
NOON = f"Etc/GMT{int(time.time() // 3600 % 24) - 12:+d}"


@pytest_asyncio.fixture(loop_scope="session")
async def service(postgres_server: PostgresServer) -> AsyncIterator[Analytics]:
    async with fresh_database(postgres_server) as dsn, analytics(dsn, time_zone=NOON) as running:
        yield running


class Dashboard:
    """Adds up what a stream tells."""

    def __init__(self, service: Analytics) -> None:
        self._call = service.stub.WatchSummary(pb.WatchSummaryRequest())
        self.rows: Rows = {}
        self.last = pb.WatchSummaryResponse()
        self.messages = 0

    async def read(self) -> pb.WatchSummaryResponse:
        message = await self._call.read()
        assert isinstance(message, pb.WatchSummaryResponse), "the stream has ended"
        assert message.snapshot == (self.messages == 0)
        self.messages += 1
        for row in message.rows:
            self.rows[row.key.by, row.key.name] = row
        for key in message.gone:
            del self.rows[key.by, key.name]
        self.last = message
        return message

    async def until(self, attempts: int) -> None:
        """Reads until so many attempts are told of."""
        while self.last.month.attempts < attempts:
            await asyncio.wait_for(self.read(), 20)

    async def close(self) -> None:
        self._call.cancel()


def random_events(rng: random.Random, size: int) -> list[pb.UsageEvent]:
    events = []
    for _ in range(size):
        event = an_event(f"a{rng.randrange(10**12)}", time.time() - rng.random() * 30, rng.randrange(1000))
        event.tenant = f"t{rng.randrange(30)}"
        event.provider = rng.choice(["openai", "anthropic"])
        if rng.random() < 0.3:
            event.outcome, event.error_class = pb.OUTCOME_FAILURE, types_pb2.ERROR_CLASS_OVERLOADED
        events.append(event)
    return events


async def test_what_is_told_adds_up_to_a_snapshot_and_to_the_reports(service: Analytics) -> None:
    """A dashboard that came first, one that reads slowly and one that comes last show the same; so do the reports."""
    rng = random.Random(3)
    first, slow = Dashboard(service), Dashboard(service)
    assert (await first.read()).snapshot
    await slow.read()
    sent = 0
    for n in range(12):
        await send(service.stub, random_events(rng, 40))
        sent += 40
        if n % 3 == 0:
            await first.until(sent)
    await first.until(sent)
    await slow.until(sent)
    last = Dashboard(service)
    await last.until(sent)
    assert last.messages == 1
    assert first.rows == slow.rows == last.rows
    assert first.messages < 12 + 4
    assert first.last.time_zone == NOON

    until = Timestamp(seconds=int(time.time()) + 3600)
    hour = pb.Query(from_time=first.last.hour_from, to_time=until, group_by=[pb.GROUP_BY_MODEL])
    for costs in (await service.stub.GetCosts(pb.GetCostsRequest(query=hour))).rows:
        (name,) = costs.group.values
        costs.ClearField("group")
        assert last.rows[pb.GROUP_BY_MODEL, name].today == costs
    for speed in (await service.stub.GetPerformance(pb.GetPerformanceRequest(query=hour))).rows:
        (name,) = speed.group.values
        assert last.rows[pb.GROUP_BY_MODEL, name].performance.successes == speed.successes
        assert last.rows[pb.GROUP_BY_MODEL, name].performance.HasField("latency")
    whole = pb.Query(from_time=first.last.hour_from, to_time=until)
    (success,) = (await service.stub.GetReliability(pb.GetReliabilityRequest(query=whole))).rows
    success.ClearField("group")
    assert last.rows[pb.GROUP_BY_UNSPECIFIED, ""].reliability == success
    for dashboard in (first, slow, last):
        await dashboard.close()


async def test_a_hundred_dashboards_read_the_database_no_more_often_than_one(service: Analytics) -> None:
    """However many there are, all are told of each commit by shared readings."""
    dashboards = [Dashboard(service) for _ in range(100)]
    await asyncio.gather(*(dashboard.read() for dashboard in dashboards))
    rng = random.Random(4)
    for n in range(3):
        await send(service.stub, random_events(rng, 10))
        await asyncio.gather(*(dashboard.until(10 * (n + 1)) for dashboard in dashboards))
    readings = service.metrics.registry.get_sample_value("pointsman_analytics_summary_readings_total")
    assert readings is not None
    # Each reading is told to everyone; a heartbeat may come between.
    assert readings <= max(dashboard.messages for dashboard in dashboards) + 1
    for dashboard in dashboards:
        await dashboard.close()


async def test_the_stream_ends_when_the_server_drains(service: Analytics) -> None:
    """UNAVAILABLE, at once: a dashboard goes to another replica."""
    dashboard = Dashboard(service)
    await dashboard.read()
    await service.server.drain(5.0)
    code = await asyncio.wait_for(dashboard._call.code(), 10)
    assert code is grpc.StatusCode.UNAVAILABLE
