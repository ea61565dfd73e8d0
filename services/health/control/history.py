"""Keeps the history of changes whole: sends what it does not have, and reads there what was lost here."""

from __future__ import annotations

import asyncio

from libs.change import Change
from libs.clock import Clock
from libs.errors import PointsmanError, Unavailable
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.health.judge import Judge
from services.health.ports import ChangeLog, HealthStore

#: Seconds between two looks for what is unrecorded, and between two comparisons of what stands.
SEND_INTERVAL, COMPARE_INTERVAL = 1.0, 60.0
log = get_logger(__name__)


class History:
    """The history, as far as there is one. Recording is idempotent, so each replica sends what it knows of; nobody
    waits for it."""

    def __init__(
        self, judge: Judge, store: HealthStore, changes: ChangeLog | None, clock: Clock, metrics: Metrics
    ) -> None:
        self._judge = judge
        self._store = store
        self._log = changes
        self._clock = clock
        self._failed = Throttle(clock)
        #: The clock's monotonic time at the last comparison; None: there was none.
        self._compared: float | None = None
        self._unrecorded = metrics.gauge(
            "health_unrecorded_changes", "Operators' changes that the history does not have yet."
        )

    async def find(self, change_id: str) -> Change | None:
        """Returns a change that was made at some time; None: there was none. Raises Unavailable where nobody can
        tell."""
        waiting = self._judge.unrecorded.get(change_id)
        if waiting is not None or self._log is None:
            return waiting
        return await self._log.find(change_id)

    async def compare(self) -> None:
        """Takes over what stands in the history and was lost here, and notes what stands here and was lost there.
        Raises Unavailable."""
        if self._log is None:
            return
        compared = self._clock.monotonic()
        kept = {change.thing: change for change in await self._log.standing()}
        self._judge.obey(*kept.values())
        for change in tuple(self._judge.fleet.controls.changes):
            there = kept.get(change.thing)
            if there is None or there.order < change.order:
                self._judge.note_unrecorded(change)
        self._compared = compared

    async def send(self) -> None:
        """Sends what is unrecorded. Raises Unavailable."""
        waiting = dict(self._judge.unrecorded)
        self._unrecorded.set(len(waiting))
        if self._log is None or not waiting:
            return
        await self._log.record(tuple(waiting.values()))
        for change_id in waiting:
            self._judge.unrecorded.pop(change_id, None)
        self._unrecorded.set(len(self._judge.unrecorded))
        try:
            await self._store.recorded(tuple(waiting))
        except Unavailable:
            log.info("changes_not_marked_recorded", consequence="they are sent once more")

    async def start(self, seconds: float) -> None:
        """Compares before the first call, as long as that takes no more than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self.compare()
        except (PointsmanError, TimeoutError) as error:
            log.warning("history_not_read", error=str(error) or "it takes its time")

    async def run(self) -> None:
        """Sends, and compares now and then, until cancelled."""
        while True:
            await asyncio.sleep(SEND_INTERVAL)
            try:
                await self.send()
                if self._compared is None or self._clock.monotonic() - self._compared >= COMPARE_INTERVAL:
                    await self.compare()
            except PointsmanError as error:
                if times := self._failed.due():
                    log.warning("history_gone", error=error.message, times=times)
