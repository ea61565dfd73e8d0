"""Forecasts use over a time ahead as one amount, from its past, by models that are checked against it.

Use in the time to come is a gamma distribution (`levels`, `gamma`). How wide it must be is not left to the models
alone: they forecast parts of the past from what came before, over the same horizon, and the distribution is stretched
by how far off they were (the root mean square of the errors on the normal scale, with a prior's weight: few windows
prove little).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from libs.forecast.gamma import Gamma
from libs.forecast.levels import Levels

#: Intervals of the past before anything is forecast from them.
MIN_INTERVALS = 8
#: Forecasts of the past that are scored, the number of disjoint ones that the prior counts for, and its stretch.
_BACKTESTS, _PRIOR_WEIGHT, _PRIOR_STRETCH = 24, 2.0, 1.2


@dataclass(frozen=True, slots=True)
class Tried:
    """A forecast of the past: of the `ahead` intervals after the first `origin`, and what was used in them."""

    origin: int
    ahead: int
    forecast: Gamma
    actual: float


class LevelForecast:
    """A forecast of use, from the use of equal intervals of the past."""

    def __init__(self, amounts: Sequence[float], step: float, horizon: float) -> None:
        """`amounts`: at least MIN_INTERVALS, all >= 0, oldest first; `step`: seconds of each; `horizon`: seconds that
        are to be forecast. Raises ValueError."""
        count = len(amounts)
        if count < MIN_INTERVALS or step <= 0:
            raise ValueError(f"a forecast needs {MIN_INTERVALS} intervals")
        self._step = step
        self._count = count
        # What can be checked is bounded by the past there is.
        ahead = max(1, min(round(horizon / step), count // 3))
        first, last = max(MIN_INTERVALS, count // 4), count - ahead
        origins = sorted({first + (last - first) * i // (_BACKTESTS - 1) for i in range(_BACKTESTS)})
        origins = [origin for origin in origins if first <= origin <= last]
        self._levels = Levels(amounts, sorted({*origins, count}))
        tried = [
            Tried(
                origin, ahead, self._levels.ahead(origin, ahead), self._levels.between(origin, origin + ahead)
            )
            for origin in origins
        ]
        scores = [one.forecast.score(one.actual) for one in tried]
        disjoint = min(len(scores), (count - first) / ahead)
        mean = math.fsum(score * score for score in scores) / len(scores) if scores else 1.0
        prior = _PRIOR_WEIGHT * _PRIOR_STRETCH**2
        self._stretch = math.sqrt((prior + disjoint * mean) / (_PRIOR_WEIGHT + disjoint))
        #: Forecasts of the past, each from what came before it, as wide as this one.
        self.tried = [replace(one, forecast=replace(one.forecast, stretch=self._stretch)) for one in tried]

    def use(self, seconds: float) -> Gamma:
        """Forecasts the use in the next `seconds`."""
        return replace(self._levels.ahead(self._count, seconds / self._step), stretch=self._stretch)
