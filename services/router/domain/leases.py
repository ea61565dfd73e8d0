"""Slices of limits that this router may spend without asking. Pure: time is a parameter (monotonic seconds).

A slice is escrow: the limiter has already counted it against its limit. Everything taken here is therefore within
the limit, whatever else happens. Amounts are in the slice's unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.router.domain.amounts import CONCURRENCY, Amounts, amount_of


@dataclass(slots=True, eq=False)
class Slice:
    """A granted part of one limit."""

    id: str
    scope: str
    unit: str
    period: str
    amount: int
    expires: float
    shadow: bool = False
    used: int = 0
    overrun: int = 0
    #: Calls that took from it and have not settled.
    running: int = 0
    changed: bool = False
    closed: bool = False

    @property
    def remaining(self) -> int:
        """What may still be taken."""
        return self.amount - self.used


@dataclass(slots=True)
class Dimension:
    """One limit of a scope, and what this router holds of it."""

    unit: str
    period: str
    shadow: bool = False
    slices: list[Slice] = field(default_factory=list)

    def available(self, now: float) -> int:
        """What may be taken now."""
        return sum(s.remaining for s in self.slices if s.expires > now)

    def split(self, need: int, now: float) -> list[tuple[Slice, int]] | None:
        """How much of `need` each slice gives; None: together they have too little. A shadow limit's last slice
        gives whatever is asked."""
        live = [s for s in self.slices if s.expires > now]
        parts = []
        for held in live:
            part = min(need, max(0, held.remaining))
            if self.shadow and held is live[-1]:
                part = need
            if part > 0:
                parts.append((held, part))
                need -= part
        return parts if need == 0 and live else None


@dataclass(slots=True)
class Taken:
    """What one admission took from one slice."""

    slice: Slice
    amount: int


class Pool:
    """All slices of a router, by scope."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[tuple[str, str], Dimension]] = {}
        #: Scope → until when it is known to have no limits.
        self._unlimited: dict[str, float] = {}
        #: Slices that must still be reported, in use or done.
        self._live: dict[str, Slice] = {}

    def __len__(self) -> int:
        return len(self._live)

    def grant(
        self, asked: Iterable[str], slices: Iterable[Slice], unlimited: Iterable[str], until: float
    ) -> None:
        """The answer to a request for `asked`: slices of every limit these scopes have now, and scopes that have
        none (until then)."""
        named: dict[str, set[tuple[str, str]]] = {scope: set() for scope in asked}
        for granted in slices:
            key = (granted.unit, granted.period)
            named.setdefault(granted.scope, set()).add(key)
            dimensions = self._scopes.setdefault(granted.scope, {})
            dimension = dimensions.setdefault(key, Dimension(*key))
            dimension.shadow = granted.shadow
            dimension.slices.append(granted)
            self._live[granted.id] = granted
            self._unlimited.pop(granted.scope, None)
        # A limit that is not in the answer has been removed; its slices only wait to be reported.
        for scope, keys in named.items():
            dimensions = self._scopes.get(scope, {})
            for key in [key for key in dimensions if key not in keys]:
                del dimensions[key]
        for scope in unlimited:
            self._scopes.pop(scope, None)
            self._unlimited[scope] = until

    def short(self, scopes: Sequence[str], amounts: Amounts, now: float) -> list[str]:
        """The scopes that cannot admit the amounts from what is held now."""
        return [scope for scope in scopes if not self._covers(scope, amounts, now)]

    def low(self, scopes: Iterable[str], expected: Amounts, now: float, horizon: float) -> list[str]:
        """The scopes that will not admit `expected` more at `horizon` seconds from now."""
        return [scope for scope in scopes if not self._covers(scope, expected, now + horizon)]

    def take(self, scopes: Sequence[str], amounts: Amounts, now: float) -> list[Taken] | None:
        """Takes the amounts from every limit of every scope, or nothing at all (None)."""
        plan: list[tuple[Slice, int]] = []
        for scope in scopes:
            unlimited = self._unlimited.get(scope)
            if unlimited is not None:
                if unlimited <= now:
                    return None
                continue
            dimensions = self._scopes.get(scope)
            if not dimensions:
                return None
            for dimension in dimensions.values():
                need = amount_of(dimension.unit, amounts)
                if need == 0 and not dimension.shadow:
                    continue
                held = dimension.slices[0] if dimension.slices else None
                if held is not None and held.expires > now and held.amount - held.used >= need:
                    plan.append((held, need))
                    continue
                parts = dimension.split(need, now)
                if parts is None:
                    return None
                plan += parts
        taken = []
        for held, part in plan:
            held.used += part
            held.running += 1
            held.changed = True
            taken.append(Taken(held, part))
        return taken

    def settle(self, taken: Iterable[Taken], used: Amounts) -> None:
        """Replaces the estimate by what was used: the difference returns to the slice, or is owed."""
        entries = list(taken)
        last = {(e.slice.scope, e.slice.unit, e.slice.period): e for e in entries}
        left: dict[tuple[str, str, str], int] = {}
        for entry in entries:
            held = entry.slice
            key = (held.scope, held.unit, held.period)
            real = left.get(key, 0 if held.unit == CONCURRENCY else amount_of(held.unit, used))
            # Where several slices served one admission, the last carries what was used beyond the estimate.
            share = real if entry is last[key] else min(real, entry.amount)
            left[key] = real - share
            extra = share - entry.amount
            covered = min(extra, max(0, held.remaining))
            held.used += covered
            held.overrun += extra - covered
            held.running -= 1
            held.changed = True

    def give_back(self, scopes: Iterable[str], now: float) -> bool:
        """Closes what is held of these scopes, so that it can be asked for whole. Whether there was anything."""
        found = False
        for scope in scopes:
            for dimension in self._scopes.get(scope, {}).values():
                for held in dimension.slices:
                    if held.remaining > 0 and held.expires > now and held.unit != CONCURRENCY:
                        held.amount = held.used
                        held.closed = held.changed = found = True
                dimension.slices = [s for s in dimension.slices if not s.closed]
        return found

    def drop(self, ids: Iterable[str] | None) -> None:
        """Slices were revoked (None: all): nothing more is taken from them."""
        wanted = None if ids is None else set(ids)
        if wanted is None:
            self._unlimited.clear()
        for dimensions in self._scopes.values():
            for dimension in dimensions.values():
                dimension.slices = [s for s in dimension.slices if wanted is not None and s.id not in wanted]
        for slice_id in list(self._live) if wanted is None else wanted:
            self._live.pop(slice_id, None)

    def reports(self, now: float) -> Iterator[Slice]:
        """Slices whose state the limiter does not know yet. Those that are done are marked closed and forgotten."""
        for held in list(self._live.values()):
            done = held.running == 0 and (held.closed or held.expires <= now or held.remaining <= 0)
            if done:
                held.closed = True
                del self._live[held.id]
                dimension = self._scopes.get(held.scope, {}).get((held.unit, held.period))
                if dimension is not None and held in dimension.slices:
                    dimension.slices.remove(held)
            if done or held.changed:
                held.changed = False
                yield held

    def forget_idle(self, now: float) -> None:
        """Drops scopes of which nothing is held or known any more."""
        for scope in [s for s, until in self._unlimited.items() if until <= now]:
            del self._unlimited[scope]
        for scope in [s for s, d in self._scopes.items() if not any(x.slices for x in d.values())]:
            del self._scopes[scope]

    def _covers(self, scope: str, amounts: Amounts, now: float) -> bool:
        unlimited = self._unlimited.get(scope)
        if unlimited is not None:
            return unlimited > now
        dimensions = self._scopes.get(scope)
        if not dimensions:
            return False
        for dimension in dimensions.values():
            need = amount_of(dimension.unit, amounts)
            if dimension.shadow:
                if all(s.expires <= now for s in dimension.slices):
                    return False
            elif need > dimension.available(now):
                return False
        return True
