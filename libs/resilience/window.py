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

    __slots__ = ("_buckets", "_current", "_entries", "_entry", "_older", "_width")

    def __init__(self, seconds: float, buckets: int) -> None:
        if seconds <= 0 or buckets < 1:
            raise ValueError("a window needs seconds > 0 and buckets >= 1")
        self._width = seconds / buckets
        self._buckets = buckets
        #: Successes, failures and slow successes by bucket, and those of the current bucket.
        self._entries: dict[int, list[int]] = {}
        self._current: int | None = None
        self._entry: list[int] | None = None
        #: The sums of all buckets but the current one; None until somebody asks.
        self._older: tuple[int, int, int] | None = None

    def add(self, now: float, successes: int, failures: int, slow: int = 0) -> None:
        """Counts calls that ended at `now` (seconds on any one clock)."""
        current = now // self._width
        entry = self._entry
        if entry is None or current != self._current:
            current = self._advance(now)
            entry = self._entry = self._entries.setdefault(current, [0, 0, 0])
        entry[0] += successes
        if failures or slow:
            entry[1] += failures
            entry[2] += slow

    def totals(self, now: float) -> Counts:
        """Returns the counts of the window that ends at `now`."""
        current = self._advance(now)
        if self._older is None:
            older = [entry for index, entry in self._entries.items() if index != current]
            self._older = (
                sum(entry[0] for entry in older),
                sum(entry[1] for entry in older),
                sum(entry[2] for entry in older),
            )
        successes, failures, slow = self._older
        entry = self._entry
        if entry is None:
            return Counts(successes, failures, slow)
        return Counts(successes + entry[0], failures + entry[1], slow + entry[2])

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self._entry = self._older = None

    def _advance(self, now: float) -> int:
        current = math.floor(now / self._width)
        if current == self._current:
            return current
        self._current, self._entry, self._older = current, self._entries.get(current), None
        oldest = current - self._buckets + 1
        for index in [i for i in self._entries if i < oldest or i > current]:
            del self._entries[index]
        return current
