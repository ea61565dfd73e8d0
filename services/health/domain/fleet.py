"""All targets together: evidence of models, and judgements of their providers that follow from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from libs.errors import NotFound
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.health.domain.degraded import DegradedSettings
from services.health.domain.evidence import Outcome, ProbeResult, permit_generations
from services.health.domain.judgement import Judgement
from services.health.domain.target import Mode, ModeRecord, Target, TargetState

#: Causes of an open circuit that count against the whole provider; a slow or cooling model does not.
_PROVIDER_WIDE = frozenset({TripCause.FAULTS, TripCause.TRANSPORT})
_PROBE_FAILURES = 3
#: Seconds after a successful call during which failing probes open nothing.
_TRAFFIC_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SharedState:
    """The part of a judgement that replicas share; both fields merge by max."""

    circuit: BreakerState
    mode: ModeRecord


class Fleet:
    """The judgements of the catalog's targets. Pure: every `now` is seconds since the Unix epoch."""

    def __init__(
        self, settings: BreakerSettings, rng: Random, degraded: DegradedSettings | None = None
    ) -> None:
        self._settings = settings
        self._degraded = degraded or DegradedSettings()
        self._rng = rng
        self._judgements: dict[Target, Judgement] = {}
        self._models: dict[str, list[Target]] = {}
        self._probe_failures: dict[str, int] = {}

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

    def states(self, now: float) -> Iterator[TargetState]:
        """Yields every target's present state."""
        return (judgement.state(now) for judgement in self._judgements.values())

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

    def record_probe(self, now: float, result: ProbeResult) -> None:
        """Records the result of a probe. It can open a circuit where there is no traffic to contradict it, and
        half-open one early: one that could not be reached, or whose free endpoint failed too and answers again. It
        never closes one, since listing models is not generating. A refused key is shown, but
        opens nothing: each router finds that out by itself, and when the key has been replaced."""
        provider = self._judgements.get(Target(result.provider))
        if provider is None:
            return
        provider.record_check(now, key_refused=result.error is ErrorClass.AUTHENTICATION)
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

    def set_mode(self, now: float, target: Target, mode: Mode, reason: str) -> None:
        """Sets an operator's mode. AUTOMATIC also drops the evidence against the target, and, for a provider, against
        its models. Raises NotFound."""
        judgement = self.judgement(target)
        judgement.mode = ModeRecord(mode, judgement.mode.version + 1, now, reason)
        if mode is Mode.AUTOMATIC:
            judgement.reset(now)
            if not target.model:
                self._probe_failures.pop(target.provider, None)
                for model in self._models[target.provider]:
                    self._judgements[model].reset(now)

    def export(self, now: float) -> dict[Target, SharedState]:
        """Returns the shared state of each target that has ever changed."""
        shared = {t: SharedState(j.breaker.tick(now), j.mode) for t, j in self._judgements.items()}
        return {t: s for t, s in shared.items() if s.circuit.generation or s.mode.version}

    def merge(self, now: float, shared: Mapping[Target, SharedState]) -> None:
        """Merges other replicas' states: the larger of each part stays."""
        for target, other in shared.items():
            judgement = self._judgements.get(target)
            if judgement is not None:
                judgement.breaker.merge(now, other.circuit)
                judgement.mode = judgement.mode.merge(other.mode)

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
