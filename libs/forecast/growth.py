"""The day on which a limit will be outgrown, by the growth of daily peaks.

The logarithms of the peaks follow a line with noise around it. Its slope is drawn towards none by as much as its
standard error is of it (James and Stein, 1961): what cannot be told from chance is no growth. Days are correlated, so
the line is known as from half as many of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from libs.forecast.profile import WEEK, NotEnoughHistory

#: Days before growth is told from noise, and the days that are looked back to: growth of last quarter is no more
#: news.
MIN_GROWTH_DAYS: Final = 2 * WEEK
LOOK_BACK_DAYS: Final = 8 * WEEK
#: Days ahead within which a limit is said to be outgrown.
MOST_DAYS: Final = 365
#: Standard deviations of the 10th and 90th percentile.
_TENTH = 1.2816
#: Days that tell as much as one independent day does.
_CORRELATED = 2.0


@dataclass(frozen=True, slots=True)
class Growth:
    """The peak of a day as it is `now` (median), and its growth per day as a factor. `p10`, `p50`, `p90`: days until
    the limit is reached, for the quickest tenth, half and all but the slowest tenth of what may come; None: not
    within a year."""

    now: float
    per_day: float
    p10: int | None
    p50: int | None
    p90: int | None


def forecast_growth(peaks: Sequence[float], limit: float) -> Growth | NotEnoughHistory:
    """Forecasts when a day's peak reaches `limit`, from the peaks of the days so far, oldest first. Days without use
    are left out."""
    recent = peaks[-LOOK_BACK_DAYS:]
    points = [(i - len(recent) + 1, math.log(peak)) for i, peak in enumerate(recent) if peak > 0]
    count = len(points)
    if count < MIN_GROWTH_DAYS:
        return NotEnoughHistory(count, MIN_GROWTH_DAYS)
    middle = sum(day for day, _ in points) / count
    mean = sum(log for _, log in points) / count
    spread = sum((day - middle) ** 2 for day, _ in points)
    slope = sum((day - middle) * (log - mean) for day, log in points) / spread
    noise = sum((log - mean - slope * (day - middle)) ** 2 for day, log in points) / (count - 2)
    error = noise * _CORRELATED / spread
    slope *= max(0.0, 1 - error / slope**2) if slope else 0.0

    def reached(standard: float) -> int | None:
        for day in range(MOST_DAYS + 1):
            deviation = math.sqrt(noise * (1 + _CORRELATED / count) + error * (day - middle) ** 2)
            if math.exp(min(700.0, mean + slope * (day - middle) + standard * deviation)) >= limit:
                return day
        return None

    now = math.exp(mean - slope * middle)
    return Growth(now, math.exp(slope), reached(_TENTH), reached(0.0), reached(-_TENTH))
