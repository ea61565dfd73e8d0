"""Rebuilds calendar windows whose past the store has lost: reads it from the ledger, then opens them again.

A window stays closed while slices of the store's earlier life may still be spent (`learning`), and until the ledger
has answered what was used. Where it does not answer, money stays closed: what is spent cannot be taken back.
Requests and tokens start at zero then, with a warning, and so does everything that the ledger does not keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from libs.clock import Clock
from libs.errors import Unavailable
from libs.limits import LimitKey, Unit
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.ratelimit.domain.limits import Limit
from services.ratelimit.ports import LimitStore, SpendHistory

log = get_logger(__name__)

#: Seconds that an admission waits for windows that are just being opened. Others of its router wait behind it.
OPEN_TIMEOUT = 0.2
#: Seconds until the ledger is asked again where it did not answer, and until callers should come back.
RETRY_SECONDS = 2.0
#: Questions to the ledger at the same time.
_AT_ONCE = 8
#: Limits without an answer that are remembered; beyond, those whose time is over are forgotten.
_REMEMBERED = 4096


class Rebuild:
    """Opens windows. Replicas may open the same one at the same time: the store takes the first answer."""

    def __init__(self, store: LimitStore, history: SpendHistory, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._history = history
        self._clock = clock
        self._closed_throttle, self._unknown_throttle = Throttle(clock), Throttle(clock)
        self._tasks: dict[LimitKey, asyncio.Task[None]] = {}
        #: Instants of the next question about windows without an answer, monotonic seconds.
        self._retry_at: dict[LimitKey, float] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._seeded = metrics.counter(
            "ratelimit_windows_seeded",
            "Calendar windows without a past that were opened, by what they began with: ledger, zero",
            ["source"],
        )
        self._unanswered = metrics.counter(
            "ratelimit_ledger_failures", "Questions about a window's past that the ledger did not answer"
        )
        self._refused = metrics.counter(
            "ratelimit_closed_windows", "Uses of calendar windows that were closed because of their past"
        )

    async def open(self, limits: Sequence[Limit]) -> Mapping[LimitKey, float]:
        """Opens the present windows of these limits. Returns those that are still closed, each with the seconds after
        which to try again. Raises Unavailable where the store is gone."""
        learning = (await self._store.beat(())).learning
        if learning > 0:
            self._refused.inc(len(limits))
            return {limit.key: learning for limit in limits}
        now = self._clock.monotonic()
        began = []
        for limit in limits:
            if limit.key not in self._tasks and self._retry_at.get(limit.key, 0.0) <= now:
                task = asyncio.create_task(self._open(limit), name=f"rebuild {limit.key}")
                self._tasks[limit.key] = task
                began.append(task)
        if began:
            await asyncio.wait(began, timeout=OPEN_TIMEOUT)
        closed = {
            limit.key: max(self._retry_at.get(limit.key, 0.0) - now, 1.0)
            for limit in limits
            if limit.key in self._tasks or limit.key in self._retry_at
        }
        self._refused.inc(len(closed))
        return closed

    async def close(self) -> None:
        """Cancels the questions that are running."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self, limit: Limit) -> None:
        try:
            async with self._slots:
                await self._seed(limit)
            self._retry_at.pop(limit.key, None)
        except Unavailable as error:
            if times := self._closed_throttle.due():
                log.warning("window_stays_closed", limit=str(limit.key), why=error.message, windows=times)
            now = self._clock.monotonic()
            if len(self._retry_at) >= _REMEMBERED:
                self._retry_at = {key: at for key, at in self._retry_at.items() if at > now}
            self._retry_at[limit.key] = now + RETRY_SECONDS
        finally:
            del self._tasks[limit.key]

    async def _seed(self, limit: Limit) -> None:
        """Seeds one window with what the ledger has of it. Raises Unavailable where it must stay closed."""
        now = (await self._store.beat(())).now
        try:
            spent = await self._history.spent(limit, now)
        except Unavailable as error:
            self._unanswered.inc()
            if limit.key.unit is Unit.MICRO_USD and not limit.shadow:
                raise
            if times := self._unknown_throttle.due():
                log.warning("window_without_past", limit=str(limit.key), why=error.message, windows=times)
            spent = None
        await self._store.seed(limit, spent or 0)
        self._seeded.labels("zero" if spent is None else "ledger").inc()
        log.warning("window_seeded", limit=str(limit.key), spent=spent)
