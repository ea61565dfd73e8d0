"""Exchanges judgements and evidence with the other replicas, and goes on alone while it cannot."""

from __future__ import annotations

import asyncio

from libs.errors import Unavailable
from libs.telemetry import Metrics, get_logger
from services.health.judge import Judge
from services.health.ports import HealthStore

log = get_logger(__name__)


class Sharer:
    """Exchanges what is known with the store every `interval` seconds. Fail-open: without the store this replica
    judges on the evidence it sees, and merges when the store is back."""

    def __init__(self, judge: Judge, store: HealthStore, metrics: Metrics, interval: float = 0.5) -> None:
        if interval <= 0:
            raise ValueError("interval must be > 0 seconds")
        self._judge = judge
        self._store = store
        self._interval = interval
        self._lock = asyncio.Lock()
        self._alone = False
        self._failures = metrics.counter(
            "health_store_failures", "Exchanges with the shared store that failed."
        )
        self._connected = metrics.gauge("health_store_connected", "1 while the shared store answers.")

    async def exchange(self) -> bool:
        """Makes one exchange. Returns False where the store is gone; nothing else happened then."""
        async with self._lock:
            try:
                incoming = await self._store.exchange(self._judge.take_outgoing())
            except Unavailable as error:
                self._failures.inc()
                self._connected.set(0)
                if not self._alone:
                    log.warning("store_gone", error=error.message, consequence="judging alone")
                self._alone = True
                return False
            if self._alone:
                log.info("store_back")
            self._alone = False
            self._connected.set(1)
            self._judge.merge_incoming(incoming)
            return True

    async def run(self) -> None:
        """Exchanges until cancelled."""
        while True:
            await self.exchange()
            await asyncio.sleep(self._interval)
