"""Shares one reading of the summary among all who watch it.

There is no queue and nothing runs where nobody watches. Every watcher asks for the latest summary once a `LOOK`; the
first to ask after the last reading has become old reads it, the others wait for that. A watcher is told what differs
from what it was told last: a slow one gets the latest figures and none in between. Where nothing was committed the
marks alone are read; where reading takes long it is done less often: it takes a fifth of one connection at most.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from libs.clock import Clock
from libs.errors import PointsmanError
from libs.telemetry import Metrics
from services.analytics.reports.reports import ReportSnapshots
from services.analytics.summary.summary import Summary, SummaryUpdate, difference, periods_at, summarise

#: Seconds between two updates of a watcher at least, and at most while the store answers in time.
LOOK = 0.5
HEARTBEAT = 5.0
#: Seconds of rest for each second of reading.
_REST = 4.0


class SummaryFeed:
    """The watchers of this process. `time_zone` is the owner's; `count_alerts` returns how many alerts stand at an
    instant (epoch seconds)."""

    def __init__(
        self,
        reports: ReportSnapshots,
        count_alerts: Callable[[float], Awaitable[int]],
        time_zone: str,
        clock: Clock,
        metrics: Metrics,
        *,
        look: float = LOOK,
    ) -> None:
        self._reports = reports
        self._count_alerts = count_alerts
        self._time_zone = time_zone
        self._clock = clock
        self._look = look
        self._lock = asyncio.Lock()
        self._latest: Summary | None = None
        #: The last reading's, None where it succeeded: those who waited for it share it too.
        self._failure: PointsmanError | None = None
        self._next_look = -math.inf
        #: The last update and what it was made from: watchers that keep up share it.
        self._update: tuple[Summary, SummaryUpdate] | None = None
        self._watchers = metrics.gauge("analytics_summary_watchers", "Open WatchSummary streams.")
        self._readings = metrics.counter("analytics_summary_readings", "Readings of the summary.")

    async def updates(self) -> AsyncIterator[SummaryUpdate]:
        """Yields a snapshot, then each change, without end. Raises as `Reports`."""
        with self._watchers.track_inprogress():
            told = await self._read()
            yield difference(None, told)
            while True:
                await asyncio.sleep(self._look)
                latest = await self._read()
                if latest is not told:
                    update = self._difference(told, latest)
                    told = latest
                    yield update

    def _difference(self, told: Summary, latest: Summary) -> SummaryUpdate:
        if self._update is None or self._update[0] is not told or self._update[1].summary is not latest:
            self._update = (told, difference(told, latest))
        return self._update[1]

    async def _read(self) -> Summary:
        async with self._lock:
            begun = self._clock.monotonic()
            if begun >= self._next_look:
                try:
                    self._latest, self._failure = await self._reading(self._latest), None
                except PointsmanError as error:
                    self._failure = error
                ended = self._clock.monotonic()
                self._next_look = max(begun + self._look * 0.9, ended + _REST * (ended - begun))
            if self._failure is not None:
                raise self._failure
            assert self._latest is not None, "a reading gives one or the other"
            return self._latest

    async def _reading(self, before: Summary | None) -> Summary:
        now = self._clock.now()
        alerts = await self._count_alerts(now)
        async with self._reports.snapshot() as reports:
            if (
                before is not None
                and before.basis.last_commit == reports.last_commit
                and before.periods == periods_at(now, self._time_zone)
                and before.standing_alerts == alerts
                and before.as_of <= now < before.as_of + HEARTBEAT
            ):
                return before
            self._readings.inc()
            return await summarise(reports, now, self._time_zone, alerts, reports.last_commit)
