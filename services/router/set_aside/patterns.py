"""Repeated failures of a combination that no circuit breaker sees, and what is set aside because of them. Pure: time
(seconds since the Unix epoch) and chance are parameters; memory is bounded; an outcome costs O(1).

Breakers judge a provider or a model by the share of its calls that fail. Four things escape them: a key that stopped
working for all models of a provider at once, a model that is gone (nothing is wrong with the provider), a kind of
request that one model always refuses while all others work there, and a region whose providers fail together. Each
is recognised by failures in a row without a success between them, set aside for a growing time, then tried with one
call, and put back by a success or by an operator. A key is also put back when it is replaced by another.

What it takes is told by `suspicion`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from msgspec import Struct

from libs.catalog.model import Model, Provider
from libs.types import ACCOUNT_FAULTS, PROVIDER_FAULTS, ErrorClass
from services.router.health.callers import RECENT, Answered
from services.router.set_aside.combinations import (
    LAST_RESORT,
    REGION_FAULTS,
    REGION_PROVIDERS,
    Call,
    Combination,
    Kind,
    combinations_of,
    keys_of,
    shape_of,
)
from services.router.set_aside.suspicion import Suspicion

#: How many combinations are under suspicion, set aside, or remembered after that; the oldest are forgotten first.
MAX_SUSPICIONS = 4096
MAX_SET_ASIDE = 1024
#: Failures further apart than this are not one pattern, seconds.
MEMORY = 3600.0
#: How long growth is remembered after a combination was put back, and an untried one is kept, seconds.
FORGIVE = 3600.0
#: A trial whose end is never heard of gives way to the next after this, seconds.
TRIAL = 30.0
GROWTH = 2.0
JITTER = 0.2

#: Faults further apart than this are not one outage, seconds.
REGION_MEMORY = 60.0
_OF_SHAPE = frozenset({ErrorClass.INVALID_REQUEST, ErrorClass.CONTENT_REFUSED, ErrorClass.MALFORMED})


@dataclass(slots=True)
class SetAside:
    """A combination that is set aside. Instants in epoch seconds."""

    combination: Combination
    error_class: ErrorClass
    #: For a person.
    reason: str
    since: float
    until: float
    #: Times in a row, this one included.
    times: int
    #: The version of the key that was used; empty: another kind.
    key: str = ""
    #: Words alone have said so: where nobody else is left, it may be called after all.
    doubtful: bool = False
    #: A trial is running until then at the latest; 0: none.
    trial_until: float = 0.0

    def closed(self, now: float) -> bool:
        """Whether no call may go there now: its time is not over, or somebody is trying."""
        return now < max(self.until, self.trial_until)

    @property
    def last_resort(self) -> bool:
        """Whether it may be called where nobody else is left."""
        return self.doubtful or self.combination.kind in LAST_RESORT


@dataclass(slots=True)
class _Region:
    """Faults since the region's last success: provider → (count, last)."""

    faults: dict[str, tuple[int, float]] = field(default_factory=dict)
    first_fault: float = 0.0
    #: Two of them at most.
    tenants: set[str] = field(default_factory=set)
    answered: Answered = field(default_factory=Answered)


class Verdict(Struct, frozen=True):
    """About a call that would meet a combination. `seconds`: until it may be made; None: it may, as a trial.
    `last_resort`: it may be made where nobody else is left."""

    reason: str
    seconds: float | None
    last_resort: bool
    kind: Kind


