"""Turns at receiving: bounds the calls that may be sending us their message at once.

The runtime keeps what has come of a message until the rest has, and tells nobody how much that is: calls that send
half a message each would fill the memory before one of them can be counted. So a call's message is asked for only in
its turn. Until then it waits, at the cost of the transport's window (64 KiB a connection). A message that has come
already takes its turn for one round of the event loop, so that a burst of small calls passes at once.

A turn ends after `allowed` seconds, and after `pressed` seconds already where others wait for it: who sends slowly or
not at all keeps nobody out for long, and itself out first, since no caller has more than `most_of_one` turns. Of
those that wait the newest is next: where many wait, the old ones are those that send nothing.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from libs.clock import Clock
from libs.errors import DeadlineExceeded, ResourceExhausted
from libs.intake import RETRY_AFTER


class Turn(Struct, eq=False):
    """The turn of one call."""

    caller: str
    task: asyncio.Task[object]
    began: float
    #: True once the turn lasted too long: the task has been cancelled for it.
    over: bool = False


class Turns:
    """The turns of one kind of callers."""

    def __init__(
        self,
        clock: Clock,
        most: int,
        most_of_one: int,
        most_waiting: int,
        *,
        allowed: float = 10.0,
        pressed: float = 1.0,
    ) -> None:
        """Gives `most` turns at once, `most_of_one` of them to one caller; at most `most_waiting` calls of one caller
        wait. Raises ValueError for bounds out of order."""
        if not 0 < most_of_one <= most or most_waiting < 0 or not 0 < pressed <= allowed:
            raise ValueError("bounds of turns are out of order")
        self._clock = clock
        self._most = most
        self._most_of_one = most_of_one
        self._most_waiting = most_waiting
        self._allowed = allowed
        self._pressed = pressed
        self._taken = 0
        self._taken_by: dict[str, int] = {}
        #: The turns that run, the oldest first.
        self._turns: dict[Turn, None] = {}
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, caller: str) -> Turn:
        """Returns this task's turn, to be given back. Raises ResourceExhausted where too many wait already."""
        held = self._taken_by.get(caller, 0)
        if self._taken >= self._most or held >= self._most_of_one:
            await self._wait(caller)
        else:
            self._taken += 1
            self._taken_by[caller] = held + 1
        task = asyncio.current_task()
        assert task is not None
        turn = Turn(caller, task, self._clock.monotonic())
        self._turns[turn] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pressed / 4, self._end_overdue)
        return turn

    def give_back(self, turn: Turn) -> None:
        """Ends a turn; a call that waits gets it."""
        del self._turns[turn]
        self._release(turn.caller)

    def too_long(self, turn: Turn) -> DeadlineExceeded:
        """Returns the error for a call that was cancelled because its turn was `over`."""
        turn.task.uncancel()
        return DeadlineExceeded(
            "The request's message was not received in the time that it may take",
            reason="MESSAGE_NOT_RECEIVED",
        )

    async def _wait(self, caller: str) -> None:
        queue = self._waiting.setdefault(caller, {})
        if len(queue) >= self._most_waiting:
            raise ResourceExhausted(
                "Too many requests of this caller are still being sent",
                reason="REQUESTS_BEING_SENT",
                retry_after=RETRY_AFTER,
            )
        mine = asyncio.get_running_loop().create_future()
        queue[mine] = None
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._release(caller)  # had just been given a turn
            elif mine in queue:
                del queue[mine]
                if not queue:
                    del self._waiting[caller]
            raise

    def _release(self, caller: str) -> None:
        self._taken -= 1
        held = self._taken_by[caller] - 1
        if held:
            self._taken_by[caller] = held
        else:
            del self._taken_by[caller]
        while self._waiting and (found := self._newest()) is not None:
            name, waiting = found
            # Its call may have ended already, and its task not have run since.
            if not waiting.cancelled():
                self._taken += 1
                self._taken_by[name] = self._taken_by.get(name, 0) + 1
                waiting.set_result(None)
                return

    def _newest(self) -> tuple[str, asyncio.Future[None]] | None:
        """Takes out who is next of those that wait; None where nobody may have a turn."""
        # Ends soon: only most / most_of_one callers can have all their turns.
        for name, queue in self._waiting.items():
            if self._taken_by.get(name, 0) < self._most_of_one:
                newest, _ = queue.popitem()
                # Behind the others next time.
                del self._waiting[name]
                if queue:
                    self._waiting[name] = queue
                return name, newest
        return None

    def _end_overdue(self) -> None:
        now = self._clock.monotonic()
        full = self._taken >= self._most
        for turn in self._turns:
            age = now - turn.began
            if age < self._pressed:
                break
            wanted = bool(self._waiting) and (full or turn.caller in self._waiting)
            if not turn.over and (age >= self._allowed or wanted):
                turn.over = True
                turn.task.cancel()
        self._timer = (
            asyncio.get_running_loop().call_later(self._pressed / 4, self._end_overdue)
            if self._turns
            else None
        )
