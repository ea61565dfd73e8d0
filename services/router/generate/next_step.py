"""The one decision of the failover loop: what to do next, from what happened so far. Pure.

The error class alone decides who may be asked next. One envelope (deadline, attempts, money) is shared by retries and
fallbacks. Who is asked first of those is a matter of independence: after a fault of a provider its other models come
behind other providers, what recent calls show to fail comes behind what they do not, and the last attempt goes to the
policy's last resort. A call that repeats what has failed must also find room in the fleet's retry budget, which the
caller of this function looks after. The first call to a provider that has not failed needs none, nor does the next
after a target that refused the request for what it is: that one has answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from msgspec import Struct

from libs.catalog.routes import ProviderRoute
from libs.types import ACCOUNT_FAULTS, OF_REQUEST, PROVIDER_FAULTS, ErrorClass, RoutePart
from services.router.planning.candidate import Candidate
from services.router.planning.plan import Plan
from services.router.planning.recent_calls import OF_PROVIDER

#: A repeated call to the same provider waits at most this long (full jitter below it), in seconds.
SAME_PROVIDER_BACKOFF = 0.1
#: Whoever is told when to come back comes at least this much later, in seconds: the circuit that the same answer
#: opened must be closed again, and timers may be a millisecond early.
RETURN_MARGIN = 0.01
#: The longest that is waited for a provider where nobody else is left and the policy does not say, seconds.
DEFAULT_MAX_RETRY_AFTER = 5.0
#: With less than this left, an attempt cannot succeed, so it is not begun; seconds.
SHORTEST_ATTEMPT = 0.005

#: Nobody else would answer differently, or must not be asked.
_FINAL = frozenset({ErrorClass.CONTENT_REFUSED, ErrorClass.CANCELLED})
#: The ways in which a target says that it does not go on from a given text.
_REFUSES_PREFILL = frozenset({ErrorClass.INVALID_REQUEST, ErrorClass.UNSUPPORTED_HERE})
#: Failures after which a provider is called again where it said when.
_COMES_BACK = frozenset({ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED})
#: A fault that may be gone at the next call; a silent route (timeout, stall) is never tried again.
_ONCE_MORE = frozenset({ErrorClass.SERVER_ERROR, ErrorClass.TRANSPORT})


class Envelope(Struct, frozen=True):
    """Bounds of one request over all its attempts. `deadline` is monotonic seconds."""

    deadline: float
    max_attempts: int
    max_cost_micro_usd: int | None = None
    #: The longest a provider's Retry-After is waited for, seconds.
    max_retry_after: float = DEFAULT_MAX_RETRY_AFTER
    #: It is waited for even where another candidate is left.
    wait_in_place: bool = False


class Failed(Struct, frozen=True):
    """An attempt that did not give the answer."""

    candidate: Candidate
    error_class: ErrorClass
    message: str
    ended: float
    retry_after: float | None = None
    retry_same: bool = False
    cost_micro_usd: int = 0
    #: It had shown content, so its target answers.
    committed: bool = False
    #: It was asked to go on from the part already sent.
    prefilled: bool = False
    #: The smallest context window that may hold the prompt, as far as a refusal for its length states it, tokens.
    least_window: int | None = None
    #: The route by which it was called; None: its provider has one key and one endpoint.
    route: ProviderRoute | None = None
    #: The part of the route that failed, where another served in its place: the provider is not at fault.
    next_route: RoutePart | None = None
    #: Another route that the request has not taken may be, though it is out of service too.
    spare_route: bool = False
    #: It was refused as wrong, and nothing said what is wrong.
    unexplained: bool = False

    @property
    def of_request(self) -> bool:
        """True where the target answered, and the request is what it cannot serve."""
        return self.error_class in OF_REQUEST


class Try(Struct, frozen=True):
    """Call this candidate now. `spends_retry`: it needs room in the retry budget."""

    candidate: Candidate
    spends_retry: bool
    #: Go on from what was sent by prefill where the model can; else generate anew.
    prefill: bool = True


class Wait(Struct, frozen=True):
    """Call this candidate after `seconds`; needs room in the retry budget. `prefill` as in `Try`."""

    candidate: Candidate
    seconds: float
    prefill: bool = True


class GiveUp(Struct, frozen=True):
    """Nothing more can be done. `why` is one of the reasons in ErrorInfo."""

    why: str


Step = Try | Wait | GiveUp


class Outlook(Struct, frozen=True):
    """The word of recent calls of all requests on a plan's targets: those that others come before, and those where
    another call would repeat what has failed. `room`: the retry budget has room for a repetition."""

    avoided: frozenset[str] = frozenset()
    repeated: frozenset[str] = frozenset()
    room: bool = True


NO_FAULTS = Outlook()


def next_step(
    plan: Plan,
    failed: Sequence[Failed],
    envelope: Envelope,
    now: float,
    *,
    refused: Collection[str] = (),
    jitter: float = 0.5,
    outlook: Outlook = NO_FAULTS,
) -> Step:
    """Returns the next step. `refused`: targets that limits or breakers keep from being called (they are no
    attempts). `jitter` is a uniform draw from 0 to 1."""
    if now + SHORTEST_ATTEMPT >= envelope.deadline:
        return GiveUp("DEADLINE_EXCEEDED")
    if not failed:
        for candidate in plan.candidates:
            if candidate.target not in refused:
                return Try(candidate, spends_retry=False)
        return GiveUp("NO_CANDIDATE")
    last = failed[-1]
    if last.error_class in _FINAL:
        return GiveUp(last.error_class.name)
    # Then it was the prefill that was refused, not the request.
    refused_prefill = last.prefilled and last.error_class in _REFUSES_PREFILL
    if not refused_prefill and _callers_fault(plan, failed, envelope):
        return GiveUp("INVALID_REQUEST")
    if len(failed) >= envelope.max_attempts:
        return GiveUp("ATTEMPTS_EXHAUSTED")
    others = [
        candidate
        for candidate in _remaining(plan, failed)
        if candidate.target not in refused and _affordable(candidate, failed, envelope)
    ]
    broken = _broken_providers(failed)
    if last.candidate.target not in refused and _affordable(last.candidate, failed, envelope):
        if last.next_route is not None and not _spent_on_routes(failed, envelope, others):
            return Try(last.candidate, spends_retry=False, prefill=_takes_prefill(last.candidate, failed))
        if refused_prefill:
            return Try(last.candidate, spends_retry=False, prefill=False)
        seconds = max(last.retry_after or 0.0, SAME_PROVIDER_BACKOFF * jitter)
        independent = {c.model.provider for c in others} - broken
        spare = envelope.max_attempts - len(failed) - len(independent)
        if _again(last, failed) and seconds <= SAME_PROVIDER_BACKOFF and spare > 0 and outlook.room:
            return Wait(last.candidate, seconds, prefill=_takes_prefill(last.candidate, failed))
    margin = RETURN_MARGIN + SAME_PROVIDER_BACKOFF * jitter
    if envelope.wait_in_place:
        in_place = _wait_for([last], failed, envelope, now, refused, margin)
        if in_place is not None:
            return in_place
    if others:
        final = len(failed) + 1 == envelope.max_attempts
        others.sort(key=lambda c: _dependence(c, broken, outlook, final=final))
        tries = [
            Try(c, not last.of_request and (c.model.provider in broken or c.target in outlook.repeated))
            for c in others
        ]
        # Without room for a repetition, the first that is none.
        return next((step for step in tries if outlook.room or not step.spends_retry), tries[0])
    resumed = _cut_after_content(failed, envelope, refused)
    if resumed is not None:
        return Wait(resumed, SAME_PROVIDER_BACKOFF * jitter, prefill=_takes_prefill(resumed, failed))
    # Nobody else is left.
    if (
        last.spare_route
        and last.candidate.target not in refused
        and _affordable(last.candidate, failed, envelope)
    ):
        return Try(last.candidate, spends_retry=True, prefill=_takes_prefill(last.candidate, failed))
    return _wait_for(failed, failed, envelope, now, refused, margin) or GiveUp("PROVIDERS_FAILED")


def _dependence(
    candidate: Candidate, broken: Collection[str], outlook: Outlook, *, final: bool
) -> tuple[bool, bool, bool]:
    """Returns a key that is the smaller the less the candidate has to do with what failed; equals keep the plan's
    order. `broken`: providers at fault in this request; `final`: the envelope has no further attempt."""
    return (
        candidate.model.provider in broken,
        candidate.target in outlook.avoided,
        final and not candidate.entry.last_resort,
    )


def _broken_providers(failed: Sequence[Failed]) -> set[str]:
    """Returns the providers whose other models come after other providers: a fault of theirs as a whole, or a refusal
    that names none of the request. One whose key or endpoint alone failed is not among them."""
    return {
        f.candidate.model.provider
        for f in failed
        if f.unexplained or (f.error_class in OF_PROVIDER and f.next_route is None)
    }


def _spent_on_routes(failed: Sequence[Failed], envelope: Envelope, others: Sequence[Candidate]) -> bool:
    """Returns True if the last attempt is better spent on another candidate: two routes of one provider have failed
    by now, and whatever ails it may ail them all."""
    switched = sum(f.next_route is not None for f in failed)
    return bool(others) and switched > 1 and len(failed) + 1 >= envelope.max_attempts


def _callers_fault(plan: Plan, failed: Sequence[Failed], envelope: Envelope) -> bool:
    """Returns True if the request is at fault: every target that was called refused it. After one that is known to
    refuse requests of this kind, the next is called too; and after a first refusal that gives no reason."""
    said = [f for f in failed if f.next_route is None]
    if not said or any(f.error_class is not ErrorClass.INVALID_REQUEST for f in said):
        return False
    more = len(failed) < envelope.max_attempts and _remaining(plan, failed)
    doubtful = failed[-1].candidate.health.suspect or (said[-1].unexplained and len(said) == 1)
    return not (doubtful and more)


def _again(last: Failed, failed: Sequence[Failed]) -> bool:
    """Returns True if the same target deserves one more call: once, for a fault that may already be gone."""
    return (
        last.error_class in _ONCE_MORE
        and last.retry_same
        and not last.committed
        and _calls(last.candidate, failed) == 1
    )


def _calls(candidate: Candidate, failed: Sequence[Failed]) -> int:
    """Returns how often the candidate failed, but for what another route made up for."""
    return sum(f.candidate.target == candidate.target and f.next_route is None for f in failed)


def _cut_after_content(
    failed: Sequence[Failed], envelope: Envelope, refused: Collection[str]
) -> Candidate | None:
    """Returns the candidate to go on with where nobody else is left: of those that were cut after they had shown
    content, the one that has failed least. None: none may be called."""
    tries = Counter(f.candidate.target for f in failed)
    cut = [
        f.candidate
        for f in failed
        if f.committed
        and f.error_class in PROVIDER_FAULTS
        and f.candidate.target not in refused
        and _affordable(f.candidate, failed, envelope)
    ]
    return min(cut, key=lambda candidate: tries[candidate.target], default=None)


def _takes_prefill(candidate: Candidate, failed: Sequence[Failed]) -> bool:
    """Returns False if the candidate has refused a prefill."""
    return not any(
        f.prefilled and f.error_class in _REFUSES_PREFILL and f.candidate.target == candidate.target
        for f in failed
    )


def _remaining(plan: Plan, failed: Sequence[Failed]) -> list[Candidate]:
    """Returns the candidates not tried yet that the failures so far have not ruled out."""
    tried = {f.candidate.target for f in failed}
    # The account is wrong, so every model of the provider is out.
    # A quota that says when it comes back is the model's own.
    providers = {
        f.candidate.model.provider
        for f in failed
        if f.error_class in ACCOUNT_FAULTS and f.retry_after is None and f.next_route is None
    }
    too_long = [f for f in failed if f.error_class is ErrorClass.CONTEXT_TOO_LONG]
    least = max([_least_window(f) for f in too_long], default=0)
    return [
        c
        for c in plan.candidates
        if c.target not in tried and c.model.provider not in providers and c.model.context_window >= least
    ]


def _affordable(candidate: Candidate, failed: Sequence[Failed], envelope: Envelope) -> bool:
    if envelope.max_cost_micro_usd is None:
        return True
    spent = sum(f.cost_micro_usd for f in failed)
    return spent + candidate.estimated_micro_usd <= envelope.max_cost_micro_usd


def _least_window(refused: Failed) -> int:
    """Returns the smallest context window of a model that may hold what one refused as too long: by what it said,
    else any that is larger than the catalog says its own is."""
    stated = refused.least_window
    return refused.candidate.model.context_window + 1 if stated is None else stated


def _wait_for(
    askable: Sequence[Failed],
    failed: Sequence[Failed],
    envelope: Envelope,
    now: float,
    refused: Collection[str],
    margin: float,
) -> Wait | None:
    """Returns the wait for the first of `askable` to come back that said when, within the policy's bound and the
    deadline; None: none did. Each is waited for once. `margin`: seconds to come later, so that not all come at
    once."""
    waits = [
        (f.ended + f.retry_after - now, f.candidate)
        for f in askable
        if f.error_class in _COMES_BACK
        and f.retry_same
        and f.retry_after is not None
        and f.retry_after <= envelope.max_retry_after
        and f.candidate.target not in refused
        and _calls(f.candidate, failed) < 2
        and _affordable(f.candidate, failed, envelope)
    ]
    if waits:
        seconds, candidate = min(waits, key=lambda entry: entry[0])
        seconds = max(0.0, seconds) + margin
        if now + seconds + SHORTEST_ATTEMPT < envelope.deadline:
            return Wait(candidate, seconds)
    return None
