"""All that a router may write down, at its bounds: its spool can send it, and the ledger keeps it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import asyncpg
import pytest_asyncio

from libs.bounds import MAX_ID, MAX_TOKENS
from libs.clock import SystemClock
from libs.limits import MAX_NAME
from libs.request_record import ConsideredModel, RequestRecord, encode_request
from libs.rpc.channel import connect
from libs.selection import Scores, Strategy
from libs.telemetry import Metrics
from libs.types import RoutePart, Usage
from services.router.generate.request_log import MOST_CANDIDATES, MOST_REASON
from services.router.ledger.analytics_client import AnalyticsClient
from services.router.ledger.file_spool import FileSpool
from services.router.ledger.usage_record import Outcome, UsageRecord
from tests.support.analytics import Analytics, analytics
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database

#: Four bytes in UTF-8, and no two texts alike, so that nothing in an index is compressed.
LETTERS = [chr(code) for code in range(0x20000, 0x20400)]
LABELS = 16


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


def text(rng: Random, length: int = MAX_ID) -> str:
    return "".join(rng.choices(LETTERS, k=length))


def an_attempt(attempt_id: str, rng: Random) -> UsageRecord:
    return UsageRecord(
        attempt_id=attempt_id,
        request_id=text(rng),
        attempt_number=1,
        tenant=text(rng),
        campaign=text(rng),
        content_type=text(rng),
        provider=text(rng),
        model=text(rng),
        started=time.time(),
        latency=1.0,
        time_to_first_token=0.5,
        outcome=Outcome.SUCCESS,
        error_class=None,
        http_status=200,
        usage=Usage(MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS),
        cost_micro_usd=10**12,
        finish_reason=None,
        streamed=True,
        hedge=False,
        labels={text(rng): text(rng) for _ in range(LABELS)},
        trace_id="",
        key=text(rng, MAX_NAME),
        endpoint=text(rng, MAX_NAME),
        switched=RoutePart.ENDPOINT,
    )


def a_request(record_id: str, rng: Random) -> RequestRecord:
    scores = Scores(0.5, 0.5, 0.5, 0.5, total=0.5)
    return RequestRecord(
        record_id=record_id,
        request_id=text(rng),
        tenant=text(rng),
        campaign=text(rng),
        content_type=text(rng),
        labels={text(rng): text(rng) for _ in range(LABELS)},
        started=time.time() - 1,
        latency=1.0,
        time_to_first_token=0.5,
        outcome="success",
        error_reason="",
        attempts=1,
        failed_over=False,
        degradation=None,
        strategy=Strategy.BALANCED,
        policy="default",
        policy_version="v1",
        estimated_input_tokens=3,
        max_output_tokens=4,
        capabilities=["json"],
        candidates=[
            ConsideredModel(f"{'p' * 64}/{'m' * MAX_ID}", text(rng, MOST_REASON), i, scores, 10**12)
            for i in range(MOST_CANDIDATES)
        ],
        provider="p" * 64,
        model="m" * MAX_ID,
        probability=0.5,
        queued=0.0,
        paused=0.0,
        cost_micro_usd=7,
        streamed=False,
        cached=False,
        trace_id="",
    )


async def delivered(service: Analytics, spool: FileSpool, metrics: Metrics) -> int:
    """Sends all that is in the spool; returns how many records the ledger refused."""
    channel = connect(f"127.0.0.1:{service.server.port}")
    sender = AnalyticsClient(spool, channel, "", "test", metrics, SystemClock(), Random(1))
    sender.finish()
    try:
        async with asyncio.timeout(30):
            await sender.run()
    finally:
        await channel.close()
    return int(metrics.registry.get_sample_value("pointsman_usage_records_rejected_total") or 0)


async def test_a_backlog_of_the_largest_records_reaches_the_ledger(dsn: str, tmp_path: Path) -> None:
    """Requests with all candidates that are kept, and attempts whose every text is as long as it may be: one batch
    of them all was more than a message may be, and was sent again and again."""
    rng, metrics = Random(1), Metrics()
    spool = FileSpool(tmp_path, metrics, SystemClock())
    for i in range(130):
        spool.add_request(a_request(f"q{i}", rng))
        attempt = an_attempt(f"a{i}", rng)
        attempt.request = encode_request(a_request(f"of-a{i}", rng))
        spool.end(attempt)
    async with analytics(dsn) as service:
        refused = await delivered(service, spool, metrics)
    spool.close()
    connection = await asyncpg.connect(dsn)
    try:
        kept = [
            await connection.fetchval(f"SELECT count(*) FROM analytics.{name}")  # constants
            for name in ("requests", "attempts")
        ]
    finally:
        await connection.close()
    assert (refused, kept) == (0, [260, 130])
