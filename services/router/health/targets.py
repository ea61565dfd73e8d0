"""The router's picture of its targets: what the health service says, merged with what this router sees itself.

A target is a model on a provider, or a provider. Judgements come in by `heard` and `permitted`, evidence goes out by
`evidence`; without a health service all goes on with the last known judgements and the local circuits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from random import Random

from msgspec import Struct, structs

from libs.catalog.model import Model
from libs.clock import Clock
from libs.resilience.breaker import Breaker
from libs.resilience.circuit import BreakerState, CircuitState, TripCause, worse
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.resilience.quantile import DecayingQuantile
from libs.telemetry import get_logger
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.router.health.doubt import Doubt
from services.router.health.target_health import Availability, TargetHealth
from services.router.health.view import CallTicket

#: How often the local window is counted, seconds: often enough to order candidates by.
COUNT_INTERVAL = 0.1
#: Successes that wait to be taken in, at most.
SUCCESSES = 1000
#: How often a permit is asked for while a circuit is half-open, seconds.
PROBE_INTERVAL = 0.25
#: Calls from which on a learned percentile is believed.
HEDGE_SAMPLES = 20
#: In a total outage each target is tried this often, seconds, so that the first to recover is found at once.
TRIAL_INTERVAL = 1.0
#: Open by evidence of faults, which a success disproves; not by an operator, a Retry-After or a bad account.
_TRIED = frozenset({TripCause.FAULTS, TripCause.TRANSPORT, TripCause.SLOW, TripCause.NONE})
#: Weight of the newest call in the local latency average.
EWMA = 0.2
#: Calls in the local window from which its success rate says more than the health service's.
LOCAL_EVIDENCE = 5

log = get_logger(__name__)


class Judgement(Struct, frozen=True):
    """What the health service says of a target. Durations in seconds, None: not known. `taken_out`: why an operator
    has taken it out; empty: nobody has. `ramp`: the share of traffic that it should get, 0 to 1."""

    circuit: BreakerState
    taken_out: str = ""
    degraded: bool = False
    ramp: float = 1.0
    success_rate: float = 1.0
    latency: float | None = None
    first_token: float | None = None


@dataclass(slots=True)
class _Target:
    """A provider, or a model on it. What is said of calls, tenants and doubts is about a model."""

    breaker: Breaker
    #: By the health service, last.
    said: Judgement
    latency: float | None = None
    first_token: float | None = None
    permit: str | None = None
    permit_until: float = 0.0
    ask_again: float = 0.0
    next_trial: float = 0.0
    #: The local success rate as last counted; None: too few calls.
    counted: float | None = None
    counted_until: float = 0.0
    #: The judgement made with that count, as of so many changes; None: calls may not just go there.
    known: TargetHealth | None = None
    known_as_of: int = 0
    latencies: DecayingQuantile = field(default_factory=DecayingQuantile)
    first_tokens: DecayingQuantile = field(default_factory=DecayingQuantile)
    #: While its circuit is closed: not taken in yet.
    successes: list[_Success] = field(default_factory=list)
    doubt: Doubt[_Failure] = field(default_factory=Doubt)


#: A call that gave the answer: when (epoch seconds), the model, the ticket, seconds in all and to the first token,
#: tokens, the tenant.
_Success = tuple[float, Model, CallTicket, float, float | None, int, str]


class _Failure(Struct, frozen=True):
    """A call that failed; `until`: when it may be made again, epoch seconds."""

    ticket: CallTicket
    error_class: ErrorClass
    until: float | None


@dataclass(slots=True)
class Tally:
    """Outcomes not reported yet."""

    successes: int = 0
    failures: dict[ErrorClass, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    latency_max: float = 0.0
    first_token_sum: float = 0.0
    first_token_count: int = 0
    tokens: int = 0
    retry_not_before: float = 0.0


#: Provider, model, and the ticket under which calls began.
TallyKey = tuple[str, str, CallTicket]


class Targets:
    """Satisfies `HealthView`."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        want: Callable[[Model], None],
        settings: BreakerSettings | None = None,
    ) -> None:
        """`want` is called, at most every PROBE_INTERVAL, with a model whose circuit is half-open and for which there
        is no permit."""
        self._clock = clock
        self._rng = rng
        self._want_permit = want
        self._settings = settings or BreakerSettings()
        self._targets: dict[tuple[str, str], _Target] = {}
        self._pairs: dict[str, tuple[_Target, _Target]] = {}
        self._tallies: dict[TallyKey, Tally] = {}
        #: How often something happened that judgements must not miss.
        self._changes = 0

    def target(self, model: Model) -> TargetHealth:
        """The present judgement."""
        now = self._clock.now()
        provider, target = self._pair(model)
        if target.known is not None and target.known_as_of == self._changes and now < target.counted_until:
            return target.known
        taken_out = provider.said.taken_out or target.said.taken_out
        if taken_out:
            return TargetHealth(Availability.DOWN, reason=taken_out)
        state = worse(provider.breaker.tick(now), target.breaker.tick(now))
        if state.state is CircuitState.OPEN:
            wait = max(0.0, state.open_until - now)
            reason = f"its circuit is open for another {wait:.0f} s {state.cause}".rstrip()
            tried = state.cause in _TRIED
            back = min(wait, max(0.0, target.next_trial - now)) if tried else wait
            return TargetHealth(
                Availability.DOWN, reason=reason, retry_after=back, trial=tried and now >= target.next_trial
            )
        if now >= target.counted_until:
            self._take_in(target)
            counts = target.breaker.counts(now)
            enough = counts.calls >= LOCAL_EVIDENCE
            target.counted = 1 - counts.failure_rate if enough else None
            target.counted_until = now + COUNT_INTERVAL
        success_rate = target.said.success_rate if target.counted is None else target.counted
        availability = (
            Availability.DEGRADED if target.said.degraded or provider.said.degraded else Availability.HEALTHY
        )
        if state.state is CircuitState.HALF_OPEN:
            if target.permit is None or now >= target.permit_until:
                self._want(model, target, now)
                return TargetHealth(
                    Availability.DOWN, reason="it is being probed after a failure", retry_after=PROBE_INTERVAL
                )
            availability = Availability.PROBING
        probing = availability is Availability.PROBING
        ramp = 1.0 if probing else min(provider.said.ramp, target.said.ramp)
        known = TargetHealth(availability, success_rate, target.latency, target.first_token, ramp)
        if not probing:
            target.known, target.known_as_of = known, self._changes
        return known

    def hedge_after(self, model: Model, *, stream: bool) -> float | None:
        """The learned 95th percentile."""
        target = self._target(model.provider, model.name)
        self._take_in(target)
        learned = target.first_tokens if stream else target.latencies
        if learned.samples(self._clock.now()) < HEDGE_SAMPLES:
            return None
        return learned.quantile(0.95)

    def begin(self, model: Model) -> CallTicket | None:
        """Before a call."""
        now = self._clock.now()
        provider, target = self._pair(model)
        mine, theirs = target.breaker.tick(now), provider.breaker.tick(now)
        if mine.state is CircuitState.CLOSED and theirs.state is CircuitState.CLOSED:
            return CallTicket("", mine.generation, theirs.generation)
        permit = ""
        state = worse(theirs, mine)
        if state.state is CircuitState.OPEN:
            if state.cause not in _TRIED or now < target.next_trial:
                return None
            target.next_trial = now + TRIAL_INTERVAL
        if state.state is CircuitState.HALF_OPEN:
            if target.permit is None or now >= target.permit_until:
                return None
            permit, target.permit = target.permit, None
        return CallTicket(permit, mine.generation, theirs.generation)

    def succeeded(
        self,
        model: Model,
        ticket: CallTicket,
        latency: float,
        first_token: float | None,
        tokens: int,
        tenant: str,
    ) -> None:
        """After a call that gave the answer."""
        success = (self._clock.now(), model, ticket, latency, first_token, tokens, tenant)
        provider, target = self._pair(model)
        if (
            provider.breaker.state.state is CircuitState.CLOSED
            and target.breaker.state.state is CircuitState.CLOSED
            and len(target.successes) < SUCCESSES
        ):
            target.successes.append(success)
        else:
            self._take_in(target)
            self._succeeded([success])

    def _take_in(self, target: _Target) -> None:
        """Successes only matter where something is decided. Until then they wait: a few taken in together cost much
        less than each by itself."""
        if target.successes:
            successes, target.successes = target.successes, []
            for _, alike in groupby(successes, itemgetter(2)):
                self._succeeded(list(alike))

    def _succeeded(self, successes: Sequence[_Success]) -> None:
        """Calls that began under one ticket, as if all had ended with the last of them."""
        now, model, ticket = successes[-1][:3]
        provider, target = self._pair(model)
        tally = self._tally(model, ticket)
        whole: list[float] = []
        streamed: list[float] = []
        slow = 0
        for at, _, _, latency, first_token, tokens, tenant in successes:
            target.doubt.answered(at - latency, at, tenant)
            slow += self._settings.is_slow(latency, tokens)
            target.latency = _average(target.latency, latency)
            tally.latency_sum += latency
            tally.latency_max = max(tally.latency_max, latency)
            tally.tokens += tokens
            if first_token is None:
                whole.append(latency)
            else:
                streamed.append(first_token)
                target.first_token = _average(target.first_token, first_token)
        tally.successes += len(successes)
        tally.first_token_sum += sum(streamed)
        tally.first_token_count += len(streamed)
        target.latencies.add(now, *whole)
        target.first_tokens.add(now, *streamed)
        evidence = Evidence(len(successes), slow=slow, generation=ticket.generation)
        self._record(now, model, ticket, provider, target, evidence)

    def failed(
        self,
        model: Model,
        ticket: CallTicket,
        error_class: ErrorClass,
        retry_after: float | None,
        tenant: str,
    ) -> None:
        """After one that did not. A fault or a rate that one tenant alone meets may be held back (see
        `domain.doubt`), as long as the circuits are closed."""
        now = self._clock.now()
        provider, target = self._pair(model)
        self._take_in(target)
        self._changes += 1
        until = now + retry_after if retry_after is not None else None
        failures = [_Failure(ticket, error_class, until)]
        closed = provider.breaker.state.state is target.breaker.state.state is CircuitState.CLOSED
        # A rate that a large request exceeds may well have room for others' small ones.
        doubtful = error_class in PROVIDER_FAULTS or error_class is ErrorClass.RATE_LIMITED
        if closed and not ticket.permit and doubtful:
            failures = target.doubt.failed(now, tenant, failures[0])
        for failure in failures:
            self._count_failure(now, model, provider, target, failure)

    def _count_failure(
        self, now: float, model: Model, provider: _Target, target: _Target, failure: _Failure
    ) -> None:
        ticket, error_class, until = failure.ticket, failure.error_class, failure.until
        evidence = Evidence(failures={error_class: 1}, generation=ticket.generation, retry_not_before=until)
        self._record(now, model, ticket, provider, target, evidence)
        tally = self._tally(model, ticket)
        tally.failures[error_class] = tally.failures.get(error_class, 0) + 1
        if until is not None:
            tally.retry_not_before = max(tally.retry_not_before, until)

    def heard(self, provider: str, model: str, judgement: Judgement) -> None:
        """The health service's word on a model, or (`model` empty) on a provider."""
        target = self._target(provider, model)
        self._take_in(target)
        self._changes += 1
        target.said = judgement
        if judgement.latency is not None:
            target.latency = judgement.latency
        if judgement.first_token is not None:
            target.first_token = judgement.first_token
        target.breaker.merge(self._clock.now(), judgement.circuit)

    def permitted(self, model: Model, permit: str, until: float) -> None:
        """One call may be tried, until then (epoch seconds)."""
        target = self._pair(model)[1]
        target.permit, target.permit_until = permit, until

    def permit_itself(self, model: Model) -> None:
        """Without a health service a router grants itself what it would ask for."""
        permit = self._pair(model)[1].breaker.acquire(self._clock.now())
        if permit is not None:
            self.permitted(model, permit.id, permit.expires)

    @property
    def pressing(self) -> bool:
        """Whether there is evidence that others should hear at once: a failure, or how a probe ended."""
        return any(tally.failures or ticket.permit for (_, _, ticket), tally in self._tallies.items())

    def evidence(self) -> dict[TallyKey, Tally]:
        """All outcomes since this was last called."""
        for target in self._targets.values():
            self._take_in(target)
        tallies, self._tallies = self._tallies, {}
        return tallies

    def _target(self, provider: str, model: str) -> _Target:
        target = self._targets.get((provider, model))
        if target is None:
            target = self._targets[provider, model] = _Target(
                Breaker(self._settings, self._rng), Judgement(BreakerState())
            )
        return target

    def _pair(self, model: Model) -> tuple[_Target, _Target]:
        """The model's provider and the model."""
        pair = self._pairs.get(model.id)
        if pair is None:
            pair = self._target(model.provider, ""), self._target(model.provider, model.name)
            self._pairs[model.id] = pair
        return pair

    def _tally(self, model: Model, ticket: CallTicket) -> Tally:
        key = (model.provider, model.name, ticket)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally

    def _record(
        self,
        now: float,
        model: Model,
        ticket: CallTicket,
        provider: _Target,
        target: _Target,
        evidence: Evidence,
    ) -> None:
        if provider.breaker.state.state is not CircuitState.CLOSED:
            # Closed, it is judged by the health service over all models; recovering, one probe says it all.
            provider.breaker.record(now, structs.replace(evidence, generation=ticket.provider_generation))
        before = target.breaker.state
        after = target.breaker.record(now, evidence)
        if after.state is not before.state:
            self._changes += 1
            log.info("circuit_changed", target=model.id, state=after.state, cause=after.cause)

    def _want(self, model: Model, target: _Target, now: float) -> None:
        if now >= target.ask_again:
            target.ask_again = now + PROBE_INTERVAL
            self._want_permit(model)


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + EWMA * (new - old)
