"""Past use of one limit: samples in equal steps, the further back the coarser. Pure: time is a parameter (epoch
seconds).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

#: Seconds between samples of a limit.
SAMPLE_SECONDS: Final = 5.0
#: Seconds between the samples of each ring: each reaches back KEPT of its steps, 20 minutes to 57 days.
STEPS: Final = (5.0, 40.0, 320.0, 2560.0, 20480.0)
KEPT: Final = 240
#: Intervals into which the time to be forecast is cut, at most (but with the coarsest ring).
FINEST: Final = 64
#: Two samples may come a little early without being too close.
_SLACK = 0.8


class _Ring:
    """Instants and totals taken by then, ascending; KEPT intervals, at times up to twice as many."""

    __slots__ = ("ats", "step", "totals")

    def __init__(self, step: float) -> None:
        self.step = step
        self.ats = array("d")
        self.totals = array("d")

    def add(self, at: float, total: float) -> None:
        if self.ats and at - self.ats[-1] < self.step * _SLACK:
            return
        self.ats.append(at)
        self.totals.append(total)
        if len(self.ats) > 2 * KEPT:
            del self.ats[: -KEPT - 1], self.totals[: -KEPT - 1]

    def total(self, at: float) -> float:
        """Returns the total taken by then, interpolated between two samples."""
        ats, totals = self.ats, self.totals
        i = bisect_right(ats, at)
        if i == 0:
            return totals[0]
        if i == len(ats):
            return totals[-1]
        part = (at - ats[i - 1]) / (ats[i] - ats[i - 1])
        return totals[i - 1] + part * (totals[i] - totals[i - 1])


class Trend:
    """The past use of one limit; some 40 KB after a month."""

    __slots__ = ("_last", "_rings", "_total", "_window")

    def __init__(self) -> None:
        self._rings = tuple(_Ring(step) for step in STEPS)
        self._total = 0.0
        self._last: int | None = None
        self._window = 0.0

    def add(self, at: float, taken: int, window: float = 0.0) -> None:
        """Adds a sample. `taken`: of the limit since its counting began, leased and reserved included; falls when
        estimates come back, and to little when a new window (which began at `window`) or a new count begins."""
        last = self._last
        if last is None:
            grown = 0
        elif window != self._window or taken < last // 2:
            grown = taken
        else:
            grown = taken - last
        self._last, self._window = taken, window
        self._total += grown
        for ring in self._rings:
            ring.add(at, self._total)

    def used(self, seconds: float) -> float:
        """Returns the use in the last `seconds`; use before the first sample is not known and not counted."""
        ring = next((r for r in self._rings if r.step * KEPT >= seconds and r.ats), self._rings[0])
        if not ring.ats:
            return 0.0
        newest = self._rings[0]
        return max(0.0, newest.totals[-1] - ring.total(newest.ats[-1] - seconds))

    @property
    def began(self) -> float | None:
        """The instant of the first sample that is still kept. None: there is none."""
        return min((ring.ats[0] for ring in self._rings if ring.ats), default=None)

    def intervals(self, horizon: float, least: int) -> tuple[float, list[float]] | None:
        """Returns the length of equal intervals in seconds and the use in each, oldest first, as coarse as suits a
        forecast `horizon` seconds ahead. None: the past has fewer than `least` intervals yet."""
        suiting = next((i for i, step in enumerate(STEPS) if horizon <= step * FINEST), len(STEPS) - 1)
        for ring in reversed(self._rings[: suiting + 1]):
            if not ring.ats:
                continue
            end = ring.ats[-1]
            count = min(KEPT, int((end - ring.ats[0]) / ring.step + 0.05))
            if count >= least:
                return ring.step, _amounts(ring, end, count)
        return None


def _amounts(ring: _Ring, end: float, count: int) -> list[float]:
    """Returns the use per interval; amounts that came back after an estimate are taken from later intervals."""
    totals = [ring.total(end - i * ring.step) for i in range(count, -1, -1)]
    found, high = [], totals[0]
    for total in totals[1:]:
        found.append(max(0.0, total - high))
        high = max(high, total)
    return found
