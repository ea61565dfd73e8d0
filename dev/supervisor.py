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
#: The least bytes of free disk with which a member can be expected to stay up.
LEAST_ROOM = 1024 * 1024


def has_room(directory: Path) -> bool:
    """Returns False while the directory's disk is as good as full."""
    return free_bytes(directory) >= LEAST_ROOM


def free_bytes(directory: Path) -> int:
    """Returns the bytes that are free on the disk where the directory is, or would be made."""
    there = next(
        place for place in (directory.absolute(), *directory.absolute().parents) if os.path.exists(place)
    )
    disk = os.statvfs(there)
    return disk.f_bavail * disk.f_frsize


class StackError(Exception):
    """The stack cannot start or cannot stay up; the message ends with the culprit's last log lines."""


@dataclass(slots=True)
class MemberStatus:
    """The state of one member."""

    member: Member
    state: str = "waiting"
    restarts: int = 0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_DEATHS))
    #: Ends in a row while the disk had no room.
    starved: int = 0


class Supervisor:
    """Starts, restarts and stops members. `report` gets each change as one sentence. The first layer starts before
    all the others, which start together: services do without each other, but not without their databases. What
    ends while there is no `room` on the disk is tried until there is: a full disk must not end those that do
    without it."""

    def __init__(
        self,
        layers: Sequence[Sequence[Member]],
        clock: Clock,
        report: Callable[[str], None],
        room: Callable[[], bool],
    ) -> None:
        self._layers = [[MemberStatus(member) for member in layer] for layer in layers]
        self._clock = clock
        self._report = report
        self._room = room

    @property
    def statuses(self) -> list[MemberStatus]:
        """Returns the status of every member, in starting order."""
        return [status for layer in self._layers for status in layer]

    async def start(self) -> None:
        """Returns once all serve. Raises StackError where one does not; the others must then be stopped."""
        first, *others = self._layers
        for together in (first, [status for layer in others for status in layer]):
            try:
                async with asyncio.TaskGroup() as group:
                    for status in together:
                        group.create_task(self._start(status))
            except* (EngineError, OSError) as errors:
                raise StackError(str(errors.exceptions[0])) from errors

    async def keep_running(self) -> None:
        """Restarts each member that ends. Never returns; raises StackError once a member cannot stay up."""
        try:
            async with asyncio.TaskGroup() as group:
                for status in self.statuses:
                    group.create_task(self._restart_when_ended(status))
        except* StackError as errors:
            raise errors.exceptions[0] from None

    async def stop(self, graces: Sequence[float]) -> None:
        """Ends all, last layer first; `graces` are the layers' seconds before SIGKILL, in starting order."""
        for layer, grace in reversed(list(zip(self._layers, graces, strict=True))):
            await asyncio.gather(*(status.member.stop(grace) for status in layer))
            for status in layer:
                status.state = "stopped"

    async def _start(self, status: MemberStatus) -> None:
        status.state = "starting"
        await status.member.start()
        status.state = "serving"
        self._report(f"{status.member.name} serves on {status.member.address}")

    async def _restart_when_ended(self, status: MemberStatus) -> None:
        while True:
            how = _describe_exit(await status.member.child.wait())
            while True:
                status.state = "restarting"
                await asyncio.sleep(self._pause(status, how))
                status.restarts += 1
                try:
                    await self._start(status)
                    break
                except (EngineError, OSError) as error:  # OSError: the disk is full, for a while.
                    how = str(error).splitlines()[0]

    def _pause(self, status: MemberStatus, how: str) -> float:
        """Returns the seconds until a member that has ended is started again, and reports it. Raises StackError where
        it ends too often."""
        name = status.member.name
        if not self._room():
            status.deaths.clear()
            status.starved += 1
            if status.starved == 1:
                self._report(f"{name} ended ({how}); the disk has no room: tried again until there is some")
            return min(FIRST_PAUSE * status.starved, LONGEST_PAUSE)
        status.starved = 0
        now = self._clock.monotonic()
        status.deaths.append(now)
        if len(status.deaths) == MAX_DEATHS and now - status.deaths[0] <= WITHIN:
            last = status.member.child.tail()
            raise StackError(f"{name} cannot stay up: {MAX_DEATHS} ends in {WITHIN:.0f} s:\n{last}")
        recent = sum(now - death <= WITHIN for death in status.deaths)
        pause: float = min(FIRST_PAUSE * 2 ** (recent - 1), LONGEST_PAUSE)
        self._report(f"{name} ended ({how}); again in {pause:.1f} s")
        return pause


def _describe_exit(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
