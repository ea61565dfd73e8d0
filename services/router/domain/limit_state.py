"""What a router knows of a limit without asking."""

from __future__ import annotations

from msgspec import Struct

#: What callers are told of: money has notices of its own, and slots are no allowance.
TOLD = frozenset({"requests", "input_tokens", "output_tokens", "total_tokens"})
#: How long a limit that flows back takes to be all there again, seconds.
FLOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class LimitState(Struct, frozen=True):
    """One limit: `remaining` of `limit` for all routers together. `reset`: seconds until all of it is there again if
    nothing is used, None: not known."""

    unit: str
    period: str
    limit: int
    remaining: int
    reset: float | None


def limit_state(
    unit: str, period: str, limit: int, left: int, age: float, window_left: float | None = None
) -> LimitState:
    """From what was left of it `age` seconds ago, less what this router has used since. `window_left`: seconds until
    the calendar window is over, None: not known, or there is none."""
    whole = FLOWS.get(period)
    remaining, reset = left, window_left
    if whole is not None:
        remaining += int(limit * age / whole)
    remaining = max(0, min(remaining, limit))
    if whole is not None and limit > 0:
        reset = (limit - remaining) / limit * whole
    return LimitState(unit, period, limit, remaining, None if reset is None else max(0.0, reset))
