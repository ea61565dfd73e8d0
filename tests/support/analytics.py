"""The analytics service inside the test's process, on a real PostgreSQL, and a sender like the router's spool."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc
from pointsman.types.v1 import types_pb2

from libs.clock import SystemClock
from libs.intake import BytesInFlight, UnknownCallers
from libs.lifecycle import Runtime
from libs.rpc.channel import connect
from libs.rpc.identity import ServiceToken
from libs.rpc.server import GrpcServer
from libs.telemetry import Metrics
from services.analytics.bootstrap import assemble
from services.analytics.settings import AnalyticsSettings
from tests.support.address import fresh_address
from tests.support.server import grpc_server


@dataclass(slots=True)
class Analytics:
    """A running service. `metrics` are its own."""

    stub: analytics_pb2_grpc.AnalyticsAsyncStub
    metrics: Metrics
    server: GrpcServer

    def events(self, result: str) -> float:
        """Returns the number of usage records that ended as `result`."""
        name = "pointsman_analytics_events_total"
        return self.metrics.registry.get_sample_value(name, {"result": result}) or 0.0


@asynccontextmanager
async def analytics(dsn: str, **more: object) -> AsyncIterator[Analytics]:
    """Everything that `python -m services.analytics` puts together, without the process. `more`: settings."""
    clock, metrics = SystemClock(), Metrics()
    settings = AnalyticsSettings.model_validate(
        {"listen": fresh_address(), "postgres_dsn": dsn, "write_timeout": 1.0, **more}
    )
    runtime = Runtime(
        "analytics-test", clock, metrics, ServiceToken(""), BytesInFlight(), UnknownCallers(clock)
    )
    async with assemble(settings, runtime) as registrations:
        server = grpc_server(
            registrations,
            runtime.authenticator,
            metrics=metrics,
            clock=clock,
            bytes_in_flight=runtime.bytes_in_flight,
            unknown_callers=runtime.unknown_callers,
        )
        await server.start(settings.listen)
        server.begin_serving()
        channel = connect(f"127.0.0.1:{server.port}")
        try:
            yield Analytics(analytics_pb2_grpc.AnalyticsStub(channel), metrics, server)
        finally:
            await channel.close()
            await server.drain(0.5)


def an_event(attempt_id: str, now: float, cost_micro_usd: int = 1) -> pb.UsageEvent:
    """A valid event that began at `now` (epoch seconds)."""
    return pb.UsageEvent(
        attempt_id=attempt_id,
        request_id=f"r-{attempt_id}",
        attempt_number=1,
        tenant="acme",
        content_type="seo",
        provider="openai",
        model="gpt-4o",
        started=Timestamp(seconds=int(now)),
        latency=Duration(seconds=1),
        outcome=pb.OUTCOME_SUCCESS,
        usage=types_pb2.Usage(input_tokens=10, output_tokens=20, accuracy=types_pb2.USAGE_ACCURACY_EXACT),
        cost=types_pb2.Money(micro_usd=cost_micro_usd),
        labels={"sku": attempt_id},
    )


async def send(
    stub: analytics_pb2_grpc.AnalyticsAsyncStub, *batches: Sequence[pb.UsageEvent]
) -> list[pb.RecordUsageResponse]:
    """Sends the batches on one stream and returns the acknowledgements."""

    async def requests() -> AsyncIterator[pb.RecordUsageRequest]:
        for sequence, events in enumerate(batches, 1):
            yield pb.RecordUsageRequest(reporter_id="test", sequence=sequence, events=events)

    return [response async for response in stub.RecordUsage(requests())]


class Sender:
    """Delivers at least once, like the router's spool: what is not acknowledged is sent again on a new stream."""

    def __init__(self, stub: analytics_pb2_grpc.AnalyticsAsyncStub) -> None:
        self._stub = stub
        self.acknowledged: set[str] = set()
        self.streams = 0

    async def deliver(self, batches: Sequence[Sequence[pb.UsageEvent]]) -> None:
        """Returns when every batch is acknowledged. Raises AioRpcError for anything but UNAVAILABLE."""
        left = deque(enumerate(batches, 1))
        while left:
            self.streams += 1
            call = self._stub.RecordUsage(wait_for_ready=True)
            try:
                while left:
                    sequence, events = left[0]
                    await call.write(
                        pb.RecordUsageRequest(reporter_id="test", sequence=sequence, events=events)
                    )
                    response = await call.read()
                    assert isinstance(response, pb.RecordUsageResponse)
                    assert response.sequence == sequence
                    self.acknowledged.update(event.attempt_id for event in events)
                    left.popleft()
                await call.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # grpc.aio refuses with InvalidStateError to write on a call that has ended.
                if await call.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.02)