class Patterns:
    """Learns from outcomes. Not thread-safe; never blocks."""

    def __init__(self, rng: Random, key_version: Callable[[Provider], str] = lambda _: "") -> None:
        """`key_version` tells a provider's present key from its others."""
        self._rng = rng
        self._key_version = key_version
        self._suspicions: OrderedDict[Combination, Suspicion] = OrderedDict()
        self._aside: OrderedDict[Combination, SetAside] = OrderedDict()
        self._past: OrderedDict[Combination, tuple[int, float]] = OrderedDict()
        #: By provider and model, and by region ("": none): as many as the catalog names.
        self._answered: dict[str, dict[str, Answered]] = {}
        self._regions: dict[str, _Region] = {}

    def __len__(self) -> int:
        """How many combinations are set aside."""
        return len(self._aside)

    def succeeded(self, now: float, began: float, call: Call) -> list[SetAside]:
        """A call that began at `began` gave the answer. What is put back because of it."""
        tenant, model = call.generation.tenant, call.model
        try:
            answered = self._answered[model.provider][model.name]
        except KeyError:
            answered = self._answered.setdefault(model.provider, {})[model.name] = Answered()
        answered.add(now, tenant)
        region = self._region(call.provider.region)
        region.answered.add(now, tenant)
        if region.faults:
            region.faults.clear()
            region.tenants.clear()
        suspicions = self._suspicions
        if suspicions:
            self._forget_oldest(now)
        back: list[SetAside] = []
        if suspicions or self._aside:
            for combination in combinations_of(call):
                suspicions.pop(combination, None)
                entry = self._aside.get(combination)
                if entry is not None and began >= entry.since:
                    back.append(self._put_back(now, entry))
        return back

    def failed(
        self, now: float, began: float, call: Call, error_class: ErrorClass, *, explicit: bool = True
    ) -> SetAside | None:
        """A call that began at `began` failed. What is set aside because of it, for the first time or again.
        `explicit`: a status or a code says so, not words alone."""
        self._forget_oldest(now)
        found: tuple[Combination, ...] = ()
        if error_class in ACCOUNT_FAULTS:
            found = keys_of(call.model)
        elif error_class is ErrorClass.MODEL_NOT_FOUND:
            found = (Combination(Kind.MODEL, call.provider.name, call.model.name),)
        elif error_class in _OF_SHAPE:
            found = (shape_of(call),)
        result = None
        for combination in found:
            result = self._blame(now, began, combination, call, error_class, explicit) or result
        if error_class in PROVIDER_FAULTS and call.provider.region:
            result = self._fault(now, began, call, error_class) or result
        if self._aside:
            for combination in combinations_of(call):
                entry = self._aside.get(combination)
                if entry is not None and entry.since < now and began >= entry.since:
                    # A trial that failed otherwise has shown nothing: the next call may try.
                    entry.trial_until = 0.0
        return result

    def verdict(self, now: float, call: Call) -> Verdict | None:
        """What planning must know; None: nothing is against the call."""
        entries = [entry for c in combinations_of(call) if (entry := self._aside.get(c)) is not None]
        if not entries:
            return None
        closed = [entry for entry in entries if entry.closed(now)]
        if not closed:
            shape = next((e for e in entries if e.combination.kind is Kind.SHAPE), entries[0])
            return Verdict(shape.reason, None, True, shape.combination.kind)
        last = max(closed, key=lambda entry: max(entry.until, entry.trial_until))
        return Verdict(
            last.reason,
            max(last.until, last.trial_until) - now,
            all(entry.last_resort for entry in closed),
            last.combination.kind,
        )

    def begin(self, now: float, call: Call) -> bool:
        """Before the call is made; takes the trial where one is due. False: it must not be made after all."""
        entries = [entry for c in combinations_of(call) if (entry := self._aside.get(c)) is not None]
        if any(e.closed(now) and not e.last_resort for e in entries):
            return False
        for entry in entries:
            if not entry.closed(now):
                entry.trial_until = now + TRIAL
        return True

    def entries(self, now: float) -> list[SetAside]:
        """All that is set aside or waits for its trial, by name."""
        self._drop_untried(now)
        return sorted(self._aside.values(), key=lambda entry: entry.combination.name)

    def clear(self, name: str) -> SetAside | None:
        """An operator's word: puts a combination back and forgets its past. None: it is not set aside."""
        for combination, entry in self._aside.items():
            if combination.name == name:
                del self._aside[combination]
                self._past.pop(combination, None)
                return entry
        return None

    def renewed(self, provider: Provider, model: Model) -> list[SetAside]:
        """Puts back, without a past, what was set aside under another key than the provider has now."""
        back = []
        for combination in keys_of(model):
            entry = self._aside.get(combination)
            if entry is not None and entry.key != self._key_version(provider):
                del self._aside[combination]
                self._past.pop(combination, None)
                back.append(entry)
        return back

    def try_now(self, now: float) -> None:
        """Lets every key, model and shape be tried at once: a new catalog may have mended them."""
        for entry in self._aside.values():
            if entry.combination.kind is not Kind.REGION:
                entry.until = min(entry.until, now)
        # Names that are gone from the catalog must not stay for ever.
        self._answered.clear()
        self._suspicions.clear()
        self._regions.clear()

    def _blame(
        self,
        now: float,
        began: float,
        combination: Combination,
        call: Call,
        error_class: ErrorClass,
        explicit: bool,
    ) -> SetAside | None:
        key = self._key_version(call.provider) if combination.kind is Kind.KEY else ""
        entry = self._aside.get(combination)
        if entry is not None:
            if now < entry.until or began < entry.since:
                return None
            if explicit or combination.kind is Kind.SHAPE:
                return self._set_aside(now, combination, error_class, entry.reason, key)
            # Mere words must convince anew.
        models = self._answered.get(call.provider.name, {})
        answered = models.get(call.model.name)
        successes = 0 if answered is None else answered.count
        suspicion = self._suspicions.get(combination)
        if suspicion is None or suspicion.key != key:
            suspicion = self._suspicions[combination] = Suspicion(combination, successes, key)
            if len(self._suspicions) > MAX_SUSPICIONS:
                self._suspicions.popitem(last=False)
        self._suspicions.move_to_end(combination)
        suspicion.add(now, call, error_class, explicit=explicit)
        # An answer of any model shows that the key is good.
        others = [
            place.but(call.generation.tenant)
            for name, place in models.items()
            if combination.kind is Kind.KEY or combination.model == name
        ]
        if not suspicion.proven(successes, now - max(others, default=float("-inf"))):
            return None
        made = self._set_aside(now, combination, error_class, suspicion.why(error_class), key)
        made.doubtful = suspicion.explicit < suspicion.failures
        return made

    def _fault(self, now: float, began: float, call: Call, error_class: ErrorClass) -> SetAside | None:
        """Blames a region when several of its providers fail, none works, and other regions do."""
        provider, tenant = call.provider, call.generation.tenant
        combination = Combination(Kind.REGION, region=provider.region)
        entry = self._aside.get(combination)
        if entry is not None:
            due = now >= entry.until and began >= entry.since
            return self._set_aside(now, combination, error_class, entry.reason) if due else None
        region = self._region(provider.region)
        faults = region.faults = {p: f for p, f in region.faults.items() if now - f[1] <= REGION_MEMORY}
        if not faults:
            region.first_fault = now
            region.tenants.clear()
        if len(region.tenants) < 2:
            region.tenants.add(tenant)
        faults[provider.name] = (faults.get(provider.name, (0, now))[0] + 1, now)
        failing = sorted(name for name, (count, _) in faults.items() if count >= REGION_FAULTS)
        elsewhere = any(
            other.answered.at >= region.first_fault
            for name, other in self._regions.items()
            if name != provider.region
        )
        if len(failing) < REGION_PROVIDERS or not elsewhere:
            return None
        if len(region.tenants) < 2 and now - region.answered.but(tenant) <= RECENT:
            return None
        reason = f"{', '.join(failing[:8])} fail together while other regions work"
        return self._set_aside(now, combination, error_class, reason)

    def _set_aside(
        self, now: float, combination: Combination, error_class: ErrorClass, reason: str, key: str = ""
    ) -> SetAside:
        entry = self._aside.get(combination)
        times, last = self._past.pop(combination, (0, now)) if entry is None else (entry.times, now)
        times = times + 1 if now - last <= FORGIVE else 1
        rule = combination.rule
        # The exponent is bounded only to keep the power finite; the cap has won long before.
        seconds = min(rule.cap, rule.base * GROWTH ** min(times - 1, 32))
        until = now + seconds * (1 + self._rng.uniform(0, JITTER))
        made = self._aside[combination] = SetAside(combination, error_class, reason, now, until, times, key)
        self._suspicions.pop(combination, None)
        self._drop_untried(now)
        if len(self._aside) > MAX_SET_ASIDE:
            self._aside.popitem(last=False)
        return made

    def _put_back(self, now: float, entry: SetAside) -> SetAside:
        del self._aside[entry.combination]
        self._past[entry.combination] = (entry.times, now)
        if len(self._past) > MAX_SET_ASIDE:
            self._past.popitem(last=False)
        return entry

    def _forget_oldest(self, now: float) -> None:
        """Drops suspicions that are too old, which are the first in order."""
        while self._suspicions:
            combination, suspicion = next(iter(self._suspicions.items()))
            if now - suspicion.last <= MEMORY:
                return
            del self._suspicions[combination]

    def _drop_untried(self, now: float) -> None:
        for combination in [c for c, e in self._aside.items() if now - e.until > FORGIVE]:
            del self._aside[combination]

    def _region(self, name: str) -> _Region:
        region = self._regions.get(name)
        if region is None:
            region = self._regions[name] = _Region()
        return region
