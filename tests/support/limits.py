"""The limiter's rules once more, in plain Python: lists, exact fractions, nothing packed.

`OracleStore` is the LimitStore of unit tests, and the oracle that random histories on the real store are compared
with. It was written from the rules, not from the Lua.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from libs.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, PermissionDenied, Unavailable
from libs.limits import Amounts, LimitKey, Period, Unit, by_unit, scope_of
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Denial, Reading, denial, quota, ticks_per_period, violation
from services.ratelimit.domain.windows import windows
from services.ratelimit.ports import Admission, Beat, Granted, Override, RecordLife, SliceChange, StaleLimits

KEEP_SETTLED_MS = 300_000
KEEP_EXPIRED_MS = 3_600_000
_BLUR = Fraction(1, 1000)


def limit(unit: str, period: str = "", amount: int = 10, scope: str = "tenant:acme", **more: object) -> Limit:
    """Short for tests: limit("requests", "minute", 60)."""
    key = LimitKey(scope_of(scope), Unit(unit), Period(period))
    return Limit(key, amount, **more)  # type: ignore[arg-type]


@dataclass(slots=True, eq=False)
class Claim:
    """One slice of a record: what it took of one limit."""

    limit: Limit
    amount: int
    used: int = 0
    overrun: int = 0
    state: str = "open"
    uncertain: int = 0
    window: int = 0
    refundable: Fraction = Fraction(0)


@dataclass(slots=True)
class Record:
    """A reservation or a lease."""

    holder: str
    fingerprint: str
    due: int
    ttl: int
    claims: list[Claim]
    state: str = "open"
    forgotten: int | None = None


@dataclass(slots=True)
class Counter:
    """One limit's state. Buckets: `level` in 1/(ticks per period), as of `tick`. Others: `posted`."""

    limit: Limit
    level: Fraction = Fraction(0)
    tick: int = 0
    start: int = 0
    finish: int = 0
    posted: int = 0
    open: list[Claim] = field(default_factory=list)
    uncertain: int = 0
    #: The error of a store that rounds: it keeps whole units and rounds what may be refunded down, which leaves the
    #: difference to the other claims. The envelope itself is exact all the same.
    slack: int = 0

    @property
    def outstanding(self) -> int:
        calendar = self.limit.key.period.calendar
        return sum(c.amount - c.used if calendar else c.amount for c in self.open)

    @property
    def full(self) -> int:
        return self.limit.capacity * ticks_per_period(self.limit)

    @property
    def scale(self) -> int:
        return ticks_per_period(self.limit)

    def refill(self, tick: int, rate: int | None = None) -> None:
        """Up to `tick`; what spills takes from what may be refunded, in proportion."""
        gain = (tick - self.tick) * (self.limit.limit if rate is None else rate)
        if tick <= self.tick:
            return
        self.tick = tick
        if gain >= self.full - self.level:
            self.level = Fraction(self.full)
            for claim in self.open:
                claim.refundable = Fraction(0)
            return
        self.level += gain
        held = sum((c.refundable for c in self.open), Fraction(0))
        spill = self.level + held - self.full
        if spill > 0 and held > 0:
            self.slack += 1
            for claim in self.open:
                claim.refundable *= 1 - spill / held

    def room(self, slack: int | Fraction = 0) -> int:
        """Whole amounts that may be taken."""
        if self.limit.key.period.seconds:
            return max(0, math.floor((self.level - slack) / self.scale))
        return self.limit.limit - self.posted - self.outstanding


