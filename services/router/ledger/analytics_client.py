"""Sends the spool to analytics over one long-lived stream, and lets go of what is acknowledged."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import cast

import grpc
from pointsman.analytics.v1 import analytics_pb2, analytics_pb2_grpc

from libs.clock import Clock
from libs.resilience.backoff import Backoff
from libs.rpc import channel as rpc
from libs.rpc.convert import (
    error_class_to_proto,
    fill_duration,
    fill_timestamp,
    fill_usage,
    finish_reason_to_proto,
    route_part_to_proto,
)
from libs.rpc.stream_keeper import StreamEnded, StreamKeeper
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.router.ledger.file_spool import FileSpool
from services.router.ledger.usage_record import Outcome, UsageRecord

#: Seconds between readings of the spool: a dashboard is as stale, and as many records share a message and a commit.
INTERVAL = 1.0
#: The longest that an acknowledgement may take before the stream is given up, seconds.
ACK_TIMEOUT = 30.0
#: The longest that a drain waits for the last records to be acknowledged, seconds.
FLUSH_TIMEOUT = 3.0

_OUTCOMES = {
    o: cast("analytics_pb2.Outcome", analytics_pb2.Outcome.Value(f"OUTCOME_{o.name}")) for o in Outcome
}

log = get_logger(__name__)

_Call = grpc.aio.StreamStreamCall[analytics_pb2.RecordUsageRequest, analytics_pb2.RecordUsageResponse]


class AnalyticsClient:
    """The sender of one router's usage records. `run` never ends by itself; after `finish` it ends once everything is
    sent."""

    def __init__(
        self,
        spool: FileSpool,
        channel: grpc.aio.Channel,
        token: str,
        reporter_id: str,
        metrics: Metrics,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._spool = spool
        self._reporter_id = reporter_id
        self._acknowledged = metrics.counter(
            "usage_records_acknowledged", "Usage records that the ledger holds"
        )
        self._rejected = metrics.counter(
            "usage_records_rejected", "Usage records that the ledger refused for good"
        )
        stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._keeper = StreamKeeper[_Call](
            "analytics_stream",
            lambda: stub.RecordUsage(metadata=rpc.metadata(token), wait_for_ready=True),
            Backoff(base=0.1, cap=2.0),
            clock,
            rng,
            metrics.gauge("analytics_connected", "1 while the stream to analytics is up"),
        )
        self._refused = Throttle(clock)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Sends what comes to the spool, until `finish` and all of it is sent."""
        await self._keeper.run(self._session)

    def finish(self) -> None:
        """Lets `run` send what is left and end."""
        self._stopping.set()

    async def _session(self, call: _Call) -> None:
        self._spool.rewind()
        sequence = 0
        while True:
            records, position = self._spool.read()
            if not records:
                # What came before has been acknowledged; behind it nothing is to be sent.
                self._spool.acknowledge(position)
                if self._stopping.is_set():
                    return
                await self._pause()
                continue
            sequence += 1
            batch = analytics_pb2.RecordUsageRequest(reporter_id=self._reporter_id, sequence=sequence)
            for record in records:
                if isinstance(record, UsageRecord):
                    add_event(record, batch)
                    if record.request:
                        batch.requests.append(record.request)
                else:
                    batch.requests.append(record)
            async with asyncio.timeout(ACK_TIMEOUT):
                await call.write(batch)
                answer = await call.read()
            if not isinstance(answer, analytics_pb2.RecordUsageResponse):
                raise StreamEnded
            self._keeper.answered()
            self._spool.acknowledge(position)
            self._count(len(records), answer)
            if not self._spool.more_waits:
                # Nothing waits yet: what ends in the meantime shares the next message.
                await self._pause()

    def _count(self, sent: int, answer: analytics_pb2.RecordUsageResponse) -> None:
        self._acknowledged.inc(sent - len(answer.rejected))
        for rejected in answer.rejected:
            self._rejected.inc()
            if times := self._refused.due():
                key, reason = rejected.attempt_id, rejected.reason
                log.error("usage_record_rejected", key=key, reason=reason, records=times)

    async def _pause(self) -> None:
        """Returns when the spool is to be read again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL):
                await self._stopping.wait()


def add_event(record: UsageRecord, batch: analytics_pb2.RecordUsageRequest) -> None:
    """Appends the ledger's event, written in place: a message given to another is copied."""
    event = batch.events.add(
        attempt_id=record.attempt_id,
        request_id=record.request_id,
        attempt_number=record.attempt_number,
        tenant=record.tenant,
        content_type=record.content_type,
        provider=record.provider,
        model=record.model,
        outcome=_OUTCOMES[record.outcome],
        finish_reason=finish_reason_to_proto(record.finish_reason),
        trace_id=record.trace_id,
    )
    # Most records have none of these.
    if record.campaign:
        event.campaign = record.campaign
    if record.error_class is not None:
        event.error_class = error_class_to_proto(record.error_class)
    if record.price_version:
        event.price_version = record.price_version
    if record.cache_saving_micro_usd:
        event.cache_saving.micro_usd = record.cache_saving_micro_usd
    if record.http_status:
        event.http_status = record.http_status
    if record.streamed:
        event.streamed = True
    if record.hedge:
        event.hedge = True
    if record.endpoint:
        event.route_key, event.route_endpoint = record.key, record.endpoint
    if record.switched is not None:
        event.switched = route_part_to_proto(record.switched)
    fill_timestamp(event.started, record.started)
    fill_duration(event.latency, record.latency)
    if record.time_to_first_token is not None:
        fill_duration(event.time_to_first_token, record.time_to_first_token)
    event.cost.micro_usd = record.cost_micro_usd
    if record.usage is not None:
        fill_usage(event.usage, record.usage)
    if record.labels:
        event.labels.update(record.labels)
