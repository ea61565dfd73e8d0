"""Webhooks of the setting, their signature, and when they are tried again."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from dataclasses import replace
from datetime import datetime
from random import Random

import pytest
from pydantic import ValidationError

from libs.errors import Unavailable
from libs.telemetry import Metrics
from services.analytics.alerts.alert import AlertKind, KeptAlert
from services.analytics.alerts.http_webhook import retry_after
from services.analytics.alerts.store import Announcement, Delivery, Word
from services.analytics.alerts.webhook import TRIES, body_of, headers, next_try, read_destinations
from services.analytics.alerts.webhooks import Answer, SendError, Webhooks
from services.analytics.settings import AnalyticsSettings
from tests.support.alerts import BURN, SPEND, MemoryAlerts
from tests.support.clock import ManualClock
from tests.support.ledger import NOW

KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def entry(url: str = "https://hooks.example.com/x", secret: str = SECRET) -> str:
    return json.dumps({"ops": {"url": url, "secret": secret}})


def test_an_alert_that_is_over_with_its_window_says_when() -> None:
    """Nobody has noted an end."""
    assert BURN.cleared is None
    told = json.loads(body_of(Announcement(KeptAlert(BURN), "ops", Word.CLEARED)))
    assert told["type"] == "alert.cleared"
    assert datetime.fromisoformat(told["data"]["cleared"]).timestamp() == BURN.ends


def test_the_signature_is_that_of_the_specification() -> None:
    """Its published example: the secret, the message and the signature that they give."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_has_either_of_two_secrets_can_check_the_signature() -> None:
    """So a secret is replaced without a moment in which alerts are refused: of the signatures, with spaces between,
    one is by each secret of the setting, over the id, the timestamp and the body as they are sent."""
    other = "whsec_" + base64.b64encode(bytes(range(100, 164))).decode()
    (found,) = read_destinations(entry(secret=f" {SECRET}\t{other} "), ())
    body = '{"sentence": "50 € a day."}'.encode()
    sent = headers(found.secrets, "msg_1.2", 1_800_000_000, body)
    signatures = sent["webhook-signature"].split(" ")
    assert len(signatures) == 2
    for text in (SECRET, other):
        key = base64.standard_b64decode(text.partition("_")[2])
        signed = ".".join((sent["webhook-id"], sent["webhook-timestamp"], body.decode()))
        digest = hmac.new(key, signed.encode(), "sha256").digest()
        assert f"v1,{base64.standard_b64encode(digest).decode()}" in signatures


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://user@hooks.example.com/",
        "https://:password@hooks.example.com/",
        "https://hooks.example.com:443@127.0.0.1/",
        "https://１２７。0.0.1/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:0:127.0.0.1]/",
        "https://[fec0::1]/",
        "https://[2002:7f00:1::]/",
        "https://[64:ff9b:1::7f00:1]/",
        "https:///x",
        "hooks.example.com",
        "https://[",
        "",
    ],
)
def test_addresses_that_must_not_be_called_are_refused(url: str) -> None:
    """Without being repeated."""
    with pytest.raises(ValueError, match="webhook 'ops': its url") as caught:
        read_destinations(entry(url), ())
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize("url", ["http://hooks.internal/x", "https://10.0.0.7/", "https://[fd00::1]:8443/"])
def test_hosts_that_are_allowed_by_name_may_be_inside(url: str) -> None:
    (found,) = read_destinations(entry(url), {"hooks.internal", "10.0.0.7", "fd00::1"})
    assert (found.name, found.url, found.secrets) == ("ops", url, (KEY,))


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        '{"ops": 1}',
        '{"ops": {"url": "https://hooks.example.com"}}',
        json.dumps({"": json.loads(entry())["ops"]}),
        json.dumps({f"n{i}": json.loads(entry())["ops"] for i in range(17)}),
        entry(secret="whsec_"),
        entry(secret=SECRET.removeprefix("whsec_")),
        entry(secret="whsec_" + base64.b64encode(bytes(23)).decode()),
        entry(secret="whsec_" + base64.b64encode(bytes(65)).decode()),
        entry(secret="whsec_not base64 at all!"),
        entry(secret=" "),
        entry(secret=" ".join([SECRET] * 5)),
        entry(secret=f"{SECRET} {base64.b64encode(KEY).decode()}"),
    ],
)
def test_a_wrong_setting_is_refused_and_no_secret_is_repeated(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AnalyticsSettings.model_validate({"postgres_dsn": "postgresql://x/y", "webhooks": text})
    message = str(caught.value.errors()[0]["msg"])
    assert base64.b64encode(KEY).decode() not in message
    assert read_destinations(" ", ()) == ()


def test_tries_are_spread_over_three_days_and_end() -> None:
    """By the specification's intervals, with a little chance; the time that is asked for makes them longer only."""
    waits = [next_try(n, 0.0, Random(n), None) for n in range(1, len(TRIES) + 2)]
    assert waits[-1] is None
    for wait, least in zip(waits, TRIES, strict=False):
        assert wait is not None
        assert least <= wait <= 1.1 * least
    assert next_try(1, 0.0, Random(1), 1000.0) == 1000
    assert (next_try(3, 0.0, Random(1), 1.0) or 0) >= 1800
    assert next_try(1, 0.0, Random(1), 1e9) == 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("9" * 30, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


class Silent:
    """A Sender to whom nobody answers."""

    async def send(self, url: str, headers: object, body: bytes) -> Answer:
        raise SendError("it is silent")


class Away(MemoryAlerts):
    """Deliveries whose store is gone."""

    async def claim(self, destination: str, now: float, lease: float) -> Delivery | None:
        raise Unavailable("away")


async def test_what_nobody_takes_is_given_up_after_the_last_try() -> None:
    """Ten in all."""
    clock, store, metrics = ManualClock(now=NOW), MemoryAlerts(), Metrics()
    webhooks = Webhooks(read_destinations(entry(), ()), store, Silent(), store, clock, Random(1), metrics)
    await store.record([SPEND])
    await webhooks.announce()
    tries = 0
    while await webhooks.send_due("ops"):
        tries += 1
        clock.advance(100_000)
    assert tries == len(TRIES) + 1
    value = metrics.registry.get_sample_value
    name = "pointsman_analytics_webhook_tries_total"
    assert value(name, {"destination": "ops", "result": "failed"}) == len(TRIES)
    assert value(name, {"destination": "ops", "result": "given_up"}) == 1


class Stuck:
    """A Sender to which one destination never answers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def send(self, url: str, headers: object, body: bytes) -> Answer:
        if "stuck" in url:
            await asyncio.Event().wait()
        self.heard.append(url)
        return Answer(204)


async def test_a_destination_that_never_answers_holds_up_no_other() -> None:
    """Each has a task of its own."""
    hosts = {name: {"url": f"https://{name}.example.com/", "secret": SECRET} for name in ("stuck", "well")}
    store, sender = MemoryAlerts(), Stuck()
    destinations = read_destinations(json.dumps(hosts), ())
    webhooks = Webhooks(destinations, store, sender, store, ManualClock(now=NOW), Random(1), Metrics())
    await store.record([SPEND, BURN, replace(BURN, kind=AlertKind.BURN_SLOW)])
    running = asyncio.create_task(webhooks.run())
    async with asyncio.timeout(30):
        while len(sender.heard) < 3:
            await asyncio.sleep(0.05)
    running.cancel()
    assert sender.heard == ["https://well.example.com/"] * 3


async def test_a_store_that_is_away_is_told_to_the_loop() -> None:
    """Which tries again."""
    clock, away = ManualClock(now=NOW), Away()
    webhooks = Webhooks(read_destinations(entry(), ()), away, Silent(), away, clock, Random(1), Metrics())
    with pytest.raises(Unavailable):
        await webhooks.send_due("ops")
