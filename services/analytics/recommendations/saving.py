"""The saving to expect over the next 30 days, from daily savings of the past weeks.

A mean over whole weeks foretells the mean over the days to come. Its error has two parts, that of the past mean and
that of the future one, which add up: variance of a day x (1/n + 1/30). Weekdays differ, so a day's variance is of
what is left when the mean of its weekday is taken away; days that resemble the day before count for less, by the
factor (1 + r) / (1 - r) of a first-order autoregression. Quantiles are Student's t's, since a few weeks tell the
variance only roughly. On generated days 80 % intervals cover what comes 75 to 85 % of the time (tests).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

from libs.forecast.intervals import Band

#: Days that a saving is stated for.
HORIZON_DAYS: Final = 30
#: Days that are looked back to, and days without which nothing is said.
WINDOW_DAYS: Final = 28
MIN_DAYS: Final = 14
_WEEK: Final = 7
#: Standard normal quantiles: of the interval's ends, and of the bound that must be above zero.
_TENTH: Final = 1.2816
_HUNDREDTH: Final = 2.3263
#: The strongest resemblance of neighbouring days that is believed.
_MOST_RESEMBLANCE: Final = 0.8


@dataclass(frozen=True, slots=True)
class ExpectedSaving:
    """The saving over the next 30 days, in the unit of the series. `least`: it is above this with 99 %. `days`: those
    that it was computed from."""

    band: Band
    least: float
    days: int

    @property
    def stands_out(self) -> bool:
        """Returns True if it is above the noise."""
        return self.least > 0


def expect_saving(daily: Sequence[float]) -> ExpectedSaving | None:
    """Expects the saving from that of each day so far, oldest first. Days before the first one that is not 0 do not
    count. None: they are too few, or nothing was to be saved in the last week."""
    first = next((i for i, amount in enumerate(daily) if amount), len(daily))
    weeks = (len(daily) - first) // _WEEK
    days = daily[len(daily) - weeks * _WEEK :]
    if len(days) < MIN_DAYS or not any(days[-_WEEK:]):
        return None
    weekdays = [fmean(days[start::_WEEK]) for start in range(_WEEK)]
    rest = [amount - weekdays[i % _WEEK] for i, amount in enumerate(days)]
    freedom = len(days) - _WEEK
    squares = sum(one * one for one in rest)
    resemblance = 0.0
    if squares:
        lagged = sum(one * following for one, following in pairwise(rest))
        resemblance = min(_MOST_RESEMBLANCE, max(0.0, lagged / squares))
    variance = squares / freedom * (1 + resemblance) / (1 - resemblance)
    error = HORIZON_DAYS * math.sqrt(variance * (1 / len(days) + 1 / HORIZON_DAYS))
    middle = HORIZON_DAYS * fmean(days)
    width = students_t(_TENTH, freedom) * error
    least = middle - students_t(_HUNDREDTH, freedom) * error
    return ExpectedSaving(Band(middle - width, middle, middle + width), least, len(days))


def students_t(normal: float, freedom: int) -> float:
    """Returns the quantile of Student's t for that of the standard normal distribution (Fisher and Cornish, 1960: the
    first terms; within 1 % from 7 degrees of freedom on)."""
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / freedom + second / freedom**2
