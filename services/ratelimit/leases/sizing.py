"""Sizes of slices: the part of a limit that one router may hold ahead of use.

Beyond what waiting requests need, a grant takes at most (what is left) / (2 × routers). So all routers together hold
at most half of what was left when they asked: above 90 % demand, where at most a tenth of a limit is left, at most
5 % of it can be stranded in slices that nobody uses, and as the limit runs out, slices shrink to single requests.
"""

from __future__ import annotations


def divisor(holders: int) -> int:
    """Returns n where a grant may take at most 1/n of what is left beyond need. `holders`: routers alive, 0 while
    unknown."""
    return 2 * max(1, holders)
