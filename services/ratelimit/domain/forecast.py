"""When will a limit be used up? Use in the recent past, as a random walk with drift.

Use per second has a mean m and a variance s² (per second) estimated from the samples; the mean itself is uncertain by
s²/T after T seconds of samples. For a given mean, the time to use up what is left is that of a Brownian motion's
first passage: the inverse Gaussian distribution (Chhikara and Folks, 1989). The forecast averages it over the mean's
uncertainty. A bucket's refill is a negative drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

#: The mean's distribution is averaged over this many equally likely values.
_NODES = 15
_NORMAL = NormalDist()
#: Fewer increments than this say nothing about variance.
MIN_INCREMENTS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything taken up to `at` (epoch seconds), in the limit's unit."""

    at: float
    taken: int


@dataclass(frozen=True, slots=True)
class Demand:
    """Use per second; `variance` of one second's use; `error` variance of the mean."""

    rate: float
    variance: float
    error: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """`probability` of exhaustion before the reset, 0 to 1; quantiles of the time to it in seconds, None: not before
    the reset."""

    rate: float
    probability: float
    p10: float | None
    p50: float | None
    p90: float | None


def demand(samples: Sequence[Sample]) -> Demand | None:
    """From samples in order of time; None: too few. Falls in `taken` (a new window, a forgotten counter) are left
    out."""
    steps = [
        (b.at - a.at, b.taken - a.taken) for a, b in pairwise(samples) if b.at > a.at and b.taken >= a.taken
    ]
    if len(steps) < MIN_INCREMENTS:
        return None
    total = math.fsum(length for length, _ in steps)
    rate = sum(taken for _, taken in steps) / total
    variance = math.fsum((taken - rate * length) ** 2 / length for length, taken in steps) / (len(steps) - 1)
    return Demand(rate, variance, variance / total)


def forecast(use: Demand, left: int, refill: float, horizon: float) -> Forecast:
    """`left` in the limit's unit, `refill` per second, `horizon` seconds until the reset."""
    if left <= 0:
        return Forecast(use.rate, 1.0, 0.0, 0.0, 0.0)
    if horizon <= 0 or (use.rate == 0 and use.variance == 0):
        return Forecast(use.rate, 0.0, None, None, None)
    spread = math.sqrt(use.error)
    drifts = [
        max(0.0, use.rate + spread * _NORMAL.inv_cdf((i + 0.5) / _NODES)) - refill for i in range(_NODES)
    ]

    def by(t: float) -> float:
        return math.fsum(_first_passage(left, drift, use.variance, t) for drift in drifts) / _NODES

    return Forecast(
        use.rate,
        by(horizon),
        _quantile(by, 0.1, horizon),
        _quantile(by, 0.5, horizon),
        _quantile(by, 0.9, horizon),
    )


def _first_passage(distance: float, drift: float, variance: float, t: float) -> float:
    """The probability that a Brownian motion has gone `distance` by `t`."""
    scale = math.sqrt(variance * t)
    if scale < 1e-9 * distance:
        return 1.0 if drift * t >= distance else 0.0
    direct = _NORMAL.cdf((drift * t - distance) / scale)
    reflected = 2 * drift * distance / variance + _log_cdf(-(distance + drift * t) / scale)
    return min(1.0, direct + (math.exp(reflected) if reflected < 0 else 1.0))


def _log_cdf(z: float) -> float:
    """log of the normal distribution function, good far out in the tail."""
    if z > -30:
        return math.log(max(_NORMAL.cdf(z), 1e-300))
    return -z * z / 2 - math.log(-z * math.sqrt(2 * math.pi))


def _quantile(by: Callable[[float], float], q: float, horizon: float) -> float | None:
    if by(horizon) < q:
        return None
    low, high = 0.0, horizon
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if by(middle) >= q else (middle, high)
    return high
