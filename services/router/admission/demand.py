"""The use of one limit by the calls of this router, and so how much of it to hold. Pure: time is a parameter
(monotonic seconds), amounts are in the limit's unit.

What a limit of use (requests, tokens, money) must hold beyond what running calls have reserved is what flows off: the
rate of what ended calls have really used, for the seconds until more is asked for; and room for calls to begin, each
of which reserves the most it may use until it ends. Slots flow back: what they must hold is the most calls that were
running at the same time lately (rate × duration, by Little's law, without knowing either).
"""

from __future__ import annotations

import math

#: Seconds over which use is averaged, and maxima are remembered once to twice as long.
WINDOW = 2.0
#: The shortest time over which a first burst counts as a rate, seconds.
FIRST = 0.25
#: Held ahead: what is used in this many seconds,
AHEAD = 3.0
#: or by this many calls where that takes longer, so that a quiet scope does not ask for every few calls,
CALLS = 40
#: but never in more seconds than this: what a dead router holds is lost until it expires.
AHEAD_MOST = 15.0
#: More is asked for when what is held will not last this long, seconds.
HORIZON = 1.0
#: Slots held beyond the most in use, as a share of them.
SLOTS_SPARE = 0.25


class Demand:
    """The demand on one limit."""

    __slots__ = ("_call_rate", "_largest", "_peak", "_rate", "_since", "calls", "largest", "peak", "used")

    def __init__(self, now: float) -> None:
        self._since = now
        self._rate = self._call_rate = 0.0
        self._largest = self._peak = 0
        #: In the present window: really used, and by how many calls that ended.
        self.used = 0
        self.calls = 0
        #: The most that a call has reserved, and the most calls running at the same time.
        self.largest = 0
        self.peak = 0

    def turn(self, now: float) -> None:
        """Begins a new window where the present one is old enough."""
        elapsed = now - self._since
        if elapsed < WINDOW:
            return
        # A window without an admission in it was longer: what was before says little then.
        keep = 0.5 if elapsed < 2 * WINDOW else 0.0
        self._rate = self._rate * keep + self.used / elapsed * (1 - keep)
        self._call_rate = self._call_rate * keep + self.calls / elapsed * (1 - keep)
        self._largest, self._peak = self.largest, self.peak
        self.used = self.calls = self.largest = self.peak = 0
        self._since = now

    def least(self, now: float) -> int:
        """Returns what of use must be free now, so that more need not be waited for."""
        return math.ceil(self._pace(self._rate, self.used, now) * HORIZON) + self._most()

    def target(self, now: float) -> int:
        """Returns what of use should be free after asking for more."""
        rate = self._pace(self._rate, self.used, now)
        calls = self._pace(self._call_rate, self.calls, now)
        seconds = min(AHEAD_MOST, max(AHEAD, CALLS / calls)) if calls else AHEAD
        # Calls that run at random vary by the root of their number.
        beginning = 1 + math.isqrt(max(self.peak, self._peak))
        return math.ceil(rate * seconds) + self._most() * beginning

    def slots(self) -> int:
        """Returns the slots of concurrency to be held, free or not."""
        return math.ceil(max(self.peak, self._peak) * (1 + SLOTS_SPARE))

    def _most(self) -> int:
        return max(self.largest, self._largest)

    def _pace(self, lately: float, counted: int, now: float) -> float:
        """Returns a rate per second: what it was `lately`, or is by what has been counted in the present window,
        whichever is more."""
        return max(lately, counted / max(FIRST, now - self._since))
