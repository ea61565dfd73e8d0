"""Decides from the outcomes of calls what is set aside, tried and put back (see the room's head). Pure: time (seconds
since the Unix epoch) and chance are parameters; memory is bounded; an outcome costs O(1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from libs.catalog.model import Model, Provider
from libs.types import ACCOUNT_FAULTS, PROVIDER_FAULTS, ErrorClass
from services.router.health.answer_times import CONTRADICTED, RECENT, AnswerTimes
from services.router.request.features import Unsupported
from services.router.set_aside.combinations import (
    REGION_FAULTS,
    REGION_PROVIDERS,
    Call,
    Combination,
    CombinationKind,
    combinations_of,
    features_at,
    keys_of,
    shape_of,
)
from services.router.set_aside.entry import SetAsideEntry, SetAsideVerdict
from services.router.set_aside.features import features_of, narrowed
from services.router.set_aside.suspicion import Suspicion

#: Combinations under suspicion, and those set aside or remembered after that, at most; the oldest are forgotten
#: first.
MAX_SUSPICIONS = 4096
MAX_SET_ASIDE = 1024
#: Failures further apart than this are not one pattern, seconds.
MEMORY = 3600.0
#: Seconds for which growth is remembered after a combination was put back, and an untried one is kept.
FORGIVE = 3600.0
#: A trial whose end is never reported gives way to the next after this, seconds.
TRIAL = 30.0
GROWTH = 2.0
JITTER = 0.2

#: Faults further apart than this are not one outage, seconds.
REGION_MEMORY = 60.0
_OF_SHAPE = frozenset({ErrorClass.INVALID_REQUEST, ErrorClass.CONTENT_REFUSED, ErrorClass.MALFORMED})


@dataclass(slots=True)
class _Region:
    """A region's faults since its last success: provider → (count, instant of the last)."""

    faults: dict[str, tuple[int, float]] = field(default_factory=dict)
    first_fault: float = 0.0
    #: Tenants that met them, two at most.
    tenants: set[str] = field(default_factory=set)
    answered: AnswerTimes = field(default_factory=AnswerTimes)


