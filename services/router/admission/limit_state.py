"""The state of a limit as a router knows it without asking."""

from __future__ import annotations

from libs.answer import LimitState
from libs.limits import Period, Unit

#: Units whose limits callers see: money has notices of its own, and slots are no allowance.
CALLER_UNITS = frozenset(unit for unit in Unit if unit is Unit.REQUESTS or unit.tokens)


def limit_state(
    unit: Unit, period: Period, limit: int, left: int, age: float, window_left: float | None = None
) -> LimitState:
    """Returns the state from what was left of it `age` seconds ago, less what this router has used since.
    `window_left`: seconds until the calendar window is over, None: not known, or there is none."""
    whole = period.seconds
    if whole:
        left += int(limit * age / whole)
    remaining = max(0, min(left, limit))
    if whole and limit > 0:
        reset: float | None = (limit - remaining) / limit * whole
    else:
        reset = None if window_left is None else max(0.0, window_left)
    return LimitState(unit, period, limit, remaining, reset)
