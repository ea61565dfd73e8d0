"""The saving since a recommendation was accepted, against the requests that were to be left as they were.

A request is left as it was by a hash of its id: the same by whoever asks, for as long as the recommendation stands.
Days differ in price and load, so the two shares are compared within each day, and the differences of their means are
added up, each times the day's changed requests (a stratified difference of means). The variance adds up likewise.
Where acceptance has changed nothing yet, both shares are served alike, and the saving is about 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from libs.forecast.intervals import Band
from services.analytics.recommendations.recommendation import SavedUnit, Subject

#: The share of requests that is left as it was, in parts of 2^16.
PARTS: Final = 65_536
LEFT_PARTS: Final = 6_554
#: Days after the acceptance that are compared.
MEASURED_DAYS: Final = 28
_TENTH: Final = 1.2816


def left_as_it_was(recommendation_id: str, request_id: str) -> bool:
    """Returns True if an accepted recommendation must not be followed for a request."""
    digest = hashlib.sha256(f"{recommendation_id}:{request_id}".encode()).digest()
    return int.from_bytes(digest[:2], "big") < LEFT_PARTS


@dataclass(frozen=True, slots=True)
class Share:
    """Requests of one share on one day: how many, and the sums of their amounts and of the squares of these."""

    requests: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Returns the mean amount."""
        return self.total / self.requests

    @property
    def error(self) -> float:
        """Returns the variance of the mean."""
        spread = max(0.0, self.squares - self.total * self.mean)
        return spread / (self.requests - 1) / self.requests


@dataclass(frozen=True, slots=True)
class ShareDay:
    """Both shares on one day."""

    left: Share
    changed: Share


@dataclass(frozen=True, slots=True)
class MeasuredSaving:
    """Saved so far by the changed requests, in the unit of the recommendation. `days`: those that could be
    compared."""

    band: Band
    changed: int
    left: int
    days: int


def measure(days: Sequence[ShareDay]) -> MeasuredSaving | None:
    """Measures. None: no day had two requests in each share."""
    compared = [day for day in days if min(day.left.requests, day.changed.requests) >= 2]
    if not compared:
        return None
    saved = sum(day.changed.requests * (day.left.mean - day.changed.mean) for day in compared)
    variance = sum(day.changed.requests**2 * (day.left.error + day.changed.error) for day in compared)
    width = _TENTH * math.sqrt(variance)
    return MeasuredSaving(
        Band(saved - width, saved, saved + width),
        sum(day.changed.requests for day in compared),
        sum(day.left.requests for day in compared),
        len(compared),
    )


class ShareReader(Protocol):
    """Reads the two shares from requests. Raises Unavailable, DeadlineExceeded."""

    async def shares(
        self, recommendation_id: str, subject: Subject, unit: SavedUnit, since: float, until: float
    ) -> Sequence[ShareDay]:
        """Returns the shares of the requests of a subject's tenant and content type in [since, until) epoch seconds,
        by day of UTC. The amount of a request: its cost in micro-USD, its failed calls, or 1 if a limit refused
        it."""
        ...
