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
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.ledger import Ledger, Recorded
from services.analytics.ledger.record_bounds import UnusableRecord, check_recent
from services.analytics.ledger.request import RequestRecord

#: Records that one commit takes on before it waits for the next: enough to make its fixed cost small, few enough
#: to keep a batch's wait short. A single batch may be larger.
MAX_COMMIT = 2000
_SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000)
_LAGS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600, 86_400)

log = get_logger(__name__)


@dataclass(slots=True)
class _Batch:
    attempts: Sequence[Attempt]
    requests: Sequence[RequestRecord]
    done: asyncio.Future[Mapping[str, str]]

    @property
    def size(self) -> int:
        """Returns the number of its records."""
        return len(self.attempts) + len(self.requests)


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
        self._request_records = metrics.counter(
            "analytics_request_records", "Records of requests by what became of them.", ["result"]
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

    async def record(
        self,
        attempts: Sequence[Attempt],
        requests: Sequence[RequestRecord] = (),
        *,
        malformed: int = 0,
        malformed_requests: int = 0,
    ) -> Mapping[str, str]:
        """Returns when the batch is durable, with reasons by attempt id, or a request's record id, for records that
        can never be kept. `malformed` events that did not become attempts are counted along, and likewise
        `malformed_requests`. Raises Unavailable while the ledger is gone; nothing is tried again here, the sender
        keeps the batch."""
        refused: dict[str, str] = {}
        usable = [row for row in attempts if self._check(row.attempt_id, row.started, refused)]
        usable_requests = [row for row in requests if self._check(row.record_id, row.started, refused)]
        if usable or usable_requests:
            refused |= await self._commit_with_others(usable, usable_requests)
        for counter, lost in (
            (self._events, malformed + len(attempts) - len(usable)),
            (self._request_records, malformed_requests + len(requests) - len(usable_requests)),
        ):
            if lost:
                counter.labels("rejected").inc(lost)
        return refused

    def _check(self, key: str, started: float, refused: dict[str, str]) -> bool:
        """Returns True for a record of a time that the ledger keeps; else the reason is in `refused`."""
        try:
            check_recent(started, self._clock.now(), self._retention)
        except UnusableRecord as error:
            refused[key] = str(error)
            return False
        return True

    async def close(self) -> None:
        """Waits for the commit that is running."""
        if self._committing is not None:
            await self._committing

    async def _commit_with_others(
        self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord]
    ) -> Mapping[str, str]:
        batch = _Batch(attempts, requests, asyncio.get_running_loop().create_future())
        self._waiting.append(batch)
        self._pending.inc(batch.size)
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
        size = batches[0].size
        while self._waiting and size + self._waiting[0].size <= self._max_commit:
            batches.append(self._waiting.popleft())
            size += batches[-1].size
        self._pending.dec(size)
        # A stream that went away does not wait any more; it will send the batch again.
        return [batch for batch in batches if not batch.done.cancelled()]

    async def _commit(self, batches: Sequence[_Batch]) -> None:
        attempts = [attempt for batch in batches for attempt in batch.attempts]
        requests = [request for batch in batches for request in batch.requests]
        if not (attempts or requests):
            return
        began = self._clock.monotonic()
        try:
            recorded = await self._ledger.record(attempts, requests)
        except asyncio.CancelledError:
            for batch in batches:
                batch.done.cancel()
            raise
        except Exception as error:
            # Whatever it is belongs to those who wait; a loop that died of it would leave the next ones waiting.
            self._failures.inc()
            if not isinstance(error, PointsmanError) and (times := self._unexpected.due()):
                log.error(
                    "commit_failed", events=len(attempts), requests=len(requests), times=times, exc_info=error
                )
            for batch in batches:
                if not batch.done.done():
                    batch.done.set_exception(error)
            return
        self._observe(attempts, requests, recorded, self._clock.monotonic() - began)
        for batch in batches:
            if not batch.done.done():
                batch.done.set_result(_refused_of(batch, recorded.refused))

    def _observe(
        self,
        attempts: Sequence[Attempt],
        requests: Sequence[RequestRecord],
        recorded: Recorded,
        seconds: float,
    ) -> None:
        self._seconds.observe(seconds)
        self._sizes.observe(len(attempts) + len(requests))
        oldest = min(row.started + (row.latency or 0.0) for rows in (attempts, requests) for row in rows)
        self._lag.observe(max(0.0, self._clock.now() - oldest))
        for result, count in (
            ("inserted", recorded.inserted),
            ("replaced", recorded.replaced),
            ("duplicate", recorded.duplicates),
            ("rejected", len(attempts) - recorded.inserted - recorded.replaced - recorded.duplicates),
        ):
            if count:
                self._events.labels(result).inc(count)
        lost = sum(request.record_id in recorded.refused for request in requests) if recorded.refused else 0
        for result, count in (
            ("inserted", recorded.requests),
            ("duplicate", len(requests) - recorded.requests - lost),
            ("rejected", lost),
        ):
            if count:
                self._request_records.labels(result).inc(count)


def _refused_of(batch: _Batch, refused: Mapping[str, str]) -> Mapping[str, str]:
    if not refused:
        return {}
    keys = [*(a.attempt_id for a in batch.attempts), *(r.record_id for r in batch.requests)]
    return {key: refused[key] for key in keys if key in refused}
