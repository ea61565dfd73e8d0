"""Calls counted over the last minute. Pure: time is a parameter (seconds)."""

from __future__ import annotations

#: A rate seen for less than this, seconds, is not known yet.
SHORTEST = 10.0


class CallRate:
    """Calls in the last minute, counted in slots of ten seconds."""

    __slots__ = ("_counts", "_first", "_slot")

    def __init__(self) -> None:
        self._counts = [0] * 6
        self._slot = 0
        self._first = 0.0

    def add(self, now: float) -> None:
        """Counts a call."""
        if int(now / 10) != self._slot:
            self._advance(now)
        slot = self._slot % 6
        if not self._counts[slot] and not any(self._counts):
            self._first = now
        self._counts[slot] += 1

    def count(self, now: float) -> int:
        """Returns the calls in the last 50 to 60 seconds."""
        self._advance(now)
        return sum(self._counts)

    def recent(self, now: float) -> int:
        """Returns the calls in the last 20 to 30 seconds."""
        self._advance(now)
        return sum(self._counts[(self._slot - back) % 6] for back in range(3))

    def per_minute(self, now: float) -> float:
        """Returns the calls a minute since they began; 0 where that was too short ago to tell."""
        count, since = self.count(now), now - self._first
        return count * 60 / min(since, 50 + now % 10) if count and since >= SHORTEST else 0.0

    def _advance(self, now: float) -> None:
        slot = int(now / 10)
        if slot - self._slot >= 6:
            self._counts = [0] * 6
            self._slot = slot
        while self._slot < slot:
            self._slot += 1
            self._counts[self._slot % 6] = 0
