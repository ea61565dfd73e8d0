"""The race of a slow attempt with a second one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from libs.types import ErrorClass
from services.router.generate.attempt import RunningAttempt
from services.router.generate.hedge import Runner, race
from services.router.request.generation import ProviderFailure
from tests.support.routing import fail

FIRST, SECOND = (cast(RunningAttempt, name) for name in ("first", "second"))


@dataclass
class Bed:
    """A race whose steps the test makes: what each shows, and when the second may begin."""

    shows: dict[RunningAttempt, asyncio.Future[str]] = field(default_factory=dict)
    permit: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    withdrawn: bool = False
    failed: list[RunningAttempt] = field(default_factory=list)
    lost: list[RunningAttempt] = field(default_factory=list)
    dropped: list[RunningAttempt] = field(default_factory=list)

    def enter(self, attempt: RunningAttempt) -> Runner[str]:
        show: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.shows[attempt] = show

        async def shown() -> str:
            return await show

        async def drop() -> None:
            self.dropped.append(attempt)

        return Runner(attempt, shown(), drop)

    async def second(self) -> Runner[str] | None:
        self.asked.set()
        try:
            return self.enter(SECOND) if await self.permit else None
        except asyncio.CancelledError:
            self.withdrawn = True
            raise

    def run(self) -> asyncio.Task[tuple[Runner[str], str]]:
        first = self.enter(FIRST)
        return asyncio.create_task(
            race(first, 0.0, self.second, lambda a, _: self.failed.append(a), self.lost.append)
        )


async def test_regression_an_answer_does_not_wait_for_the_hedges_limits() -> None:
    """The first shows something while the second waits to be admitted: the first wins at once, and the second is not
    begun."""
    bed = Bed()
    task = bed.run()
    await bed.asked.wait()
    bed.shows[FIRST].set_result("answer")
    async with asyncio.timeout(5):
        winner, shown = await task
    assert (winner.attempt, shown, bed.withdrawn) == (FIRST, "answer", True)
    assert bed.lost == bed.failed == []


async def test_a_hedge_admitted_in_the_instant_of_the_answer_is_accounted() -> None:
    """It has begun, so it is ended and told as lost."""
    bed = Bed()
    task = bed.run()
    await bed.asked.wait()
    bed.permit.set_result(True)
    bed.shows[FIRST].set_result("answer")
    winner, _ = await task
    assert (winner.attempt, bed.lost, bed.dropped) == (FIRST, [SECOND], [SECOND])


async def test_the_second_wins_when_it_shows_something_first() -> None:
    """And the first is told as lost."""
    bed = Bed()
    task = bed.run()
    await bed.asked.wait()
    bed.permit.set_result(True)
    async with asyncio.timeout(5):
        while SECOND not in bed.shows:
            await asyncio.sleep(0)
    bed.shows[SECOND].set_result("quick")
    winner, shown = await task
    assert (winner.attempt, shown, bed.lost) == (SECOND, "quick", [FIRST])


async def test_a_visible_failure_is_not_hedged() -> None:
    """It ends the race although the second could still be admitted: what comes next is the failover loop's."""
    bed = Bed()
    task = bed.run()
    await bed.asked.wait()
    bed.shows[FIRST].set_exception(fail(ErrorClass.OVERLOADED))
    with pytest.raises(ProviderFailure):
        await task
    assert (bed.failed, bed.lost, bed.withdrawn) == ([FIRST], [], True)


async def test_where_the_hedge_is_declined_the_first_is_waited_for() -> None:
    """As without one."""
    bed = Bed()
    task = bed.run()
    await bed.asked.wait()
    bed.permit.set_result(False)
    await asyncio.sleep(0)
    bed.shows[FIRST].set_result("answer")
    winner, _ = await task
    assert (winner.attempt, bed.lost) == (FIRST, [])
