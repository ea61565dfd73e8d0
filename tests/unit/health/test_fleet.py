"""Evidence of models decides about them and about their provider."""

from __future__ import annotations

from random import Random

import pytest

from libs.change import Change
from libs.errors import NotFound
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings
from libs.types import ErrorClass
from services.health.domain.evidence import Outcome, ProbeResult, permit_generations, permit_prefix
from services.health.domain.fleet import Fleet
from services.health.domain.setting import ModeSetting, encode_setting
from services.health.domain.target import Mode, Status, Target

T0 = 1_800_000_000.0
ACME = Target("acme")
MODELS = [Target("acme", name) for name in ("a", "b", "c")]


def make() -> Fleet:
    fleet = Fleet(BreakerSettings(), Random(1))
    fleet.replace_targets(MODELS)
    return fleet


def fail(
    fleet: Fleet, model: str, now: float = T0, error: ErrorClass = ErrorClass.SERVER_ERROR, count: int = 3
) -> None:
    assert fleet.record(now, Outcome("acme", model, failures={error: count}))


def succeed(fleet: Fleet, model: str, now: float = T0, seconds: float = 1.0) -> None:
    assert fleet.record(now, Outcome("acme", model, 1, latency_sum=seconds))


def circuit(fleet: Fleet, model: str = "", now: float = T0) -> BreakerState:
    return fleet.judgement(Target("acme", model)).state(now).circuit


def test_a_fast_503_makes_a_dead_provider_look_fastest() -> None:
    """Named regression: it must not. Latency comes from successes alone, whatever a report claims."""
    fleet = make()
    succeed(fleet, "a", seconds=2.0)
    before = fleet.judgement(MODELS[0]).state(T0).response_time
    dead = Outcome(
        "acme",
        "a",
        failures={ErrorClass.OVERLOADED: 500},
        latency_sum=0.5,
        first_token_sum=0.1,
        first_token_count=5,
    )
    fleet.record(T0 + 1, dead)
    state = fleet.judgement(MODELS[0]).state(T0 + 1)
    assert state.response_time == before == pytest.approx(2.0, rel=0.05)
    assert state.time_to_first_token is None
    assert state.status is Status.DOWN
    assert fleet.judgement(ACME).state(T0 + 1).response_time == pytest.approx(2.0, rel=0.05)


def test_one_failing_model_is_only_that_model() -> None:
    """While another model of the provider works, the provider stays open for business."""
    fleet = make()
    succeed(fleet, "b")
    fail(fleet, "a", T0 + 1)
    assert circuit(fleet, "a").state is CircuitState.OPEN
    assert circuit(fleet, "b").state is CircuitState.CLOSED
    assert circuit(fleet).state is CircuitState.CLOSED


def test_two_failing_models_and_none_that_works_are_the_provider() -> None:
    """Then models without evidence of their own are not tried one after the other."""
    fleet = make()
    fail(fleet, "a")
    assert circuit(fleet).state is CircuitState.CLOSED
    fail(fleet, "b")
    assert circuit(fleet).state is CircuitState.OPEN
    assert circuit(fleet, "c").state is CircuitState.CLOSED


def test_a_provider_that_cannot_be_reached_is_down_after_one_model() -> None:
    """All its models share the address."""
    fleet = make()
    fail(fleet, "a", error=ErrorClass.TRANSPORT)
    assert circuit(fleet).cause is TripCause.TRANSPORT


def test_a_cooling_model_says_nothing_about_the_provider() -> None:
    """Retry-After concerns the model it came from."""
    fleet = make()
    for model in ("a", "b", "c"):
        failures = {ErrorClass.RATE_LIMITED: 1}
        fleet.record(T0, Outcome("acme", model, failures=failures, retry_not_before=T0 + 30))
        assert circuit(fleet, model).cause is TripCause.COOLDOWN
    assert circuit(fleet).state is CircuitState.CLOSED


def test_callers_faults_and_refusals_change_nothing() -> None:
    """A thousand bad requests leave a healthy provider."""
    fleet = make()
    succeed(fleet, "a")
    for error in (ErrorClass.INVALID_REQUEST, ErrorClass.CONTENT_REFUSED, ErrorClass.CANCELLED):
        fail(fleet, "a", error=error, count=1000)
    state = fleet.judgement(MODELS[0]).state(T0)
    assert (state.status, state.error_rate, state.calls) == (Status.HEALTHY, 0.0, 1)


def test_one_permitted_success_closes_model_and_provider() -> None:
    """The permit names both circuits' generations; results without it, or from before, change nothing."""
    fleet = make()
    fail(fleet, "a")
    fail(fleet, "b")
    now = max(circuit(fleet, model).open_until for model in ("", "a", "b"))
    of_provider, of_model = circuit(fleet, now=now), circuit(fleet, "a", now)
    assert of_provider.state is of_model.state is CircuitState.HALF_OPEN
    fleet.record(now, Outcome("acme", "a", 5, generation=0, provider_generation=0))
    fleet.record(now, Outcome("acme", "a", 5))
    fleet.record(now, Outcome("acme", "a", 5, permit="forged"))
    assert circuit(fleet, now=now).state is CircuitState.HALF_OPEN
    permit = permit_prefix(of_provider.generation, of_model.generation) + "x"
    fleet.record(now, Outcome("acme", "a", 1, permit=permit))
    assert circuit(fleet, now=now).state is circuit(fleet, "a", now).state is CircuitState.CLOSED
    assert circuit(fleet, "b", now).state is CircuitState.HALF_OPEN
    state = fleet.judgement(ACME).state(now)
    assert (state.status, state.ramp < 1.0) == (Status.RECOVERING, True)


