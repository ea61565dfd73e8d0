"""Measures how the cost of some work grows with its size: CPU time of this process, so that a busy machine does not
matter much, and with a bound that tells linear from quadratic growth and nothing finer."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The larger of the two sizes, in smaller ones. Linear work takes 8 times as long, quadratic work 64 times.
FACTOR = 8
_MOST = 24.0
#: Work below this says nothing, seconds.
_NOISE = 0.002


def cost(work: Callable[[], object]) -> float:
    """CPU seconds of one run."""
    began = time.process_time()
    work()
    return time.process_time() - began


def grows_linearly(make: Callable[[int], Callable[[], object]], size: int) -> bool:
    """Returns True if the work that `make` prepares for a size costs at most in proportion to it. Where the first
    look says otherwise the cheapest of several decides."""
    for repeats in (1, 3, 7):
        large = min(cost(make(size * FACTOR)) for _ in range(repeats))
        if large <= _NOISE:
            return True
        small = min(cost(make(size)) for _ in range(repeats))
        if large <= _MOST * small:
            return True
    return False
