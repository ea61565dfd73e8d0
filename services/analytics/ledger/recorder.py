"""Records usage: batches of all routers' streams share commits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.clock import Clock
from libs.errors import PointsmanError
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.analytics.ledger.attempt import Attempt, UnusableAttempt, check_kept, check_not_ahead
from services.analytics.ledger.ledger import Ledger, Recorded

#: Records that one commit takes on before it waits for the next: enough to make its fixed cost small, few enough
#: to keep a batch's wait short. A single batch may be larger.
MAX_COMMIT = 2000
_SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000)
_LAGS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600, 86_400)

log = get_logger(__name__)


@dataclass(slots=True)
class _Batch:
    attempts: Sequence[Attempt]
    done: asyncio.Future[Mapping[str, str]]


class Recorder:
    """Commits one at a time; batches that arrive meanwhile go into the next commit together. A stream waits for its
    batch, so memory holds at most one batch per stream."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        max_commit: int = MAX_COMMIT,
        *,
        retention: float | None = None,
    ) -> None:
        """`retention`: seconds for which the ledger keeps records; None: for ever."""
        if max_commit < 1:
            raise ValueError("max_commit must be at least 1")
        self._ledger = ledger
        self._clock = clock
        self._unexpected = Throttle(clock)
        self._max_commit = max_commit
        self._retention = retention
        self._waiting: deque[_Batch] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._events = metrics.counter(
            "analytics_events", "Usage records by what became of them.", ["result"]
        )
        self._failures = metrics.counter("analytics_commit_failures", "Commits that did not happen.")
        self._pending = metrics.gauge("analytics_pending_events", "Usage records waiting for their commit.")
        self._sizes = metrics.histogram(
            "analytics_commit_events", "Usage records per commit.", buckets=_SIZES
        )
        self._seconds = metrics.histogram("analytics_commit_seconds", "Duration of a commit.")
        self._lag = metrics.histogram(
            "analytics_lag_seconds",
            "From the end of an attempt to its commit, the oldest one of each commit.",
            buckets=_LAGS,
        )

    async def record(self, attempts: Sequence[Attempt], *, malformed: int = 0) -> Mapping[str, str]:
        """Returns when the batch is durable, with reasons by attempt id for records that can never be kept.
        `malformed` events that did not become attempts are counted along. Raises Unavailable while the ledger is
        gone; nothing is tried again here, the sender keeps the batch."""
        refused: dict[str, str] = {}
        usable = []
        now = self._clock.now()
        for attempt in attempts:
            try:
                check_not_ahead(attempt, now)
                if self._retention is not None:
                    check_kept(attempt, now - self._retention)
            except UnusableAttempt as error:
                refused[attempt.attempt_id] = str(error)
            else:
                usable.append(attempt)
        if usable:
            refused |= await self._commit_with_others(usable)
        if malformed or len(usable) < len(attempts):
            self._events.labels("rejected").inc(malformed + len(attempts) - len(usable))
        return refused

    async def close(self) -> None:
        """Waits for the commit that is running."""
        if self._committing is not None:
            await self._committing

    async def _commit_with_others(self, attempts: Sequence[Attempt]) -> Mapping[str, str]:
        batch = _Batch(attempts, asyncio.get_running_loop().create_future())
        self._waiting.append(batch)
        self._pending.inc(len(attempts))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(), name="analytics-commit")
        return await batch.done

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next_batches())
        finally:
            self._committing = None

    def _next_batches(self) -> list[_Batch]:
        batches = [self._waiting.popleft()]
        size = len(batches[0].attempts)
        while self._waiting and size + len(self._waiting[0].attempts) <= self._max_commit:
            batches.append(self._waiting.popleft())
            size += len(batches[-1].attempts)
        self._pending.dec(size)
        # A stream that went away does not wait any more; it will send the batch again.
        return [batch for batch in batches if not batch.done.cancelled()]

    async def _commit(self, batches: Sequence[_Batch]) -> None:
        attempts = [attempt for batch in batches for attempt in batch.attempts]
        if not attempts:
            return
        began = self._clock.monotonic()
        try:
            recorded = await self._ledger.record(attempts)
        except asyncio.CancelledError:
            for batch in batches:
                batch.done.cancel()
            raise
        except Exception as error:
            # Whatever it is belongs to those who wait; a loop that died of it would leave the next ones waiting.
            self._failures.inc()
            if not isinstance(error, PointsmanError) and (times := self._unexpected.due()):
                log.error("commit_failed", events=len(attempts), times=times, exc_info=error)
            for batch in batches:
                if not batch.done.done():
                    batch.done.set_exception(error)
            return
        self._observe(attempts, recorded, self._clock.monotonic() - began)
        for batch in batches:
            if not batch.done.done():
                batch.done.set_result(_refused_of(batch, recorded.refused))

    def _observe(self, attempts: Sequence[Attempt], recorded: Recorded, seconds: float) -> None:
        self._seconds.observe(seconds)
        self._sizes.observe(len(attempts))
        oldest = min(attempt.started + (attempt.latency or 0.0) for attempt in attempts)
        self._lag.observe(max(0.0, self._clock.now() - oldest))
        for result, count in (
            ("inserted", recorded.inserted),
            ("replaced", recorded.replaced),
            ("duplicate", recorded.duplicates),
            ("rejected", len(attempts) - recorded.inserted - recorded.replaced - recorded.duplicates),
        ):
            if count:
                self._events.labels(result).inc(count)


def _refused_of(batch: _Batch, refused: Mapping[str, str]) -> Mapping[str, str]:
    if not refused:
        return {}
    return {a.attempt_id: refused[a.attempt_id] for a in batch.attempts if a.attempt_id in refused}
