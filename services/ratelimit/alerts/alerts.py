"""Watches quotas: raises an alert when one is used up too fast or will not last, clears it when that is over, and
tells analytics of both."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from libs.clock import Clock
from libs.errors import Unavailable
from libs.limits import LimitKey
from libs.telemetry import Metrics, get_logger
from services.ratelimit.alerts.burn import Alert, AlertKind, alarming
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Reading, quota
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.exhaustion import foresee
from services.ratelimit.forecasting.trends import Trends

#: How often quotas are looked at, seconds.
LOOK_SECONDS = 10.0
#: A forecast takes some ten milliseconds: so many a look at most, of quotas that are used to this part at least. The
#: others' turn comes with the next looks.
FORECASTS, WORTH = 50, 0.25
#: Words that wait for analytics; beyond, the oldest are dropped, counted.
WAITING = 5000
#: Words in one call.
BATCH = 500

log = get_logger(__name__)


class AlertSink(Protocol):
    """Where alerts on quotas are kept."""

    async def put(self, alerts: Sequence[Alert]) -> None:
        """Durable when it returns; giving one again is harmless. Raises Unavailable."""
        ...


class Alerts:
    """One per replica: replicas that notice the same say the same, which is kept once."""

    def __init__(
        self, enforcer: Enforcer, trends: Trends, sink: AlertSink | None, clock: Clock, metrics: Metrics
    ) -> None:
        """`sink` None: alerts are logged and counted only."""
        self._enforcer = enforcer
        self._trends = trends
        self._sink = sink
        self._clock = clock
        #: What stands, by quota.
        self._standing: dict[LimitKey, dict[AlertKind, Alert]] = {}
        self._waiting: deque[Alert] = deque()
        #: Whose forecast is due.
        self._turn = 0
        self._said = metrics.counter(
            "quota_alerts", "Alerts on quotas by what became of them: raised or cleared", ("kind", "word")
        )
        self._stand = metrics.gauge("quota_alerts_standing", "Alerts on quotas that stand", ("kind",))
        self._dropped = metrics.counter("quota_alerts_dropped", "Words on alerts that analytics never heard")

    async def run(self) -> None:
        """For the service's whole life."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()
            await self.tell()

    async def look(self) -> None:
        """Looks at every quota in use once."""
        limits = [limit for limit in self._trends.followed() if limit.key.period.calendar]
        try:
            now, readings = await self._enforcer.readings(limits)
        except Unavailable:
            # The heartbeat has logged it; alerts stand until more is known.
            return
        followed = {limit.key for limit in limits}
        for key in [key for key in self._standing if key not in followed]:
            self._clear(key, set(), now)
        left = FORECASTS
        looked = [*zip(limits, readings, strict=True)]
        first = self._turn % max(1, len(looked))
        for number, (limit, reading) in enumerate(looked[first:] + looked[:first]):
            if self._judge(limit, reading, now, forecasting=left > 0):
                left -= 1
                if not left:
                    self._turn = first + number + 1
            # Whoever else has something to do comes between.
            await asyncio.sleep(0)
        for kind in AlertKind:
            self._stand.labels(kind).set(sum(kind in standing for standing in self._standing.values()))

    async def tell(self) -> None:
        """Tells analytics what it has not heard. What it does not take is told later."""
        while self._waiting and self._sink is not None:
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            try:
                await self._sink.put(batch)
            except Unavailable as error:
                log.warning("quota_alerts_wait", waiting=len(self._waiting), why=error.message)
                return
            for _ in batch:
                self._waiting.popleft()

    def _judge(self, limit: Limit, reading: Reading, now: float, *, forecasting: bool) -> bool:
        """Raises and clears what there is. Whether a forecast was made."""
        key, trend = limit.key, self._trends.of(limit.key)
        standing = self._standing.get(key, {})
        if any(alert.window_start != reading.start for alert in standing.values()):
            # A new window begins with none.
            self._clear(key, set(), now)
            standing = {}
        if trend is None or reading.finish <= now:
            return False
        state = quota(limit, reading, now)
        forecasting = forecasting and WORTH * limit.limit <= state.used < limit.limit
        coming = foresee(limit, reading, now, trend).forecast if forecasting else None
        probability = coming.probability if coming is not None else None
        window = (reading.finish - reading.start, reading.finish - now)
        found = alarming(state, window, trend, standing, probability)
        self._clear(key, set(found), now)
        for kind, rate in found.items():
            if kind not in standing:
                alert = Alert(
                    *(key, kind, reading.start, now, now, None, limit.limit, state.used, rate),
                    *(probability, coming.p50 if coming is not None else None),
                )
                self._standing.setdefault(key, {})[kind] = alert
                self._say(alert)
        return forecasting

    def _clear(self, key: LimitKey, still: set[AlertKind], now: float) -> None:
        standing = self._standing.get(key, {})
        for kind in [kind for kind in standing if kind not in still]:
            alert = standing.pop(kind)
            self._say(replace(alert, said=now, cleared=now))
        if not standing:
            self._standing.pop(key, None)

    def _say(self, alert: Alert) -> None:
        word = "raised" if alert.cleared is None else "cleared"
        self._said.labels(alert.kind, word).inc()
        level = log.warning if alert.cleared is None else log.info
        level(
            f"quota_alert_{word}",
            limit=str(alert.key),
            kind=alert.kind,
            used=alert.used,
            of=alert.limit,
            burn_rate=round(alert.burn_rate, 1),
            probability=alert.probability,
        )
        if self._sink is None:
            return
        self._waiting.append(alert)
        if len(self._waiting) > WAITING:
            self._waiting.popleft()
            self._dropped.inc()
