"""Bounds how often one thing is logged: what fails for every record, or at every attempt, would fill the disk."""

from __future__ import annotations

from libs.clock import Clock

#: Seconds between two lines about the same thing.
INTERVAL = 10.0


class Throttle:
    """Decides when a repeated event is logged; one for each event. The first time is logged at once."""

    __slots__ = ("_clock", "_next", "_seconds", "_unlogged")

    def __init__(self, clock: Clock, seconds: float = INTERVAL) -> None:
        self._clock = clock
        self._seconds = seconds
        self._next = float("-inf")
        self._unlogged = 0

    def due(self) -> int | None:
        """Counts one occurrence. Returns the occurrences since the last logged one, this one included; None where it
        is not to be logged now."""
        self._unlogged += 1
        now = self._clock.monotonic()
        if now < self._next:
            return None
        self._next = now + self._seconds
        times, self._unlogged = self._unlogged, 0
        return times
