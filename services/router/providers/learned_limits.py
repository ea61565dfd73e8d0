"""Limits learned from what providers say. Pure: time is a parameter (seconds since the Unix epoch); memory is bounded
by the catalog's models.

Two sources. Headers state a limit outright: a lower one is believed at once, a higher one when it is said twice.
Refusals (429) that no stated limit explains only show that the present rate is too high: the learned rate falls by a
factor and grows by steps, as in TCP's congestion avoidance (additive increase, multiplicative decrease: Chiu and Jain
1989), and is forgotten when refusals stay away.

Headers often leave the period out. It is found from how long the limit takes to be whole again. Where that grows with
what is used, the limit refills steadily, and the two give the period; where it falls while use grows, it is a window,
as long as the longest wait. Until one is clear a limit is shown, but its confidence is too low to act on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

#: Headers of one model are read at most this often, seconds: limits change rarely, and reading costs.
READ_EVERY = 0.5
#: A limit that was not seen for this long is forgotten, seconds.
FORGET = 3600.0
PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
#: A refill time this close to a period is one, as a factor.
FIT = 1.5
#: Changes that say which of the two it is, and how many more of them than of the other kind.
CLEAR = 8
CLEARLY = 4
#: Confidence while the period is only assumed, as a factor.
ASSUMED = 0.5

DECREASE = 0.8
#: The first step up, as a share of the rate that was refused, and how often one is taken, seconds. Each step without
#: a refusal is longer than the last, by this factor, up to a share of the rate: a limit that was raised by much is
#: found in minutes (as in CUBIC, RFC 9438).
INCREASE = 0.05
INCREASE_EVERY = 30.0
STEP_GROWTH = 1.5
LONGEST_STEP = 0.5
#: Refusals closer together than this lower the rate once, seconds.
ONE_REFUSAL = 10.0
#: A rate below this, in calls a minute, or seen for less than this, seconds, teaches nothing.
SLOWEST = 5
SHORTEST = 10.0
REFUSALS_FORGET = 900.0
#: Nothing grows when less than this share of it is used.
USED = 0.8


class Source(StrEnum):
    """Where a learned limit comes from."""

    HEADERS = "headers"
    REFUSALS = "refusals"


@dataclass(frozen=True, slots=True)
class ObservedLimit:
    """One limit as stated by an answer.

    `unit`: "requests", "input_tokens", "output_tokens" or "total_tokens". `limit`, `remaining`: in that unit, None
    where not stated; at least one is. `reset_seconds`: until the limit is whole again, None where not stated.
    `period`: "second", "minute", "hour", "day" or "month" where the headers say so, else empty.
    """

    unit: str
    limit: int | None
    remaining: int | None
    reset_seconds: float | None
    period: str = ""


class LearnedLimit(Struct, frozen=True):
    """A limit of a model with its evidence. `value` per `period`: of the whole account where headers said so, this
    router's own share where refusals did. `confidence` 0 to 1. `seen`: when the last evidence came."""

    target: str
    unit: str
    period: str
    value: int
    confidence: float
    source: Source
    seen: float
    observations: int


class Rate:
    """Calls in the last minute, counted in slots of ten seconds."""

    __slots__ = ("_counts", "_first", "_slot")

    def __init__(self) -> None:
        self._counts = [0] * 6
        self._slot = 0
        self._first = 0.0

    def add(self, now: float) -> None:
        """One more."""
        if int(now / 10) != self._slot:
            self._advance(now)
        slot = self._slot % 6
        if not self._counts[slot] and not any(self._counts):
            self._first = now
        self._counts[slot] += 1

    def count(self, now: float) -> int:
        """In the last 50 to 60 seconds."""
        self._advance(now)
        return sum(self._counts)

    def per_minute(self, now: float) -> float:
        """Calls a minute since they began; 0 where that was too short ago to tell."""
        count, since = self.count(now), now - self._first
        return count * 60 / min(since, 50 + now % 10) if count and since >= SHORTEST else 0.0

    def _advance(self, now: float) -> None:
        slot = int(now / 10)
        if slot - self._slot >= 6:
            self._counts = [0] * 6
            self._slot = slot
        while self._slot < slot:
            self._slot += 1
            self._counts[self._slot % 6] = 0


