"""Webhooks to a real HTTP server, from a real PostgreSQL: signed, tried again, once more after a crash, and never to
an internal address that is not allowed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from structlog.testing import capture_logs

from libs.errors import Unavailable
from libs.telemetry import Metrics
from services.analytics.alerts.http_webhook import HttpWebhook
from services.analytics.alerts.postgres_alerts import PostgresAlerts
from services.analytics.alerts.postgres_deliveries import PostgresDeliveries
from services.analytics.alerts.postgres_leases import PostgresClock
from services.analytics.alerts.store_clock import check_clock
from services.analytics.alerts.webhook import Destination, read_destinations
from services.analytics.alerts.webhooks import LEASE, SendError, Webhooks
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from tests.support.alerts import SPEND
from tests.support.analytics import analytics
from tests.support.clock import ManualClock
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database

SUPPORT = Path(__file__).parents[1] / "support"
CERTIFICATE = SUPPORT / "localhost_cert.pem"
TRUST = ssl.create_default_context(cafile=str(CERTIFICATE))
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Receiver:
    """A destination on this machine, over TLS. Answers as it is told, 204 when there is no more to tell."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.heard.append((dict(request.headers), await request.read()))
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=headers)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.heard]


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    host = Receiver()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE, SUPPORT / "localhost_key.pem")
    runner = web.ServerRunner(web.Server(host.answer))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener, ssl_context=tls).start()
    host.port = listener.getsockname()[1]
    yield host
    await runner.cleanup()


class Replica:
    """The webhooks of one process."""

    def __init__(self, database: Database, sender: HttpWebhook, port: int, clock: ManualClock) -> None:
        self.clock = clock
        self.alerts = PostgresAlerts(database)
        self.deliveries = PostgresDeliveries(database)
        (self.destination,) = read_destinations(
            json.dumps({"ops": {"url": f"https://localhost:{port}/hook", "secret": SECRET}}), {"localhost"}
        )
        self.metrics = Metrics()
        self.webhooks = Webhooks(
            [self.destination],
            self.deliveries,
            sender,
            PostgresClock(database),
            clock,
            Random(1),
            self.metrics,
        )

    def tries(self, result: str) -> float:
        name, labels = "pointsman_analytics_webhook_tries_total", {"destination": "ops", "result": result}
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[Database]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(database: Database, receiver: Receiver) -> AsyncIterator[tuple[Replica, Replica]]:
    clock = ManualClock()
    async with HttpWebhook({"localhost"}, ManualClock(), tls=TRUST) as sender:
        yield (
            Replica(database, sender, receiver.port, clock),
            Replica(database, sender, receiver.port, clock),
        )


async def test_an_alert_is_sent_with_a_signature_that_its_receiver_can_check(
    receiver: Receiver, replicas: tuple[Replica, Replica]
) -> None:
    """By Standard Webhooks: HMAC-SHA256 over id, timestamp and body with dots between, under the secret's bytes."""
    one, other = replicas
    await one.alerts.record([SPEND])
    for replica in (one, other):
        await replica.webhooks.announce()
        await replica.webhooks.send_due("ops")
    ((headers, body),) = receiver.heard
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert headers["webhook-timestamp"] == str(int(one.clock.now()))
    assert headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert told["type"] == "alert.raised"
    assert told["data"]["alert_id"] == SPEND.alert_id
    assert told["data"]["subject"] == {"tenant": "acme"}
    assert told["data"]["movers"][0]["value"] == "openai/gpt-4o"
    assert told["data"]["sentence"].startswith("tenant acme: the last hour cost $31.00")


async def test_a_destination_that_fails_is_tried_again_with_the_same_id_and_body(
    receiver: Receiver, replicas: tuple[Replica, Replica]
) -> None:
    """After five seconds, then five minutes, and not before the time that it asks for; a redirect is a failure."""
    one, other = replicas
    receiver.answers = [(500, {}), (302, {"location": "https://localhost/"}), (429, {"retry-after": "40000"})]
    await one.alerts.record([SPEND])
    await one.webhooks.announce()
    for wait, sender in ((0.0, one), (6.0, other), (331.0, one)):
        one.clock.advance(wait)
        assert await sender.webhooks.send_due("ops")
        assert not await sender.webhooks.send_due("ops")
    one.clock.advance(39_999)
    assert not await one.webhooks.send_due("ops")
    one.clock.advance(2)
    assert await other.webhooks.send_due("ops")
    assert len(receiver.heard) == 4
    assert len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.heard}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.heard}) == 4
    assert (one.tries("failed"), other.tries("failed"), other.tries("delivered")) == (2, 1, 1)


