"""Repeated failures of a combination that no circuit breaker sees, and what is set aside because of them. Pure: time
(seconds since the Unix epoch) and chance are parameters; memory is bounded; an outcome costs O(1).

Breakers judge a provider or a model by the share of its calls that fail. Four things escape them: a key that stopped
working for all models of a provider at once, a model that is gone (nothing is wrong with the provider), a kind of
request that one model always refuses while all others work there, and a region whose providers fail together. Each
is recognised by failures in a row without a success between them, set aside for a growing time, then tried with one
call, and put back by a success or by an operator.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random

from msgspec import Struct

from libs.catalog.model import Provider
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.router.domain.combinations import (
    LAST_RESORT,
    REGION_FAULTS,
    REGION_PROVIDERS,
    RULES,
    Call,
    Combination,
    Kind,
    combinations_of,
    mark_of,
    shape_of,
)

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

#: Successes of other requests on the same model that it takes to blame a shape.
CONTRAST = 3
#: Faults further apart than this are not one outage, seconds.
REGION_MEMORY = 60.0
#: Content is refused for what it says, so it takes more to blame the shape.
REFUSALS = 10

_ACCOUNT = frozenset({ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED})
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
    #: A trial is running until then at the latest; 0: none.
    trial_until: float = 0.0

    def closed(self, now: float) -> bool:
        """Whether no call may go there now: its time is not over, or somebody is trying."""
        return now < max(self.until, self.trial_until)


@dataclass(slots=True)
class _Suspicion:
    """Failures in a row."""

    first: float
    last: float
    #: The model's successes when it began.
    baseline: int
    count: int = 0
    refused: bool = False
    marks: set[int | str] = field(default_factory=set)


@dataclass(slots=True)
class _Region:
    """Faults since the region's last success: provider → (count, last)."""

    faults: dict[str, tuple[int, float]] = field(default_factory=dict)
    first_fault: float = 0.0
    last_success: float = float("-inf")


class Verdict(Struct, frozen=True):
    """About a call that would meet a combination. `seconds`: until it may be made; None: it may, as a trial.
    `last_resort`: it may be made where nobody else is left."""

    reason: str
    seconds: float | None
    last_resort: bool
    kind: Kind


