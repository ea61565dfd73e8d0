"""Compares what limits count as used with what the ledger holds, all the time.

Both count the same calls by different ways: routers settle what they reserved with the limiter, and send a record of
each attempt to analytics. So a difference that lasts is a fault of one of them, and is published as a metric before
somebody finds it in a bill. Records come a second or two after the settlement, so of two differences in a row only
what both show counts. Acts only where analytics is known; a process begins with no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from libs.clock import Clock
from libs.errors import Unavailable
from libs.limits import LimitKey, Unit
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.ratelimit.domain.limits import Limit
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.trends import Trends
from services.ratelimit.ports import SpendHistory

#: Seconds between comparisons, and the most limits in one; the others' turn comes with the next.
COMPARE_SECONDS: Final = 60.0
MAX_COMPARED: Final = 20
#: A lasting difference above this share of what is used is logged and raises an alert, where it is of more than one
#: request or token, or of a cent.
NOTABLE: Final = 0.001
_LEAST: Final = {Unit.MICRO_USD: 10_000}

log = get_logger(__name__)


def lasting(before: int | None, now: int) -> int:
    """Returns what two differences in a row both show: the smaller one, 0 where they have not the same sign; None
    before: there was none."""
    if before is None or (before > 0) != (now > 0):
        return 0
    return min(before, now, key=abs)


class Reconciliation:
    """The comparison that this replica makes. All replicas make the same ones."""

    def __init__(
        self, enforcer: Enforcer, trends: Trends, history: SpendHistory, clock: Clock, metrics: Metrics
    ) -> None:
        self._enforcer = enforcer
        self._trends = trends
        self._history = history
        self._throttle = Throttle(clock)
        #: The last difference of each limit, with the window it is of, and what of it lasts.
        self._last: dict[LimitKey, tuple[float, int]] = {}
        self._lasting: dict[LimitKey, int] = {}
        self._notable: dict[LimitKey, int] = {}
        self._turn = 0
        self._difference = metrics.gauge(
            "ratelimit_ledger_difference",
            "What calendar limits count as used and the ledger does not hold, or the other way round",
            ("unit",),
        )
        self._compared = metrics.counter(
            "ratelimit_ledger_comparisons", "Calendar limits that were compared with the ledger"
        )

    @property
    def differences(self) -> Mapping[LimitKey, int]:
        """Returns the lasting difference of each limit that was compared: used less the ledger's, in its unit."""
        return self._lasting

    @property
    def notable(self) -> Mapping[LimitKey, int]:
        """Returns the lasting differences that are more than noise."""
        return self._notable

    async def run(self) -> None:
        """Compares until cancelled."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            await self.compare()

    async def compare(self) -> None:
        """Compares the limits whose turn it is once."""
        limits = [limit for limit in self._trends.followed() if limit.key.period.calendar]
        known = {limit.key for limit in limits}
        for key in [key for key in self._lasting if key not in known]:
            self._forget(key)
        first = self._turn % max(1, len(limits))
        due = [*limits[first:], *limits[:first]][:MAX_COMPARED]
        self._turn = first + len(due)
        for limit in due:
            try:
                await self._compare(limit)
            except Unavailable:
                # Whoever is away has said so; what lasted before stands until more is known.
                return
        for unit in Unit:
            of_unit = [abs(found) for key, found in self._lasting.items() if key.unit is unit]
            if of_unit:
                self._difference.labels(unit.value).set(sum(of_unit))

    async def _compare(self, limit: Limit) -> None:
        now, (reading,) = await self._enforcer.readings([limit])
        recorded = await self._history.spent(limit, now)
        if recorded is None or not reading.start:
            # The ledger cannot tell what this limit counts, or the limiter does not know yet what was used.
            return
        self._compared.inc()
        settled = reading.level - reading.outstanding
        difference = settled - recorded
        window, before = self._last.get(limit.key, (reading.start, None))
        self._last[limit.key] = (reading.start, difference)
        found = lasting(before if window == reading.start else None, difference)
        self._lasting[limit.key] = found
        notable = abs(found) > max(_LEAST.get(limit.key.unit, 1), NOTABLE * max(settled, recorded))
        self._notable.pop(limit.key, None)
        if notable:
            self._notable[limit.key] = found
        if notable and (times := self._throttle.due()):
            log.warning(
                "ledger_differs",
                limit=str(limit.key),
                used=settled,
                ledger=recorded,
                difference=found,
                times=times,
            )

    def _forget(self, key: LimitKey) -> None:
        del self._lasting[key]
        self._last.pop(key, None)
        self._notable.pop(key, None)
