"""Bounds how often one thing is logged: what fails for every record, or at every attempt, would fill the disk."""

from __future__ import annotations

from libs.clock import Clock

#: Seconds between two lines about the same thing.
INTERVAL = 10.0


class Throttle:
    """One for each thing that is said; the first time is said at once."""

    __slots__ = ("_clock", "_next", "_seconds", "_unsaid")

    def __init__(self, clock: Clock, seconds: float = INTERVAL) -> None:
        self._clock = clock
        self._seconds = seconds
        self._next = float("-inf")
        self._unsaid = 0

    def due(self) -> int | None:
        """Counts one occurrence. Returns how often it happened since the last that was said, this one included; None
        where it is not to be said now."""
        self._unsaid += 1
        now = self._clock.monotonic()
        if now < self._next:
            return None
        self._next = now + self._seconds
        times, self._unsaid = self._unsaid, 0
        return times