class Patterns:
    """Learns from outcomes. Not thread-safe; never blocks."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._suspicions: OrderedDict[Combination, _Suspicion] = OrderedDict()
        self._aside: OrderedDict[Combination, SetAside] = OrderedDict()
        self._past: OrderedDict[Combination, tuple[int, float]] = OrderedDict()
        #: By model id, and by region ("": none): as many as the catalog names.
        self._answered: dict[str, int] = {}
        self._regions: dict[str, _Region] = {}

    def __len__(self) -> int:
        """How many combinations are set aside."""
        return len(self._aside)

    def succeeded(self, now: float, began: float, call: Call) -> list[SetAside]:
        """A call that began at `began` gave the answer. What is put back because of it."""
        model_id = call.model.id
        self._answered[model_id] = self._answered.get(model_id, 0) + 1
        region = self._region(call.provider.region)
        region.last_success = now
        if region.faults:
            region.faults.clear()
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

    def failed(self, now: float, began: float, call: Call, error_class: ErrorClass) -> SetAside | None:
        """A call that began at `began` failed. What is set aside because of it, for the first time or again."""
        self._forget_oldest(now)
        found = None
        if error_class in _ACCOUNT:
            found = Combination(Kind.KEY, call.provider.name)
        elif error_class is ErrorClass.MODEL_NOT_FOUND:
            found = Combination(Kind.MODEL, call.provider.name, call.model.name)
        elif error_class in _OF_SHAPE:
            found = shape_of(call)
        result = self._blame(now, began, found, call, error_class) if found else None
        if error_class in PROVIDER_FAULTS and call.provider.region:
            result = self._fault(now, began, call.provider, error_class) or result
        if self._aside:
            for combination in combinations_of(call):
                entry = self._aside.get(combination)
                if entry is not None and entry is not result and began >= entry.since:
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
            all(entry.combination.kind in LAST_RESORT for entry in closed),
            last.combination.kind,
        )

    def begin(self, now: float, call: Call) -> bool:
        """Before the call is made; takes the trial where one is due. False: it must not be made after all."""
        entries = [entry for c in combinations_of(call) if (entry := self._aside.get(c)) is not None]
        if any(e.closed(now) and e.combination.kind not in LAST_RESORT for e in entries):
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
        self, now: float, began: float, combination: Combination, call: Call, error_class: ErrorClass
    ) -> SetAside | None:
        entry = self._aside.get(combination)
        if entry is not None:
            due = now >= entry.until and began >= entry.since
            return self._set_aside(now, combination, error_class, entry.reason) if due else None
        answered = self._answered.get(call.model.id, 0)
        suspicion = self._suspicions.get(combination)
        if suspicion is None:
            suspicion = self._suspicions[combination] = _Suspicion(now, now, answered)
            if len(self._suspicions) > MAX_SUSPICIONS:
                self._suspicions.popitem(last=False)
        self._suspicions.move_to_end(combination)
        rule = RULES[combination.kind]
        shape = combination.kind is Kind.SHAPE
        suspicion.last = now
        suspicion.count += 1
        suspicion.refused |= error_class is ErrorClass.CONTENT_REFUSED
        failures = REFUSALS if suspicion.refused else rule.failures
        different = failures if shape else rule.different
        if len(suspicion.marks) < different:
            suspicion.marks.add(mark_of(call.generation.prompt) if shape else call.model.name)
        if suspicion.count < failures or len(suspicion.marks) < different:
            return None
        if shape and answered - suspicion.baseline < CONTRAST:
            return None
        return self._set_aside(now, combination, error_class, _why(combination, suspicion, error_class))

    def _fault(
        self, now: float, began: float, provider: Provider, error_class: ErrorClass
    ) -> SetAside | None:
        """Blames a region when several of its providers fail, none works, and other regions do."""
        combination = Combination(Kind.REGION, region=provider.region)
        entry = self._aside.get(combination)
        if entry is not None:
            due = now >= entry.until and began >= entry.since
            return self._set_aside(now, combination, error_class, entry.reason) if due else None
        region = self._region(provider.region)
        faults = region.faults = {p: f for p, f in region.faults.items() if now - f[1] <= REGION_MEMORY}
        if not faults:
            region.first_fault = now
        faults[provider.name] = (faults.get(provider.name, (0, now))[0] + 1, now)
        failing = sorted(name for name, (count, _) in faults.items() if count >= REGION_FAULTS)
        elsewhere = any(
            other.last_success >= region.first_fault
            for name, other in self._regions.items()
            if name != provider.region
        )
        if len(failing) < REGION_PROVIDERS or not elsewhere:
            return None
        reason = f"{', '.join(failing[:8])} fail together while other regions work"
        return self._set_aside(now, combination, error_class, reason)

    def _set_aside(
        self, now: float, combination: Combination, error_class: ErrorClass, reason: str
    ) -> SetAside:
        entry = self._aside.get(combination)
        times, last = self._past.pop(combination, (0, now)) if entry is None else (entry.times, now)
        times = times + 1 if now - last <= FORGIVE else 1
        rule = RULES[combination.kind]
        # The exponent is bounded only to keep the power finite; the cap has won long before.
        seconds = min(rule.cap, rule.base * GROWTH ** min(times - 1, 32))
        until = now + seconds * (1 + self._rng.uniform(0, JITTER))
        made = self._aside[combination] = SetAside(combination, error_class, reason, now, until, times)
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


def _why(combination: Combination, suspicion: _Suspicion, error_class: ErrorClass) -> str:
    count, kind = suspicion.count, error_class.replace("_", " ")
    if combination.kind is Kind.KEY:
        return f"{combination.provider} failed {count} calls in a row on several models: {kind}"
    if combination.kind is Kind.MODEL:
        return f"{combination.provider} said {count} times in a row that it has no such model"
    return f"it failed {count} requests of this kind in a row ({kind}) while others succeeded"
