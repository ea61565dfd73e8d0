"""Degraded: what earns it, who has it, and what ends it."""

from __future__ import annotations

from random import Random

import pytest

from libs.resilience.circuit import CircuitState
from libs.resilience.evidence import BreakerSettings
from libs.types import ErrorClass
from services.health.domain.degraded import DegradedSettings, fails_beyond_chance
from services.health.domain.evidence import Outcome
from services.health.domain.fleet import Fleet
from services.health.domain.target import Status, Target, TargetState

T0 = 1_800_000_000.0
TARGETS = [Target("acme"), Target("acme", "a"), Target("acme", "b")]


class Bed:
    """A provider with two models, called once at a time."""

    def __init__(self, degraded: DegradedSettings | None = None) -> None:
        self.fleet = Fleet(BreakerSettings(), Random(1), degraded)
        self.fleet.replace_targets(TARGETS)
        self.now = T0

    def call(self, *, ok: bool, model: str = "a", error: ErrorClass = ErrorClass.SERVER_ERROR) -> None:
        generation = self.fleet.judgement(Target("acme", model)).breaker.tick(self.now).generation
        failures = {} if ok else {error: 1}
        self.fleet.record(self.now, Outcome("acme", model, int(ok), failures, generation=generation))

    def calls(self, count: int, seconds: float, every: int = 0) -> None:
        """So many calls in so many seconds, of which every n-th fails; 0: none."""
        for number in range(1, count + 1):
            self.now += seconds / count
            self.call(ok=not every or bool(number % every))

    def state(self, model: str = "a") -> TargetState:
        return self.fleet.judgement(Target("acme", model)).state(self.now)


@pytest.mark.parametrize("failed", range(5))
def test_one_failure_among_five_calls_is_chance(failed: int) -> None:
    """Named regression: one 500 among five calls put a healthy primary behind all others for a minute."""
    bed = Bed()
    for call in range(5):
        bed.call(ok=call != failed)
        assert bed.state().status is Status.HEALTHY
    assert (bed.state().status, bed.state().ramp) == (Status.HEALTHY, 1.0)


def test_a_target_that_fails_a_twentieth_is_not_degraded_by_bad_luck() -> None:
    """Over five hours of a call a second, looked at after every call."""
    for seed in range(5):
        bed, rng = Bed(), Random(seed)
        for _ in range(3600):
            bed.now += 1.0
            bed.call(ok=rng.random() >= 0.05)
            assert bed.state().status is not Status.DEGRADED


def test_a_target_that_fails_a_third_is_degraded_within_half_a_minute() -> None:
    """Its circuit stays closed, its callers pay for a second attempt too often; the sentence says so."""
    bed = Bed()
    bed.calls(60, 30.0, every=3)
    state = bed.state()
    assert (state.status, state.circuit.state, state.ramp) == (Status.DEGRADED, CircuitState.CLOSED, 0.1)
    assert "33% of the last minute's calls met a provider fault" in state.reason


def test_a_broken_model_leaves_the_rest_of_its_provider_alone() -> None:
    """Named regression: it pushed the provider's healthy models behind all others."""
    bed = Bed()
    for _ in range(150):
        bed.now += 0.2
        bed.call(ok=True, model="b")
    bed.calls(60, 30.0, every=3)
    assert bed.state("a").status is Status.DEGRADED
    for model in ("", "b"):
        assert (bed.state(model).status, bed.state(model).ramp) == (Status.HEALTHY, 1.0)


def test_what_the_breaker_has_dealt_with_is_forgotten() -> None:
    """After an outage and its ramp the target is healthy at once, although its minute is full of failures; what is
    told late of the time before does not count either."""
    bed = Bed()
    bed.calls(40, 20.0, every=5)
    before = bed.state().circuit.generation
    while bed.state().circuit.state is CircuitState.CLOSED:
        bed.call(ok=False)
    bed.now = bed.state().circuit.open_until
    bed.call(ok=True)
    assert bed.state().status is Status.RECOVERING
    bed.fleet.record(bed.now, Outcome("acme", "a", 0, {ErrorClass.TIMEOUT: 50}, generation=before))
    bed.now += BreakerSettings().ramp_seconds
    state = bed.state()
    assert state.error_rate > 0.5
    assert (state.status, state.ramp) == (Status.HEALTHY, 1.0)


def test_a_trickle_disproves_it_and_silence_forgets_it() -> None:
    """Successes of the share that it still gets, or a minute without calls."""
    bed = Bed()
    bed.calls(60, 30.0, every=3)
    assert bed.state().status is Status.DEGRADED
    bed.calls(60, 30.0)
    assert bed.state().status is Status.HEALTHY
    idle = Bed()
    idle.calls(60, 30.0, every=3)
    idle.now += 61
    assert idle.state().status is Status.HEALTHY


def test_what_is_no_cause_for_concern_and_what_it_gets_are_settings() -> None:
    """A target that is known to fail a third is left alone where the operator says so."""
    tolerant = Bed(DegradedSettings(rate=0.4, share=0.5))
    tolerant.calls(60, 30.0, every=3)
    assert tolerant.state().status is Status.HEALTHY
    half = Bed(DegradedSettings(share=0.5))
    half.calls(60, 30.0, every=3)
    assert (half.state().status, half.state().ramp) == (Status.DEGRADED, 0.5)
    for wrong in ({"rate": 0.0}, {"rate": 1.0}, {"share": 0.0}, {"share": 1.1}):
        with pytest.raises(ValueError, match="must be in"):
            DegradedSettings(**wrong)


@pytest.mark.parametrize(
    ("failures", "calls", "beyond"),
    [
        (0, 0, False),
        (1, 5, False),
        (4, 5, False),
        (5, 5, True),
        (6, 10, False),
        (7, 10, True),
        (24, 100, False),
        (26, 100, True),
        (130, 1000, False),
        (150, 1000, True),
    ],
)
def test_the_bound_asks_for_less_excess_the_more_calls_there_are(
    failures: int, calls: int, beyond: bool
) -> None:
    """Of a tenth, at one false alarm in ten thousand."""
    assert fails_beyond_chance(failures, calls, 0.1) is beyond
