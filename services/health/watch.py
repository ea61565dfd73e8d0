"""Tells watchers what changed, as fast as each of them can listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from libs.telemetry import Metrics
from services.health.domain.board import Board, Update
from services.health.domain.target import Target, TargetState


class Publication:
    """The board, and a bell that rings for everyone who waits."""

    def __init__(self, board: Board, metrics: Metrics) -> None:
        self.board = board
        self._bell = asyncio.Event()
        self._watchers = metrics.gauge("health_watchers", "Open WatchProviders streams.")
        self._versions = metrics.counter("health_published_versions", "Versions of the published picture.")

    def publish(self, states: Iterable[TargetState], *, all_changes: bool) -> None:
        """Publishes what changed; without `all_changes` only what routers must know at once."""
        if self.board.publish(states, all_changes=all_changes):
            self._ring()

    def remove(self, targets: Iterable[Target]) -> None:
        """Takes targets off the board."""
        self.board.remove(targets)
        self._ring()

    async def updates(self, epoch: str, version: int, heartbeat: float) -> AsyncIterator[Update]:
        """What a watcher that last saw `version` of `epoch` missed, then every change, and an empty update when
        nothing changed for `heartbeat` seconds. There is no queue: each update is made when the watcher is ready for
        it, from the board as it is then."""
        with self._watchers.track_inprogress():
            update = self.board.since(epoch, version)
            yield update
            while True:
                await self._wait(update.version, heartbeat)
                update = self.board.since(self.board.epoch, update.version)
                yield update

    async def _wait(self, version: int, seconds: float) -> None:
        bell = self._bell
        if self.board.version > version:
            return
        try:
            async with asyncio.timeout(seconds):
                await bell.wait()
        except TimeoutError:
            return

    def _ring(self) -> None:
        self._versions.inc()
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()
