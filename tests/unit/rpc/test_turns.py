"""Turns at receiving."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import DeadlineExceeded, ResourceExhausted
from libs.rpc.turns import Turns
from tests.support.clock import ManualClock


class Caller:
    """Takes a turn in a task of its own and keeps it until told."""

    def __init__(self, turns: Turns, name: str) -> None:
        self.has_it = asyncio.Event()
        self.enough = asyncio.Event()
        self.task = asyncio.create_task(self._run(turns, name))

    async def _run(self, turns: Turns, name: str) -> None:
        turn = await turns.take(name)
        over = False
        self.has_it.set()
        try:
            await self.enough.wait()
        except asyncio.CancelledError:
            over = turn.over
            if not over:
                raise
        finally:
            turns.give_back(turn)
        if over:
            raise turns.too_long(turn)

    async def end(self) -> None:
        self.enough.set()
        await self.task


async def settle() -> None:
    """Lets every task run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_caller_cannot_take_all_turns() -> None:
    """Beyond its own bound a caller waits while others are let in, up to the bound of all."""
    turns = Turns(ManualClock(), most=3, most_of_one=2, most_waiting=10)
    a = [Caller(turns, "a") for _ in range(3)]
    await settle()
    assert [one.has_it.is_set() for one in a] == [True, True, False]
    b = [Caller(turns, "b") for _ in range(2)]
    await settle()
    assert [one.has_it.is_set() for one in b] == [True, False]
    await b[0].end()
    await settle()
    assert b[1].has_it.is_set()
    assert not a[2].has_it.is_set()
    await a[0].end()
    await settle()
    assert a[2].has_it.is_set()
    for one in (a[1], a[2], b[1]):
        await one.end()
    assert not turns._taken_by
    assert not turns._waiting


async def test_the_newest_of_a_caller_is_next_and_callers_alternate() -> None:
    """Of one caller's waiting calls the last to come goes first; of two callers each gets one before one gets two."""
    turns = Turns(ManualClock(), most=1, most_of_one=1, most_waiting=10)
    holder = Caller(turns, "x")
    await settle()
    waiting = {name: Caller(turns, name[0]) for name in ("a1", "a2", "b1", "b2")}
    await settle()
    order = []
    current = holder
    while waiting:
        await current.end()
        await settle()
        ((name, current),) = [(name, one) for name, one in waiting.items() if one.has_it.is_set()]
        order.append(name)
        del waiting[name]
    await current.end()
    assert order == ["a2", "b2", "a1", "b1"]


async def test_too_many_waiting_are_refused_at_once() -> None:
    """Those of one caller; another's still wait."""
    turns = Turns(ManualClock(), most=1, most_of_one=1, most_waiting=1)
    holder, second = Caller(turns, "a"), Caller(turns, "a")
    await settle()
    with pytest.raises(ResourceExhausted) as caught:
        await turns.take("a")
    assert caught.value.reason == "REQUESTS_BEING_SENT"
    assert caught.value.retry_after
    other = Caller(turns, "b")
    for one in (holder, second, other):
        await one.end()


async def test_a_turn_ends_sooner_where_others_wait() -> None:
    """Alone it lasts as long as is allowed; with others waiting it is over after the shorter time."""
    clock = ManualClock()
    turns = Turns(clock, most=1, most_of_one=1, most_waiting=10, allowed=0.4, pressed=0.04)
    alone = Caller(turns, "a")
    await settle()
    clock.advance(0.1)
    await asyncio.sleep(0.1)
    assert not alone.task.done()
    waits = Caller(turns, "b")
    with pytest.raises(DeadlineExceeded) as caught:
        await asyncio.wait_for(alone.task, 10)
    assert caught.value.reason == "MESSAGE_NOT_RECEIVED"
    await asyncio.wait_for(waits.has_it.wait(), 10)
    clock.advance(0.5)
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(waits.task, 10)


async def test_a_caller_that_leaves_holds_nothing() -> None:
    """Cancelled while it waits, while it has its turn, and in the moment between: every turn is free again."""
    turns = Turns(ManualClock(), most=1, most_of_one=1, most_waiting=10)
    holder, leaves, between = (Caller(turns, "a") for _ in range(3))
    await settle()
    leaves.task.cancel()
    await settle()
    holder.enough.set()
    # The holder's end and the next one's beginning are steps of one loop: cancelled after the first of them.
    while not holder.task.done():
        await asyncio.sleep(0)
    between.task.cancel()
    await asyncio.wait({leaves.task, between.task})
    last = Caller(turns, "a")
    await asyncio.wait_for(last.has_it.wait(), 10)
    last.task.cancel()
    await asyncio.wait({last.task})
    assert not turns._taken
    assert not turns._taken_by
    assert not turns._waiting


@pytest.mark.parametrize("bounds", [(0, 0, 0), (1, 2, 0), (2, 0, 0), (1, 1, -1)])
def test_bounds_out_of_order_are_refused(bounds: tuple[int, int, int]) -> None:
    """Nobody would ever have a turn, or one caller more than all."""
    with pytest.raises(ValueError, match="order"):
        Turns(ManualClock(), *bounds)


@pytest.mark.parametrize("leaving", [1, 3], ids=["one", "all"])
async def test_calls_that_end_while_a_turn_is_passed_on_lose_none(leaving: int) -> None:
    """Calls that are cancelled in the very round in which a turn ends leave it to those who still wait."""
    turns = Turns(ManualClock(), most=2, most_of_one=1, most_waiting=10)
    for _ in range(5):
        holder = Caller(turns, "a")
        await settle()
        waiting = [Caller(turns, "a") for _ in range(3)]
        await settle()
        holder.enough.set()
        # The holder runs first, when the others are cancelled already and have not run yet.
        await asyncio.sleep(0)
        for one in waiting[-leaving:]:
            one.task.cancel()
        for one in waiting[:-leaving]:
            one.enough.set()
        await settle()
        await holder.task
        for one in waiting[:-leaving]:
            await one.task
        for one in waiting[-leaving:]:
            assert one.task.cancelled()
    assert turns._taken == 0
    assert not turns._taken_by
    assert not turns._waiting
