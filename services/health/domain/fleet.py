"""All targets together: evidence of models, and judgements of their providers that follow from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from random import Random

from libs.change import Change
from libs.errors import NotFound
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.health.domain.blacklist import Refusals
from services.health.domain.controls import Controls
from services.health.domain.degraded import DegradedSettings
from services.health.domain.evidence import Outcome, ProbeResult, permit_generations
from services.health.domain.judgement import Judgement
from services.health.domain.rehabilitation import Trial
from services.health.domain.setting import Kind
from services.health.domain.target import Failover, Mode, Target, TargetState

#: Causes of an open circuit that count against the whole provider; a slow or cooling model does not.
_PROVIDER_WIDE = frozenset({TripCause.FAULTS, TripCause.TRANSPORT})
_PROBE_FAILURES = 3
#: Ends of one failover on several replicas, seconds apart by their floats.
_CLOSE = 1e-3
#: Seconds after a successful call during which failing probes open nothing.
_TRAFFIC_SECONDS = 60.0


class Fleet:
    """The judgements of the catalog's targets. Pure: every `now` is seconds since the Unix epoch."""

    def __init__(
        self, settings: BreakerSettings, rng: Random, degraded: DegradedSettings | None = None
    ) -> None:
        self._settings = settings
        self._degraded = degraded or DegradedSettings()
        self._rng = rng
        #: Operators' words, which stand above the evidence.
        self.controls = Controls()
        self._judgements: dict[Target, Judgement] = {}
        self._models: dict[str, list[Target]] = {}
        self._probe_failures: dict[str, int] = {}
        self._refusals: dict[Target, Refusals] = {}
        #: Of targets that are rehabilitated.
        self._trials: dict[Target, Trial] = {}

    @property
    def targets(self) -> Iterable[Target]:
        """All targets, providers before their models."""
        return self._judgements.keys()

    def replace_targets(self, targets: Collection[Target]) -> frozenset[Target]:
        """Takes the catalog's targets; those that stay keep their judgement. Returns those that were dropped."""
        wanted = set(targets) | {target.parent for target in targets}
        gone = frozenset(self._judgements.keys() - wanted)
        self._judgements = {
            target: self._judgements.get(target)
            or Judgement(target, self._settings, self._rng, self._degraded)
            for target in sorted(wanted)
        }
        self._models = {}
        for target in self._judgements:
            models = self._models.setdefault(target.provider, [])
            if target.model:
                models.append(target)
        self._refusals = {t: found for t, found in self._refusals.items() if t in wanted}
        self._probe_failures = {p: n for p, n in self._probe_failures.items() if p in self._models}
        return gone

    def judgement(self, target: Target) -> Judgement:
        """Returns one target's judgement. Raises NotFound."""
        found = self._judgements.get(target)
        if found is None:
            raise NotFound(
                f"The catalog has no {'model' if target.model else 'provider'} {str(target)[:200]!r}"
            )
        return found

    def state(self, now: float, target: Target) -> TargetState:
        """Returns one target's present state. Raises NotFound."""
        controls = self.controls
        return self.judgement(target).state(
            now, controls.in_force(target, now), controls.failovers(target, now)
        )

    def states(self, now: float) -> Iterator[TargetState]:
        """Yields every target's present state."""
        return (self.state(now, target) for target in self._judgements)

    def has_traffic(self, provider: str, now: float, seconds: float) -> bool:
        """Returns True if a call to the provider succeeded in the last `seconds`."""
        last = self._judgements[Target(provider)].last_success
        return last is not None and now - last < seconds

    def record(self, now: float, outcome: Outcome) -> bool:
        """Records calls to a model. Returns False where it is not in the catalog, and ignores them."""
        model = self._judgements.get(outcome.target)
        if model is None or not outcome.model:
            return False
        provider = self._judgements[outcome.target.parent]
        by_permit = permit_generations(outcome.permit)
        of_provider = _later(outcome.provider_generation, by_permit[0])
        of_model = _later(outcome.generation, by_permit[1])
        model.observe(now, outcome)
        provider.observe(now, outcome)
        for target in (outcome.target, outcome.target.parent):
            refusals = self._refusals.get(target)
            if refusals is None:
                refusals = self._refusals[target] = Refusals()
            refusals.record(now, outcome, of_model=bool(target.model))
            if (trial := self.trial(target)) is not None:
                trial.record(outcome)
        model.breaker.record(now, outcome.evidence(self._settings, of_model))
        if provider.breaker.tick(now).state is CircuitState.CLOSED:
            # No evidence: it opens by its models alone. But a router may remember a later generation.
            provider.breaker.record(now, Evidence(generation=of_provider))
            if any(error in PROVIDER_FAULTS for error in outcome.failures):
                self._judge_provider(now, provider)
        else:
            # A model's Retry-After is about that model; the provider's circuit keeps its own time.
            evidence = outcome.evidence(self._settings, of_provider)
            provider.breaker.record(
                now, Evidence(evidence.successes, evidence.failures, evidence.slow, evidence.generation)
            )
        return True

    def trial(self, target: Target) -> Trial | None:
        """Returns the calls in the present step of a target's rehabilitation; None: it is in none."""
        if self.controls.mode_setting(target).mode is not Mode.REHABILITATING:
            self._trials.pop(target, None)
            return None
        standing = self.controls.standing((Kind.MODE, str(target)))
        version = standing.version if standing is not None else 0
        trial = self._trials.get(target)
        if trial is None or trial.version != version:
            trial = self._trials[target] = Trial(version)
        return trial

    def refused(self, target: Target) -> Refusals:
        """Returns the refusals of a target since its last answer."""
        return self._refusals.get(target) or Refusals()

    def forget_refusals(self, target: Target) -> None:
        """Begins to count anew."""
        self._refusals.pop(target, None)

    def record_probe(self, now: float, result: ProbeResult) -> None:
        """Records the result of a probe. It can open a circuit where there is no traffic to contradict it, and
        half-open one early: one that could not be reached, or whose free endpoint failed too and answers again. It
        never closes one, since listing models is not generating. A refused key is shown, but
        opens nothing: each router finds that out by itself, and when the key has been replaced."""
        provider = self._judgements.get(Target(result.provider))
        if provider is None:
            return
        provider.record_check(now, result.error)
        if result.error in (None, ErrorClass.AUTHENTICATION):
            failed_too = self._probe_failures.pop(result.provider, 0) > 0
            mended = _PROVIDER_WIDE if failed_too else {TripCause.TRANSPORT}
            for judgement in (provider, *(self._judgements[m] for m in self._models[result.provider])):
                if judgement.breaker.tick(now).cause in mended:
                    judgement.breaker.allow_early(now)
            return
        if result.error not in PROVIDER_FAULTS:
            return
        failures = self._probe_failures[result.provider] = self._probe_failures.get(result.provider, 0) + 1
        closed = provider.breaker.tick(now).state is CircuitState.CLOSED
        if (
            closed
            and failures >= _PROBE_FAILURES
            and not self.has_traffic(result.provider, now, _TRAFFIC_SECONDS)
        ):
            provider.breaker.trip(now, _PROBE_CAUSES.get(result.error, TripCause.FAULTS))

    def rehabilitate(self, now: float, target: Target) -> None:
        """Closes the target's circuit and drops the evidence against it, and, for a provider, against its models.
        Raises NotFound."""
        self.judgement(target).reset(now)
        if not target.model:
            self._probe_failures.pop(target.provider, None)
            for model in self._models[target.provider]:
                self._judgements[model].reset(now)

    def obey(self, now: float, change: Change) -> bool:
        """Takes a change of an operator's. A failover that leaves its source no calls at all opens the circuit, and
        taken back closes it. Returns False where a later one stands."""
        if not self.controls.is_news(change):
            return False
        source = self._judgements.get(Target.of(change.name)) if change.kind == Kind.FAILOVERS else None
        before = self._of_circuit(source, now)
        self.controls.adopt(change)
        after = self._of_circuit(source, now)
        if source is None:
            return True
        circuit = source.breaker.tick(now)
        held = circuit.state is CircuitState.OPEN and circuit.cause is TripCause.OPERATOR
        if after is not None and not (held and circuit.open_until > after.until - _CLOSE):
            source.breaker.trip(now, TripCause.OPERATOR, after.until - now)
        if after is None and before is not None and held:
            source.breaker.reset(now)
        if after is not None:
            source.explain(after.reason)
        return True

    def _of_circuit(self, source: Judgement | None, now: float) -> Failover | None:
        """Returns the failover that holds the circuit open the longest."""
        if source is None:
            return None
        found = [f for f in self.controls.failovers(source.target, now) if f.opens_circuit]
        return max(found, key=lambda failover: failover.until, default=None)

    def export(self, now: float) -> dict[Target, BreakerState]:
        """Returns the circuit of each target that has ever changed."""
        circuits = {target: judgement.breaker.tick(now) for target, judgement in self._judgements.items()}
        return {target: circuit for target, circuit in circuits.items() if circuit.generation}

    def merge(self, now: float, circuits: Mapping[Target, BreakerState]) -> None:
        """Merges other replicas' circuits: the larger one stays."""
        for target, other in circuits.items():
            judgement = self._judgements.get(target)
            if judgement is not None:
                judgement.breaker.merge(now, other)

    def _judge_provider(self, now: float, provider: Judgement) -> None:
        """Opens the provider's circuit when what fails is not one model but all that are in use.

        One model that cannot be reached is enough, since all share the address; of other faults it takes two. A
        model that works is proof of the contrary.
        """
        models = [self._judgements[target] for target in self._models[provider.target.provider]]
        if any(model.is_working(now) for model in models):
            return
        circuits = [model.breaker.tick(now) for model in models]
        circuits = [c for c in circuits if c.state is not CircuitState.CLOSED and c.cause in _PROVIDER_WIDE]
        causes = [circuit.cause for circuit in circuits]
        if len(causes) >= 2 or TripCause.TRANSPORT in causes:
            # As long as its models: one call tries both.
            until = max(circuit.open_until for circuit in circuits)
            provider.breaker.trip(
                now,
                causes[0] if len(set(causes)) == 1 else TripCause.FAULTS,
                until - now if until > now else None,
            )


def _later(named: int | None, permitted: int | None) -> int | None:
    """Returns the generation that calls belong to: the later of their report's and their permit's."""
    known = [generation for generation in (named, permitted) if generation is not None]
    return max(known, default=None)


_PROBE_CAUSES = {
    ErrorClass.TRANSPORT: TripCause.TRANSPORT,
    ErrorClass.TIMEOUT: TripCause.TRANSPORT,
}
