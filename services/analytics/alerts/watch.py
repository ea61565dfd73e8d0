"""Streams alerts: all that stand, then what has changed.

There is no queue. Every two seconds the standing alerts are read, once for all watchers of the process, and each
watcher gets what differs from what it was given last: a slow one gets the latest state of each alert and none in
between. Reading the whole of them, rather than changes since a number, misses none that another replica commits late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from libs.clock import Clock
from libs.telemetry import Metrics
from services.analytics.alerts.alert import KeptAlert
from services.analytics.alerts.store import AlertFilter, AlertStore

#: Seconds between two looks, and the most alerts that are watched, the latest raised.
LOOK = 2.0
MOST_WATCHED = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """A message to a watcher: all that stand (`snapshot`), or what was raised, has changed or is over."""

    snapshot: bool
    alerts: list[KeptAlert]


class AlertWatch:
    """The watchers of this process."""

    def __init__(self, store: AlertStore, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._standing: Mapping[str, KeptAlert] = {}
        self._read_at: float | None = None
        self._lock = asyncio.Lock()
        self._watchers = metrics.gauge("analytics_alert_watchers", "Open WatchAlerts streams.")

    async def changes(self, choice: AlertFilter) -> AsyncIterator[Change]:
        """Yields the alerts that stand, then each change. Raises Unavailable while the store is gone."""
        with self._watchers.track_inprogress():
            given = self._chosen(choice, await self._read())
            yield Change(True, list(given.values()))
            while True:
                await asyncio.sleep(LOOK)
                standing = self._chosen(choice, await self._read())
                news = [kept for name, kept in standing.items() if given.get(name) != kept]
                gone = given.keys() - standing.keys()
                over = await self._store.get(gone, self._clock.now()) if gone else []
                given = standing
                if news or over:
                    yield Change(False, [*over, *news])

    @staticmethod
    def _chosen(choice: AlertFilter, found: Mapping[str, KeptAlert]) -> dict[str, KeptAlert]:
        return {name: kept for name, kept in found.items() if choice.takes(kept)}

    async def _read(self) -> Mapping[str, KeptAlert]:
        """Returns the standing alerts by id as they were half a look ago at most."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= LOOK / 2:
                found = await self._store.find(AlertFilter(), self._clock.now(), None, MOST_WATCHED)
                self._standing = {kept.alert.alert_id: kept for kept in found}
                self._read_at = now
            return self._standing
