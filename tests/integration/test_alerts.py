"""Alerts through real gRPC on a real PostgreSQL: detected in the ledger, listed, watched, acknowledged, silenced."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from typer.testing import CliRunner

from cli.app import build
from libs.client import AlertClient, AlertUpdate
from libs.errors import NotFound
from libs.rpc.status import from_rpc_error
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.analytics.alerts.alert import AlertKind, KeptAlert, Severity
from services.analytics.alerts.anomaly import HISTORY_HOURS, HOUR
from services.analytics.alerts.detection import LEASE_NAME, ROUND, SETTLED, Detection
from services.analytics.alerts.postgres_alerts import PostgresAlerts, instant
from services.analytics.alerts.postgres_leases import PostgresClock, PostgresLeases
from services.analytics.alerts.postgres_series import PostgresSeries
from services.analytics.alerts.shares import Count
from services.analytics.alerts.store import AlertFilter
from services.analytics.alerts.usage_series import MOST_VALUES, Use
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.request import RequestRecord
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.alerts import BURN, SPEND
from tests.support.analytics import Analytics, analytics
from tests.support.clock import ManualClock
from tests.support.engines import PostgresServer
from tests.support.ledger import NOW, an_attempt
from tests.support.postgres import fresh_database


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server) as fresh:
        yield fresh


@pytest_asyncio.fixture(loop_scope="session")
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def service(dsn: str, database: Database) -> AsyncIterator[Analytics]:
    # The detection of the service would end what it does not find in an empty ledger.
    assert await PostgresLeases(database).hold(LEASE_NAME, "the test", time.time(), 3600)
    async with analytics(dsn) as running:
        yield running


def the_client(service: Analytics) -> AlertClient:
    return AlertClient(f"127.0.0.1:{service.server.port}", timeout=20.0)


async def fill(
    database: Database,
    since: float,
    until: float,
    *,
    tenant: str = "acme",
    model: str = "gpt-4o",
    outcome: Outcome = Outcome.SUCCESS,
    cost: int = 500_000,
    every: int = 600,
) -> None:
    """Records attempts at even distances, as routers' records are."""
    failed = outcome is Outcome.FAILURE
    made = [
        an_attempt(
            f"{tenant}-{model}-{outcome}-{at}",
            tenant=tenant,
            model=model,
            started=float(at),
            outcome=outcome,
            error_class=ErrorClass.SERVER_ERROR if failed else None,
            cost_micro_usd=cost,
        )
        for at in range(int(since), int(until), every)
    ]
    ledger = PostgresLedger(database, PostgresRollups(database).follow)
    for first in range(0, len(made), 1000):
        await ledger.record(made[first : first + 1000])