class OracleStore:
    """LimitStore in memory. `now` in milliseconds; `down` makes it unavailable; `forgets`: records in time."""

    def __init__(self, now: Callable[[], int], *, forgets: bool = True) -> None:
        self._now = now
        self._forgets = forgets
        self.epoch = "oracle"
        self.down = False
        self.counters: dict[LimitKey, Counter] = {}
        self.records: dict[str, Record] = {}
        self.version = 0
        self.set_limits: dict[LimitKey, Override] = {}
        self.audit: list[tuple[LimitKey, Limit | None, str, str]] = []
        self.holders: dict[str, int] = {}
        self.taken: dict[LimitKey, int] = {}

    # The clock and what happens by itself.

    def _tick(self) -> int:
        if self.down:
            raise Unavailable("The limit store does not answer", retry_after=1.0)
        now = self._now()
        for name, record in list(self.records.items()):
            if self._forgets and record.forgotten is not None and record.forgotten <= now:
                del self.records[name]
            elif record.state == "open" and record.due <= now:
                self._expire(record, now)
        return now

    def _expire(self, record: Record, now: int) -> None:
        record.state, record.forgotten = "expired", now + KEEP_EXPIRED_MS
        for claim in record.claims:
            if claim.state != "open":
                continue
            claim.state = "expired"
            counter = self._counter(claim.limit, now, claim)
            if counter is None:
                continue
            if claim.limit.key.period.calendar:
                claim.uncertain = claim.amount - claim.used
                counter.posted += claim.uncertain
                counter.uncertain += claim.uncertain
            counter.open.remove(claim)
            counter.slack += 1

    def _counter(self, limit_: Limit, now: int, claim: Claim | None = None) -> Counter | None:
        """The limit's state now. For a claim: None where the claim's window is over."""
        counter = self.counters.get(limit_.key)
        period = limit_.key.period
        if counter is None:
            counter = Counter(limit_, tick=now // 10)
            counter.level = Fraction(counter.full)
            self.counters[limit_.key] = counter
        if period.seconds:
            if claim is None and counter.limit != limit_:
                before = counter.full
                rate, counter.limit = counter.limit.limit, limit_
                counter.level += counter.full - before
                counter.refill(now // 10, rate)
            counter.refill(now // 10)
        elif period.calendar:
            bounds = windows(period, limit_.time_zone, now)
            if claim is not None:
                return counter if claim.window == counter.start else None
            counter.limit = limit_
            if now >= counter.finish and bounds.start > counter.start:
                counter.start, counter.finish = bounds.start, bounds.middle
                counter.posted, counter.uncertain, counter.open = 0, 0, []
        elif claim is None:
            counter.limit = limit_
        return counter

    # Admission.

    async def admit(self, admissions: Sequence[Admission]) -> list[Granted | Denial | Exception]:
        return [self.admit_one(a) for a in admissions]

    def admit_one(
        self, a: Admission, observed: Granted | Denial | Exception | None = None
    ) -> Granted | Denial | Exception:
        """Decides. Where another store's answer is given, checks that it is right, and follows it."""
        now = self._tick()
        known = self.records.get(a.record_id)
        if known is not None:
            return self._again(a, known, now)
        if a.version != self.version:
            return StaleLimits()
        counters = [self._counter(limit_, now) for limit_ in a.limits]
        found = [c for c in counters if c is not None]
        best = self._grants(a, found, slack=False)
        if observed is None:
            observed_grants = best
        else:
            observed_grants = observed.amounts if isinstance(observed, Granted) else None
            worst = self._grants(a, found, slack=True)
            assert observed_grants is not None or worst is None, f"denied without cause: {a}"
            if observed_grants is not None:
                assert best is not None, f"admitted without room: {a}"
                for i, amount in enumerate(observed_grants):
                    least = worst[i] if worst is not None else a.need[i]
                    assert least <= amount <= best[i], f"granted {amount}, not {least} to {best[i]}: {a}"
        if isinstance(observed, Denial):
            return observed
        if observed_grants is None:
            return self._deny(a, found, now)
        return self._grant(a, found, observed_grants, now)

    @staticmethod
    def _grants(a: Admission, counters: Sequence[Counter], *, slack: bool) -> tuple[int, ...] | None:
        """None: denied. With slack: as the strictest store that rounds would; without: as the most generous."""
        grants = []
        for counter, need, want in zip(counters, a.need, a.want, strict=True):
            room = counter.room(counter.slack if slack else -counter.slack - _BLUR)
            if counter.limit.shadow:
                grants.append(want if need <= room or need == 0 else need)
                continue
            if need > 0 and need > room:
                return None
            grants.append(min(max(need, want), need + max(0, room - need) // a.divisor))
        return tuple(grants)

    def _grant(self, a: Admission, counters: Sequence[Counter], grants: Sequence[int], now: int) -> Granted:
        ttl = int(a.ttl * 1000)
        record = Record(a.holder, a.fingerprint, now + ttl, ttl, [])
        shadowed = []
        for counter, need, amount in zip(counters, a.need, grants, strict=True):
            if counter.limit.shadow and need > counter.room() and need > 0:
                shadowed.append(counter.limit.key)
            claim = Claim(counter.limit, amount, window=counter.start)
            record.claims.append(claim)
            counter.open.append(claim)
            key = counter.limit.key
            self.taken[key] = self.taken.get(key, 0) + amount
            if counter.limit.key.period.seconds:
                cost = max(Fraction(0), min(Fraction(amount * counter.scale), counter.level + counter.full))
                counter.level -= cost
                claim.refundable = cost
        self.records[a.record_id] = record
        quotas = tuple(quota(c.limit, self._reading(c), now / 1000) for c in counters)
        return Granted(now / 1000, record.due / 1000, tuple(grants), quotas, tuple(shadowed))

    def _deny(self, a: Admission, counters: Sequence[Counter], now: int) -> Denial:
        return denial(
            [
                violation(c.limit, self._reading(c), need, now / 1000)
                for c, need in zip(counters, a.need, strict=True)
                if need > 0 and need > c.room() and not c.limit.shadow
            ],
            now / 1000,
        )

    def _again(self, a: Admission, known: Record, now: int) -> Granted | Exception:
        if known.holder != a.holder:
            return PermissionDenied("foreign")
        if known.fingerprint != a.fingerprint:
            return AlreadyExists("taken")
        if known.state != "open":
            return FailedPrecondition("over")
        known.due = now + int(a.ttl * 1000)
        return Granted(now / 1000, known.due / 1000, (), (), repeated=True)

    def _reading(self, counter: Counter) -> Reading:
        key = counter.limit.key
        if key.period.seconds:
            return Reading(math.floor(counter.level), counter.outstanding, taken=self.taken.get(key, 0))
        used = counter.posted + counter.outstanding
        if not key.period.calendar:
            return Reading(used, used)
        return Reading(
            used, counter.outstanding, counter.start / 1000, counter.finish / 1000, counter.uncertain, used
        )

    # Changes of slices.

    def _post(self, claim: Claim, now: int, used: int, overrun: int, closed: bool) -> None:
        if used > claim.amount:
            used, overrun = claim.amount, overrun + used - claim.amount
        if claim.state == "expired" and not closed:
            return
        if claim.state == "closed":
            more = used + overrun - claim.used - claim.overrun
            if more > 0:
                claim.overrun += more
                self._charge(claim, now, more)
            return
        if not closed:
            used, overrun = max(used, claim.used), max(overrun, claim.overrun)
        was, before = claim.state, claim.used
        more, claim.overrun, claim.used = overrun - claim.overrun, overrun, used
        if closed:
            claim.state = "closed"
        counter = self._counter(claim.limit, now, claim)
        if counter is None:
            return
        if claim.limit.key.period.calendar:
            counter.posted += used - before - claim.uncertain + more
            counter.uncertain -= claim.uncertain
            claim.uncertain = 0
            if closed and was == "open":
                counter.open.remove(claim)
            return
        if closed and was == "open":
            counter.open.remove(claim)
            if claim.amount:
                counter.level += claim.refundable * (claim.amount - used) / claim.amount
                counter.slack += 3
            self.taken[claim.limit.key] = self.taken.get(claim.limit.key, 0) - claim.amount + used
        if more > 0:
            self._charge(claim, now, more)

    def _charge(self, claim: Claim, now: int, more: int) -> None:
        counter = self._counter(claim.limit, now, claim)
        if counter is None or claim.limit.key.unit is Unit.CONCURRENCY:
            return
        if claim.limit.key.period.calendar:
            counter.posted += more
            return
        lowest = min(counter.level, Fraction(-counter.full))
        counter.level = max(counter.level - more * counter.scale, lowest)

    def _record(self, record_id: str, holder: str) -> Record:
        record = self.records.get(record_id)
        if record is None:
            raise NotFound("unknown")
        if record.holder != holder:
            raise PermissionDenied("foreign")
        return record

    async def settle(self, record_id: str, holder: str, used: Amounts) -> None:
        now = self._tick()
        record = self._record(record_id, holder)
        wanted = [
            0 if c.limit.key.unit is Unit.CONCURRENCY else by_unit(used)[c.limit.key.unit]
            for c in record.claims
        ]
        if record.state == "settled":
            before = [
                0 if c.limit.key.unit is Unit.CONCURRENCY else c.used + c.overrun for c in record.claims
            ]
            if wanted != before:
                raise FailedPrecondition("settled otherwise")
            return
        if record.state == "cancelled":
            raise FailedPrecondition("cancelled")
        for claim, amount in zip(record.claims, wanted, strict=True):
            self._post(claim, now, amount, 0, closed=True)
        record.state, record.forgotten = "settled", now + KEEP_SETTLED_MS

    async def cancel(self, record_id: str, holder: str) -> None:
        now = self._tick()
        record = self._record(record_id, holder)
        if record.state == "settled":
            raise FailedPrecondition("settled")
        if record.state == "cancelled":
            return
        for claim in record.claims:
            self._post(claim, now, 0, 0, closed=True)
        record.state, record.forgotten = "cancelled", now + KEEP_SETTLED_MS

    async def report(
        self, holder: str, changes: Mapping[str, Sequence[SliceChange]]
    ) -> dict[str, RecordLife]:
        now = self._tick()
        lives: dict[str, RecordLife] = {}
        for record_id, entries in changes.items():
            record = self.records.get(record_id)
            if record is None or record.holder != holder:
                lives[record_id] = RecordLife(False, None)
                continue
            if record.state == "cancelled":
                lives[record_id] = RecordLife(True, None)
                continue
            for e in entries:
                if e.index < len(record.claims):
                    self._post(record.claims[e.index], now, e.used, e.overrun, e.closed)
            if record.state == "open" and any(c.state == "open" for c in record.claims):
                if any(e.renew for e in entries):
                    record.due = now + record.ttl
                lives[record_id] = RecordLife(True, record.due / 1000, max(0, record.due - now) / 1000)
                continue
            if record.state == "open":
                record.state, record.forgotten = "settled", now + KEEP_SETTLED_MS
            lives[record_id] = RecordLife(True, None)
        return lives

    # The rest.

    async def read(self, limits: Sequence[Limit]) -> tuple[float, list[Reading]]:
        now = self._tick()
        counters = [self._counter(limit_, now) for limit_ in limits]
        return now / 1000, [self._reading(c) for c in counters if c is not None]

    async def seed(self, limit: Limit, spent: int) -> None:
        self._tick()

    async def beat(self, holders: Sequence[str]) -> Beat:
        now = self._tick()
        self.holders.update(dict.fromkeys(holders, now + 5000))
        self.holders = {name: until for name, until in self.holders.items() if until > now}
        return Beat(now / 1000, self.version, self.epoch, len(self.holders), False)

    async def overrides(self) -> tuple[int, dict[LimitKey, Override]]:
        self._tick()
        return self.version, dict(self.set_limits)

    async def set_override(
        self, key: LimitKey, limit: Limit | None, expected_version: int | None, actor: str, reason: str
    ) -> int:
        self._tick()
        before = self.set_limits[key].version if key in self.set_limits else 0
        if expected_version is not None and expected_version != before:
            raise Aborted("version")
        self.version += 1
        stored = None
        if limit is not None:
            stored = replace(limit, version=before + 1)
        self.set_limits[key] = Override(stored, before + 1)
        self.audit.append((key, stored, actor, reason))
        return before + 1
