"""Use per interval as a level and noise around it, under many models at once.

Each model is exponential smoothing in its innovations form (Hyndman et al., Forecasting with Exponential Smoothing,
2008): next = mean + d + v; d' = phi * (d + gain * v), with errors v of one variance. phi = 1 is a level that wanders
and never returns (mean = 0, d the level), gain 0 one that never moves; phi < 1 falls back to the mean of the past
within 1 / (1 - phi) intervals, as bursts do. None has to be chosen: models are weighed by the likelihood of
the past, so the forecast's variance holds what is not known about the model too (Hoeting et al., 1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from libs.forecast.gamma import Gamma

#: Factors that a burst keeps per interval (it lasts 4, 16, 64 intervals, for ever) and gains of the level: an octave
#: or two apart, since neighbours forecast nearly the same.
_PHIS = (1.0, 63 / 64, 15 / 16, 3 / 4)
_GAINS = (1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 4 / 5)
_MODELS = ((1.0, 0.0), *((phi, gain) for phi in _PHIS for gain in _GAINS))
#: A lull is not the end: at least this part of the mean of the past is expected.
_FLOOR = 0.02
#: Intervals before a model can be judged.
MIN_INTERVALS = 4


@dataclass(frozen=True, slots=True)
class _State:
    """A model after some intervals: level (or distance from the mean), squared errors, log of their factors."""

    level: float
    squares: float
    factors: float


class Levels:
    """The states of all models over one series, after each of `origins` intervals."""

    def __init__(self, series: Sequence[float], origins: Sequence[int]) -> None:
        """`series` at least MIN_INTERVALS long, all >= 0; `origins` ascending, from MIN_INTERVALS to its length."""
        self._sums = [0.0]
        for amount in series:
            self._sums.append(self._sums[-1] + amount)
        self._models = [_run(phi, gain, series, self._sums, origins) for phi, gain in _MODELS]
        self._index = {origin: i for i, origin in enumerate(origins)}

    def between(self, start: int, end: int) -> float:
        """Returns the use in the intervals from `start` to before `end`."""
        return self._sums[end] - self._sums[start]

    def ahead(self, origin: int, count: float) -> Gamma:
        """Forecasts the use in the next `count` intervals, after `origin` of them."""
        mean = self._sums[origin] / origin
        dof = origin - 1
        # Even use has no errors; a floor keeps its logarithm finite.
        least = (1e-9 * mean) ** 2 * dof + 1e-300
        found = []
        for (phi, gain), states in zip(_MODELS, self._models, strict=True):
            state = states[self._index[origin]]
            squares = max(state.squares, least)
            weight = -0.5 * (dof * math.log(squares / dof) + state.factors)
            total, factor = _horizon(phi, gain, state.level, mean, origin, count)
            # The errors' variance is itself estimated: Student's t has this much more.
            found.append((weight, total, factor * squares / max(1, dof - 2)))
        top = max(weight for weight, _, _ in found)
        weights = [math.exp(weight - top) for weight, _, _ in found]
        scale = math.fsum(weights)
        expected = math.fsum(w * total for w, (_, total, _) in zip(weights, found, strict=True)) / scale
        variance = (
            math.fsum(
                w * (own + (total - expected) ** 2) for w, (_, total, own) in zip(weights, found, strict=True)
            )
            / scale
        )
        return Gamma(max(expected, _FLOOR * mean * count), variance)


def _run(
    phi: float, gain: float, series: Sequence[float], sums: Sequence[float], origins: Sequence[int]
) -> list[_State]:
    """Returns the model's state after each of `origins` intervals."""
    found: list[_State] = []
    waiting = iter((*origins, -1))
    due = next(waiting)
    level = series[0] if phi == 1.0 else 0.0
    squares = factors = 0.0
    for i in range(1, len(series)):
        if phi == 1.0:
            # The first level is one observation's; the filter learns as fast as a mean does until `gain` is faster.
            young = 1 / (i + 1)
            factor = 1 + young - gain if young > gain else 1.0
            error = series[i] - level
            squares += error * error / factor
            factors += math.log(factor)
            level += (young if young > gain else gain) * error
        else:
            error = series[i] - sums[i] / i - level
            squares += error * error * i / (i + 1)
            level = phi * (level + gain * error)
        if i + 1 == due:
            found.append(_State(level, squares, factors if phi == 1.0 else math.log(i + 1)))
            due = next(waiting)
    return found


def _horizon(
    phi: float, gain: float, level: float, mean: float, origin: int, count: float
) -> tuple[float, float]:
    """Returns the expected use of `count` intervals, and its variance in units of one error's: every error to come
    moves the level for the rest of the horizon, and the level or mean it starts from is known from `origin` intervals
    only."""
    k = count
    if phi == 1.0:
        young = max(0.0, 1 / origin - gain)
        drift = gain * k * (k - 1) + gain * gain * (k - 1) * k * (2 * k - 1) / 6
        # A level was seen to wander over `origin` intervals. That it goes on for many times as long, which would make
        # any use possible, is not known: from then on it is held as a burst of that length is.
        held = k + drift if k <= origin else min(k + drift, _errors(origin / (origin + 1), gain, k)[0])
        return k * level, max(k / 4, held) + young * k * k
    errors, reach, a = _errors(phi, gain, k)
    # The mean of a series that wanders is known worse than of independent intervals; where it is wrong, the tracked
    # distance makes up for what has not faded.
    tracked = phi * gain / (1 - phi + phi * gain)
    return k * mean + level * reach, max(k / 4, errors) + a * a / origin * (k - reach * tracked) ** 2


def _errors(phi: float, gain: float, k: float) -> tuple[float, float, float]:
    """Returns for phi < 1 the variance of the use of `k` intervals by errors to come, in units of one error's; how
    many intervals' worth of the distance from the mean they hold; and how many of an error's a far horizon does."""
    fade = phi**k
    reach = (1 - fade) / (1 - phi)
    b = gain * phi / (1 - phi)
    a = 1 + b
    return k * a * a - 2 * a * b * reach + b * b * (1 - fade * fade) / (1 - phi * phi), reach, a