class Stated:
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

    def __init__(self, period: str) -> None:
        self._period = period
        self._value = 0
        self._agreeing = self._count = 0
        self._higher = 0
        #: How often the wait changed along with use, and against it; use and wait of the last answer.
        self._along = self._against = 0
        self._last = (0, 0.0)
        #: Most use seen with its wait; and the longest wait.
        self._best = (0, 0.0)
        self._longest = 0.0
        self._seen = 0.0

    def observe(self, now: float, observed: ObservedLimit) -> None:
        """One answer's word."""
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

    def period(self) -> tuple[str, bool]:
        """The period, and whether it is known rather than assumed."""
        if self._period:
            return self._period, True
        if self._along >= CLEAR and self._along >= CLEARLY * self._against and self._best[0]:
            used, wait = self._best
            whole = wait * self._value / used
            for name, seconds in PERIODS.items():
                if seconds / FIT <= whole <= seconds * FIT:
                    return name, True
        if self._against >= CLEAR and self._against >= CLEARLY * self._along:
            for name, seconds in PERIODS.items():
                if self._longest <= seconds * 1.05:
                    return name, self._longest >= seconds / 2
        return "minute", False

    def learned(self, target: str, unit: str, now: float) -> LearnedLimit | None:
        """None: nothing, or too long ago."""
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


class Refusals:
    """The rate at which refusals stop."""

    __slots__ = ("_changed", "_count", "_cut", "_last", "_step", "_value", "rate")

    def __init__(self) -> None:
        self.rate = Rate()
        self._value = self._step = 0.0
        self._count = 0
        self._last = self._cut = self._changed = float("-inf")

    def answered(self, now: float) -> None:
        """A call was let through."""
        self.rate.add(now)
        if not self._value or now - self._changed < INCREASE_EVERY:
            return
        if now - self._last > REFUSALS_FORGET:
            self._value, self._count = 0.0, 0
        elif self.rate.per_minute(now) >= USED * self._value:
            self._value += max(1.0, self._step)
            self._step = min(self._step * STEP_GROWTH, LONGEST_STEP * self._value)
            self._changed = now

    def refused(self, now: float) -> None:
        """One was not, and nothing said why."""
        rate = self.rate.per_minute(now)
        self._last = now
        if rate < SLOWEST and not self._value:
            return
        self._count += 1
        if now - self._cut < ONE_REFUSAL:
            return
        peak = min(self._value, rate or self._value) if self._value else rate
        self._value, self._step = max(float(SLOWEST), DECREASE * peak), INCREASE * peak
        self._cut = self._changed = now

    def learned(self, target: str, now: float) -> LearnedLimit | None:
        """None: nothing, or too long ago."""
        if not self._value or now - self._last > REFUSALS_FORGET:
            return None
        confidence = 1 - 0.5 ** min(self._count, 20)
        return LearnedLimit(
            target,
            "requests",
            "minute",
            int(self._value),
            confidence,
            Source.REFUSALS,
            self._last,
            self._count,
        )


class _Target:
    __slots__ = ("next_read", "refusals", "stated")

    def __init__(self) -> None:
        self.next_read = 0.0
        self.stated: dict[tuple[str, str], Stated] = {}
        self.refusals = Refusals()


class LimitLearner:
    """All models of one router."""

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}

    def answered(self, now: float, target: str) -> bool:
        """A call was let through. Whether its headers are worth reading now."""
        known = self._targets.get(target) or self._of(target)
        known.refusals.answered(now)
        if now < known.next_read:
            return False
        known.next_read = now + READ_EVERY
        return True

    def observed(self, now: float, target: str, limits: Iterable[ObservedLimit]) -> None:
        """What an answer's headers state."""
        stated = self._of(target).stated
        for limit in limits:
            key = (limit.unit, limit.period)
            if key not in stated:
                stated[key] = Stated(limit.period)
            stated[key].observe(now, limit)

    def refused(self, now: float, target: str, limits: Sequence[ObservedLimit]) -> None:
        """A call was refused for its rate. Where a stated limit is used up, that explains it."""
        self.observed(now, target, limits)
        if not any(limit.remaining == 0 for limit in limits):
            self._of(target).refusals.refused(now)

    def learned(self, now: float) -> list[LearnedLimit]:
        """All that is known."""
        found: list[LearnedLimit | None] = []
        for name, target in self._targets.items():
            found += [stated.learned(name, unit, now) for (unit, _), stated in target.stated.items()]
            found.append(target.refusals.learned(name, now))
        return [limit for limit in found if limit is not None]

    def loads(self, now: float) -> dict[str, int]:
        """Calls let through in the last minute, by model, where there were any."""
        rates = {name: target.refusals.rate.count(now) for name, target in self._targets.items()}
        return {name: rate for name, rate in rates.items() if rate}

    def _of(self, target: str) -> _Target:
        known = self._targets.get(target)
        if known is None:
            known = self._targets[target] = _Target()
        return known
