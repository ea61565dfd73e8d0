"""Learning limits: takes in what routers observe, shares it with all replicas, and lets it hold."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from libs.clock import Clock
from libs.errors import Unavailable
from libs.limits import LimitKey
from libs.telemetry import Metrics, get_logger
from services.ratelimit.book import LimitBook
from services.ratelimit.domain.learned import HEADERS_COUNT, Learned, Observed, apply, merge
from services.ratelimit.ports import LearnedStore

log = get_logger(__name__)

#: Seconds between readings of what other replicas took in.
REFRESH_SECONDS = 5.0


class Mode(StrEnum):
    """The use that is made of learned limits."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class Learning:
    """One per process. `share` of what a provider states is used, above 0 to 1."""

    def __init__(
        self, store: LearnedStore, book: LimitBook, clock: Clock, metrics: Metrics, mode: Mode, share: float
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError("the share of a stated limit must be above 0 and at most 1")
        self._store = store
        self._book = book
        self._clock = clock
        self._mode = mode
        self._share = share
        self._learned: dict[LimitKey, Learned] = {}
        self._gauge = metrics.gauge("ratelimit_learned", "Limits learned from providers", ("state",))
        self._failed = metrics.counter(
            "ratelimit_learning_failures", "Times that what was learned could not be written or read"
        )

    def of(self, key: LimitKey) -> Learned | None:
        """The evidence for a limit."""
        return self._learned.get(key)

    def known(self) -> dict[LimitKey, Learned]:
        """All evidence."""
        return self._learned

    async def observed(self, holder: str, observed: Observed) -> None:
        """A router's word, which replaces its last. Evidence is a sample: what the store cannot take is dropped, and
        said again soon."""
        if self._mode is Mode.OFF:
            return
        try:
            await self._store.put(holder, observed)
            await self.refresh()
        except Unavailable:
            self._failed.inc()

    async def refresh(self) -> None:
        """Reads what all routers say, and lets it hold. Raises Unavailable."""
        said = await self._store.all()
        now = self._clock.now()
        gone = [holder for holder, observed in said.items() if now - observed.at > HEADERS_COUNT]
        if gone:
            await self._store.drop(gone)
        learned = merge(said, now)
        self._say(learned)
        self._learned = learned
        enforce = self._mode is Mode.ENFORCE
        self._book.learn(
            lambda configured, before: apply(configured, learned, before, share=self._share, enforce=enforce)
        )

    async def run(self) -> None:
        """For the service's whole life."""
        while self._mode is not Mode.OFF:
            try:
                await self.refresh()
            except Unavailable:
                # The pulse says that the store is down; what was learned so far holds.
                self._failed.inc()
            await asyncio.sleep(REFRESH_SECONDS)

    def _say(self, learned: dict[LimitKey, Learned]) -> None:
        for key, word in learned.items():
            old = self._learned.get(key)
            if old is None or (old.value, old.trusted) != (word.value, word.trusted):
                log.info(
                    "limit_learned",
                    limit=str(key),
                    value=word.value,
                    source=word.source,
                    confidence=round(word.confidence, 3),
                )
        trusted = sum(word.trusted for word in learned.values())
        self._gauge.labels("trusted").set(trusted)
        self._gauge.labels("untrusted").set(len(learned) - trusted)