class Bed:
    """The detection on a clock that the test moves."""

    def __init__(self, database: Database, holder: str = "one") -> None:
        #: A whole hour, and then so long after it that its records are looked at.
        self.clock = ManualClock(now=NOW // HOUR * HOUR + SETTLED)
        self.store = PostgresAlerts(database)
        self.leases = PostgresLeases(database)
        self.metrics = Metrics()
        self.detection = Detection(
            PostgresSeries(database),
            self.store,
            self.leases,
            PostgresClock(database),
            self.clock,
            self.metrics,
            holder=holder,
            objective=0.99,
        )

    @property
    def until(self) -> float:
        return (self.clock.now() - SETTLED) // ROUND * ROUND

    async def look(self) -> list[KeptAlert]:
        await self.detection.look()
        return await self.store.find(AlertFilter(), self.clock.now(), NOW - 86_400, 100)


async def test_a_tripled_spend_is_one_alert_that_names_who_and_what(database: Database) -> None:
    """The tenant, not all traffic; the model that did it first; the figures of earlier days. It is over when the
    spend is as before, and within a day the same alert stands again."""
    bed = Bed(database)
    await fill(database, bed.until - HISTORY_HOURS * HOUR, bed.until + 7200)
    await fill(database, bed.until - HISTORY_HOURS * HOUR, bed.until + 7200, tenant="quiet", every=3600)
    assert await bed.look() == []
    await fill(database, bed.until - 1800, bed.until, model="o3", cost=9_000_000)
    (kept,) = await bed.look()
    alert = kept.alert
    assert (alert.kind, alert.subject, alert.severity) == (
        AlertKind.SPEND_ANOMALY,
        (("tenant", "acme"),),
        Severity.WARNING,
    )
    assert (alert.amount, alert.span, alert.unit) == (30_000_000, 3600.0, "micro_usd")
    assert alert.expected is not None
    assert (alert.expected.amount, alert.expected.high) == (3_000_000, 6_000_000)
    first = alert.movers[0]
    assert (first.dimension, first.value, first.amount, first.expected, first.share) == (
        *("model", "openai/o3", 27_000_000, 0),
        1.0,
    )
    bed.clock.advance(ROUND)
    (again,) = await bed.look()
    assert (again.alert.alert_id, again.alert.raised, again.turn) == (alert.alert_id, alert.raised, 1)
    bed.clock.advance(3600)
    (over,) = await bed.look()
    assert over.alert.cleared == bed.clock.now()
    bed.clock.advance(ROUND)
    await fill(database, bed.until - 600, bed.until, model="o1", cost=40_000_000)
    (back,) = await bed.look()
    assert (back.alert.alert_id, back.alert.cleared, back.turn) == (alert.alert_id, None, 2)


async def test_failures_of_a_provider_and_errors_that_callers_saw_are_alerts(database: Database) -> None:
    """With the class that grew; errors that callers are the cause of are none."""
    bed = Bed(database)
    await fill(database, bed.until - 14 * 86_400, bed.until, every=150, cost=0)

    async def requests(tenant: str, reason: str, since: float, many: int) -> None:
        records = [
            RequestRecord(
                record_id=f"{tenant}{reason}{i}",
                request_id="r",
                tenant=tenant,
                started=since,
                latency=1.0,
                outcome=Outcome.FAILURE if reason else Outcome.SUCCESS,
                error_reason=reason,
            )
            for i in range(many)
        ]
        await PostgresLedger(database).record([], records)

    await requests("acme", "", bed.until - 100, 100)
    await requests("busy", "LIMIT_EXCEEDED", bed.until - 100, 90)
    await requests("busy", "", bed.until - 100, 10)
    assert await bed.look() == []
    await fill(database, bed.until - 899, bed.until, every=30, outcome=Outcome.FAILURE)
    await requests("acme", "PROVIDERS_FAILED", bed.until - 99, 40)
    found = {kept.alert.kind: kept.alert for kept in await bed.look()}
    assert set(found) == {AlertKind.ERROR_ANOMALY, AlertKind.RELIABILITY_DROP}
    errors, drop = found[AlertKind.ERROR_ANOMALY], found[AlertKind.RELIABILITY_DROP]
    assert errors.subject == (("provider", "openai"),)
    assert errors.movers[0].dimension == "error_class"
    assert errors.movers[0].value == "server_error"
    assert errors.expected is not None
    assert errors.expected.amount == 0
    assert (drop.subject, drop.severity) == ((), Severity.CRITICAL)
    assert (drop.amount, drop.span) == (266_667, 3600.0)
    assert drop.burn_rate == pytest.approx(26.67)


async def test_only_the_foremost_values_of_a_dimension_are_looked_at(database: Database) -> None:
    """However many tenants and campaigns there are; of rows of hours, of five minutes and of attempts alike. One that
    costs most, or that fails most, with a single attempt is among them."""
    now = NOW // HOUR * HOUR
    made = [
        an_attempt(
            f"{tenant}-{i}",
            tenant=f"t{tenant:03}",
            campaign=f"c{tenant:03}",
            started=now - 60,
            cost_micro_usd=1000 if tenant == 3 else 1,
            outcome=Outcome.FAILURE if tenant == 5 else Outcome.SUCCESS,
        )
        for tenant in range(MOST_VALUES + 20)
        for i in range(2 if tenant >= 20 else 1)
    ]
    await PostgresLedger(database, PostgresRollups(database).follow).record(made)
    series = PostgresSeries(database)
    for dimension, letter in (("tenant", "t"), ("campaign", "c")):
        for width in (HOUR, ROUND, 77.0):
            found = await series.attempts(dimension, [now - width, now])
            busiest = range(20, MOST_VALUES + 18)
            assert set(found) == {f"{letter}{i:03}" for i in (3, 5, *busiest)}
            assert all(found[f"{letter}{i:03}"] == [Use(2, Count(2, 0))] for i in busiest)


async def test_without_history_nothing_is_called_an_anomaly(database: Database) -> None:
    bed = Bed(database)
    await fill(database, bed.until - 3 * 86_400, bed.until, cost=1)
    await fill(database, bed.until - 3600, bed.until, model="o3", cost=10**9)
    assert await bed.look() == []


async def test_a_replica_whose_clock_is_wrong_detects_nothing(database: Database) -> None:
    """It would find no spend, and end what stands; and it leaves the lease to others."""
    bed = Bed(database)
    await bed.store.record([replace(SPEND, raised=bed.clock.now(), as_of=bed.clock.now())])
    running = asyncio.create_task(bed.detection.run())
    failed = {"result": "failed"}
    async with asyncio.timeout(30):
        while not bed.metrics.registry.get_sample_value("pointsman_analytics_alert_rounds_total", failed):
            await asyncio.sleep(0.05)
    running.cancel()
    (kept,) = await bed.store.find(AlertFilter(), bed.clock.now(), None, 10)
    assert kept.alert.cleared is None
    assert await bed.leases.hold(LEASE_NAME, "two", time.time(), 60)


async def test_one_replica_detects_at_a_time(database: Database) -> None:
    """Another follows when its lease is over."""
    leases = PostgresLeases(database)
    assert await leases.hold(LEASE_NAME, "one", NOW, 60)
    assert await leases.hold(LEASE_NAME, "one", NOW + 50, 60)
    assert not await leases.hold(LEASE_NAME, "two", NOW + 109, 60)
    assert await leases.hold(LEASE_NAME, "two", NOW + 110, 60)
    assert not await leases.hold(LEASE_NAME, "one", NOW + 111, 60)
    held = await asyncio.gather(*(leases.hold("new", f"h{i}", NOW, 60) for i in range(8)))
    assert sum(held) == 1


async def test_alerts_are_listed_page_by_page_acknowledged_and_silenced(
    service: Analytics, database: Database
) -> None:
    """Over the client: every field comes across."""
    now = time.time()
    store = PostgresAlerts(database)
    spend = replace(SPEND, episode=now, as_of=now, raised=now)
    burn = replace(BURN, as_of=now, raised=now - 1, ends=now + 1000)
    await store.record([spend, burn])
    first = await service.stub.ListAlerts(pb.ListAlertsRequest(page_size=1))
    second = await service.stub.ListAlerts(
        pb.ListAlertsRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [a.alert_id for page in (first, second) for a in page.alerts] == [spend.alert_id, burn.alert_id]
    assert second.next_page_token == ""
    async with the_client(service) as client:
        (shown,) = await client.list_alerts({"tenant": "acme"}, kinds=["spend_anomaly"], severity="warning")
        assert (shown.kind, shown.severity, shown.subject) == ("spend_anomaly", "warning", {"tenant": "acme"})
        assert (shown.amount, shown.unit, shown.expected, shown.high) == (
            *(31_000_000, "micro_usd"),
            *(9_000_000, 18_000_000),
        )
        assert (shown.standing, shown.limit, shown.window_start, shown.silenced) == (True, None, None, False)
        assert shown.movers[0].value == "openai/gpt-4o"
        (quota,) = await client.list_alerts(kinds=["burn_fast"])
        assert (quota.limit, quota.window_start, quota.burn_rate) == (1000, BURN.episode, 15.5)
        seen = await client.acknowledge(spend.alert_id, "ann", "on it")
        assert (seen.acknowledged_by, seen.note) == ("ann", "on it")
        assert (await client.acknowledge(spend.alert_id, "bob")).acknowledged_by == "ann"
        silence = await client.silence({"kind": "burn_fast"}, now + 3600, "ann", "load test")
        assert [one.silence_id for one in await client.silences()] == [silence.silence_id]
        assert {a.kind: a.silenced for a in await client.list_alerts()} == {
            "spend_anomaly": False,
            "burn_fast": True,
        }
        await client.delete_silence(silence.silence_id)
        with pytest.raises(NotFound):
            await client.delete_silence(silence.silence_id)
        with pytest.raises(NotFound):
            await client.acknowledge("nobody", "ann")


async def test_a_watcher_gets_all_that_stand_and_then_each_change(
    service: Analytics, database: Database
) -> None:
    """Raised, acknowledged, over; what its filter leaves out never."""
    now = time.time()
    store = PostgresAlerts(database)
    spend = replace(SPEND, episode=now, as_of=now, raised=now)
    await store.record([spend, replace(BURN, as_of=now, raised=now, ends=now + 1000)])
    async with the_client(service) as client:
        updates = client.watch(kinds=["spend_anomaly"])

        async def following() -> AlertUpdate:
            return await asyncio.wait_for(anext(updates), 20)

        first = await following()
        assert first.snapshot
        assert [a.alert_id for a in first.alerts] == [spend.alert_id]
        other = replace(spend, subject=(("tenant", "b"),))
        await store.record([other])
        second = await following()
        assert not second.snapshot
        assert [a.alert_id for a in second.alerts] == [other.alert_id]
        await client.acknowledge(other.alert_id, "ann")
        assert [a.acknowledged_by for a in (await following()).alerts] == ["ann"]
        await store.record([replace(spend, as_of=now + 1, cleared=now + 1)])
        (over,) = (await following()).alerts
        assert (over.alert_id, over.standing) == (spend.alert_id, False)


BAD = Timestamp(seconds=2**40)


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListAlerts", pb.ListAlertsRequest(page_size=-1), "page_size"),
        ("ListAlerts", pb.ListAlertsRequest(page_size=1001), "page_size"),
        ("ListAlerts", pb.ListAlertsRequest(since=BAD), "since"),
        ("ListAlerts", pb.ListAlertsRequest(page_token="bm9uZQ=="), "page_token"),
        ("ListAlerts", pb.ListAlertsRequest(page_token="é"), "page_token"),
        ("ListAlerts", pb.ListAlertsRequest(page_token="x" * 10_000), "page_token"),
        ("ListAlerts", pb.ListAlertsRequest(filter={"kinds": [99]}), "filter.kinds[0]"),
        ("ListAlerts", pb.ListAlertsRequest(filter={"kinds": [0]}), "filter.kinds[0]"),
        ("ListAlerts", pb.ListAlertsRequest(filter={"severity": 99}), "filter.severity"),
        ("ListAlerts", pb.ListAlertsRequest(filter={"subject": {"tenant": "a\0"}}), "filter.subject"),
        ("ListAlerts", pb.ListAlertsRequest(filter={"subject": {"a": "x" * 257}}), "filter.subject"),
        (
            "ListAlerts",
            pb.ListAlertsRequest(filter={"subject": {f"d{i}": "x" for i in range(9)}}),
            "filter.subject",
        ),
        ("AcknowledgeAlert", pb.AcknowledgeAlertRequest(alert_id="a"), "by"),
        ("AcknowledgeAlert", pb.AcknowledgeAlertRequest(by="ann"), "alert_id"),
        (
            "AcknowledgeAlert",
            pb.AcknowledgeAlertRequest(alert_id="a", by="ann", note="x" * 1025),
            "note",
        ),
        ("DeleteSilence", pb.DeleteSilenceRequest(), "silence_id"),
        ("DeleteSilence", pb.DeleteSilenceRequest(silence_id="a\0"), "silence_id"),
    ],
)
async def test_bad_input_is_refused_with_its_field(
    service: Analytics, method: str, request_: object, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(service.stub, method)(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in [v.field for v in from_rpc_error(caught.value).violations]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"matchers": {}}, "silence.matchers"),
        ({"matchers": {"": "x"}}, "silence.matchers"),
        ({"by": ""}, "silence.by"),
        ({"reason": ""}, "silence.reason"),
        ({"until": None}, "silence.until"),
        ({"until": Timestamp(seconds=1)}, "silence.until"),
        ({"until": BAD}, "silence.until"),
        ({"until": Timestamp(seconds=int(time.time()) + 400 * 86_400)}, "silence.until"),
        ({"from_time": BAD}, "silence.from_time"),
    ],
)
async def test_a_silence_of_everything_for_ever_or_by_nobody_is_refused(
    service: Analytics, change: dict[str, object], field: str
) -> None:
    good: dict[str, object] = {
        "matchers": {"tenant": "acme"},
        "until": Timestamp(seconds=int(time.time()) + 60),
        "by": "ann",
        "reason": "x",
    }
    wanted = pb.Silence(**(good | change))  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.SilenceAlerts(pb.SilenceAlertsRequest(silence=wanted))
    assert [v.field for v in from_rpc_error(caught.value).violations] == [field]  # type: ignore[attr-defined]


