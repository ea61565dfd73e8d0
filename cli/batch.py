"""Generates many rows at once: bounded concurrency, patient with limits, and an orderly end on Ctrl-C."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cli.attachments import read_images, with_parts
from cli.journal import Journal
from cli.record import Outcome, to_record
from cli.rows import Row
from libs.client import Client, Options
from libs.errors import (
    AlreadyExists,
    PermissionDenied,
    PointsmanError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

#: Seconds. Waits that the server did not name grow from the first to the second, with full jitter.
FIRST_BACKOFF = 0.25
LONGEST_BACKOFF = 5.0
#: Reasons of calls whose connection, or its other end, broke: refused, closed, reset.
_TRANSPORT = {"TRANSPORT_UNAVAILABLE", "TRANSPORT_INTERNAL"}
#: Seconds in which a router that serves shows itself.
READY_TIMEOUT = 10.0
#: Seconds that answers under way get after Ctrl-C.
GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a batch: `concurrency` calls at once, each with a deadline of `timeout` seconds; a row waits at
    most `max_wait` seconds in all for limits and outages before it counts as failed; a router that serves shows
    itself within `ready`."""

    concurrency: int
    timeout: float
    max_wait: float
    ready: float = READY_TIMEOUT


class Batch:
    """One run over the rows that the journal does not hold yet. `stop` ends it early; `on_done` is called with the
    end of each row."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        options: Options,
        pace: Pace,
        rng: random.Random,
        on_done: Callable[[Outcome], None],
    ) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        self._pace = pace
        self._rng = rng
        self._on_done = on_done
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def stop(self) -> None:
        """Starts no more rows; those under way get `GRACE` seconds. A second call gives them none."""
        if self._stopping.is_set():
            self._cancel()
        else:
            self._stopping.set()
            asyncio.get_running_loop().call_later(GRACE, self._cancel)

    @property
    def stopped(self) -> bool:
        """Returns True if `stop` was called."""
        return self._stopping.is_set()

    async def run(self, rows: Sequence[Row]) -> None:
        """Generates every row that is not done. Ends early after `stop`. Raises what no further row could survive:
        Unauthenticated, PermissionDenied, Unavailable where no router is there any more, or CliError where the output
        cannot be written; rows under way are cancelled then and not recorded."""
        waiting = iter([row for row in rows if row.index not in self._journal.done])
        self._tasks = [asyncio.create_task(self._work(waiting)) for _ in range(self._pace.concurrency)]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._cancel()
            results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _work(self, waiting: Iterator[Row]) -> None:
        # All workers draw from one iterator, so that no row is taken twice and none is left behind a slow one.
        for row in waiting:
            if self.stopped:
                return
            outcome = await self._generate(row)
            if outcome is None:
                return
            self._journal.append(to_record(outcome, self._journal.run_id))
            self._on_done(outcome)

    async def _generate(self, row: Row) -> Outcome | None:
        """Returns the row's end; None where the run was stopped while the row waited for a retry."""
        request_id = f"{self._journal.run_id}-{row.index}"
        options = Options(**{**self._options, "request_id": request_id})
        if row.content_type:
            options["content_type"] = row.content_type
        prompt = with_parts(row.prompt, read_images([row.image] if row.image else []))
        patience = self._pace.max_wait
        retries = 0
        while True:
            try:
                result = await self._client.generate(prompt, timeout=self._pace.timeout, **options)
            except (Unauthenticated, PermissionDenied):
                raise
            except PointsmanError as error:
                delay = retry_delay(error, retries, self._rng)
                if delay is None or delay > patience:
                    if error.reason in _TRANSPORT:
                        # Either this row breaks connections, or nobody is there: then all others would wait in vain.
                        await self._client.ready(self._pace.ready)
                    return Outcome(row, request_id, error)
                patience -= delay
                retries += 1
                if await self._stopped_within(delay):
                    return None
            else:
                return Outcome(row, request_id, result)

    async def _stopped_within(self, delay: float) -> bool:
        try:
            async with asyncio.timeout(delay):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def retry_delay(error: PointsmanError, retries: int, rng: random.Random) -> float | None:
    """Returns the seconds until the row may be tried again, None for never.

    Tried again are: a full limit or a total outage that says when to come back; a router that does not answer (its
    request id makes the second call the same request); a request id whose first call is still being cancelled. The
    server's time is never undercut, and 0 does not become a busy loop.
    """
    backoff = rng.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(retries, 10))
    if isinstance(error, ResourceExhausted | Unavailable) and error.retry_after is not None:
        return max(error.retry_after, 0.0) + backoff
    if isinstance(error, AlreadyExists) or error.reason in _TRANSPORT:
        return backoff
    return None
