"""A race between a slow attempt and a second one: whoever shows something first wins, the other is cancelled.

After Dean and Barroso, "The Tail at Scale", CACM 2013: a second request after the expected 95th percentile cuts the
tail at the price of a few per cent more calls.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from services.router.generate.attempt import RunningAttempt
from services.router.generate.in_flight import InFlight
from services.router.planning.candidate import Candidate
from services.router.request.generation import ProviderFailure

T = TypeVar("T")

#: The most that a hedge may cost where the request names no maximum, in times of what the first attempt may: beside
#: what is free only what is free.
HEDGE_COST = 2


def candidates_beside(request: InFlight, first: Candidate, *, doubted: bool) -> Iterator[Candidate]:
    """Yields the candidates that may run beside the first attempt, as far as the envelope allows. `doubted`: they
    stand in for it, and may cost what fallbacks may."""
    envelope = request.envelope
    if envelope.max_attempts < 2:
        return
    most = math.inf if doubted else HEDGE_COST * first.estimated_micro_usd
    if envelope.max_cost_micro_usd is not None:
        most = envelope.max_cost_micro_usd - first.estimated_micro_usd
    for other in request.plan.candidates:
        if other is not first and other.target not in request.refused and other.estimated_micro_usd <= most:
            yield other


class Runner(Generic[T]):
    """An attempt in the race. `show` resolves at its first sign of an answer; `drop` ends what it left open. `usual`:
    the seconds in which its target usually shows something, None: not known."""

    def __init__(
        self,
        attempt: RunningAttempt,
        show: Awaitable[T],
        drop: Callable[[], Awaitable[None]],
        usual: float | None = None,
    ) -> None:
        self.usual = usual
        self.attempt = attempt
        self.show = show
        self.task: asyncio.Task[T] = asyncio.ensure_future(_awaited(show))
        self.drop = drop


async def _awaited(show: Awaitable[T]) -> T:
    return await show


async def race(
    first: Runner[T],
    delay: float,
    second: Callable[[], Awaitable[Runner[T] | None]],
    failed: Callable[[RunningAttempt, ProviderFailure], None],
    lost: Callable[[RunningAttempt], None],
    outlasts: Callable[[Runner[T]], None] | None = None,
) -> tuple[Runner[T], T]:
    """Returns the winner and its first sign. `second` is called after `delay` seconds without a sign of the first,
    and may decline (None); it is cancelled when the first shows something meanwhile. `failed` and `lost` account for
    attempts that do not win; the last failure is raised. `outlasts` takes over the first where the second wins: it
    is not ended then."""
    running = {first.task: first}
    requested = False
    asking: asyncio.Task[Runner[T] | None] | None = None
    failure: ProviderFailure | None = None
    try:
        while running:
            tasks: set[asyncio.Task[Any]] = {*running, asking} if asking is not None else {*running}
            done, _ = await asyncio.wait(
                tasks, timeout=None if requested else delay, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                requested = True
                asking = asyncio.ensure_future(_awaited(second()))
                continue
            for task in [task for task in running if task in done]:
                entry = running.pop(task)
                try:
                    shown = task.result()
                except ProviderFailure as error:
                    failure = error
                    failed(entry.attempt, error)
                    await entry.drop()
                    # A visible failure is the failover loop's business, not a reason to hedge.
                    requested = True
                    continue
                if outlasts is not None and first.task in running:
                    del running[first.task]
                    outlasts(first)
                return entry, shown
            if asking is not None and asking in done:
                another, asking = asking.result(), None
                if another is not None:
                    running[another.task] = another
        assert failure is not None
        raise failure
    finally:
        await _undisturbed(_conclude(asking, running, lost))


async def _conclude(
    asking: asyncio.Task[Runner[T] | None] | None,
    running: dict[asyncio.Task[T], Runner[T]],
    lost: Callable[[RunningAttempt], None],
) -> None:
    """Ends and accounts for all that has not won; the second may begin in the same instant."""
    if asking is not None:
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled() and asking.exception() is None and (late := asking.result()) is not None:
            running[late.task] = late
    for entry in running.values():
        await _end(entry)
        lost(entry.attempt)


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Does the work to its end although the caller leaves meanwhile, which is heard of at the next wait: half of it
    would leave attempts that nobody accounts for."""
    task, me = asyncio.ensure_future(work), asyncio.current_task()
    assert me is not None
    left = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            left = True
            me.uncancel()
    task.result()
    if left:
        me.cancel()


async def _end(entry: Runner[Any]) -> None:
    entry.task.cancel()
    await asyncio.wait({entry.task})
    if not entry.task.cancelled():
        entry.task.exception()  # retrieved, or asyncio logs it: it lost in the same instant
    if isinstance(entry.show, Coroutine):
        entry.show.close()  # it may not have begun
    await entry.drop()