async def test_alerts_on_the_command_line(service: Analytics, database: Database) -> None:
    """Shown at 80 columns, acknowledged, silenced, and all of it as JSON and as CSV."""
    now = time.time()
    spend = replace(SPEND, episode=now, as_of=now, raised=now)
    await PostgresAlerts(database).record([spend])

    async def command(*arguments: str) -> str:
        address = f"127.0.0.1:{service.server.port}"
        ended = await asyncio.to_thread(
            CliRunner().invoke, build(), ["alerts", *arguments, "--analytics", address], env={"COLUMNS": "80"}
        )
        assert ended.exit_code == 0, ended.output
        return ended.output

    shown = await command()
    assert spend.alert_id in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "ann looks after it" in await command("ack", spend.alert_id, "--by", "ann")
    made = json.loads(
        await command("silence", "tenant=acme", "--for", "2h", "--reason", "test", "--by", "ann", "--json")
    )["silence"]
    assert made["until"] - made["since"] == pytest.approx(7200, abs=60)
    assert "tenant=acme" in await command("silences")
    (listed,) = json.loads(await command("--where", "tenant=acme", "--kind", "spend_anomaly", "--json"))[
        "alerts"
    ]
    assert (listed["acknowledged_by"], listed["silenced"]) == ("ann", True)
    (row,) = csv.DictReader(io.StringIO(await command("--csv"), newline=""))
    assert (row["id"], row["subject"], row["amount"], row["unit"], row["cleared"]) == (
        *(spend.alert_id, "tenant=acme", "31000000", "micro_usd", ""),
    )
    assert datetime.fromisoformat(row["raised"]).timestamp() == pytest.approx(now, abs=1e-5)
    (row,) = csv.DictReader(io.StringIO(await command("silences", "--csv"), newline=""))
    assert datetime.fromisoformat(row["until"]).timestamp() == pytest.approx(made["until"], abs=1e-5)
    await command("unsilence", made["silence_id"])
    assert "No silences." in await command("silences")


