"""Records what routers observe of providers' limits, shares it with all replicas, and makes it hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from libs.clock import Clock
from libs.errors import Unavailable
from libs.limits import LimitKey
from libs.telemetry import Metrics, get_logger
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.learning.learned import HEADERS_COUNT, Learned, Observed, apply, merge

log = get_logger(__name__)

#: Seconds between reads of what all replicas recorded.
REFRESH_SECONDS = 5.0


class Mode(StrEnum):
    """The use of learned limits."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class LearnedStore(Protocol):
    """The last report of each router, shared by all replicas. All methods raise Unavailable when the store is
    gone."""

    async def put(self, holder: str, observed: Observed) -> None:
        """Replaces the router's last report."""
        ...

    async def all(self) -> dict[str, Observed]:
        """Returns the last report of each router."""
        ...

    async def drop(self, holders: Sequence[str]) -> None:
        """Drops the reports of these routers."""
        ...


class Learning:
    """The learned limits of this process. `share` of what a provider states is used, above 0 to 1."""

    def __init__(
        self,
        store: LearnedStore,
        effective: EffectiveLimits,
        clock: Clock,
        metrics: Metrics,
        mode: Mode,
        share: float,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError("the share of a stated limit must be above 0 and at most 1")
        self._store = store
        self._effective = effective
        self._clock = clock
        self._mode = mode
        self._share = share
        self._learned: dict[LimitKey, Learned] = {}
        self._gauge = metrics.gauge("ratelimit_learned", "Limits learned from providers", ("state",))
        self._failed = metrics.counter(
            "ratelimit_learning_failures", "Times that what was learned could not be written or read"
        )

    def of(self, key: LimitKey) -> Learned | None:
        """Returns what is learned of a limit; None: nothing."""
        return self._learned.get(key)

    def all(self) -> dict[LimitKey, Learned]:
        """Returns all that is learned."""
        return self._learned

    async def record(self, holder: str, observed: Observed) -> None:
        """Records a router's report, which replaces its last. Evidence is a sample: a report that the store cannot
        take is dropped; the router sends it again soon."""
        if self._mode is Mode.OFF:
            return
        try:
            await self._store.put(holder, observed)
            await self.refresh()
        except Unavailable:
            self._failed.inc()

    async def refresh(self) -> None:
        """Reads all reports, and makes what follows from them hold. Raises Unavailable."""
        reports = await self._store.all()
        now = self._clock.now()
        gone = [holder for holder, observed in reports.items() if now - observed.at > HEADERS_COUNT]
        if gone:
            await self._store.drop(gone)
        learned = merge(reports, now)
        self._log_changes(learned)
        self._learned = learned
        enforce = self._mode is Mode.ENFORCE
        self._effective.set_learned(
            lambda configured, before: apply(configured, learned, before, share=self._share, enforce=enforce)
        )

    async def run(self) -> None:
        """Refreshes until cancelled."""
        while self._mode is not Mode.OFF:
            try:
                await self.refresh()
            except Unavailable:
                # The heartbeat logs that the store is down; what was learned so far holds.
                self._failed.inc()
            await asyncio.sleep(REFRESH_SECONDS)

    def _log_changes(self, learned: dict[LimitKey, Learned]) -> None:
        for key, limit in learned.items():
            old = self._learned.get(key)
            if old is None or (old.value, old.trusted) != (limit.value, limit.trusted):
                log.info(
                    "limit_learned",
                    limit=str(key),
                    value=limit.value,
                    source=limit.source,
                    confidence=round(limit.confidence, 3),
                )
        trusted = sum(limit.trusted for limit in learned.values())
        self._gauge.labels("trusted").set(trusted)
        self._gauge.labels("untrusted").set(len(learned) - trusted)
