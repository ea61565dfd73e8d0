"""Maintenance windows: decided from the window and the clock alone, so on every replica alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from libs.zones import load_zone
from services.health.domain.target import Mode, Target

WEEK = 7 * 86_400.0
#: Weeks over which windows that come back are compared: a year, with every change of summer time.
_COMPARED_WEEKS = 54


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which a target is not called: `starts` to `ends`, epoch seconds, and `drain` seconds before, in which
    what runs may end. `weekly`: it begins at the same time of the same day of every week, by the clocks of `zone`,
    and lasts as long each time."""

    window_id: str
    target: Target
    starts: float
    ends: float
    zone: str = "UTC"
    drain: float = 0.0
    weekly: bool = False
    reason: str = ""

    def occurrences(self, since: float, until: float) -> Iterator[tuple[float, float]]:
        """Yields the begin and the end of each time it is in force between two instants, drains included in
        `since`."""
        length = self.ends - self.starts
        if not self.weekly:
            numbers: Iterable[int] = (0,)
        else:
            # A week more at both ends: summer time moves a begin by an hour.
            first = int((since - self.ends) // WEEK) - 1
            numbers = range(max(0, first), int((until + self.drain - self.starts) // WEEK) + 2)
        for number in numbers:
            begin = self._start(number)
            if begin - self.drain < until and begin + length > since:
                yield begin, begin + length

    def mode_at(self, now: float) -> Mode | None:
        """Returns the mode that it asks for now; None: none."""
        for begin, end in self.occurrences(now, now + 1e-3):
            if begin - self.drain <= now < begin:
                return Mode.DRAIN
            if begin <= now < end:
                return Mode.MAINTENANCE
        return None

    def next_time(self, now: float) -> tuple[float, float] | None:
        """Returns the begin and the end of the present or the next time; None: it is over."""
        return next(self.occurrences(now, max(now, self.starts) + 2 * WEEK), None)

    def _start(self, number: int) -> float:
        if number == 0:
            return self.starts
        local = datetime.fromtimestamp(self.starts, load_zone(self.zone) or UTC)
        # Arithmetic within one zone is by its clocks.
        return (local + timedelta(weeks=number)).timestamp()


def find_overlap(window: Window, others: Iterable[Window], now: float) -> Window | None:
    """Returns the first of the others that takes the same target out at the same time, drains included."""
    horizon = max(now, window.starts) + _COMPARED_WEEKS * WEEK
    for other in others:
        if not (window.target.covers(other.target) or other.target.covers(window.target)):
            continue
        times = sorted(
            (begin - one.drain, end)
            for one in (window, other)
            for begin, end in one.occurrences(now, max(horizon, one.ends))
        )
        if any(later[0] < earlier[1] for earlier, later in pairwise(times)):
            return other
    return None
