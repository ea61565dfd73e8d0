"""The router's picture of its targets (see the room's head).

Judgements come in by `apply_judgement`, outcomes by `record_success` and `record_failure`; evidence goes out by
`take_evidence`. A call that begins at a half-open target takes the permit for it (`probes`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
from libs.telemetry import get_logger
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.router.health.exchanged import Judgement, Tally, TallyKey
from services.router.health.failovers import OperatorFailovers
from services.router.health.held_failures import HeldFailures
from services.router.health.probes import (
    PROBE_INTERVAL,
    PermitSource,
    PermitsUnavailable,
    ProbePermit,
    ProbeTurns,
)
from services.router.health.target_health import Availability, TargetHealth
from services.router.health.view import CallTicket

#: The local window is counted this often, seconds: often enough to order candidates by.
COUNT_INTERVAL = 0.1
#: Successes of a target that wait to be counted, at most.
SUCCESSES = 1000
#: In a total outage each target is tried this often, seconds, so that the first to recover is found at once.
TRIAL_INTERVAL = 1.0
#: Causes that are evidence of faults, which a success disproves; not an operator, nor a Retry-After.
_DISPROVABLE = frozenset({TripCause.FAULTS, TripCause.TRANSPORT, TripCause.SLOW, TripCause.NONE})
#: Weight of the newest call in the local latency average.
EWMA = 0.2
#: Calls in the local window from which its success rate says more than the health service's.
LOCAL_EVIDENCE = 5

log = get_logger(__name__)


@dataclass(slots=True)
class _Target:
    """A provider, or a model on it. Latency, successes and held failures are those of a model."""

    breaker: Breaker
    #: The health service's last.
    judgement: Judgement
    latency: float | None = None
    first_token: float | None = None
    probes: ProbeTurns = field(default_factory=ProbeTurns)
    next_trial: float = 0.0
    #: The local success rate as last counted; None: too few calls.
    local_success_rate: float | None = None
    counted_until: float = 0.0
    #: The health derived from that count, and `Targets._changes` then; None: calls may not just go there.
    cached: TargetHealth | None = None
    cached_as_of: int = 0
    #: Not counted yet; only while its circuit is closed.
    uncounted: list[_Success] = field(default_factory=list)
    held: HeldFailures[_Failure] = field(default_factory=HeldFailures)


#: A call that gave the answer: its end (epoch seconds), the model, the ticket, seconds in all and to the first token,
#: tokens, the tenant.
_Success = tuple[float, Model, CallTicket, float, float | None, int, str]


class _Failure(Struct, frozen=True):
    """A call that failed; `until`: the instant from which the provider takes calls again, epoch seconds."""

    ticket: CallTicket
    error_class: ErrorClass
    until: float | None


class Targets:
    """Satisfies `HealthView`."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        permits: PermitSource,
        settings: BreakerSettings | None = None,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._permits = permits
        self._settings = settings or BreakerSettings()
        self._targets: dict[tuple[str, str], _Target] = {}
        #: Of some calls, for planning.
        self.failovers = OperatorFailovers()
        self._pairs: dict[str, tuple[_Target, _Target]] = {}
        self._tallies: dict[TallyKey, Tally] = {}
        #: Counts what makes a cached health wrong.
        self._changes = 0

    def health_of(self, model: Model) -> TargetHealth:
        """See `HealthView.health_of`."""
        now = self._clock.now()
        provider, target = self._pair(model)
        if target.cached is not None and target.cached_as_of == self._changes and now < target.counted_until:
            return target.cached
        taken_out = provider.judgement.taken_out or target.judgement.taken_out
        if taken_out:
            return TargetHealth(Availability.DOWN, reason=taken_out)
        state = worse(provider.breaker.tick(now), target.breaker.tick(now))
        if state.state is CircuitState.OPEN:
            wait = max(0.0, state.open_until - now)
            reason = f"its circuit is open for another {wait:.0f} s {state.cause}".rstrip()
            disprovable = state.cause in _DISPROVABLE
            back = min(wait, max(0.0, target.next_trial - now)) if disprovable else wait
            return TargetHealth(
                Availability.DOWN,
                reason=reason,
                retry_after=back,
                trial=disprovable and now >= target.next_trial,
            )
        if now >= target.counted_until:
            self._count_waiting(target)
            counts = target.breaker.counts(now)
            enough = counts.calls >= LOCAL_EVIDENCE
            target.local_success_rate = 1 - counts.failure_rate if enough else None
            target.counted_until = now + COUNT_INTERVAL
        success_rate = (
            target.judgement.success_rate if target.local_success_rate is None else target.local_success_rate
        )
        if state.state is CircuitState.HALF_OPEN:
            if now < _probed(provider, target).probes.not_before:
                return TargetHealth(
                    Availability.DOWN, reason="it is being probed after a failure", retry_after=PROBE_INTERVAL
                )
            return TargetHealth(Availability.PROBING, success_rate, target.latency, target.first_token)
        availability = Availability.HEALTHY
        share = min(
            provider.breaker.ramp(now),
            target.breaker.ramp(now),
            target.judgement.rehabilitated_share,
        )
        if share == 1.0 and target.judgement.degraded_share is not None:
            availability, share = Availability.DEGRADED, target.judgement.degraded_share
        known = TargetHealth(
            availability,
            success_rate,
            target.latency,
            target.first_token,
            share,
            provider.judgement.rehabilitated_share,
        )
        target.cached, target.cached_as_of = known, self._changes
        return known

    async def begin_call(self, model: Model, tenant: str) -> CallTicket | None:
        """See `HealthView.begin_call`."""
        now = self._clock.now()
        provider, target = self._pair(model)
        of_model, of_provider = target.breaker.tick(now), provider.breaker.tick(now)
        if of_model.state is CircuitState.CLOSED and of_provider.state is CircuitState.CLOSED:
            return CallTicket("", of_model.generation, of_provider.generation)
        state = worse(of_provider, of_model)
        if state.state is CircuitState.HALF_OPEN:
            return await self._begin_probe(now, model, tenant)
        if state.cause not in _DISPROVABLE or now < target.next_trial:
            return None
        target.next_trial = now + TRIAL_INTERVAL
        return CallTicket("", of_model.generation, of_provider.generation)

    async def _begin_probe(self, now: float, model: Model, tenant: str) -> CallTicket | None:
        """Takes a permit for the tenant's call to a half-open target. Returns None where there is none for it."""
        provider, target = self._pair(model)
        probed = _probed(provider, target)
        turns, since = probed.probes, probed.breaker.state.since
        others = target.held.last_answer_to_others(tenant)
        if not turns.may_ask(now, tenant, since, others, self._settings):
            return None
        # No other call of this router asks meanwhile.
        turns.not_before = now + self._settings.permit_ttl
        permit: ProbePermit | None = None
        try:
            permit = await self._permits.acquire_permit(model)
        except PermitsUnavailable:
            own = probed.breaker.acquire(self._clock.now())
            permit = ProbePermit(own.id, own.expires) if own is not None else None
        finally:
            turns.not_before = permit.expires if permit else self._clock.now() + PROBE_INTERVAL
        if permit is None:
            return None
        now = self._clock.now()
        of_model, of_provider = target.breaker.tick(now), provider.breaker.tick(now)
        ticket = CallTicket(permit.id, of_model.generation, of_provider.generation)
        if worse(of_provider, of_model).state is CircuitState.OPEN:
            # It opened again while the permit was on its way.
            self._tally(model, ticket).failures[ErrorClass.CANCELLED] = 1
            return None
        return ticket

    def record_success(
        self,
        model: Model,
        ticket: CallTicket,
        latency: float,
        first_token: float | None,
        tokens: int,
        tenant: str,
    ) -> None:
        """See `HealthView.record_success`."""
        success = (self._clock.now(), model, ticket, latency, first_token, tokens, tenant)
        provider, target = self._pair(model)
        if ticket.permit:
            self._end_probe(model, ticket, tenant, "")
        if (
            provider.breaker.state.state is CircuitState.CLOSED
            and target.breaker.state.state is CircuitState.CLOSED
            and len(target.uncounted) < SUCCESSES
        ):
            target.uncounted.append(success)
        else:
            self._count_waiting(target)
            self._count_successes([success])

    def _count_waiting(self, target: _Target) -> None:
        """Counts the target's successes that wait. They matter only where something is decided, and a few counted
        together cost much less than each by itself."""
        if target.uncounted:
            successes, target.uncounted = target.uncounted, []
            for _, alike in groupby(successes, itemgetter(2)):
                self._count_successes(list(alike))

    def _count_successes(self, successes: Sequence[_Success]) -> None:
        """Counts calls that began under one ticket, as if all had ended with the last of them."""
        now, model, ticket = successes[-1][:3]
        provider, target = self._pair(model)
        tally = self._tally(model, ticket)
        for at, _, _, latency, _, _, tenant in successes:
            target.held.record_answer(at - latency, at, tenant)
        is_slow = self._settings.is_slow
        slow = sum([is_slow(latency, tokens) for _, _, _, latency, _, tokens, _ in successes])
        latencies = [success[3] for success in successes]
        first_tokens = [success[4] for success in successes if success[4] is not None]
        target.latency = _average(target.latency, latencies)
        target.first_token = _average(target.first_token, first_tokens)
        tally.successes += len(successes)
        tally.row = 0
        tally.tokens += sum([success[5] for success in successes])
        tally.latency_sum += sum(latencies)
        tally.latency_max = max(tally.latency_max, *latencies)
        tally.first_token_sum += sum(first_tokens)
        tally.first_token_count += len(first_tokens)
        evidence = Evidence(len(successes), slow=slow, generation=ticket.generation)
        self._record(now, model, ticket, provider, target, evidence)

    def record_failure(
        self,
        model: Model,
        ticket: CallTicket,
        error_class: ErrorClass,
        retry_after: float | None,
        tenant: str,
    ) -> None:
        """See `HealthView.record_failure`. A fault or a rate that one tenant alone meets may be held back (see
        `held_failures`), as long as the circuits are closed."""
        now = self._clock.now()
        provider, target = self._pair(model)
        self._count_waiting(target)
        self._changes += 1
        if ticket.permit:
            self._end_probe(model, ticket, tenant, tenant if error_class in PROVIDER_FAULTS else None)
        until = now + retry_after if retry_after is not None else None
        failures = [_Failure(ticket, error_class, until)]
        closed = provider.breaker.state.state is target.breaker.state.state is CircuitState.CLOSED
        # A rate that a large request exceeds may well have room for others' small ones.
        may_be_its_own = error_class in PROVIDER_FAULTS or error_class is ErrorClass.RATE_LIMITED
        if closed and not ticket.permit and may_be_its_own:
            failures = target.held.record_failure(now, tenant, failures[0])
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
        tally.row += error_class in PROVIDER_FAULTS
        if until is not None:
            tally.retry_not_before = max(tally.retry_not_before, until)

    def apply_judgement(self, provider: str, model: str, judgement: Judgement) -> None:
        """Takes the health service's judgement of a model, or (`model` empty) of a provider."""
        target = self._target(provider, model)
        self._count_waiting(target)
        self._changes += 1
        target.judgement = judgement
        self.failovers.replace(provider, model, judgement.failovers)
        if judgement.latency is not None:
            target.latency = judgement.latency
        if judgement.first_token is not None:
            target.first_token = judgement.first_token
        circuit = target.breaker.merge(self._clock.now(), judgement.circuit)
        closed = circuit.state is CircuitState.CLOSED
        target.probes.learn(judgement.probe_failed_by, judgement.probes_failed, closed=closed)

    @property
    def has_urgent_evidence(self) -> bool:
        """Returns True if there is evidence that others should have at once: a failure, or how a probe ended."""
        return any(tally.failures or ticket.permit for (_, _, ticket), tally in self._tallies.items())

    def take_evidence(self) -> dict[TallyKey, Tally]:
        """Returns all outcomes since the last call of this, and forgets them."""
        for target in self._targets.values():
            self._count_waiting(target)
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
        """Returns the model's provider and the model."""
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
            # Closed, it is judged by the health service over all models; recovering, one probe decides.
            provider.breaker.record(now, structs.replace(evidence, generation=ticket.provider_generation))
        before = target.breaker.state
        after = target.breaker.record(now, evidence)
        if after.state is not before.state:
            self._changes += 1
            log.info("circuit_changed", target=model.id, state=after.state, cause=after.cause)

    def _end_probe(self, model: Model, ticket: CallTicket, tenant: str, failed: str | None) -> None:
        """Ends the tenant's probe and lets the next call try; `failed` as in `ProbeTurns.end`."""
        self._tally(model, ticket).probe_tenant = tenant
        for probed in self._pair(model):
            probed.breaker.release(ticket.permit)
            probed.probes.end(failed)


def _probed(provider: _Target, target: _Target) -> _Target:
    """Returns the one of a model and its provider that a probe tries: while a provider is half-open, its models share
    its permits."""
    return provider if provider.breaker.state.state is CircuitState.HALF_OPEN else target


def _average(average: float | None, values: Sequence[float]) -> float | None:
    """Returns the moving average after the values; None: there has been none yet."""
    for value in values:
        average = value if average is None else average + EWMA * (value - average)
    return average
