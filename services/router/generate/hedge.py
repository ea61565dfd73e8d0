"""A race between a slow attempt and a second one: whoever shows something first wins, the other is cancelled.

After Dean and Barroso, "The Tail at Scale", CACM 2013: a second request after the expected 95th percentile cuts the
tail at the price of a few per cent more calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from services.router.generate.attempt import RunningAttempt
from services.router.request.generation import ProviderFailure

T = TypeVar("T")


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
        if asking is not None and (late := await _withdrawn(asking)) is not None:
            running[late.task] = late
        for entry in running.values():
            await _end(entry)
            lost(entry.attempt)


async def _withdrawn(asking: asyncio.Task[Runner[T] | None]) -> Runner[T] | None:
    """Cancels the second's begin; returns its runner where it began in the same instant."""
    asking.cancel()
    await asyncio.wait({asking})
    return None if asking.cancelled() or asking.exception() is not None else asking.result()


async def _end(entry: Runner[Any]) -> None:
    entry.task.cancel()
    await asyncio.wait({entry.task})
    if not entry.task.cancelled():
        entry.task.exception()  # retrieved, or asyncio logs it: it lost in the same instant
    if isinstance(entry.show, Coroutine):
        entry.show.close()  # it may not have begun
    await entry.drop()
