"""Keeps the rollups in the background: folds, deletes, rebuilds, checks."""

from __future__ import annotations

import asyncio
from random import Random

from libs.clock import Clock
from libs.errors import Unavailable
from libs.telemetry import Metrics, get_logger
from services.analytics.rollups.rollups import Rollups
from services.analytics.rollups.state import HOUR

#: Seconds between rounds.
INTERVAL = 20.0
#: Seconds between the steps of a rebuild: commits wait for a step, and have this time for themselves.
PAUSE = 0.05

log = get_logger(__name__)


class RollupKeeper:
    """Every replica has one; a step that one has done, the others find done. `zone` is the owner's."""

    def __init__(self, rollups: Rollups, zone: str, clock: Clock, rng: Random, metrics: Metrics) -> None:
        self._rollups = rollups
        self._zone = zone
        self._clock = clock
        self._rng = rng
        self._zone_taken = False
        self._difference = metrics.gauge(
            "analytics_rollup_difference", "Rows of a rollup that differ from a recount.", ["table"]
        )
        self._checks = metrics.counter("analytics_rollup_checks", "Stretches of rollups recounted.")
        self._waiting = metrics.gauge(
            "analytics_rollup_rebuild_hours", "Hours that wait for a rebuild of the rollups."
        )
        self._behind = metrics.gauge(
            "analytics_rollup_behind_seconds", "From the last hour in the rollups of hours to now."
        )

    async def run(self) -> None:
        """Keeps them until it is cancelled."""
        while True:
            try:
                await self.keep()
            except Unavailable as error:
                log.warning("rollups_not_kept", error=str(error))
            await asyncio.sleep(INTERVAL)

    async def keep(self) -> None:
        """Does all that is due, and one check. Raises Unavailable."""
        if not self._zone_taken:
            if await self._rollups.change_zone(self._zone):
                log.info("rollup_zone_changed", zone=self._zone)
            self._zone_taken = True
        while await self._rollups.fold(self._clock.now()):
            pass
        await self._measure()
        while await self._rollups.rebuild_step():
            await self._measure()
            await asyncio.sleep(PAUSE)
        while await self._rollups.fold(self._clock.now()):
            pass
        while await self._rollups.forget(self._clock.now()):
            pass
        await self._measure()
        differences = await self._rollups.check(self._rng)
        if differences is None:
            return
        self._checks.inc()
        for table, rows in differences.items():
            self._difference.labels(table).set(rows)
            if rows:
                log.error("rollup_differs", table=table, rows=rows, remedy="call RebuildRollups")

    async def _measure(self) -> None:
        state = await self._rollups.state()
        self._behind.set(max(0.0, self._clock.now() - state.hours_until.timestamp()))
        waiting = 0.0
        if state.rebuild_next is not None and state.rebuild_until is not None:
            waiting = (state.rebuild_until - state.rebuild_next) / HOUR
        self._waiting.set(waiting)
