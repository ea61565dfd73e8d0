"""One slice of a limit, and what is held of a limit and of a scope. Pure: time is a parameter (monotonic seconds).

The life of a slice: granted, taken from, renewed while calls run on it or it is in use, retired (revoked, expired,
used up, idle), and once no call runs on it, closed: its last report says what became of it. It is forgotten when the
limiter has acknowledged that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.answer import LimitState
from libs.limits import CONCURRENCY, Amounts, Period, Scope, Unit, by_unit
from services.router.admission.demand import HORIZON, SLOTS_SPARE, Demand

#: Concurrency that nobody used for this long is given back, seconds. Rates are not: they flow back by themselves.
IDLE = 2.0
#: Knowledge of a budget in use is renewed after this, and not relied on after half as long again, seconds.
FRESH = 10.0


@dataclass(slots=True, eq=False)
class Slice:
    """A granted part of one limit."""

    id: str
    scope: Scope
    unit: Unit
    period: Period
    amount: int
    ttl: float
    expires: float
    shadow: bool = False
    #: The limit, and what was left of it after the grant, all routers together.
    limit: int = 0
    left: int = 0
    #: The end of the limit's calendar window; None: it has none, or nothing of it is used.
    window_ends: float | None = None
    #: The limit that it is a slice of; set when it is taken in.
    home: Dimension = field(init=False, repr=False)
    used: int = 0
    overrun: int = 0
    #: Calls that took from it and have not settled.
    running: int = 0
    #: Granted, or last given back to.
    touched: float = 0.0
    #: Nothing more is taken from it.
    retired: bool = False
    #: Its last report has been made.
    closed: bool = False
    #: Its use and overrun as the limiter knows them; None: it may not, or not that the slice is closed.
    told: tuple[int, int] | None = (0, 0)
    #: The limiter does not know it at all any more.
    dead: bool = False

    @property
    def remaining(self) -> int:
        """Returns what may still be taken."""
        return self.amount - self.used

    def post(self, amount: int) -> None:
        """Posts that so much more (less, where negative) was used than was taken: from what is left, and owed
        beyond."""
        used = self.used + amount
        if amount > 0 and used > self.amount:
            fits = max(self.used, self.amount)
            self.overrun += used - fits
            used = fits
        self.used = used if used > 0 else 0

    def done(self, now: float) -> bool:
        """Returns True if its last report is due."""
        if self.running:
            return False
        idle = self.unit is CONCURRENCY and now - self.touched > IDLE
        if idle and not self.retired:
            self.home.demand.turn(now)
            idle = self.home.held - self.amount >= self.home.demand.slots()
        return self.retired or self.closed or idle or self.expires <= now or self.remaining <= 0

    def to_renew(self, now: float) -> bool:
        """Returns True if half of its life is over, and calls run on it or it is in use."""
        wanted = self.running > 0 or (not self.retired and now - self.touched < self.ttl / 2)
        return wanted and self.expires - now < self.ttl / 2


@dataclass(slots=True, eq=False)
class Dimension:
    """One limit of a scope, and what this router holds of it, oldest slice first."""

    unit: Unit
    period: Period
    demand: Demand
    shadow: bool = False
    slices: list[Slice] = field(default_factory=list)
    #: Taken from dead slices by calls that outlived them, to be posted on the next one.
    owed: int = 0
    #: The limit and what is left of it beyond what this router holds, and when that was granted.
    limit: int = 0
    left: int = 0
    known_at: float | None = None
    #: The end of the calendar window in use; None: there is none.
    window_ends: float | None = None

    @property
    def budget(self) -> bool:
        """Returns True if it bounds money in a calendar window."""
        return self.unit is Unit.MICRO_USD and self.period.calendar

    @property
    def held(self) -> int:
        """Returns all that the slices are worth, used or not."""
        return sum([held.amount for held in self.slices])

    def available(self, now: float) -> int:
        """Returns what may be taken now."""
        found = 0
        for held in self.slices:
            if held.expires > now:
                found += held.amount - held.used
        return found

    def live(self, now: float) -> bool:
        """Returns True if there is a slice at all."""
        return any(s.expires > now for s in self.slices)

    def use(self, now: float) -> tuple[int, int] | None:
        """Returns what all routers use of the limit, what they hold included, and the limit. None: not known, or not
        any more."""
        if self.known_at is None or now - self.known_at > FRESH * 1.5:
            return None
        used = self.limit - self.left
        for held in self.slices:
            if held.amount > held.used:
                used -= held.amount - held.used
        return max(0, used), self.limit

    def state(self, now: float) -> LimitState | None:
        """Returns its state for callers: what was left when it was last granted, with what has come back and without
        what this router has used since. None: it is only counted, or not known."""
        if self.known_at is None or self.shadow:
            return None
        limit, whole, left = self.limit, self.period.seconds, self.left + self.available(now)
        if whole:
            left += int(limit * (now - self.known_at) / whole)
        remaining = max(0, min(left, limit))
        reset = None
        if whole and limit > 0:
            reset = (limit - remaining) / limit * whole
        elif self.window_ends is not None:
            reset = max(0.0, self.window_ends - now)
        return LimitState(self.unit, self.period, limit, remaining, reset)

    def record_running(self, now: float) -> None:
        """Records how many calls run."""
        demand = self.demand
        demand.turn(now)
        demand.peak = max(demand.peak, sum([held.running for held in self.slices]))

    def low(self, now: float) -> bool:
        """Returns True if more should be asked for."""
        if self.shadow:
            return not self.live(now + HORIZON)
        if self.unit is CONCURRENCY:
            return self.available(now) < self.demand.slots() * SLOTS_SPARE / 2
        if now - (self.known_at or 0.0) > FRESH and self.budget:
            return True
        return self.available(now + HORIZON) < self.demand.least(now)

    def want(self, now: float) -> int:
        """Returns what to ask for."""
        if self.unit is CONCURRENCY:
            return max(0, self.demand.slots() - self.held)
        return max(0, self.demand.target(now) - self.available(now))

    def split(self, need: int, now: float) -> list[Taken] | None:
        """Returns how much of `need` each slice gives; None: together they have too little. A shadow limit's last
        slice gives whatever is asked."""
        live = [s for s in self.slices if s.expires > now]
        parts: list[Taken] = []
        for held in live:
            part = min(need, max(0, held.remaining))
            if self.shadow and held is live[-1]:
                part = need
            if part > 0:
                need -= part
                parts.append((held, part, need > 0))
        return parts if need == 0 and live else None


#: A slice, the amount that one admission took from it, and True if the next one is of the same limit.
Taken = tuple[Slice, int, bool]


@dataclass(slots=True, eq=False)
class Holding:
    """All that is known and held of a scope."""

    dimensions: dict[tuple[Unit, Period], Dimension] = field(default_factory=dict)
    #: Until when it is known to have no limits.
    unlimited: float = 0.0
    #: Next check that what is held lasts.
    next_check: float = 0.0
    #: Last asked to give, even in vain.
    used: float = 0.0

    def short(self, amounts: Amounts, now: float) -> dict[Unit, int] | None:
        """Returns what is missing by unit, empty: nothing. None: nothing is known of the scope."""
        if self.unlimited > now:
            return {}
        if not self.dimensions:
            return None
        needs = by_unit(amounts)
        missing: dict[Unit, int] = {}
        for dimension in self.dimensions.values():
            need = needs[dimension.unit]
            if dimension.shadow:
                if not dimension.live(now):
                    missing[dimension.unit] = need
            elif need and (lack := need - dimension.available(now)) > 0:
                missing[dimension.unit] = max(lack, missing.get(dimension.unit, 0))
        return missing

    def low(self, now: float) -> bool:
        """Returns True if what is held will not last."""
        found = False
        for dimension in self.dimensions.values():
            dimension.record_running(now)
            found = found or dimension.low(now)
        return found

    def wants(self, now: float) -> dict[Unit, int]:
        """Returns what to ask for by unit; 0 where there is enough of it."""
        found: dict[Unit, int] = {}
        for dimension in self.dimensions.values():
            found[dimension.unit] = max(found.get(dimension.unit, 0), dimension.want(now))
        return found
