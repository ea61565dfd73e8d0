"""Tells from the last calls which targets fail now, before any circuit has opened and before silent calls have ended.

Two questions are answered from the same evidence:

- *Is it to be avoided?* Others are called first, for a short time. A silent target costs its callers seconds, so one
  timeout is enough; a visible fault costs milliseconds and may be chance, so it takes two in a row with no answer
  between. What is left to `set_aside` (keys, retired models) must be met, so it does not count. A call in flight for
  much longer than its target's answers usually take is evidence before it ends, unless a call that began later was
  answered.
  A caller in a hurry cuts its calls before a target is at fault; where that was long after its usual time, the target
  is avoided for that caller alone: for the patient it is no fault.
- *Would another call repeat what has failed?* Then it needs room in the retry budget. The first call to a provider
  that has not failed needs none: it is how a living provider is found. To keep a sudden outage from making each
  request the first at each provider, one such call at a time is let pass, and any number where the provider has just
  answered.

A provider's fault shows at whichever of its models was called, so evidence counts for both; an answer clears it for
both, and what the request itself was refused for is an answer. The model that a caller names first is avoided for its
own faults alone: it is what was asked for, and its provider's other models are not. A caller's own text can make a
provider fail (see `health.held_failures`), so a target is avoided for a caller where it has met the fault itself, or
two callers have. A repetition is one whoever failed: it has a fair share of the retry budget.

After a start, and where nobody has called for a minute, every target is as good as new. Pure, and in memory that
calls in flight bound. Instants are monotonic seconds.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from libs.catalog.model import Model
from libs.types import ACCOUNT_FAULTS, PROVIDER_FAULTS, ErrorClass

#: Seconds for which a target is avoided after a timeout, and after the last of VISIBLE_ROW other faults in a row.
AVOID_SILENT: Final = 15.0
AVOID_VISIBLE: Final = 3.0
VISIBLE_ROW: Final = 2
#: Seconds for which a failure is remembered: as long as the retry budget's window.
REMEMBERED: Final = 60.0
#: A provider that answered within this time is taken to answer on, seconds.
PROVEN: Final = 1.0
#: A call is late after this share of the time that its provider may fairly take.
LATE: Final = 0.5
#: Late calls of one place that are looked at, at most.
MOST_LATE: Final = 64
#: A call that its caller's deadline cut has waited in vain after so many times its target's usual time.
IN_VAIN: Final = 2.0
#: Callers in a hurry that are remembered at one place, at most.
MOST_HURRIED: Final = 64
#: Calls in flight are searched for late ones at most this often, seconds: each search looks at all of them.
SEARCH: Final = 0.05

#: Failures of the provider rather than of one model or one request.
OF_PROVIDER: Final = PROVIDER_FAULTS | ACCOUNT_FAULTS | {ErrorClass.RATE_LIMITED}
#: Failures that are `set_aside`'s to act upon.
_SET_ASIDE: Final = ACCOUNT_FAULTS | {ErrorClass.MODEL_NOT_FOUND}


class _Call(Struct, eq=False):
    """A call in flight that has shown nothing yet. `places`: of its model and of its provider."""

    places: tuple[_Place, _Place]
    caller: str
    began: float
    late_at: float
    in_vain_at: float
    extra: bool


class _Place:
    """The evidence of a model or a provider."""

    __slots__ = (
        "answered",
        "callers",
        "extra",
        "failed",
        "failures",
        "faults",
        "hurried",
        "late",
        "newest_answered",
        "silent",
    )

    def __init__(self) -> None:
        #: The last answer, and the latest begin of a call that was answered.
        self.answered = self.newest_answered = float("-inf")
        #: Failures in a row since the last answer, those of them that may be avoided, the last of them, their
        #: callers (two are as good as all), and True if one was a timeout.
        self.failures = self.faults = 0
        self.failed = float("-inf")
        self.callers: set[str] = set()
        self.silent = False
        self.late: dict[str, _Call] = {}
        #: Callers whose own deadlines have cut calls that waited in vain since the last answer → the last time.
        self.hurried: dict[str, float] = {}
        #: Extra calls in flight that have shown nothing yet.
        self.extra = 0

    def record_answer(self, now: float, began: float) -> None:
        self.answered = now
        self.newest_answered = max(self.newest_answered, began)
        if self.failures:
            self._forget()
        if self.hurried:
            self.hurried.clear()

    def record_hurry(self, now: float, caller: str) -> None:
        self.hurried.pop(caller, None)
        self.hurried[caller] = now
        if len(self.hurried) > MOST_HURRIED:
            del self.hurried[next(iter(self.hurried))]

    def record_failure(self, now: float, caller: str, failure: ErrorClass) -> None:
        if now - self.failed >= REMEMBERED:
            self._forget()
        self.failures += 1
        self.faults += failure not in _SET_ASIDE
        self.failed = now
        self.silent = self.silent or failure is ErrorClass.TIMEOUT
        if len(self.callers) < 2:
            self.callers.add(caller)

    def _forget(self) -> None:
        self.failures = self.faults = 0
        self.silent = False
        self.callers.clear()

    def is_late(self, caller: str) -> bool:
        callers = {call.caller for call in self.late.values() if call.began >= self.newest_answered}
        return _concerns(callers, caller)

    def is_avoided(self, now: float, caller: str) -> bool:
        if self.faults:
            span = AVOID_SILENT if self.silent else AVOID_VISIBLE if self.faults >= VISIBLE_ROW else 0.0
            if now - self.failed < span and _concerns(self.callers, caller):
                return True
        if self.hurried and now - self.hurried.get(caller, float("-inf")) < AVOID_SILENT:
            return True
        return bool(self.late) and self.is_late(caller)

    def is_doubted(self, now: float, caller: str) -> bool:
        if self.silent and now - self.failed < REMEMBERED:
            return True
        return bool(self.hurried) and now - self.hurried.get(caller, float("-inf")) < REMEMBERED

    def has_failed(self, now: float) -> bool:
        if self.failures and now - self.failed < REMEMBERED:
            return True
        return any(call.began >= self.newest_answered for call in self.late.values())


class RecentCalls:
    """The last calls to every target, as one router sees them. A call is told of by `begin`, by `shown` at its first
    sign of an answer, and by `end`."""

    def __init__(self) -> None:
        self._providers: dict[str, _Place] = {}
        #: A model's own place and its provider's, by the model's id.
        self._places: dict[str, tuple[_Place, _Place]] = {}
        self._running: dict[str, _Call] = {}
        #: No call in flight becomes late before this instant, so that all of them are looked at now and then only.
        self._search_at = float("inf")
        #: Entries in all places' `late`.
        self._late = 0
        self._failed = float("-inf")

    def begin(
        self,
        attempt_id: str,
        model: Model,
        caller: str,
        now: float,
        fair: float,
        *,
        extra: bool,
        usual: float | None = None,
    ) -> None:
        """Records a call that begins. `fair`: seconds after which the provider is at fault; `extra`: not the first of
        its request; `usual`: the seconds in which it usually shows something, None: not known."""
        places = self._places.get(model.id) or self._places_of(model)
        late_at = now + LATE * fair
        in_vain_at = now if usual is None else now + IN_VAIN * usual
        self._running[attempt_id] = _Call(places, caller, now, late_at, in_vain_at, extra)
        self._search_at = min(self._search_at, late_at)
        if extra:
            places[1].extra += 1

    def shown(self, attempt_id: str, now: float) -> None:
        """Records the first sign of an answer."""
        call = self._leave(attempt_id)
        if call is not None:
            for place in call.places:
                place.record_answer(now, call.began)

    def end(
        self,
        attempt_id: str,
        model: Model,
        caller: str,
        now: float,
        failure: ErrorClass | None,
        *,
        hurried: bool = False,
    ) -> None:
        """Records the end of a call. `failure` None: it gave the answer; CANCELLED: it is no evidence, but for its
        own caller where that one's deadline has cut it (`hurried`)."""
        if failure is None:
            self.shown(attempt_id, now)
            return
        call = self._leave(attempt_id)
        if failure is ErrorClass.CANCELLED:
            if hurried and call is not None and now >= call.in_vain_at:
                self._failed = now
                for place in call.places:
                    place.record_hurry(now, caller)
            return
        if failure not in OF_PROVIDER and failure is not ErrorClass.MODEL_NOT_FOUND:
            # Else it has shown its answer before.
            if call is not None:
                for place in call.places:
                    place.record_answer(now, call.began)
            return
        self._failed = now
        of_model, of_provider = self._places_of(model)
        of_model.record_failure(now, caller, failure)
        if failure in OF_PROVIDER:
            of_provider.record_failure(now, caller, failure)

    def all_quiet(self, now: float) -> bool:
        """Returns True if no target is to be avoided; costs next to nothing."""
        self._find_late(now)
        return not self._late and now - self._failed >= AVOID_SILENT

    def avoids(self, model: Model, caller: str, now: float, *, named: str = "") -> bool:
        """Returns True if others are to be called first. `named`: the id of the model that the caller names first."""
        self._find_late(now)
        of_model, of_provider = self._places_of(model)
        if of_model.is_avoided(now, caller):
            return True
        return model.id != named and of_provider.is_avoided(now, caller)

    def is_doubted(self, model: Model, caller: str, now: float) -> bool:
        """Returns True if the model or its provider was silent and has not answered since: a call may wait in vain.
        Costs next to nothing while nothing fails."""
        if now - self._failed >= REMEMBERED:
            return False
        return any(place.is_doubted(now, caller) for place in self._places_of(model))

    def repeats(self, model: Model, now: float) -> bool:
        """Returns True if another call would repeat what has failed, or what an unproven one under way will tell."""
        self._find_late(now)
        if any(place.has_failed(now) for place in self._places_of(model)):
            return True
        provider = self._providers.get(model.provider)
        return provider is not None and provider.extra > 0 and now - provider.answered > PROVEN

    def _leave(self, attempt_id: str) -> _Call | None:
        """Takes a call out of those that have shown nothing."""
        call = self._running.pop(attempt_id, None)
        if call is not None and (call.extra or self._late):
            call.places[1].extra -= call.extra
            for place in call.places:
                if place.late.pop(attempt_id, None) is not None:
                    self._late -= 1
        return call

    def _find_late(self, now: float) -> None:
        """Notes the calls that have become late at their places."""
        if now < self._search_at:
            return
        soonest = float("inf")
        for attempt_id, call in self._running.items():
            if call.late_at > now:
                soonest = min(soonest, call.late_at)
                continue
            for place in call.places:
                if attempt_id not in place.late and len(place.late) < MOST_LATE:
                    place.late[attempt_id] = call
                    self._late += 1
        self._search_at = max(soonest, now + SEARCH)

    def _places_of(self, model: Model) -> tuple[_Place, _Place]:
        """Returns the model's place and its provider's."""
        places = self._places.get(model.id)
        if places is None:
            provider = self._providers.setdefault(model.provider, _Place())
            places = self._places[model.id] = _Place(), provider
        return places


def _concerns(callers: set[str], caller: str) -> bool:
    """Returns True if what these callers have seen is true of the caller, too."""
    return len(callers) > 1 or caller in callers