async def test_one_that_died_between_sending_and_noting_it_is_followed_by_another(
    receiver: Receiver, replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: the receiver gets the same id again, when the lease is over and not before."""
    one, other = replicas
    await one.alerts.record([SPEND])
    await one.webhooks.announce()

    class Died(BaseException):
        """The process is gone."""

    async def die(delivery_id: str, now: float) -> None:
        raise Died

    monkeypatch.setattr(one.deliveries, "end", die)
    with pytest.raises(Died):
        await one.webhooks.send_due("ops")
    assert not await other.webhooks.send_due("ops")
    other.clock.advance(LEASE)
    assert await other.webhooks.send_due("ops")
    assert not await other.webhooks.send_due("ops")
    assert len(receiver.heard) == 2
    assert len(set(receiver.ids)) == 1


async def test_a_replica_whose_clock_is_wrong_sends_nothing(
    receiver: Receiver, replicas: tuple[Replica, Replica], database: Database
) -> None:
    """Receivers would refuse its signature, and its leases hold up the others for as long as it is ahead."""
    one, _ = replicas
    await one.alerts.record([SPEND])
    await one.webhooks.announce()
    store = PostgresClock(database)
    for apart in (86_400.0, -86_400.0):
        with pytest.raises(Unavailable, match="clock"):
            await check_clock(ManualClock(now=await store.now() + apart), store)
    await check_clock(ManualClock(now=await store.now() + 60), store)
    with capture_logs() as told:
        running = asyncio.create_task(one.webhooks.run())
        async with asyncio.timeout(30):
            while not {"webhook_waits", "alerts_not_announced"} <= {line["event"] for line in told}:
                await asyncio.sleep(0.05)
        running.cancel()
    assert not receiver.heard


async def test_a_destination_that_is_gone_is_asked_no_more(
    receiver: Receiver, replicas: tuple[Replica, Replica]
) -> None:
    """By this process; after a start it is asked again."""
    one, other = replicas
    receiver.answers = [(410, {})]
    await one.alerts.record([SPEND])
    await one.webhooks.announce()
    await one.webhooks.send_due("ops")
    await one.alerts.record([replace(SPEND, as_of=SPEND.as_of + 1, cleared=SPEND.as_of + 1)])
    await one.webhooks.announce()
    assert not await one.webhooks.send_due("ops")
    assert (len(receiver.heard), one.tries("gone")) == (1, 1)
    await other.webhooks.announce()
    assert await other.webhooks.send_due("ops")
    assert json.loads(receiver.heard[1][1])["type"] == "alert.cleared"


async def test_a_limiters_alert_reaches_the_webhook_of_the_setting(postgres_server: PostgresServer) -> None:
    """Through the whole service, over plain HTTP to a host that is allowed; and its end after it."""
    host, heard = Receiver(), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = await host.answer(request)
        heard.set()
        return response

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/hook"
    webhooks = json.dumps({"ops": {"url": url, "secret": SECRET}})
    said = int(time.time())
    alert = pb.QuotaAlert(
        scope="tenant:acme",
        unit="micro_usd",
        period="day",
        kind=pb.QUOTA_ALERT_KIND_BUDGET_THRESHOLD,
        percent=80,
        limit=50_000_000,
        used=41_000_000,
        window_start=Timestamp(seconds=said - 60),
        said=Timestamp(seconds=said),
        raised=Timestamp(seconds=said),
    )
    try:
        async with (
            fresh_database(postgres_server) as dsn,
            analytics(dsn, webhooks=webhooks, webhook_hosts="127.0.0.1") as running,
        ):
            await running.stub.RecordQuotaAlerts(pb.RecordQuotaAlertsRequest(alerts=[alert]))
            await asyncio.wait_for(heard.wait(), 30)
            heard.clear()
            alert.said.seconds += 1
            alert.cleared.seconds = said + 1
            await running.stub.RecordQuotaAlerts(pb.RecordQuotaAlertsRequest(alerts=[alert]))
            await asyncio.wait_for(heard.wait(), 30)
    finally:
        await runner.cleanup()
    told = [json.loads(body) for _, body in host.heard]
    assert [one["type"] for one in told] == ["alert.raised", "alert.cleared"]
    assert told[0]["data"]["sentence"] == "tenant acme: $50.00 a day is used to 80 % ($41.00)"
    assert told[0]["data"]["percent"] == 80


class Rebound(AbstractResolver):
    """Resolves every name to these addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self._addresses
        ]

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "0.0.0.0",
        "::127.0.0.1",
        "fec0::1",
    ],
)
async def test_a_name_that_leads_inside_is_not_called(receiver: Receiver, address: str) -> None:
    """Whatever it led to when it was set: the address that is connected to is the one that was looked at."""
    async with HttpWebhook((), ManualClock(), resolver=Rebound(address), tls=TRUST) as sender:
        with pytest.raises(SendError, match="no address that may be called"):
            await sender.send(f"https://hooks.example.com:{receiver.port}/", {}, b"{}")
    assert not receiver.heard


async def test_a_host_that_is_allowed_may_be_inside(receiver: Receiver) -> None:
    async with HttpWebhook({"localhost"}, ManualClock(), resolver=Rebound("127.0.0.1"), tls=TRUST) as sender:
        answer = await sender.send(f"https://localhost:{receiver.port}/", {}, b"{}")
    assert answer.status == 204


async def test_a_silent_address_is_a_failure_that_names_nothing_of_it() -> None:
    """The address of a webhook often holds a secret."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with HttpWebhook({"localhost"}, ManualClock(), tls=TRUST) as sender:
        with pytest.raises(SendError) as caught:
            await sender.send(f"https://localhost:{port}/T0KEN", {}, b"{}")
    assert "T0KEN" not in str(caught.value)
    assert str(port) not in str(caught.value)
    assert "T0KEN" not in repr(Destination("ops", "https://localhost/", (b"T0KEN",)))