class Patterns:
    """All combinations that are suspected or set aside. Not thread-safe; never blocks."""

    def __init__(self, rng: Random, key_version: Callable[[Provider], str]) -> None:
        """`key_version` returns what tells a provider's present key from its earlier ones."""
        self._rng = rng
        self._key_version = key_version
        self._suspicions: OrderedDict[Combination, Suspicion] = OrderedDict()
        self._aside: OrderedDict[Combination, SetAsideEntry] = OrderedDict()
        self._past: OrderedDict[Combination, tuple[int, float]] = OrderedDict()
        #: By provider and model, and by region ("": none): bounded by the catalog.
        self._answered: dict[str, dict[str, tuple[AnswerTimes, _Region]]] = {}
        self._regions: dict[str, _Region] = {}
        #: The features that models have been found not to support, by model: bounded by the catalog and the features
        #: there are.
        self._refused: dict[str, set[Unsupported]] = {}

    def __len__(self) -> int:
        """Returns the number of combinations that are set aside."""
        return len(self._aside)

    def record_success(self, now: float, began: float, call: Call) -> list[SetAsideEntry]:
        """Records that a call that began at `began` gave the answer. Returns what is put back because of it."""
        tenant, model = call.generation.tenant, call.model
        try:
            answered, region = self._answered[model.provider][model.name]
        except KeyError:
            answered, region = AnswerTimes(), self._region(call.provider.region)
            self._answered.setdefault(model.provider, {})[model.name] = answered, region
        answered.add(now, tenant)
        region.answered.add(now, tenant)
        if region.faults:
            region.faults.clear()
            region.tenants.clear()
        if not self._suspicions and not self._aside:
            return []
        self._forget_oldest(now)
        back: list[SetAsideEntry] = []
        for combination in self._combinations_of(call):
            self._suspicions.pop(combination, None)
            entry = self._aside.get(combination)
            if entry is not None and began >= entry.since:
                back.append(self._put_back(now, entry))
        return back

    def record_failure(
        self,
        now: float,
        began: float,
        call: Call,
        error_class: ErrorClass,
        *,
        explicit: bool = True,
        unsupported: Unsupported | None = None,
        quota_back: float | None = None,
    ) -> SetAsideEntry | None:
        """Records that a call that began at `began` failed. Returns what is set aside because of it, for the first
        time or again; None: nothing. `explicit`: by a status or a code, not by words alone. `unsupported`: the
        feature that the model refuses, where it names one; `quota_back`: seconds until a spent quota is whole again,
        where it says when."""
        self._forget_oldest(now)
        if quota_back is not None and explicit and self._quiet(now, call) > CONTRADICTED:
            return self._wait_for_quota(now, call, quota_back)
        found: tuple[Combination, ...] = ()
        if error_class in ACCOUNT_FAULTS:
            found = keys_of(call.model)
        elif error_class is ErrorClass.MODEL_NOT_FOUND:
            found = (Combination(CombinationKind.MODEL, call.provider.name, call.model.name),)
        elif error_class is ErrorClass.UNSUPPORTED_HERE:
            found = self._refusals_of(call, unsupported) or (shape_of(call),)
        elif error_class in _OF_SHAPE:
            found = (shape_of(call),)
        result = None
        for combination in found:
            result = self._blame(now, began, combination, call, error_class, explicit) or result
        if error_class in PROVIDER_FAULTS and call.provider.region:
            result = self._blame_region(now, began, call, error_class) or result
        if self._aside:
            for combination in self._combinations_of(call):
                entry = self._aside.get(combination)
                if entry is not None and entry.since < now and began >= entry.since:
                    # A trial that failed for another reason has shown nothing: the next call may try.
                    entry.trial_until = 0.0
        return result

    def verdict(self, now: float, call: Call) -> SetAsideVerdict | None:
        """Returns the verdict on a call, for planning; None: nothing is against it."""
        entries = self._entries_of(call)
        if not entries:
            return None
        closed = [entry for entry in entries if entry.closed(now)]
        if not closed:
            shape = next((e for e in entries if e.combination.kind is CombinationKind.SHAPE), entries[0])
            return SetAsideVerdict(shape.reason, None, True, shape.combination.kind)
        last = max(closed, key=lambda entry: max(entry.until, entry.trial_until))
        return SetAsideVerdict(
            last.reason,
            max(last.until, last.trial_until) - now,
            all(entry.last_resort for entry in closed),
            last.combination.kind,
        )

    def begin_call(self, now: float, call: Call) -> bool:
        """Takes the trial where one is due. Returns False if the call must not be made after all."""
        entries = self._entries_of(call)
        if any(e.closed(now) and not e.last_resort for e in entries):
            return False
        for entry in entries:
            if not entry.closed(now):
                entry.trial_until = now + TRIAL
        return True

    def entries(self, now: float) -> list[SetAsideEntry]:
        """Returns all that is set aside or waits for its trial, sorted by name."""
        self._drop_untried(now)
        return sorted(self._aside.values(), key=lambda entry: entry.combination.name)

    def clear(self, name: str) -> SetAsideEntry | None:
        """Puts a combination back for an operator and forgets its past. Returns None if it is not set aside."""
        for combination, entry in self._aside.items():
            if combination.name == name:
                del self._aside[combination]
                self._past.pop(combination, None)
                return entry
        return None

    def put_back_replaced_keys(self, provider: Provider, model: Model) -> list[SetAsideEntry]:
        """Puts back, without a past, what was set aside under another key than the provider has now. Returns it."""
        back = []
        for combination in keys_of(model):
            entry = self._aside.get(combination)
            if entry is not None and entry.key != self._key_version(provider):
                del self._aside[combination]
                self._past.pop(combination, None)
                back.append(entry)
        return back

    def allow_trials(self, now: float) -> None:
        """Lets every key, model and shape be tried at once: a new catalog may have mended them."""
        for entry in self._aside.values():
            if entry.combination.kind is not CombinationKind.REGION:
                entry.until = min(entry.until, now)
        # Names that are gone from the catalog must not stay for ever.
        self._answered.clear()
        self._suspicions.clear()
        self._regions.clear()
        # What is set aside must still be found.
        aside = {f"{c.provider}/{c.model}" for c in self._aside if c.unsupported is not None}
        self._refused = {model: found for model, found in self._refused.items() if model in aside}

    def _combinations_of(self, call: Call) -> Iterator[Combination]:
        return combinations_of(call, self._refused.get(call.model.id, ()))

    def _entries_of(self, call: Call) -> list[SetAsideEntry]:
        """Returns what is set aside of which the call is an instance."""
        return [entry for c in self._combinations_of(call) if (entry := self._aside.get(c)) is not None]

    def _refusals_of(self, call: Call, unsupported: Unsupported | None) -> tuple[Combination, ...]:
        """Returns the feature that the model refuses as the call uses it; nothing where it does not use it."""
        if unsupported is None:
            return ()
        prompt = call.generation.prompt
        narrow = narrowed(unsupported, prompt, features_of(prompt, stream=call.stream))
        if narrow is None:
            return ()
        self._refused.setdefault(call.model.id, set()).add(narrow)
        return features_at(call, narrow)

    def _quiet(self, now: float, call: Call, *, of_all: bool = False) -> float:
        """Returns the seconds since another tenant was answered by the call's model, or (`of_all`) by any of its
        provider's."""
        models = self._answered.get(call.provider.name, {})
        others = [
            answered.last_of_others(call.generation.tenant)
            for name, (answered, _) in models.items()
            if of_all or name == call.model.name
        ]
        return now - max(others, default=float("-inf"))

    def _wait_for_quota(self, now: float, call: Call, seconds: float) -> SetAsideEntry | None:
        """Sets the key aside for the model alone until its quota is whole again: others have quotas of their own."""
        combination = keys_of(call.model)[0]
        entry = self._aside.get(combination)
        if entry is not None and now < entry.until:
            return None
        reason = f"{call.provider.name} says that the quota of {call.model.name} is spent"
        key = self._key_version(call.provider)
        return self._set_aside(now, combination, ErrorClass.QUOTA_EXHAUSTED, reason, key, seconds)

    def _blame(
        self,
        now: float,
        began: float,
        combination: Combination,
        call: Call,
        error_class: ErrorClass,
        explicit: bool,
    ) -> SetAsideEntry | None:
        key = self._key_version(call.provider) if combination.kind is CombinationKind.KEY else ""
        entry = self._aside.get(combination)
        if entry is not None:
            if now < entry.until or began < entry.since:
                return None
            if explicit or combination.tenant:
                return self._set_aside(now, combination, error_class, entry.reason, key)
            # Words alone must be proven anew.
        models = self._answered.get(call.provider.name, {})
        answered = models.get(call.model.name)
        successes = 0 if answered is None else answered[0].count
        suspicion = self._suspicions.get(combination)
        if suspicion is None or suspicion.key != key:
            suspicion = self._suspicions[combination] = Suspicion(combination, successes, key)
            if len(self._suspicions) > MAX_SUSPICIONS:
                self._suspicions.popitem(last=False)
        self._suspicions.move_to_end(combination)
        suspicion.add(now, call, error_class, explicit=explicit)
        # An answer of any model shows that the key is good.
        quiet = self._quiet(now, call, of_all=combination.kind is CombinationKind.KEY)
        if not suspicion.proven(successes, quiet):
            return None
        entry = self._set_aside(now, combination, error_class, suspicion.explain(error_class), key)
        entry.doubtful = suspicion.explicit < suspicion.failures
        return entry

    def _blame_region(
        self, now: float, began: float, call: Call, error_class: ErrorClass
    ) -> SetAsideEntry | None:
        """Records a fault of a region's provider. Sets the region aside where several of its providers fail, none
        works, and other regions do."""
        provider, tenant = call.provider, call.generation.tenant
        combination = Combination(CombinationKind.REGION, region=provider.region)
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
        if len(region.tenants) < 2 and now - region.answered.last_of_others(tenant) <= RECENT:
            return None
        reason = f"{', '.join(failing[:8])} fail together while other regions work"
        return self._set_aside(now, combination, error_class, reason)

    def _set_aside(
        self,
        now: float,
        combination: Combination,
        error_class: ErrorClass,
        reason: str,
        key: str = "",
        stated: float | None = None,
    ) -> SetAsideEntry:
        """Sets a combination aside: for as long as its rule says, or for the `stated` seconds."""
        entry = self._aside.get(combination)
        times, last = self._past.pop(combination, (0, now)) if entry is None else (entry.times, now)
        times = times + 1 if now - last <= FORGIVE else 1
        rule = combination.rule
        # The exponent is bounded only to keep the power finite; the cap has won long before.
        seconds = min(rule.cap, rule.base * GROWTH ** min(times - 1, 32)) if stated is None else stated
        until = now + seconds + min(seconds, rule.base) * self._rng.uniform(0, JITTER)
        set_aside = self._aside[combination] = SetAsideEntry(
            combination, error_class, reason, now, until, times, key
        )
        self._suspicions.pop(combination, None)
        self._drop_untried(now)
        if len(self._aside) > MAX_SET_ASIDE:
            self._aside.popitem(last=False)
        return set_aside

    def _put_back(self, now: float, entry: SetAsideEntry) -> SetAsideEntry:
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
