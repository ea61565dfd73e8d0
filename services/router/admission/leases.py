"""All slices that this router may spend without asking. Pure: time is a parameter (monotonic seconds).

A slice is escrow: the limiter has already counted it against its limit. Everything taken here is therefore within
the limit, whatever else happens. Amounts are in the slice's unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from libs.answer import LimitState
from libs.limits import CONCURRENCY, Amounts, Period, Scope, Unit, by_unit, least_amounts
from services.router.admission.demand import Demand
from services.router.admission.slices import Dimension, Holding, Slice, Taken

#: Seconds between two checks that what is held lasts.
CHECK_INTERVAL = 0.05
#: Seconds to the next where the limiter had little left.
SCARCE_INTERVAL = 0.5
#: A scope that was not used for this long is forgotten, seconds.
FORGET = 60.0
#: Units whose limits callers see: money has notices of its own, and slots are no allowance.
CALLER_UNITS = frozenset(unit for unit in Unit if unit is Unit.REQUESTS or unit.tokens)


class Report(NamedTuple):
    """A report on a slice to the limiter: its present, absolute figures."""

    slice: Slice
    closed: bool
    renew: bool


class Ask(NamedTuple):
    """Slices of all limits of these scopes: at least `need` beyond what is held, at best `want`. `whole`: all that
    the waiting request takes."""

    scopes: Sequence[Scope]
    need: Amounts
    want: Amounts
    whole: Amounts


class Pool:
    """All slices of a router, by scope."""

    def __init__(self) -> None:
        self._holdings: dict[Scope, Holding] = {}
        #: Slices that the limiter must still hear of.
        self._live: dict[str, Slice] = {}
        self._to_tidy: list[Scope] = []
        #: A scope was taken from whose next check is due.
        self._check_due = False
        #: Amounts that running calls have taken, by the identity of what `take` has returned.
        self._taken: dict[int, Sequence[Taken]] = {}

    def __len__(self) -> int:
        return len(self._live)

    def take(self, scopes: Sequence[Scope], amounts: Amounts, now: float) -> list[Taken] | None:
        """Takes the amounts from every limit of every scope, or nothing at all (None). What several slices of one
        limit give stands together."""
        needs = by_unit(amounts)
        taken: list[Taken] = []
        for holding in map(self._holdings.get, scopes):
            if holding is None:
                return None
            if holding.unlimited > now:
                continue
            if not holding.dimensions:
                return None
            holding.used = now
            if now >= holding.next_check:
                self._check_due = True
            for dimension in holding.dimensions.values():
                need = needs[dimension.unit]
                if not need and not dimension.shadow:
                    continue
                # The oldest slice that has anything left mostly has enough.
                for held in dimension.slices:
                    room = held.amount - held.used
                    if room >= need and held.expires > now:
                        taken.append((held, need, False))
                        break
                    if room > 0 or dimension.shadow:
                        parts = dimension.split(need, now)
                        if parts is None:
                            return None
                        taken += parts
                        break
                else:
                    return None
        for held, part, _ in taken:
            held.used += part
            held.running += 1
            demand = held.home.demand
            if part > demand.largest:  # noqa: PLR1730  # for each limit of each call; max() takes twice as long
                demand.largest = part
        self._taken[id(taken)] = taken
        return taken

    def settle(self, taken: Sequence[Taken], used: Amounts, now: float) -> None:
        """Replaces the estimate by what was used: the difference returns to the slice, or is owed."""
        real = by_unit(used)
        # Slots flow back whole.
        real[CONCURRENCY] = 0
        del self._taken[id(taken)]
        carried = 0
        for held, amount, more in taken:
            share = real[held.unit] - carried
            # Where several slices served one admission, the last carries what was used beyond the estimate.
            if more:
                share = min(share, amount)
                carried += share
            else:
                carried = 0
            demand = held.home.demand
            demand.used += share
            demand.calls += 1
            if held.dead:
                self._owe(held, share - amount)
                continue
            # Most calls use less of a limit than they take from it.
            if share < amount:
                held.used = max(0, held.used + share - amount)
            elif share > amount:
                held.post(share - amount)
            held.running -= 1
            held.touched = now

    def wanted(self, scopes: Sequence[Scope], now: float) -> list[tuple[Scope, Amounts]]:
        """Returns, after an admission, the scopes of which what is held will not last, with what to ask for. Each is
        checked every CHECK_INTERVAL."""
        if not self._check_due:
            return []
        self._check_due = False
        low = []
        for scope, holding in zip(scopes, map(self._holdings.get, scopes), strict=True):
            if holding is not None and holding.unlimited <= now and now >= holding.next_check:
                holding.next_check = now + CHECK_INTERVAL
                if holding.low(now):
                    low.append((scope, least_amounts(holding.wants(now))))
        return low

    def shortage(self, scopes: Sequence[Scope], amounts: Amounts, waiting: int, now: float) -> list[Ask]:
        """Returns what to ask for so that the scopes admit the amounts: the `waiting` requests that want the same,
        and more for a while. All of it is needed. Of a scope that is known, no more than what it lacks is: what this
        router holds is gone from the limit, and asked for again it would be denied."""
        unknown: list[Scope] = []
        known: dict[tuple[tuple[Unit, int], ...], tuple[list[Scope], dict[Unit, int]]] = {}
        for scope in scopes:
            holding = self._holdings.get(scope)
            lack = None if holding is None else holding.short(amounts, now)
            if holding is None or lack is None:
                unknown.append(scope)
            elif lack:
                # Those that lack the same are asked for in one message; the quietest says how much more, the others
                # ask for more by themselves.
                same, wants = known.setdefault(tuple(sorted(lack.items())), ([], {}))
                same.append(scope)
                for unit, amount in holding.wants(now).items():
                    wants[unit] = min(amount, wants.get(unit, amount))
        needs = by_unit(amounts)
        asks = [Ask(unknown, amounts, amounts.times(waiting), amounts)] if unknown else []
        for lacks, (same, wants) in known.items():
            for unit, lacking in lacks:
                all_of_them = lacking + (waiting - 1) * needs[unit]
                wants[unit] = max(wants.get(unit, 0), all_of_them)
            need = least_amounts(dict(lacks))
            asks.append(Ask(same, need, need.most(least_amounts(wants)), amounts))
        return asks

    def use(self, scope: Scope, period: Period, now: float) -> tuple[int, int] | None:
        """Returns what is used of the scope's money limit per period, and the limit, in micro-USD. None: not
        known."""
        holding = self._holdings.get(scope)
        dimension = holding.dimensions.get((Unit.MICRO_USD, period)) if holding is not None else None
        return None if dimension is None else dimension.use(now)

    def states(self, scope: Scope, now: float) -> tuple[LimitState, ...]:
        """Returns the scope's limits of requests and tokens, as far as they are known."""
        holding = self._holdings.get(scope)
        if holding is None or not holding.dimensions:
            return ()
        return tuple(
            [
                state
                for dimension in holding.dimensions.values()
                if dimension.unit in CALLER_UNITS and (state := dimension.state(now)) is not None
            ]
        )

    def grant(
        self,
        asked: Iterable[Scope],
        slices: Iterable[Slice],
        unlimited: Iterable[Scope],
        until: float,
        now: float,
    ) -> bool:
        """Takes in the answer to a request for `asked`: slices of every limit these scopes have now, and scopes that
        have none (until then). Returns True if what was owed should be reported at once."""
        owed = False
        named: dict[Scope, set[tuple[Unit, Period]]] = {scope: set() for scope in asked}
        for granted in slices:
            key = (granted.unit, granted.period)
            named.setdefault(granted.scope, set()).add(key)
            holding = self._holding(granted.scope, now)
            dimension = holding.dimensions.get(key)
            if dimension is None:
                dimension = holding.dimensions[key] = Dimension(*key, Demand(now))
            dimension.shadow, dimension.known_at = granted.shadow, now
            dimension.limit, dimension.left = granted.limit, granted.left
            dimension.window_ends = granted.window_ends
            granted.home = dimension
            holding.unlimited = 0.0
            granted.touched = now
            # A limit without room left gives an empty slice: nothing to take, and nothing to report.
            if granted.amount > 0 or granted.shadow:
                dimension.slices.append(granted)
                self._live[granted.id] = granted
                if dimension.owed:
                    granted.post(dimension.owed)
                    dimension.owed, owed = 0, True
        for scope in unlimited:
            named[scope] = set()
            self._holding(scope, now).unlimited = until
        # A limit that is not in the answer has been removed.
        for scope, keys in named.items():
            dimensions = self._holding(scope, now).dimensions
            for key in [key for key in dimensions if key not in keys]:
                for held in dimensions.pop(key).slices:
                    held.retired = True
            holding = self._holdings[scope]
            if holding.low(now):
                holding.next_check = now + SCARCE_INTERVAL
        return owed

    def retire(self, ids: Iterable[str] | None) -> None:
        """Retires slices whose limit changed (None: all): nothing more is taken from them, what was is still
        reported."""
        for held in list(self._live.values()) if ids is None else [self._live.get(i) for i in ids]:
            if held is not None:
                held.retired = True
                self._unhand(held)

    def forget(self, ids: Iterable[str] | None) -> None:
        """Forgets slices that the limiter does not know (any more; None: any): nothing is taken from them or
        reported."""
        dead = {self._live.pop(i) for i in (list(self._live) if ids is None else ids) if i in self._live}
        for held in dead:
            held.dead = True
            self._unhand(held)
        # Once all are gone, so that none of them is asked to carry another's.
        for taken in self._taken.values():
            for held, amount, _ in taken:
                if held in dead:
                    self._owe(held, amount)
        if ids is None:
            for holding in self._holdings.values():
                holding.unlimited = 0.0

    def reports(self, now: float) -> list[Report]:
        """Returns reports on slices whose state the limiter does not know, or that are to be renewed. Those that are
        done are closed. Each report ends in `record_acknowledged` or `take_back_reports`."""
        found = []
        for held in self._live.values():
            if not held.closed and held.done(now):
                held.closed, held.told = True, None
                self._unhand(held)
                held.home.left += max(0, held.remaining)
            renew = not held.closed and held.to_renew(now)
            figures = (held.used, held.overrun)
            if figures != held.told or renew:
                held.told = figures
                found.append(Report(held, held.closed, renew))
        return found

    def record_acknowledged(self, reports: Iterable[Report], lives: Mapping[str, float]) -> None:
        """Records that the limiter took reports in. `lives`: until when slices that live on do (monotonic
        seconds)."""
        for report in reports:
            held = report.slice
            if report.closed:
                self._live.pop(held.id, None)
            elif held.id in lives:
                held.expires = max(held.expires, lives[held.id])

    def take_back_reports(self, reports: Iterable[Report]) -> None:
        """Has reports made again that may not have arrived. Figures are absolute, so repeating them is harmless."""
        for report in reports:
            report.slice.told = None

    def tidy(self, now: float) -> None:
        """Drops scopes of which nothing is held, known or used any more; checks a part of them each time."""
        if not self._to_tidy:
            self._to_tidy = list(self._holdings)
        for _ in range(min(len(self._to_tidy), 256 + len(self._holdings) // 16)):
            scope = self._to_tidy.pop()
            holding = self._holdings.get(scope)
            if (
                holding is not None
                and holding.unlimited <= now
                and now - holding.used > FORGET
                and not any(d.slices for d in holding.dimensions.values())
            ):
                del self._holdings[scope]

    def _holding(self, scope: Scope, now: float) -> Holding:
        holding = self._holdings.get(scope)
        if holding is None:
            holding = self._holdings[scope] = Holding(used=now)
        return holding

    def _owe(self, held: Slice, amount: int) -> None:
        """Owes what calls use that outlive the store's memory of their slice. Calendar quotas and money must know of
        them all the same: from the next slice on. Rates have refilled by then."""
        holding = self._holdings.get(held.scope)
        dimension = holding.dimensions.get((held.unit, held.period)) if holding is not None else None
        if dimension is None or not held.period.calendar:
            return
        if dimension.slices:
            dimension.slices[-1].post(amount)
        else:
            dimension.owed = max(0, dimension.owed + amount)

    def _unhand(self, held: Slice) -> None:
        holding = self._holdings.get(held.scope)
        dimension = holding.dimensions.get((held.unit, held.period)) if holding is not None else None
        if dimension is not None and held in dimension.slices:
            dimension.slices.remove(held)
