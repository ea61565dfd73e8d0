"""Forecasts when a limit will be used up, from its past use, by models that are checked against it.

Use in the time to come is a gamma distribution (`levels`, `gamma`). How wide it must be is not left to the models
alone: they forecast parts of the past from what came before, over the same horizon, and the distribution is stretched
by how far off they were (the root mean square of the errors on the normal scale, with a prior's weight: few windows
prove little). A limit is used up by t when at least what is left, and what a bucket refills until then, is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.ratelimit.forecasting.gamma import Gamma
from services.ratelimit.forecasting.levels import Levels

#: Intervals of the past before anything is forecast from them.
MIN_INTERVALS = 8
#: Forecasts of the past that are scored, the number of disjoint ones that the prior counts for, and its stretch.
_BACKTESTS, _PRIOR_WEIGHT, _PRIOR_STRETCH = 24, 2.0, 1.2
#: Instants up to the horizon at which the probability is computed, and halvings between two of them.
_INSTANTS, _HALVINGS = 32, 24

#: Seconds → use in that time from now on, in the limit's unit.
Expected = Callable[[float], Gamma]


@dataclass(frozen=True, slots=True)
class Forecast:
    """`probability` of exhaustion before the reset, 0 to 1; quantiles of the time to it in seconds, None: not before
    the reset."""

    probability: float
    p10: float | None
    p50: float | None
    p90: float | None


class Outlook:
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
        self._stretch = 1.0
        scores = [self._score(origin, ahead) for origin in origins]
        disjoint = min(len(scores), (count - first) / ahead)
        mean = math.fsum(score * score for score in scores) / len(scores) if scores else 1.0
        prior = _PRIOR_WEIGHT * _PRIOR_STRETCH**2
        self._stretch = math.sqrt((prior + disjoint * mean) / (_PRIOR_WEIGHT + disjoint))

    def use(self, seconds: float) -> Gamma:
        """Forecasts the use in the next `seconds`."""
        return replace(self._levels.ahead(self._count, seconds / self._step), stretch=self._stretch)

    def _score(self, origin: int, ahead: int) -> float:
        """Returns the error of a forecast of the past, in standard deviations."""
        real = self._levels.between(origin, origin + ahead)
        return self._levels.ahead(origin, ahead).score(real)


def proportional(rate: float, seconds: float) -> Expected:
    """Forecasts use where only the mean `rate` of the last `seconds` is known. Its variation is not known: it is
    taken to be as large as itself in a minute."""
    variance = rate * rate * 60

    def use(ahead: float) -> Gamma:
        return Gamma(rate * ahead, variance * ahead * (1 + ahead / max(1.0, seconds)))

    return use


def forecast(use: Expected, left: int, refill: float, horizon: float) -> Forecast:
    """Returns the forecast of exhaustion. `left` in the limit's unit, `refill` per second, `horizon` seconds until
    the reset."""
    if left <= 0:
        return Forecast(1.0, 0.0, 0.0, 0.0)
    if horizon <= 0:
        return Forecast(0.0, None, None, None)

    def by(t: float) -> float:
        # Where a bucket refills it may be used up and recover: the probability by the worst instant so far counts.
        return 1 - use(t).below(left + refill * t)

    # Close together at first, where little is left to wait for.
    instants = [horizon * (i / _INSTANTS) ** 2 for i in range(1, _INSTANTS + 1)]
    reached: list[float] = []
    for t in instants:
        reached.append(max(by(t), reached[-1] if reached else 0.0))

    def quantile(q: float) -> float | None:
        if reached[-1] < q:
            return None
        i = next(i for i, p in enumerate(reached) if p >= q)
        low, high = (instants[i - 1] if i else 0.0), instants[i]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if by(middle) >= q else (middle, high)
        return high

    return Forecast(reached[-1], quantile(0.1), quantile(0.5), quantile(0.9))
