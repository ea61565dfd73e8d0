"""The time until a limit is used up, from the distribution of use until any instant.

A limit is used up by t when at least what is left, and what a bucket refills until then, is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from libs.forecast.gamma import Gamma

#: Instants up to the horizon at which the probability is computed, and halvings between two of them.
_INSTANTS, _HALVINGS = 32, 24
#: Part of the time to be forecast that a past counts as at least. A call in a limit's first minute says little of the
#: day, and a mean over less than this would raise false alarms (bench.exhaustion).
YOUNG: Final = 0.02

#: Seconds → use in that time from now on, in the limit's unit.
Expected = Callable[[float], Gamma]


@dataclass(frozen=True, slots=True)
class TimeToExhaustion:
    """`probability` of exhaustion before the reset, 0 to 1; quantiles of the time to it in seconds, None: not before
    the reset."""

    probability: float
    p10: float | None
    p50: float | None
    p90: float | None


def proportional(used: float, seconds: float, horizon: float) -> Expected:
    """Forecasts use where only the amount `used` in the last `seconds` is known. Its variation is not known: the rate
    is taken to vary as much as itself in a minute."""
    known = max(seconds, YOUNG * horizon, 60.0)
    rate = used / known
    variance = rate * rate * 60

    def use(ahead: float) -> Gamma:
        return Gamma(rate * ahead, variance * ahead * (1 + ahead / known))

    return use


def time_to_exhaustion(use: Expected, left: float, refill: float, horizon: float) -> TimeToExhaustion:
    """Returns the forecast of exhaustion. `left` in the limit's unit, `refill` per second, `horizon` seconds until
    the reset."""
    if left <= 0:
        return TimeToExhaustion(1.0, 0.0, 0.0, 0.0)
    if horizon <= 0:
        return TimeToExhaustion(0.0, None, None, None)

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

    return TimeToExhaustion(reached[-1], quantile(0.1), quantile(0.5), quantile(0.9))
