"""An instant by which everything must be over, shared by all attempts of one request."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is in seconds on the monotonic clock; infinity means none."""

    at: float = math.inf

    @classmethod
    def after(cls, now: float, seconds: float | None) -> Deadline:
        """`seconds` from `now`; None: no deadline."""
        return cls() if seconds is None else cls(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - now)

    def expired(self, now: float) -> bool:
        """Whether nothing is left."""
        return now >= self.at

    def cap(self, now: float, seconds: float) -> float:
        """`seconds`, or what is left where that is less."""
        return min(seconds, self.remaining(now))

    def share(self, now: float, attempts: int) -> float:
        """An equal part of what is left for each of `attempts` (>= 1) attempts still possible, in seconds."""
        return self.remaining(now) / max(1, attempts)

    def sooner(self, other: Deadline) -> Deadline:
        """The stricter of the two."""
        return self if self.at <= other.at else other
