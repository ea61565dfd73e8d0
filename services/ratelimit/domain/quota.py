"""Present use of limits, from the numbers that the store keeps, and denials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from libs.errors import QuotaViolation, ResourceExhausted, Unavailable
from libs.limits import Amounts, Unit, by_unit
from services.ratelimit.domain.limits import Limit

#: A bucket's clock: one tick in seconds, and so ticks per second.
TICK_SECONDS = 0.01
TICKS = 100
#: Seconds after which to ask again for a slot: nobody knows ahead when one becomes free.
CONCURRENCY_RETRY = 1.0
#: Seconds; a longer wait counts as never: a huge burst at a tiny rate can take millennia, which no timestamp holds.
MAX_WAIT = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a dimension in the store. `level`: of a bucket, what may be taken, in units of 1/(ticks per
    period), negative in debt; of others, what is in use. `start` and `finish`: of the window, epoch seconds, 0: none.
    `taken`: everything ever taken, for trends; falls back to 0 when the store forgets an idle limit."""

    level: int
    outstanding: int
    start: float = 0.0
    finish: float = 0.0
    uncertain: int = 0
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit and its present use. Amounts in the limit's unit, instants in epoch seconds. `reset` None: nothing is
    in use, or it never resets."""

    limit: Limit
    used: int
    outstanding: int
    remaining: int
    reset: float | None
    window_start: float | None
    uncertain: int = 0

    @property
    def requests_in_window(self) -> int:
        """Requests in the window, of limits that count requests; else 0."""
        return self.used if self.limit.key.unit is Unit.REQUESTS else 0


def ticks_per_period(limit: Limit) -> int:
    """Returns the units of a bucket's level per unit of its limit."""
    return limit.key.period.seconds * TICKS


def quota(limit: Limit, reading: Reading, now: float) -> Quota:
    """Returns the limit's use at `now` (epoch seconds)."""
    period = limit.key.period
    if period.seconds == 0:
        finish = reading.finish or None
        return Quota(
            limit,
            reading.level,
            reading.outstanding,
            max(0, limit.limit - reading.level),
            finish if reading.level > 0 else None,
            reading.start or None,
            reading.uncertain,
        )
    scale = ticks_per_period(limit)
    full = limit.capacity * scale
    reset = None
    if reading.level < full and limit.limit > 0:
        reset = now + min(MAX_WAIT, -((reading.level - full) // limit.limit) * TICK_SECONDS)
    return Quota(
        limit,
        -((reading.level - full) // scale),
        reading.outstanding,
        max(0, reading.level // scale),
        reset,
        now - period.seconds,
    )


@dataclass(frozen=True, slots=True)
class Violation:
    """A dimension without room. `reset` None: never. `unknown`: nobody knows yet what is used of it."""

    limit: Limit
    used: int
    requested: int
    reset: float | None
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Denial:
    """Every violated dimension. `retry_after`: the longest wait in seconds, None: waiting does not help."""

    violations: tuple[Violation, ...]
    retry_after: float | None
    now: float

    def error(self) -> ResourceExhausted | Unavailable:
        """Returns the error that callers get."""
        named = ", ".join(str(v.limit.key) for v in self.violations)
        if all(v.unknown for v in self.violations):
            return Unavailable(
                f"Nobody knows yet how much is used of {named}",
                reason="LIMIT_USE_UNKNOWN",
                retry_after=self.retry_after,
            )
        return ResourceExhausted(
            f"No room in {named}",
            [
                QuotaViolation(
                    v.limit.key,
                    f"{v.requested} requested, {v.used} of {v.limit.limit} used",
                    v.limit.limit,
                    v.used,
                    v.requested,
                    None if v.reset is None else max(0.0, v.reset - self.now),
                    v.limit.pace,
                )
                for v in self.violations
            ],
            reason="REQUEST_ABOVE_LIMIT" if self.retry_after is None else "LIMIT_EXCEEDED",
            retry_after=self.retry_after,
        )


def violation(limit: Limit, reading: Reading, need: int, now: float) -> Violation:
    """Returns the violation by `need`, with the instant from which it fits."""
    state = quota(limit, reading, now)
    reset: float | None
    if need > limit.capacity:
        reset = None
    elif limit.key.period.seconds:
        lacking = need * ticks_per_period(limit) - reading.level
        wait = -(-lacking // limit.limit) * TICK_SECONDS if limit.limit else MAX_WAIT
        reset = now + wait if wait < MAX_WAIT else None
    elif limit.key.unit is Unit.CONCURRENCY:
        reset = now + CONCURRENCY_RETRY
    else:
        reset = reading.finish
    return Violation(limit, state.used, need, reset)


def closed_reading(limit: Limit, until: float) -> Reading:
    """Returns the reading of a calendar window whose past is not known until then (epoch seconds) at least: as if all
    of it were used."""
    return Reading(limit.limit, 0, finish=until)


def closed(limit: Limit, need: int, until: float, now: float) -> Violation:
    """Returns the violation by `need` of such a window."""
    return replace(violation(limit, closed_reading(limit, until), need, now), unknown=need <= limit.capacity)


def denial_of_whole(part: Denial, whole: Amounts) -> Denial:
    """Returns the denial of a part of `whole`: a limit that can never hold the whole is not to be waited for."""
    counted = by_unit(whole)
    never = {v.limit.key for v in part.violations if counted[v.limit.key.unit] > v.limit.capacity}
    if not never:
        return part
    violations = [
        replace(v, requested=counted[v.limit.key.unit], reset=None) if v.limit.key in never else v
        for v in part.violations
    ]
    return denial(violations, part.now)


def denial(violations: Sequence[Violation], now: float) -> Denial:
    """Returns the denial of all violations, with the longest wait."""
    resets = [v.reset for v in violations]
    # Whole milliseconds, rounded up past what a float of the epoch can tell.
    waits = [max(0.0, math.ceil(round((r - now) * 1000, 2)) / 1000) for r in resets if r is not None]
    return Denial(tuple(violations), max(waits) if len(waits) == len(resets) else None, now)


def amounts_of(limits: Sequence[Limit], amounts: Amounts) -> list[int]:
    """Returns the part of the amounts that each limit counts."""
    counted = by_unit(amounts)
    return [counted[limit.key.unit] for limit in limits]
