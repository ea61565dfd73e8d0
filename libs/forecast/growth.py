"""The day on which a limit will be outgrown, by the growth of daily peaks.

The logarithms of the peaks follow a line, with a distance from it for each weekday and noise around both. Its slope
is drawn towards none by as much as its standard error is of it (James and Stein, 1961): what cannot be told from
chance is no growth. Days are correlated, so the line is known as from a sixth as many of them.

Lines that are likely too turn around the middle of the past, where the line is known best, so a steeper one also
stands higher today. Less steep ones are spread below the drawn slope, steeper ones above the slope as it was seen:
the median believes no growth that may be chance, and the early end of the interval does not deny it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from libs.forecast.profile import WEEK, NotEnoughHistory, without_spikes

#: Days before growth is told from noise, and the days that are looked back to: growth of last quarter is no more
#: news.
MIN_GROWTH_DAYS: Final = 2 * WEEK
LOOK_BACK_DAYS: Final = 8 * WEEK
#: Days ahead within which a limit is said to be outgrown.
MOST_DAYS: Final = 365
#: Chances by which days are told, and slopes that stand for all that are likely.
_SHARES, _SLOPES = (0.1, 0.5, 0.9), 15
_NORMAL = NormalDist()
#: Days that tell as much of the slope as one independent day does: a correlation of 0.7 from day to day. Of made
#: series without growth 6 % are then told to reach 2.5 times their level within a year; with 2 it would be 14 %.
_CORRELATED = 6.0


@dataclass(frozen=True, slots=True)
class Growth:
    """The peak of a day as it is `now` (median), and its growth per day as a factor. `p10`, `p50`, `p90`: days until
    the first peak reaches the limit with a chance of 10, 50 and 90 %, 0: today; None: not within a year."""

    now: float
    per_day: float
    p10: int | None
    p50: int | None
    p90: int | None


def forecast_growth(peaks: Sequence[float], limit: float) -> Growth | NotEnoughHistory:
    """Forecasts when a day's peak reaches `limit`, from the peaks of the days so far, oldest first. Days without use
    are left out, spikes are cut; after a week of them nothing is known of what comes."""
    recent = without_spikes(peaks)[-LOOK_BACK_DAYS:]
    if not any(recent[-WEEK:]):
        return NotEnoughHistory(0, MIN_GROWTH_DAYS)
    points = [(i - len(recent) + 1, math.log(peak)) for i, peak in enumerate(recent) if peak > 0]
    count = len(points)
    if count < MIN_GROWTH_DAYS:
        return NotEnoughHistory(count, MIN_GROWTH_DAYS)
    middle = sum(day for day, _ in points) / count
    mean = sum(log for _, log in points) / count
    spread = sum((day - middle) ** 2 for day, _ in points)
    seen = sum((day - middle) * (log - mean) for day, log in points) / spread
    over = [(day % WEEK, log - mean - seen * (day - middle)) for day, log in points]
    weekdays = [_effect([rest for weekday, rest in over if weekday == one]) for one in range(WEEK)]
    noise = sum((rest - weekdays[weekday]) ** 2 for weekday, rest in over) / (count - 2)
    variance = noise * _CORRELATED / spread
    slope = seen * max(0.0, 1 - variance / seen**2) if seen**2 > 0 else 0.0
    first = _first_days(
        [math.log(limit) - mean - one for one in weekdays],
        middle,
        _likely_slopes(slope, seen, math.sqrt(variance)),
        math.sqrt(noise),
    )
    return Growth(math.exp(mean - slope * middle), math.exp(slope), *first)


def _effect(rests: Sequence[float]) -> float:
    """Returns the mean of a weekday's distances from the line, drawn towards none as if one more were 0."""
    return sum(rests) / (len(rests) + 1)


def _likely_slopes(drawn: float, seen: float, error: float) -> list[float]:
    """Returns slopes as likely as one another."""
    scores = [_NORMAL.inv_cdf((i + 0.5) / _SLOPES) for i in range(_SLOPES)]
    return [(max(drawn, seen) if score > 0 else drawn) + error * score for score in scores]


def _first_days(
    left: Sequence[float], middle: float, slopes: Sequence[float], noise: float
) -> tuple[int | None, int | None, int | None]:
    """Returns the days by which the limit has been reached with a chance of 10, 50 and 90 %. `left`: what is left of
    it on each weekday, today's first, as the logarithm of a factor, were the level that of the past's `middle` (a day
    below 0). A slope stands for all days; the noise is drawn anew for each."""
    kept = [1.0] * _SLOPES
    found: list[int | None] = [None, None, None]
    for day in range(MOST_DAYS + 1):
        for i, one in enumerate(slopes):
            over = left[day % WEEK] - one * (day - middle)
            below = _NORMAL.cdf(over / noise) if noise else float(over > 0)
            kept[i] *= below
        reached = 1 - sum(kept) / _SLOPES
        for i, share in enumerate(_SHARES):
            if found[i] is None and reached >= share:
                found[i] = day
    return found[0], found[1], found[2]
