"""Degraded: a target that works, but fails more often than chance explains. Pure.

A call that fails costs its caller the time of another attempt, so most calls had better go elsewhere. When it acts:
where the faults of the last minute are so many that a target which fails a tenth of its calls would hardly ever show
them, and its circuit is closed and fully recovered; what happened before the circuit last changed has been dealt with
and does not count. It holds for the model that earned it, never for its provider. Recovery: a share of the calls
still goes there, so that successes can disprove it, and a minute forgets. First start: no calls, no evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The chance allowed that a target which fails `rate` of its calls is taken for one that fails more.
_FALSE_ALARM = 1e-4


@dataclass(frozen=True, slots=True)
class DegradedSettings:
    """`rate`: the share of failed calls that is no cause for concern; `share`: of its usual calls, those that a
    degraded target still gets. Both 0 to 1."""

    rate: float = 0.1
    share: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.rate < 1 and 0 < self.share <= 1):
            raise ValueError("rate must be in (0, 1), share in (0, 1]")


def fails_beyond_chance(failures: int, calls: int, rate: float) -> bool:
    """Returns True if so many of the calls failed that a failure rate of `rate` does not explain it: the chance of as
    many or more is at most exp(-calls * KL(failures / calls, rate)) (Chernoff 1952, Hoeffding 1963)."""
    if failures <= rate * calls:
        return False
    seen = failures / calls
    divergence = seen * math.log(seen / rate)
    if seen < 1:
        divergence += (1 - seen) * math.log((1 - seen) / (1 - rate))
    return calls * divergence >= -math.log(_FALSE_ALARM)
