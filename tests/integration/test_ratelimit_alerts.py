"""Alerts on quotas from a limiter on a real Valkey into a real PostgreSQL, and what analytics refuses of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.clock import SystemClock
from libs.limits import Amounts
from libs.rpc.channel import connect as channel_to
from libs.rpc.status import from_rpc_error
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.alerts.alerts import Alerts
from services.ratelimit.alerts.analytics_client import AnalyticsAlerts
from services.ratelimit.ports import Admission
from tests.support.analytics import Analytics, analytics
from tests.support.engines import PostgresServer, RedisServer
from tests.support.limiter import Replica
from tests.support.limits import limit
from tests.support.postgres import fresh_database

QUOTA = limit("requests", "month", 10)


@pytest_asyncio.fixture(loop_scope="session")
async def ledger(postgres_server: PostgresServer) -> AsyncIterator[Analytics]:
    async with fresh_database(postgres_server) as dsn, analytics(dsn) as running:
        yield running


async def test_an_exhausted_quota_is_an_alert_that_analytics_lists(
    ledger: Analytics,
    valkey_server: RedisServer,
) -> None:
    """With limit, use and window, once however many replicas notice it."""
    redis = connect(valkey_server.url)
    store = RedisLimitStore(Functions(redis), secrets.token_hex(4), SystemClock(), trust=True)
    try:
        async with channel_to(f"127.0.0.1:{ledger.server.port}") as channel:
            for number in range(2):
                replica = Replica(store, [QUOTA])
                await replica.heartbeat.beat()
                amount = (10 - number * 10,)
                await store.admit([Admission(f"r{number}", "h", "p", (QUOTA,), amount, amount, 60.0, 1, 0)])
                await store.settle(f"r{number}", "h", Amounts(amount[0]))
                replica.trends.follow([QUOTA])
                await replica.heartbeat._sample()
                sink = AnalyticsAlerts(channel, "")
                alerts = Alerts(replica.enforcer, replica.trends, sink, replica.clock, replica.metrics)
                await alerts.check()
                await alerts.send()
        choice = pb.AlertFilter(subject={"tenant": "acme"})
        listed = await ledger.stub.ListAlerts(pb.ListAlertsRequest(filter=choice))
    finally:
        await redis.aclose()
    (alert,) = listed.alerts
    assert (alert.kind, alert.severity) == (pb.ALERT_KIND_EXHAUSTED, pb.ALERT_SEVERITY_CRITICAL)
    assert dict(alert.subject) == {"tenant": "acme", "unit": "requests", "period": "month"}
    assert (alert.limit, alert.amount, alert.unit, alert.standing) == (10, 10, "requests", True)
    assert alert.sentence == "tenant acme: 10 requests a month is used up"
    assert alert.window_start.ToDatetime().day == 1


def good() -> pb.QuotaAlert:
    now = Timestamp(seconds=1_800_000_000)
    return pb.QuotaAlert(
        scope="tenant:acme",
        unit="requests",
        period="day",
        kind=pb.QUOTA_ALERT_KIND_BURN_FAST,
        window_start=now,
        said=now,
        raised=now,
    )


async def test_an_alert_ends_with_its_window_and_is_not_of_the_future(ledger: Analytics) -> None:
    """A month of 28 days is over after these; a limiter whose clock is a day ahead hides nothing that others send
    later."""
    now = int(time.time())
    alert = good()
    alert.period = "month"
    for name, seconds in (("window_start", now - 60), ("window_end", now + 2), ("said", now + 86_400)):
        getattr(alert, name).CopyFrom(Timestamp(seconds=seconds))
    alert.raised.CopyFrom(alert.said)

    async def listed() -> pb.Alert:
        found = await ledger.stub.ListAlerts(pb.ListAlertsRequest(since=Timestamp(seconds=now - 60)))
        return next(one for one in found.alerts if one.kind == pb.ALERT_KIND_BURN_FAST)

    await ledger.stub.RecordQuotaAlerts(pb.RecordQuotaAlertsRequest(alerts=[alert]))
    assert (await listed()).raised.seconds <= time.time()
    await asyncio.sleep(0.01)
    alert.said.CopyFrom(Timestamp(seconds=now + 86_399))
    alert.used = 7
    await ledger.stub.RecordQuotaAlerts(pb.RecordQuotaAlertsRequest(alerts=[alert]))
    assert (await listed()).amount == 7
    async with asyncio.timeout(30):
        while (await listed()).standing:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": ""}, "scope"),
        ({"scope": "acme"}, "scope"),
        ({"scope": "tenant:" + "x" * 300}, "scope"),
        ({"unit": "concurrency"}, "unit"),
        ({"period": "minute"}, "period"),
        ({"kind": 0}, "kind"),
        ({"kind": 99}, "kind"),
        ({"said": None}, "said"),
        ({"raised": Timestamp(nanos=-1)}, "raised"),
        ({"limit": -1}, "limit"),
        ({"burn_rate": float("nan")}, "burn_rate"),
        ({"burn_rate": float("inf")}, "burn_rate"),
        ({"probability": 1.5}, "probability"),
        ({"percent": 50}, "percent"),
        ({"percent": -1}, "percent"),
        ({"difference": 1}, "difference"),
        ({"window_start": Timestamp(seconds=2**40)}, "window_start"),
        ({"window_end": Timestamp(seconds=1_800_000_000)}, "window_end"),
        ({"window_end": Timestamp(seconds=1_800_090_001)}, "window_end"),
        ({"window_end": Timestamp(nanos=-1)}, "window_end"),
        ({"scope": "nobody:acme"}, "scope"),
        ({"scope": "campaign:acme"}, "scope"),
    ],
)
async def test_a_wrong_alert_is_refused_with_its_field_and_nothing_is_kept(
    ledger: Analytics, change: dict[str, object], field: str
) -> None:
    """Not even the good one beside it."""
    bad = good()
    for name, value in change.items():
        bad.ClearField(name)
        if isinstance(value, Timestamp):
            getattr(bad, name).CopyFrom(value)
        elif value is not None:
            setattr(bad, name, value)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.stub.RecordQuotaAlerts(pb.RecordQuotaAlertsRequest(alerts=[good(), bad]))
    error = from_rpc_error(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [v.field for v in error.violations] == [f"alerts[1].{field}"]  # type: ignore[attr-defined]
    since = pb.ListAlertsRequest(since=Timestamp(seconds=1))
    assert not (await ledger.stub.ListAlerts(since)).alerts


async def test_an_empty_record_is_refused(ledger: Analytics) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.stub.RecordQuotaAlerts(pb.RecordQuotaAlertsRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