async def test_quota_alerts_of_before_are_carried_over(dsn: str) -> None:
    """Under the ids that limiters' next records on them have."""
    everything = read_migrations()
    (ours,) = [m.version for m in everything if "DROP TABLE analytics.quota_alerts" in m.sql]
    before = [migration for migration in everything if migration.version < ours]
    async with Database(dsn, before) as database:
        await database.prepare()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO analytics.quota_alerts VALUES "
            "($1, 'micro_usd', 'day', 'burn_fast', $2, $3, $3, NULL, 1000, 400, 15.5, 0.9, 60.25)",
            [
                (scope, *map(instant, (BURN.episode, NOW)))
                for scope in ("tenant:acme", "campaign:acme/x", "provider:p", "key:k")
            ],
        )
    finally:
        await connection.close()
    async with Database(dsn, read_migrations()) as database:
        await database.prepare()
        store = PostgresAlerts(database)
        expected = [
            replace(BURN, subject=((kind, named), ("unit", "micro_usd"), ("period", "day")))
            for kind, named in (("tenant", "acme"), ("campaign", "acme/x"), ("provider", "p"), ("key", "k"))
        ]
        found = await store.get([alert.alert_id for alert in expected], NOW)
        assert sorted((kept.alert for kept in found), key=repr) == sorted(expected, key=repr)
