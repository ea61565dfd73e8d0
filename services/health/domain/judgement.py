"""One target: its evidence, its circuit, its mode, and the state that follows from them."""

from __future__ import annotations

from random import Random

from libs.resilience.breaker import Breaker
from libs.resilience.circuit import CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.resilience.quantile import DecayingQuantile
from libs.resilience.window import SlidingCounts
from libs.types import ErrorClass
from services.health.domain.degraded import DegradedSettings, fails_beyond_chance
from services.health.domain.evidence import Outcome
from services.health.domain.target import Failover, Mode, ModeInForce, Status, Target, TargetState

#: Seconds that the published rates cover, and the evidence of being degraded.
SHOWN_SECONDS = 60.0
_HALF_LIFE = 300.0

_CAUSES = {
    TripCause.FAULTS: "too many provider faults",
    TripCause.TRANSPORT: "cannot be reached",
    TripCause.SLOW: "answers far too slowly",
    TripCause.COOLDOWN: "asked not to be called yet (Retry-After)",
    TripCause.OPERATOR: "failed over by an operator",
    TripCause.NONE: "tripped",
}


class Judgement:
    """The judgement of one target. Every `now` is seconds since the Unix epoch."""

    def __init__(
        self, target: Target, settings: BreakerSettings, rng: Random, degraded: DegradedSettings
    ) -> None:
        self.target = target
        self._degraded = degraded
        self.breaker = Breaker(settings, rng)
        self.last_success: float | None = None
        self._note = ""
        self._last_checked: float | None = None
        #: The instant at which a probe's key was accepted last, epoch seconds; None: never.
        self.key_accepted_at: float | None = None
        #: True: the last probe's key was refused, and no call has succeeded since.
        self._key_refused = False
        self._shown = SlidingCounts(SHOWN_SECONDS, 60)
        #: The calls of the circuit's present generation alone.
        self._current = SlidingCounts(SHOWN_SECONDS, 60)
        self._current_generation = 0
        self._latency = DecayingQuantile(_HALF_LIFE)
        self._first_token = DecayingQuantile(_HALF_LIFE)
        self._medians: tuple[float | None, float | None] = (None, None)
        self._consecutive = 0
        #: The tenant whose probe failed last, and how often in a row.
        self._probe_failed_by, self._probes_failed = "", 0

    def observe(self, now: float, outcome: Outcome) -> None:
        """Records calls for the published rates and latencies. Latency comes from successes alone."""
        calls = Evidence(outcome.successes, outcome.failures, row=outcome.row)
        faults = calls.faults
        self._shown.add(now, outcome.successes, faults)
        generation = self._forget_earlier_generations()
        if outcome.generation is None or outcome.generation >= generation:
            self._current.add(now, outcome.successes, faults)
        self._last_checked = now
        self._consecutive = (0 if outcome.successes else self._consecutive) + calls.faults_in_row
        if outcome.successes:
            self.last_success = now
            self._key_refused = False
            self._probe_failed_by, self._probes_failed = "", 0
        elif outcome.permit and faults:
            again = outcome.probe_tenant == self._probe_failed_by
            self._probes_failed = self._probes_failed + 1 if again else 1
            self._probe_failed_by = outcome.probe_tenant
        if outcome.latency is not None:
            self._latency.add(now, outcome.latency, weight=outcome.successes)
        if outcome.first_token is not None:
            self._first_token.add(now, outcome.first_token, weight=outcome.first_token_count)
        if outcome.successes:
            self._medians = (self._latency.quantile(0.5), self._first_token.quantile(0.5))

    def record_check(self, now: float, error: ErrorClass | None) -> None:
        """Records a probe, which failed by `error`, None: it did not."""
        self._last_checked = now
        self._key_refused = error is ErrorClass.AUTHENTICATION
        if error is None:
            self.key_accepted_at = now

    def explain(self, note: str) -> None:
        """Keeps an operator's reason for opening the circuit, shown while it is not closed."""
        self._note = note

    def is_working(self, now: float) -> bool:
        """Returns True if traffic of the last minute succeeded, without a failure since, and the circuit is
        closed."""
        recent = self.last_success is not None and now - self.last_success < SHOWN_SECONDS
        return recent and self._consecutive == 0 and self.breaker.tick(now).state is CircuitState.CLOSED

    def reset(self, now: float) -> None:
        """Closes the circuit and drops the evidence against it."""
        self.breaker.reset(now)
        self._shown.clear()
        self._current.clear()
        self._consecutive = 0
        self._probe_failed_by, self._probes_failed = "", 0
        self._note = ""

    def state(
        self, now: float, mode: ModeInForce | None = None, failovers: tuple[Failover, ...] = ()
    ) -> TargetState:
        """Returns the present state under what operators have said."""
        mode = mode or ModeInForce()
        circuit = self.breaker.tick(now)
        if circuit.state is CircuitState.CLOSED:
            self._note = ""
        counts = self._shown.totals(now)
        ramp = 0.0 if mode.mode.takes_out else min(mode.share, self.breaker.ramp(now))
        status, reason = self._assess(now, ramp, mode)
        if status is Status.DEGRADED:
            ramp = self._degraded.share
        return TargetState(
            target=self.target,
            status=status,
            circuit=circuit,
            mode=mode.mode,
            reason=_failed_over(reason, failovers),
            ramp=ramp,
            response_time=self._medians[0],
            time_to_first_token=self._medians[1],
            error_rate=counts.failure_rate,
            success_rate=1.0 - counts.failure_rate,
            calls=counts.calls,
            consecutive_failures=self._consecutive,
            last_checked=self._last_checked,
            probe_failed_by=self._probe_failed_by,
            probes_failed=self._probes_failed,
            mode_version=mode.version,
            failovers=failovers,
        )

    def _forget_earlier_generations(self) -> int:
        """Drops calls that led to another state of the circuit; returns the present generation."""
        generation = self.breaker.state.generation
        if generation != self._current_generation:
            self._current_generation = generation
            self._current.clear()
        return generation

    def _assess(self, now: float, ramp: float, mode: ModeInForce) -> tuple[Status, str]:
        circuit = self.breaker.state
        if mode.mode is Mode.BLOCKED:
            return Status.DOWN, f"blocked by an operator: {mode.reason}"
        if mode.mode.takes_out:
            by = "a window" if mode.by_window else "an operator"
            return Status.MAINTENANCE, f"{mode.mode.value} by {by}: {mode.reason}"
        if circuit.state is not CircuitState.CLOSED:
            why = _CAUSES[circuit.cause] + (f": {self._note}" if self._note else "")
            if circuit.state is CircuitState.OPEN:
                return Status.DOWN, why
            return Status.RECOVERING, f"being tried again after: {why}"
        if mode.mode is Mode.REHABILITATING:
            return Status.RECOVERING, f"rehabilitated, at {mode.share:.0%} of its traffic: {mode.reason}"
        if ramp < 1.0:
            return Status.RECOVERING, "traffic is ramped up"
        self._forget_earlier_generations()
        counts = self._current.totals(now)
        # A provider is as good as its models, of which each has a judgement of its own.
        if self.target.model and fails_beyond_chance(counts.failures, counts.calls, self._degraded.rate):
            return (
                Status.DEGRADED,
                f"{counts.failure_rate:.0%} of the last minute's calls met a provider fault",
            )
        if self._last_checked is None:
            return Status.UNKNOWN, "no evidence yet"
        if self._key_refused:
            return Status.UNKNOWN, "no call has succeeded since its free endpoint refused our key"
        return Status.HEALTHY, "works"


def _failed_over(reason: str, failovers: tuple[Failover, ...]) -> str:
    """Returns the reason with what operators have failed over from here."""
    if all(failover.opens_circuit for failover in failovers):
        return reason
    return f"{reason}; failed over by an operator for some: {failovers[-1].reason}"
