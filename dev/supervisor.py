"""Keeps the members of a stack up: starts them, restarts the one that dies, stops all in reverse."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.engines import EngineError
from dev.members import Member
from libs.clock import Clock

#: A member that ends this often within this many seconds cannot stay up.
MAX_DEATHS, WITHIN = 5, 30.0
#: Seconds before the first restart, and the most before any.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
#: Bytes; with less no member can be expected to stay up.
LEAST_ROOM = 1024 * 1024


def has_room(directory: Path) -> bool:
    """Returns False while the directory's disk is as good as full."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize >= LEAST_ROOM


class StackError(Exception):
    """The stack cannot start or cannot stay up; the message ends with the culprit's last log lines."""


@dataclass(slots=True)
class Life:
    """How one member is doing."""

    member: Member
    state: str = "waiting"
    restarts: int = 0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_DEATHS))
    #: Ends in a row while the disk had no room.
    starved: int = 0


class Supervisor:
    """`say` is told each change in one sentence. The first layer starts before all the others, which start together:
    services do without each other, but not without their databases. What ends while there is no `room` on the disk is
    tried until there is: a full disk must not end those that do without it."""

    def __init__(
        self,
        layers: Sequence[Sequence[Member]],
        clock: Clock,
        say: Callable[[str], None],
        room: Callable[[], bool],
    ) -> None:
        self._layers = [[Life(member) for member in layer] for layer in layers]
        self._clock = clock
        self._say = say
        self._room = room

    @property
    def lives(self) -> list[Life]:
        """Every member, in starting order."""
        return [life for layer in self._layers for life in layer]

    async def start(self) -> None:
        """Returns once all serve. Raises StackError where one does not; the others must then be stopped."""
        first, *others = self._layers
        for together in (first, [life for layer in others for life in layer]):
            try:
                async with asyncio.TaskGroup() as group:
                    for life in together:
                        group.create_task(self._start(life))
            except* (EngineError, OSError) as errors:
                raise StackError(str(errors.exceptions[0])) from errors

    async def keep(self) -> None:
        """Restarts whatever ends, for ever. Raises StackError once a member cannot stay up."""
        try:
            async with asyncio.TaskGroup() as group:
                for life in self.lives:
                    group.create_task(self._keep(life))
        except* StackError as errors:
            raise errors.exceptions[0] from None

    async def stop(self, graces: Sequence[float]) -> None:
        """Ends all, last layer first; `graces` are the layers' seconds before SIGKILL, in starting order."""
        for layer, grace in reversed(list(zip(self._layers, graces, strict=True))):
            await asyncio.gather(*(life.member.stop(grace) for life in layer))
            for life in layer:
                life.state = "stopped"

    async def _start(self, life: Life) -> None:
        life.state = "starting"
        await life.member.start()
        life.state = "serving"
        self._say(f"{life.member.name} serves on {life.member.address}")

    async def _keep(self, life: Life) -> None:
        while True:
            how = _words(await life.member.child.wait())
            while True:
                life.state = "restarting"
                await asyncio.sleep(self._pause(life, how))
                life.restarts += 1
                try:
                    await self._start(life)
                    break
                except (EngineError, OSError) as error:  # OSError: the disk is full, for a while.
                    how = str(error).splitlines()[0]

    def _pause(self, life: Life, how: str) -> float:
        """Seconds until a member that has ended is tried again, which is said. Raises StackError where it ends too
        often."""
        name = life.member.name
        if not self._room():
            life.deaths.clear()
            life.starved += 1
            if life.starved == 1:
                self._say(f"{name} ended ({how}); the disk has no room: tried again until there is some")
            return min(FIRST_PAUSE * life.starved, LONGEST_PAUSE)
        life.starved = 0
        now = self._clock.monotonic()
        life.deaths.append(now)
        if len(life.deaths) == MAX_DEATHS and now - life.deaths[0] <= WITHIN:
            last = life.member.child.tail()
            raise StackError(f"{name} cannot stay up: {MAX_DEATHS} ends in {WITHIN:.0f} s:\n{last}")
        recent = sum(now - death <= WITHIN for death in life.deaths)
        pause: float = min(FIRST_PAUSE * 2 ** (recent - 1), LONGEST_PAUSE)
        self._say(f"{name} ended ({how}); again in {pause:.1f} s")
        return pause


def _words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
