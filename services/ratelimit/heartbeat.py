"""The periodic work of the service: expires what is due, reads changed limits, notices new lives of the store,
and samples use."""

from __future__ import annotations

import asyncio

from libs.clock import Clock
from libs.errors import Unavailable
from libs.telemetry import Metrics, get_logger
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.trend import SAMPLE_SECONDS
from services.ratelimit.forecasting.trends import Trends
from services.ratelimit.leases.session import Fleet
from services.ratelimit.ports import LimitStore

log = get_logger(__name__)

BEAT_SECONDS = 0.5
#: Between beats while more is due than one expires: most of the store's time is left to calls.
BACKLOG_SECONDS = 0.01


class Heartbeat:
    """Beats until cancelled; survives the store's absence, which it logs once."""

    def __init__(
        self,
        store: LimitStore,
        enforcer: Enforcer,
        effective: EffectiveLimits,
        fleet: Fleet,
        trends: Trends,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._enforcer = enforcer
        self._effective = effective
        self._fleet = fleet
        self._trends = trends
        self._clock = clock
        self._sampled = clock.monotonic()
        self._epoch = ""
        self._up = metrics.gauge("ratelimit_store_up", "1 while the shared store answers")
        self._routers = metrics.gauge("ratelimit_routers", "Routers with a lease stream, in all replicas")
        self._epochs = metrics.counter("ratelimit_store_epochs", "Lives of the store seen by this process")
        self._was_up: bool | None = None

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            backlog = await self.beat()
            await asyncio.sleep(BACKLOG_SECONDS if backlog else BEAT_SECONDS)

    async def beat(self) -> bool:
        """Makes one heartbeat. Returns True if more is waiting to be expired or dropped."""
        try:
            beat = await self._store.beat(self._fleet.local_holders())
            if beat.version != self._effective.version or beat.epoch != self._epoch:
                await self._effective.refresh()
            if self._clock.monotonic() - self._sampled >= SAMPLE_SECONDS:
                self._sampled = self._clock.monotonic()
                await self._sample()
        except Unavailable as error:
            self._mark(up=False, why=error.message)
            return False
        self._mark(up=True)
        self._fleet.holders = beat.holders
        self._routers.set(beat.holders)
        if beat.epoch != self._epoch:
            self._epoch = beat.epoch
            self._epochs.inc()
        for session in tuple(self._fleet.sessions):
            session.check_epoch()
        return beat.backlog

    async def _sample(self) -> None:
        limits = self._trends.followed()
        now, readings = await self._enforcer.readings(limits)
        for limit, reading in zip(limits, readings, strict=True):
            if (trend := self._trends.of(limit.key)) is not None:
                trend.add(now, reading.taken, reading.start)

    def _mark(self, *, up: bool, why: str = "") -> None:
        self._up.set(1 if up else 0)
        if up != self._was_up:
            self._was_up = up
            if up:
                log.info("limit_store_up")
            else:
                log.error("limit_store_down", why=why)
