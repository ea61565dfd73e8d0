"""The gamma distribution by its mean and variance: amounts that cannot be negative and vary more than they should."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

NORMAL = NormalDist()
#: Above this shape the cube root of a gamma variate is normal to four digits (Wilson and Hilferty, 1931).
_LARGE_SHAPE = 200.0
#: Halvings of the range in which a quantile is: to a millionth of a millionth.
_HALVINGS = 40
#: Below this coefficient of variation the amount is certain.
_CERTAIN = 1e-6


@dataclass(frozen=True, slots=True)
class Gamma:
    """`mean` >= 0, `variance` >= 0; `stretch` > 0 widens every quantile on the normal scale, 1: as it is."""

    mean: float
    variance: float
    stretch: float = 1.0

    def below(self, x: float) -> float:
        """Returns the probability of less than `x`."""
        if x <= 0:
            return 0.0
        if self._certain:
            return 1.0 if x > self.mean else 0.0
        p = self._plain(x)
        if self.stretch == 1.0 or not 0.0 < p < 1.0:
            return p
        return NORMAL.cdf(NORMAL.inv_cdf(p) / self.stretch)

    def score(self, x: float) -> float:
        """Returns `x` on the normal scale, from -6 to 6: standard normal if `x` is drawn from this. Amounts are
        counted in whole units, so none at all stands for all that is less than one."""
        if x <= 0:
            p = self.below(1.0) / 2
        elif self._certain:
            p = 0.5 if math.isclose(x, self.mean, rel_tol=_CERTAIN) else self.below(x)
        else:
            p = self.below(x)
        return 6.0 if p >= 1 - 1e-9 else -6.0 if p <= 1e-9 else NORMAL.inv_cdf(p)

    def quantile(self, p: float) -> float:
        """Returns the amount that `p` (0 to 1, exclusive) of all are below."""
        if self._certain:
            return self.mean
        low, high = 0.0, self.mean + 1.0
        while self.below(high) < p:
            low, high = high, high * 2
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.below(middle) < p else (low, middle)
        return high

    @property
    def _certain(self) -> bool:
        return self.mean <= 0 or self.variance <= (_CERTAIN * self.mean) ** 2

    def _plain(self, x: float) -> float:
        shape = self.mean * self.mean / self.variance
        scaled = x * self.mean / self.variance
        if shape > _LARGE_SHAPE:
            root = math.cbrt(scaled / shape)
            return NORMAL.cdf((root - 1 + 1 / (9 * shape)) * 3 * math.sqrt(shape))
        return _incomplete(shape, scaled)


def _incomplete(a: float, x: float) -> float:
    """Computes the regularised lower incomplete gamma function: its series below a + 1, its continued fraction above
    (Press et al., Numerical Recipes, 6.2)."""
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while term > total * 1e-12:
            n += 1
            term *= x / n
            total += term
        return min(1.0, front * total)
    b = x + 1 - a
    c, d = 1e300, 1 / b
    fraction = d
    for i in range(1, 500):
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b or 1e-300)
        c = b + numerator / c or 1e-300
        step = c * d
        fraction *= step
        if abs(step - 1) < 1e-12:
            break
    return max(0.0, 1 - front * fraction)
