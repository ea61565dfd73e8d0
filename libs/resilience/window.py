"""Counts over a sliding stretch of time, in a fixed number of buckets."""

from __future__ import annotations

import math

from msgspec import Struct


class Counts(Struct, frozen=True):
    """Calls in a window. `slow` is a part of `successes`."""

    successes: int = 0
    failures: int = 0
    slow: int = 0

    @property
    def calls(self) -> int:
        """Returns the calls that say something about the target."""
        return self.successes + self.failures

    @property
    def failure_rate(self) -> float:
        """Returns the share of failures, 0 to 1; 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """Returns the slow share of all calls, 0 to 1; 0 without calls."""
        return self.slow / self.calls if self.calls else 0.0


class SlidingCounts:
    """Adds `Counts` up over the last `seconds`, exact to one bucket (`seconds / buckets`).

    Memory is `buckets` entries whatever the traffic. A clock that goes back drops what now lies in the future.
    """

    __slots__ = ("_buckets", "_current", "_entries", "_sums", "_width")

    def __init__(self, seconds: float, buckets: int) -> None:
        if seconds <= 0 or buckets < 1:
            raise ValueError("a window needs seconds > 0 and buckets >= 1")
        self._width = seconds / buckets
        self._buckets = buckets
        self._entries: dict[int, list[int]] = {}
        #: Of all entries, so that nobody who asks adds them up.
        self._sums = [0, 0, 0]
        self._current: int | None = None

    def add(self, now: float, successes: int, failures: int, slow: int = 0) -> None:
        """Counts calls that ended at `now` (seconds on any one clock)."""
        current = self._advance(now)
        entry = self._entries.get(current)
        if entry is None:
            entry = self._entries[current] = [0, 0, 0]
        sums = self._sums
        entry[0] += successes
        entry[1] += failures
        entry[2] += slow
        sums[0] += successes
        sums[1] += failures
        sums[2] += slow

    def totals(self, now: float) -> Counts:
        """Returns the counts of the window that ends at `now`."""
        self._advance(now)
        return Counts(*self._sums)

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self._sums = [0, 0, 0]

    def _advance(self, now: float) -> int:
        current = math.floor(now / self._width)
        if current == self._current:
            return current
        self._current = current
        oldest = current - self._buckets + 1
        for index in [i for i in self._entries if i < oldest or i > current]:
            gone = self._entries.pop(index)
            for which, count in enumerate(gone):
                self._sums[which] -= count
        return current
