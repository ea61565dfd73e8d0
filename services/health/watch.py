"""Streams changed judgements to watchers, each as fast as it can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from libs.telemetry import Metrics
from services.health.domain.published import PublishedStates, Update
from services.health.domain.routes import RouteChange
from services.health.domain.target import Target, TargetState


class Publisher:
    """The published judgements, and an event that wakes every waiting watcher."""

    def __init__(self, states: PublishedStates, metrics: Metrics) -> None:
        self.states = states
        self._changed_event = asyncio.Event()
        self._watchers = metrics.gauge("health_watchers", "Open WatchProviders streams.")
        self._versions = metrics.counter("health_published_versions", "Versions of the published picture.")

    def publish(self, states: Iterable[TargetState], *, all_changes: bool) -> None:
        """Publishes changed states; without `all_changes` only those whose urgent part changed."""
        if self.states.publish(states, all_changes=all_changes):
            self._notify()

    def publish_routes(self, changes: Iterable[RouteChange]) -> list[RouteChange]:
        """Publishes changes of keys and endpoints. Returns those that are new."""
        new = self.states.publish_routes(changes)
        if new:
            self._notify()
        return new

    def remove(self, targets: Iterable[Target]) -> None:
        """Removes targets that the catalog no longer has."""
        self.states.remove(targets)
        self._notify()

    async def updates(self, epoch: str, version: int, heartbeat: float) -> AsyncIterator[Update]:
        """Yields the changes since `version` of `epoch`, then every change, and an empty update when nothing changed
        for `heartbeat` seconds. There is no queue: each update is made when the watcher is ready for it, from the
        states as they are then."""
        with self._watchers.track_inprogress():
            update = self.states.since(epoch, version)
            yield update
            while True:
                await self._wait(update.version, heartbeat)
                update = self.states.since(self.states.epoch, update.version)
                yield update

    async def _wait(self, version: int, seconds: float) -> None:
        event = self._changed_event
        if self.states.version > version:
            return
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    def _notify(self) -> None:
        self._versions.inc()
        event, self._changed_event = self._changed_event, asyncio.Event()
        event.set()