def test_a_free_probe_that_answers_half_opens_what_could_not_be_reached() -> None:
    """It is a reason to try early, for the provider and its models, and never closes anything."""
    fleet = make()
    fail(fleet, "a", error=ErrorClass.TRANSPORT)
    fleet.record_probe(T0 + 2, ProbeResult("acme", 0.1))
    assert circuit(fleet, now=T0 + 2).state is CircuitState.HALF_OPEN
    assert circuit(fleet, "a", T0 + 2).state is CircuitState.HALF_OPEN
    for second in range(3, 30):
        fleet.record_probe(T0 + second, ProbeResult("acme", 0.1))
    assert circuit(fleet, now=T0 + 30).state is CircuitState.HALF_OPEN


def test_a_free_probe_that_answers_disproves_no_other_fault() -> None:
    """A model list says nothing about generating: server errors wait for their time."""
    fleet = make()
    fail(fleet, "a")
    fail(fleet, "b")
    fleet.record_probe(T0 + 2, ProbeResult("acme", 0.1))
    assert circuit(fleet, now=T0 + 2).state is CircuitState.OPEN


def test_a_free_endpoint_that_failed_too_and_answers_again_is_a_reason_to_try() -> None:
    """Whatever the fault: both broke, so both may be mended."""
    fleet = make()
    fail(fleet, "a")
    fail(fleet, "b")
    fleet.record_probe(T0 + 1, ProbeResult("acme", 0.1, ErrorClass.SERVER_ERROR))
    assert circuit(fleet, now=T0 + 1).state is CircuitState.OPEN
    fleet.record_probe(T0 + 6, ProbeResult("acme", 0.1))
    for model in ("", "a", "b"):
        assert circuit(fleet, model, T0 + 6).state is CircuitState.HALF_OPEN


def test_a_provider_is_tried_when_its_models_are() -> None:
    """Both circuits open for the same time, which counts from the outage's begin."""
    fleet = make()
    for second in (0, 4, 8):
        fail(fleet, "a", T0 + second, ErrorClass.TRANSPORT, count=1)
    fleet.record(
        T0 + 8, Outcome("acme", "b", failures={ErrorClass.RATE_LIMITED: 1}, retry_not_before=T0 + 99)
    )
    assert circuit(fleet, now=T0 + 8).open_until == circuit(fleet, "a", T0 + 8).open_until <= T0 + 14


def test_failing_probes_open_an_idle_provider_and_not_one_with_working_traffic() -> None:
    """Evidence from traffic comes first."""
    fleet = make()
    succeed(fleet, "a")
    down = ProbeResult("acme", 0.1, ErrorClass.TRANSPORT, "refused")
    for second in range(5):
        fleet.record_probe(T0 + second, down)
    assert circuit(fleet).state is CircuitState.CLOSED
    fleet.record_probe(T0 + 61, down)
    assert circuit(fleet, now=T0 + 61).cause is TripCause.TRANSPORT
    other = make()
    for second in range(2):
        other.record_probe(T0 + second, down)
    other.record_probe(T0 + 2, ProbeResult("acme", 0.1))
    other.record_probe(T0 + 3, down)
    assert circuit(other, now=T0 + 3).state is CircuitState.CLOSED


def set_mode(fleet: Fleet, mode: Mode) -> None:
    """Ann's word on acme."""
    standing = fleet.controls.standing(("mode", "acme"))
    version = standing.version + 1 if standing is not None else 1
    setting = encode_setting(ModeSetting(mode))
    fleet.obey(T0, Change(f"c{version}", "mode", "acme", version, T0, "ann", "because", "", setting))


def test_modes_overrule_and_rehabilitation_forgets() -> None:
    """Each mode has its status; AUTOMATIC also closes the circuits of the provider and its models."""
    fleet = make()
    fail(fleet, "a")
    fail(fleet, "b")
    for mode, status in (
        (Mode.MAINTENANCE, Status.MAINTENANCE),
        (Mode.DRAIN, Status.MAINTENANCE),
        (Mode.BLOCKED, Status.DOWN),
    ):
        set_mode(fleet, mode)
        state = fleet.state(T0, ACME)
        assert (state.mode, state.status, state.ramp) == (mode, status, 0.0)
        assert "because" in state.reason
    set_mode(fleet, Mode.AUTOMATIC)
    fleet.rehabilitate(T0, ACME)
    for target in fleet.targets:
        state = fleet.state(T0, target)
        assert (state.circuit.state, state.ramp, state.consecutive_failures) == (CircuitState.CLOSED, 1.0, 0)


