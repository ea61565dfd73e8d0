"""A learned quantile in bounded memory, newer samples counting more."""

from __future__ import annotations

import math
from bisect import bisect_left
from math import inf

# Buckets grow by 10 %: an estimate is within 5 % of the true value. 1 ms to 1 h needs 159 of them.
_GROWTH = math.log(1.1)
_SMALLEST = 0.001
_LARGEST = 3600.0
#: The largest value of each bucket but the last, which holds all that is longer.
_BOUNDS = [
    _SMALLEST * math.exp(_GROWTH * n) for n in range(math.ceil(math.log(_LARGEST / _SMALLEST) / _GROWTH))
]


class DecayingQuantile:
    """Quantiles of positive durations (seconds) in a logarithmic histogram whose weights halve every `half_life`.

    The histogram is DDSketch's (Masson, Rim, Lee, VLDB 2019) with fixed bounds; the decay is "forward decay"
    (Cormode et al., ICDE 2009): a new sample weighs more instead of every old one less.
    """

    __slots__ = ("_half_life", "_landmark", "_total", "_weights")

    def __init__(self, half_life: float = 600.0) -> None:
        if half_life <= 0:
            raise ValueError("half_life must be > 0 seconds")
        self._half_life = half_life
        self._landmark = -inf
        self._weights = [0.0] * (len(_BOUNDS) + 1)
        self._total = 0.0

    def add(self, now: float, *seconds: float, weight: float = 1.0) -> None:
        """Takes samples, each standing for `weight` equal ones. Below 1 ms and above 1 h one counts as that bound;
        what is negative or not finite does not count."""
        if weight <= 0:
            return
        scaled = weight * self._growth(now)
        weights, total = self._weights, self._total
        for sample in seconds:
            if 0 <= sample < inf:
                weights[bisect_left(_BOUNDS, sample)] += scaled
                total += scaled
        self._total = total

    def samples(self, now: float) -> float:
        """Returns the weight that is left, in samples: a measure of how much to trust the estimate."""
        return self._total / self._growth(now)

    def quantile(self, q: float) -> float | None:
        """Returns the `q` quantile (0 to 1) in seconds; None before the first sample."""
        if self._total <= 0:
            return None
        wanted = q * self._total
        seen = 0.0
        last = 0
        for index, weight in enumerate(self._weights):
            if weight <= 0:
                continue
            seen += weight
            last = index
            if seen >= wanted:
                break
        return _SMALLEST * math.exp(_GROWTH * (last - 0.5)) if last else _SMALLEST

    def _growth(self, now: float) -> float:
        if self._landmark == -inf:
            self._landmark = now
        halvings = (now - self._landmark) / self._half_life
        if halvings > 40:
            # Move the landmark before weights lose precision; 2**-40 of an old sample is nothing.
            factor = 2.0**-halvings if halvings < 1000 else 0.0
            self._weights = [w * factor for w in self._weights]
            self._total = sum(self._weights)
            self._landmark = now
            return 1.0
        return 2.0**halvings if halvings > -40 else 2.0**-40
