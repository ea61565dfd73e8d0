"""Intervals around a forecast, from how far off the same method was before.

Errors are kept as logarithms of (actual + offset) / (forecast + offset), so an interval is wide where use is high and
never below 0; the offset keeps quiet hours from deciding it. Days are few and the hours of one go wrong together, so
quantiles of the errors are too narrow by themselves: the width is set by how often each day would have been covered
by the errors of the other days, with a prior's weight (conformal prediction by leaving one block out; Barber et al.,
2021)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from libs.forecast.profile import Day

#: The offset, in means of an hour. Bench: 0.4 and 0.8 have 1 to 2 % less pinball loss than 0.2 on clients, 0.1 has 1
#: to 2 % more; at 0.02 quiet hours widen every other.
OFFSET: Final = 0.4
#: Width before anything is known of it, and the days for which that counts. On public production traces 1.2 to 1.3
#: were needed with few days, bench: 1.1 to 1.3.
_PRIOR_WIDTH, _PRIOR_DAYS = 1.25, 5.0
#: A single error counts as so many widths at most, and the width is at most this.
_MOST_ERROR, _MOST_WIDTH = 4.0, 2.0
#: The highest hour of the past times this is the most that an interval reaches.
_MOST_RISE = 1.5
#: Days before the width is measured.
_MIN_DAYS = 3
#: The share of past hours that the width is measured to cover: days to come differ more from the past than past days
#: do from one another. Bench: 80 % of the hours to come are then in their interval.
_AIM = 0.82


@dataclass(frozen=True, slots=True)
class Band:
    """The 10th, 50th and 90th percentile of an amount."""

    p10: float
    p50: float
    p90: float

    def covers(self, amount: float) -> bool:
        """Returns True if the amount lies in the band."""
        return self.p10 <= amount <= self.p90


def quantile(ranked: Sequence[float], share: float) -> float:
    """Returns the quantile of values in ascending order (at least one), linear between two of them."""
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


class Errors:
    """The errors of one method over past days."""

    def __init__(self, forecasts: Sequence[Day], actuals: Sequence[Day]) -> None:
        """`forecasts` and `actuals` of the same days, at least one."""
        count = len(actuals)
        hours = [amount for day in actuals for amount in day]
        self._offset = OFFSET * sum(hours) / len(hours) or 1e-9
        self._most = _MOST_RISE * max(*hours, 1e-9)
        self._days = [
            [
                math.log((actual + self._offset) / (forecast + self._offset))
                for actual, forecast in zip(day, forecast_day, strict=True)
            ]
            for day, forecast_day in zip(actuals, forecasts, strict=True)
        ]
        self._low, self._high = _spread(error for day in self._days for error in day)
        self.width = _PRIOR_WIDTH
        if count >= _MIN_DAYS:
            needed = sorted(self._needed())
            measured = quantile(needed, _AIM)
            drawn = (count * measured + _PRIOR_DAYS * _PRIOR_WIDTH) / (count + _PRIOR_DAYS)
            self.width = min(_MOST_WIDTH, drawn)
            self.coverage: float | None = sum(one <= self.width for one in needed) / len(needed)
        else:
            self.coverage = None

    def band(self, forecast: float) -> Band:
        """Returns the band around a forecast, which is its median."""
        base = forecast + self._offset

        def at(error: float) -> float:
            return max(0.0, base * math.exp(self.width * error) - self._offset)

        most = max(self._most, forecast)
        return Band(min(forecast, at(self._low)), forecast, max(forecast, min(most, at(self._high))))

    def _needed(self) -> list[float]:
        """Returns for each error the width at which the others' quantiles would just have covered it."""
        found = []
        for i, day in enumerate(self._days):
            others = (error for j, other in enumerate(self._days) if j != i for error in other)
            low, high = _spread(others)
            for error in day:
                side = high if error > 0 else low
                width = abs(error / side) if side else (_MOST_ERROR if error else 0.0)
                found.append(min(_MOST_ERROR, width))
        return found


def _spread(errors: Iterable[float]) -> tuple[float, float]:
    """Returns the 10th and 90th percentile, not above and not below 0."""
    ranked = sorted(errors)
    return min(0.0, quantile(ranked, 0.1)), max(0.0, quantile(ranked, 0.9))
