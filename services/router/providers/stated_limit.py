"""A limit as headers state it. Pure: time is a parameter (seconds since the Unix epoch).

A lower limit is believed at once, a higher one when it is stated twice. Headers often leave the period out. It is
found from the time that the limit takes to be whole again: where that grows with what is used, the limit refills
steadily, and the two give the period; where it falls while use grows, it is a window, as long as the longest wait.
Until one of them is clear a limit is shown, but its confidence is too low to act on.
"""

from __future__ import annotations

from libs.limits import Period, Unit
from services.router.providers.limit_evidence import LearnedLimit, ObservedLimit, Source

#: A limit that was not seen for this long is forgotten, seconds.
FORGET = 3600.0
#: Lengths of the periods that are recognised, seconds.
LENGTHS = {Period.SECOND: 1.0, Period.MINUTE: 60.0, Period.HOUR: 3600.0, Period.DAY: 86_400.0}
#: A refill time this close to a period is one, as a factor.
FIT = 1.5
#: Changes of one kind that decide between the two, and how many times those of the other kind they must be.
CLEAR = 8
CLEARLY = 4
#: Confidence while the period is only assumed, as a factor.
ASSUMED = 0.5


class StatedLimit:
    """One limit as headers state it again and again."""

    __slots__ = (
        "_against",
        "_agreeing",
        "_along",
        "_best",
        "_count",
        "_higher",
        "_last",
        "_longest",
        "_period",
        "_seen",
        "_value",
    )

    def __init__(self, period: Period) -> None:
        self._period = period
        self._value = 0
        self._agreeing = self._count = 0
        self._higher = 0
        #: Changes of the wait along with use, and against it; use and wait of the last answer.
        self._along = self._against = 0
        self._last = (0, 0.0)
        #: Most use seen with its wait; and the longest wait.
        self._best = (0, 0.0)
        self._longest = 0.0
        self._seen = 0.0

    def observe(self, now: float, observed: ObservedLimit) -> None:
        """Takes in what one answer states."""
        limit = observed.limit
        if limit is None or limit <= 0:
            return
        self._seen = now
        self._count += 1
        if self._value == 0 or limit < self._value:
            # Trust in the source stays: a lower limit is to be kept at once.
            self._value = limit
            self._agreeing = max(1, self._agreeing)
            self._higher = 0
            self._forget_waits()
        elif limit == self._value:
            self._agreeing += 1
            self._higher = 0
        elif limit == self._higher:
            self._value, self._higher = limit, 0
            self._forget_waits()
        else:
            self._higher = limit
        if not self._period and observed.reset_seconds is not None:
            self._weigh(limit, observed.remaining, observed.reset_seconds)

    def period(self) -> tuple[Period, bool]:
        """Returns the period, and True if it is known rather than assumed."""
        if self._period:
            return self._period, True
        if self._along >= CLEAR and self._along >= CLEARLY * self._against and self._best[0]:
            used, wait = self._best
            whole = wait * self._value / used
            for period, seconds in LENGTHS.items():
                if seconds / FIT <= whole <= seconds * FIT:
                    return period, True
        if self._against >= CLEAR and self._against >= CLEARLY * self._along:
            for period, seconds in LENGTHS.items():
                if self._longest <= seconds * 1.05:
                    return period, self._longest >= seconds / 2
        return Period.MINUTE, False

    def learned(self, target: str, unit: Unit, now: float) -> LearnedLimit | None:
        """Returns the limit. None: none was stated, or too long ago."""
        if not self._value or now - self._seen > FORGET:
            return None
        period, known = self.period()
        confidence = (1 - 0.5 ** min(self._agreeing, 20)) * (1.0 if known else ASSUMED)
        return LearnedLimit(
            target, unit, period, self._value, confidence, Source.HEADERS, self._seen, self._count
        )

    def _weigh(self, limit: int, remaining: int | None, reset: float) -> None:
        self._longest = max(self._longest, reset)
        if remaining is None:
            return
        used = limit - min(limit, max(0, remaining))
        more, longer = used - self._last[0], reset - self._last[1]
        self._last = (used, reset)
        if more * longer > 0:
            self._along += 1
        elif more * longer < 0:
            self._against += 1
        if max(self._along, self._against) > 64:
            self._along, self._against = self._along // 2, self._against // 2
        if used >= self._best[0]:
            self._best = (used, reset)

    def _forget_waits(self) -> None:
        self._best, self._longest = (0, 0.0), 0.0
