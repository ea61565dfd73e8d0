"""Sends what is raised and over to the operator's webhooks, until they have taken it.

Deliveries are rows: made once for each alert, turn, word and destination, whichever replica makes them, and leased by
the replica that sends one. One that dies between the sending and the note of it leaves a row that is sent again when
its lease is over: at least once, under the same id. A destination that answers 410 is asked no more until the process
starts again; one that is silent or refuses is asked again at growing intervals for three days. Each destination has a
task of its own, so that a slow one holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from libs.clock import Clock
from libs.errors import Unavailable
from libs.telemetry import Metrics, get_logger
from services.analytics.alerts.store import Deliveries, Delivery
from services.analytics.alerts.store_clock import StoreClock, check_clock
from services.analytics.alerts.webhook import GONE, SUCCESS, Destination, body_of, headers, next_try

#: Seconds between two looks for something to send; before the next one where PostgreSQL was away; and for which a
#: delivery is kept from other replicas: longer than any try.
LOOK, RETRY, LEASE = 2.0, 5.0, 60.0
#: Announcements that are made at once.
MOST_AT_ONCE = 500

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a destination. `retry_after`: seconds that it asks for; None: it asks for none."""

    status: int
    retry_after: float | None = None


class SendError(Exception):
    """A destination gave no answer. Its text names nothing of the address."""


class Sender(Protocol):
    """Calls destinations."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Posts a body. Raises SendError."""
        ...


class Webhooks:
    """The destinations, and this replica's part of the work."""

    def __init__(
        self,
        destinations: Sequence[Destination],
        deliveries: Deliveries,
        sender: Sender,
        store_clock: StoreClock,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
    ) -> None:
        self._destinations = {destination.name: destination for destination in destinations}
        self._deliveries = deliveries
        self._sender = sender
        self._store_clock = store_clock
        self._clock = clock
        self._rng = rng
        #: Names of destinations that answered 410.
        self.gone: set[str] = set()
        self._tries = metrics.counter(
            "analytics_webhook_tries",
            "Tries to send to a webhook: delivered, failed, given_up or gone",
            ("destination", "result"),
        )

    async def run(self) -> None:
        """Announces and sends until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_announcing())
            for name in self._destinations:
                group.create_task(self._keep_sending(name))

    async def announce(self) -> None:
        """Makes the deliveries that are missing. Raises Unavailable."""
        names = [name for name in self._destinations if name not in self.gone]
        now = self._clock.now()
        missing = await self._deliveries.unannounced(names, now, MOST_AT_ONCE) if names else []
        if missing:
            await self._deliveries.add([(one, body_of(one)) for one in missing], now)

    async def send_due(self, name: str) -> bool:
        """Sends one delivery that is due to a destination. Returns False where there is none. Raises Unavailable."""
        delivery = await self._deliveries.claim(name, self._clock.now(), LEASE)
        if delivery is None:
            return False
        destination = self._destinations[name]
        timestamp = int(self._clock.now())
        signed = headers(destination.secrets, delivery.delivery_id, timestamp, delivery.body)
        try:
            answer = await self._sender.send(destination.url, signed, delivery.body)
        except SendError as error:
            await self._try_again(delivery, str(error), None)
            return True
        if answer.status in SUCCESS:
            self._tries.labels(name, "delivered").inc()
            await self._deliveries.end(delivery.delivery_id, self._clock.now())
        elif answer.status == GONE:
            self.gone.add(name)
            self._tries.labels(name, "gone").inc()
            log.error("webhook_gone", destination=name)
            await self._deliveries.end(delivery.delivery_id, self._clock.now())
        else:
            await self._try_again(delivery, f"it answered with status {answer.status}", answer.retry_after)
        return True

    async def _try_again(self, delivery: Delivery, why: str, retry_after: float | None) -> None:
        now, tries = self._clock.now(), delivery.tries + 1
        at = next_try(tries, now, self._rng, retry_after)
        result = "given_up" if at is None else "failed"
        self._tries.labels(delivery.destination, result).inc()
        log.warning(
            f"webhook_{result}",
            destination=delivery.destination,
            id=delivery.delivery_id,
            tries=tries,
            why=why,
        )
        if at is None:
            await self._deliveries.end(delivery.delivery_id, now)
        else:
            await self._deliveries.retry(delivery.delivery_id, at)

    async def _keep_announcing(self) -> None:
        while True:
            try:
                await check_clock(self._clock, self._store_clock)
                await self.announce()
            except Unavailable as error:
                log.warning("alerts_not_announced", error=error.message)
                await asyncio.sleep(RETRY)
            await asyncio.sleep(LOOK)

    async def _keep_sending(self, name: str) -> None:
        while name not in self.gone:
            try:
                await check_clock(self._clock, self._store_clock)
                sent = await self.send_due(name)
            except Unavailable as error:
                log.warning("webhook_waits", destination=name, error=error.message)
                sent = False
                await asyncio.sleep(RETRY)
            if not sent:
                await asyncio.sleep(LOOK)