def test_a_new_catalog_keeps_what_stays_and_drops_what_went() -> None:
    """A reload does not forget an open circuit; a removed model is unknown from then on."""
    fleet = make()
    fail(fleet, "a")
    gone = fleet.replace_targets([MODELS[0], Target("zeta", "one")])
    assert gone == {MODELS[1], MODELS[2]}
    assert circuit(fleet, "a").state is CircuitState.OPEN
    assert not fleet.record(T0, Outcome("acme", "b", 1))
    assert not fleet.record(T0, Outcome("acme", "", 1))
    with pytest.raises(NotFound):
        fleet.judgement(MODELS[1])
    assert list(fleet.targets) == [ACME, MODELS[0], Target("zeta"), Target("zeta", "one")]


def test_what_is_exported_and_merged_leaves_replicas_equal() -> None:
    """Circuits travel; targets about which there is nothing to say do not."""
    one, two = make(), make()
    fail(one, "a")
    fail(two, "b")
    assert set(one.export(T0)) == {MODELS[0]}
    one.merge(T0, two.export(T0))
    two.merge(T0, one.export(T0))
    assert one.export(T0) == two.export(T0)
    two.merge(T0, {Target("unknown"): BreakerState(generation=1)})
    assert one.export(T0) == two.export(T0)


def test_a_restarted_replica_catches_up_with_generations_routers_remember() -> None:
    """Without a store it counts from 0 again; what it says next is later than what routers have."""
    fleet = make()
    fleet.record(T0, Outcome("acme", "a", 1, generation=12, provider_generation=7))
    fail(fleet, "a", error=ErrorClass.TRANSPORT)
    fleet.record(
        T0, Outcome("acme", "a", failures={ErrorClass.TRANSPORT: 3}, generation=12, provider_generation=7)
    )
    assert circuit(fleet, "a").generation == 13
    assert circuit(fleet).generation == 8


def test_permits_are_read_back_and_rubbish_is_not() -> None:
    """Any replica can read what any other granted."""
    assert permit_generations(permit_prefix(3, 14) + "abc") == (3, 14)
    for wrong in ("", "x", "1.2", "a.b.c", "1.2.3.4", "-1.2.x", "1.²2.x", "9" * 16 + ".1.x"):
        assert permit_generations(wrong) == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"successes": -1},
        {"failures": {ErrorClass.TIMEOUT: -1}},
        {"successes": 10**7},
        {"latency_sum": -0.1},
        {"latency_sum": float("nan")},
        {"first_token_sum": float("inf")},
        {"output_tokens": -1},
        {"generation": -1},
        {"provider_generation": 2**60},
        {"permit": "x" * 300},
        {"provider": ""},
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    """Before they reach a judgement."""
    with pytest.raises(ValueError, match="must be"):
        Outcome(**{"provider": "acme", "model": "a", **wrong})  # type: ignore[arg-type]


def test_a_router_whose_circuit_is_ahead_is_believed_with_or_without_a_permit() -> None:
    """It opened a circuit that this replica never did, tried again, and says so: nothing is lost."""
    fleet = make()
    fleet.record(
        T0, Outcome("acme", "a", 1, permit=permit_prefix(0, 0) + "x", generation=6, provider_generation=0)
    )
    assert circuit(fleet, "a").generation == 6
    fleet.record(T0, Outcome("acme", "b", failures={ErrorClass.TIMEOUT: 3}, permit="its own", generation=2))
    assert circuit(fleet, "b").state is CircuitState.OPEN
    assert circuit(fleet, "b").generation == 3


@pytest.mark.parametrize("error", [ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED])
def test_no_evidence_about_our_account_opens_anything(error: ErrorClass) -> None:
    """Named regression: a refused key kept its provider's circuit open for five minutes after it was replaced."""
    fleet = make()
    for model in ("a", "b", "c"):
        fail(fleet, model, error=error, count=100)
    for second in range(10):
        fleet.record_probe(T0 + second, ProbeResult("acme", 0.1, ErrorClass.AUTHENTICATION))
    for model in ("", "a", "b", "c"):
        assert circuit(fleet, model, T0 + 10) == BreakerState()


def test_a_key_that_the_free_endpoint_refuses_is_shown_until_something_works() -> None:
    """It says nothing of calls, so it changes nothing but the reason; and who answers that much can be reached."""
    fleet = make()
    fail(fleet, "a", error=ErrorClass.TRANSPORT)
    fleet.record_probe(T0 + 2, ProbeResult("acme", 0.1, ErrorClass.AUTHENTICATION))
    assert circuit(fleet, now=T0 + 2).state is CircuitState.HALF_OPEN
    other = make()
    other.record_probe(T0, ProbeResult("acme", 0.1, ErrorClass.AUTHENTICATION))
    state = other.judgement(ACME).state(T0)
    assert state.status is Status.UNKNOWN
    assert "refused our key" in state.reason
    succeed(other, "a", T0 + 1)
    assert other.judgement(ACME).state(T0 + 1).status is Status.HEALTHY
