"""Raises an alert when a quota is used up too fast or will not last, clears it when that is over, and sends both to
analytics."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from libs.clock import Clock
from libs.errors import Unavailable
from libs.limits import LimitKey
from libs.telemetry import Metrics, get_logger
from services.ratelimit.alerts.burn import Alert, AlertKind, alert_conditions, threshold_reached
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Reading, quota
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.exhaustion import forecast_exhaustion
from services.ratelimit.forecasting.trends import Trends

#: Seconds between checks of all quotas.
CHECK_SECONDS = 10.0
#: A forecast takes some ten milliseconds: the most in one check, and the share of a quota that must be used for one.
#: The others' turn comes with the next checks.
MAX_FORECASTS, MIN_SHARE = 50, 0.25
#: Changes of alerts that wait for analytics; beyond, the oldest are dropped and counted.
MAX_WAITING = 5000
#: Changes in one call.
BATCH = 500

log = get_logger(__name__)


class AlertSink(Protocol):
    """The keeper of alerts on quotas."""

    async def put(self, alerts: Sequence[Alert]) -> None:
        """Records the alerts, durably when it returns; repeating one is harmless. Raises Unavailable."""
        ...


class Alerts:
    """The alerts of this replica. All replicas raise the same ones, which analytics keeps once."""

    def __init__(
        self,
        enforcer: Enforcer,
        trends: Trends,
        sink: AlertSink | None,
        clock: Clock,
        metrics: Metrics,
        *,
        thresholds: Callable[[], Mapping[LimitKey, Sequence[int]]] = dict,
        differences: Callable[[], Mapping[LimitKey, int]] = dict,
    ) -> None:
        """`sink` None: alerts are logged and counted only. `thresholds`: those of budgets below 100 percent;
        `differences`: of limits that count something else than the ledger, used less the ledger's."""
        self._enforcer = enforcer
        self._trends = trends
        self._sink = sink
        self._clock = clock
        self._thresholds = thresholds
        self._differences = differences
        #: Standing alerts, by quota.
        self._standing: dict[LimitKey, dict[AlertKind, Alert]] = {}
        self._waiting: deque[Alert] = deque()
        #: Index of the quota whose forecast is due next.
        self._turn = 0
        self._changes = metrics.counter(
            "quota_alerts", "Alerts on quotas by what became of them: raised or cleared", ("kind", "word")
        )
        self._standing_gauge = metrics.gauge(
            "quota_alerts_standing", "Alerts on quotas that stand", ("kind",)
        )
        self._dropped = metrics.counter("quota_alerts_dropped", "Changes of alerts that analytics never got")

    async def run(self) -> None:
        """Checks and sends until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check()
            await self.send()

    async def check(self) -> None:
        """Checks every quota in use once."""
        limits = [limit for limit in self._trends.followed() if limit.key.period.calendar]
        try:
            now, readings = await self._enforcer.readings(limits)
        except Unavailable:
            # The heartbeat has logged it; alerts stand until more is known.
            return
        followed = {limit.key for limit in limits}
        for key in [key for key in self._standing if key not in followed]:
            self._clear(key, set(), now)
        left = MAX_FORECASTS
        checked = [*zip(limits, readings, strict=True)]
        first = self._turn % max(1, len(checked))
        for number, (limit, reading) in enumerate(checked[first:] + checked[:first]):
            if self._update(limit, reading, now, forecasting=left > 0):
                left -= 1
                if not left:
                    self._turn = first + number + 1
            # Other tasks run in between.
            await asyncio.sleep(0)
        for kind in AlertKind:
            self._standing_gauge.labels(kind).set(
                sum(kind in standing for standing in self._standing.values())
            )

    async def send(self) -> None:
        """Sends waiting changes to analytics. Those that it does not take are sent later."""
        while self._waiting and self._sink is not None:
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            try:
                await self._sink.put(batch)
            except Unavailable as error:
                log.warning("quota_alerts_wait", waiting=len(self._waiting), why=error.message)
                return
            for _ in batch:
                self._waiting.popleft()

    def _update(self, limit: Limit, reading: Reading, now: float, *, forecasting: bool) -> bool:
        """Raises and clears the quota's alerts. Returns True if a forecast was made."""
        key, trend = limit.key, self._trends.of(limit.key)
        standing = self._standing.get(key, {})
        if any(alert.window_start != reading.start for alert in standing.values()):
            # A new window begins with none.
            self._clear(key, set(), now)
            standing = {}
        if trend is None or reading.finish <= now:
            return False
        state = quota(limit, reading, now)
        forecasting = forecasting and MIN_SHARE * limit.limit <= state.used < limit.limit
        coming = forecast_exhaustion(limit, reading, now, trend).forecast if forecasting else None
        probability = coming.probability if coming is not None else None
        window = (reading.finish - reading.start, reading.finish - now)
        found = alert_conditions(state, window, trend, standing, probability)
        mean = state.used * window[0] / (max(1.0, window[0] - window[1]) * max(1, limit.limit))
        settled = reading.level - reading.outstanding
        told = standing.get(AlertKind.BUDGET_THRESHOLD)
        percent = threshold_reached(
            settled, limit.limit, self._thresholds().get(key, ()), told.percent if told is not None else 0
        )
        if percent and state.used < limit.limit:
            found[AlertKind.BUDGET_THRESHOLD] = mean
        difference = self._differences().get(key, 0)
        if difference:
            found[AlertKind.LEDGER_DIFFERENCE] = mean
        self._clear(key, set(found), now)
        for kind, rate in found.items():
            before = standing.get(kind)
            moved = kind is AlertKind.BUDGET_THRESHOLD and before is not None and percent != before.percent
            if before is None or moved:
                alert = Alert(
                    *(key, kind, reading.start, now, now, None, limit.limit, state.used, rate),
                    *(probability, coming.p50 if coming is not None else None),
                    percent=percent if kind is AlertKind.BUDGET_THRESHOLD else 0,
                    difference=difference if kind is AlertKind.LEDGER_DIFFERENCE else 0,
                    window_end=reading.finish,
                )
                self._standing.setdefault(key, {})[kind] = alert
                if before is None or percent > before.percent:
                    self._record(alert)
                else:
                    # Something was given back, or the limit raised: no news, but the next rise is.
                    self._send_later(alert)
        return forecasting

    def _clear(self, key: LimitKey, still: set[AlertKind], now: float) -> None:
        standing = self._standing.get(key, {})
        for kind in [kind for kind in standing if kind not in still]:
            alert = standing.pop(kind)
            self._record(replace(alert, as_of=now, cleared=now))
        if not standing:
            self._standing.pop(key, None)

    def _record(self, alert: Alert) -> None:
        word = "raised" if alert.cleared is None else "cleared"
        self._changes.labels(alert.kind, word).inc()
        level = log.warning if alert.cleared is None else log.info
        level(
            f"quota_alert_{word}",
            limit=str(alert.key),
            kind=alert.kind,
            used=alert.used,
            of=alert.limit,
            burn_rate=round(alert.burn_rate, 1),
            probability=alert.probability,
            percent=alert.percent,
            difference=alert.difference,
        )
        self._send_later(alert)

    def _send_later(self, alert: Alert) -> None:
        if self._sink is None:
            return
        self._waiting.append(alert)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self._dropped.inc()
