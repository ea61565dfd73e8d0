"""A clock that a test moves."""

from __future__ import annotations


class ManualClock:
    """Satisfies `libs.clock.Clock`; both times advance together."""

    def __init__(self, monotonic: float = 1000.0, now: float = 1_800_000_000.0) -> None:
        self._monotonic = monotonic
        self._now = now

    def monotonic(self) -> float:
        return self._monotonic

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._now += seconds
