"""The circuit breaker, one fact per test."""

from __future__ import annotations

from random import Random

import pytest

from libs.resilience.breaker import Breaker
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.types import PROVIDER_FAULTS, ErrorClass

T0 = 1_800_000_000.0
SETTINGS = BreakerSettings()


def make(state: BreakerState | None = None, settings: BreakerSettings = SETTINGS) -> Breaker:
    return Breaker(settings, Random(7), state)


def failing(count: int, error: ErrorClass = ErrorClass.SERVER_ERROR, **more: float | int | None) -> Evidence:
    return Evidence(failures={error: count}, **more)  # type: ignore[arg-type]


def opened(now: float = T0) -> Breaker:
    breaker = make()
    breaker.record(now, failing(3))
    assert breaker.state.state is CircuitState.OPEN
    return breaker


def half_open() -> tuple[Breaker, float]:
    breaker = opened()
    now = breaker.state.open_until
    assert breaker.tick(now).state is CircuitState.HALF_OPEN
    return breaker, now


def test_light_traffic_opens_on_failures_in_a_row() -> None:
    """Two failures are bad luck, three in a row without a success are a verdict."""
    breaker = make()
    assert breaker.record(T0, failing(2)).state is CircuitState.CLOSED
    assert breaker.record(T0 + 60, failing(1)).state is CircuitState.OPEN


def test_faults_after_the_last_success_of_a_sum_are_in_the_row() -> None:
    """Named regression: a router's report held a success and the first fault after it; the health service did not
    count the fault, so its circuit opened one call later than the router's, and closed over it."""
    breaker = make()
    first = Evidence(successes=5, failures={ErrorClass.SERVER_ERROR: 2}, row=1)
    assert breaker.record(T0, first).state is CircuitState.CLOSED
    assert breaker.consecutive_failures == 1
    breaker.record(T0 + 1, failing(1))
    assert breaker.consecutive_failures == 2
    unknown = make()
    unknown.record(T0, Evidence(successes=5, failures={ErrorClass.SERVER_ERROR: 2}))
    assert unknown.consecutive_failures == 0


def test_a_success_starts_the_row_anew() -> None:
    """Failures in a row are counted since the last success."""
    breaker = make()
    for second in range(5):
        breaker.record(T0 + 20 * second, failing(2))
        assert breaker.record(T0 + 20 * second + 1, Evidence(successes=1)).state is CircuitState.CLOSED
    assert breaker.consecutive_failures == 0


def test_a_third_failing_under_traffic_stays_closed_and_half_opens_it() -> None:
    """With enough calls in the window the rate decides: 33 % passes, 50 % does not."""
    breaker = make()
    for tick in range(20):
        breaker.record(T0 + tick / 2, Evidence(successes=2, failures={ErrorClass.SERVER_ERROR: 1}))
    assert breaker.state.state is CircuitState.CLOSED
    assert breaker.counts(T0 + 9.5).failure_rate == pytest.approx(1 / 3, abs=0.01)
    state = breaker.record(T0 + 9.6, Evidence(successes=1, failures={ErrorClass.SERVER_ERROR: 40}))
    assert state.state is CircuitState.OPEN


def test_a_sudden_total_failure_under_traffic_opens_before_the_rate_does() -> None:
    """Named regression: warm, a flapping provider wasted eleven attempts. Three failures in a row are a verdict also
    on a target that otherwise hardly fails, although a hundred successes are still in the window."""
    breaker = make()
    breaker.record(T0, Evidence(successes=100))
    assert breaker.record(T0 + 1, failing(2)).state is CircuitState.CLOSED
    assert breaker.record(T0 + 1.1, failing(1)).state is CircuitState.OPEN


@pytest.mark.parametrize(
    ("successes", "failures", "row"), [(10, 0, 3), (95, 5, 5), (900, 100, 7), (70, 30, 10)]
)
def test_a_target_that_fails_now_and_then_may_be_unlucky(successes: int, failures: int, row: int) -> None:
    """The number of failures in a row that open it grows with the failure rate, up to ten."""
    breaker = make()
    breaker.record(T0, Evidence(successes, {ErrorClass.SERVER_ERROR: failures}))
    assert breaker.record(T0 + 1, failing(row - 1)).state is CircuitState.CLOSED
    assert breaker.record(T0 + 1.1, failing(1)).state is CircuitState.OPEN


@pytest.mark.parametrize("interval", [4.0, 3.3, 2.0, 1.0, 0.7, 0.2, 0.05])
def test_a_minutes_flap_wastes_five_attempts_and_is_over_in_16_s(interval: float) -> None:
    """Three to see it, two trials in between, at most; and the target is used again within 16 s of its return, with a
    call every 4 s or more, wherever among the calls the outage begins."""
    for warm in [0.0, *(30.0 + interval * part / 7 for part in range(7))]:
        for seed in range(10):
            wasted, back = flap(interval, warm, seed)
            assert wasted <= 5, (warm, seed)
            assert back <= 16, (warm, seed)


def test_trials_keep_their_distance_from_the_begin_however_seldom_calls_come() -> None:
    """Counted from the call that came to make it, each trial would come later than the one before by as much as
    calls are apart."""
    breaker = make(settings=BreakerSettings(jitter=0.0))
    breaker.record(T0, failing(1))
    breaker.record(T0 + 4, failing(1))
    assert breaker.record(T0 + 8, failing(1)).open_until == T0 + 12
    for asked, due in ((15, 36), (39, 60), (63, 84), (200, 206)):
        generation = breaker.tick(T0 + asked).generation
        assert breaker.record(T0 + asked, failing(1, generation=generation)).open_until == T0 + due


def flap(interval: float, warm: float, seed: int) -> tuple[int, float]:
    """Attempts in vain in an outage of 60 s, and seconds from its end to the first success, with calls so far apart;
    it begins after `warm` seconds."""
    breaker, now, wasted = Breaker(SETTINGS, Random(seed)), T0, 0
    while True:
        now += interval
        permit = breaker.acquire(now)
        if permit is None:
            continue
        bad = T0 + warm <= now < T0 + warm + 60
        failures = {ErrorClass.OVERLOADED: int(bad)}
        breaker.record(now, Evidence(int(not bad), failures, generation=permit.generation))
        breaker.release(permit.id)
        wasted += bad
        if now >= T0 + warm + 60 and not bad:
            return wasted, now - T0 - warm - 60


@pytest.mark.parametrize("error", sorted(set(ErrorClass) - PROVIDER_FAULTS))
def test_what_is_not_the_providers_fault_is_not_a_failure(error: ErrorClass) -> None:
    """Callers' faults, refusals, rate limits and cancellations never count in the rate."""
    breaker = make()
    breaker.record(T0, Evidence(failures={error: 1000}))
    assert breaker.counts(T0).failures == 0
    assert breaker.state == BreakerState()


@pytest.mark.parametrize("error", [ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED])
def test_an_account_neither_opens_nor_closes_nor_keeps_open(error: ErrorClass) -> None:
    """A refused key and a spent quota say nothing about the target: a probe that meets one is no verdict."""
    breaker = make()
    opened = breaker.record(T0, failing(3))
    now = opened.open_until
    half_open = breaker.tick(now)
    assert breaker.record(now, failing(1, error, generation=half_open.generation)) == half_open


def test_slow_successes_open_it_and_long_answers_are_not_slow() -> None:
    """Slowness is judged against the length of the answer."""
    assert SETTINGS.is_slow(30.0, 10)
    assert not SETTINGS.is_slow(30.0, 100)
    breaker = make()
    assert breaker.record(T0, Evidence(successes=9, slow=9)).state is CircuitState.CLOSED
    state = breaker.record(T0 + 1, Evidence(successes=1, slow=1))
    assert (state.state, state.cause) == (CircuitState.OPEN, TripCause.SLOW)


def test_openings_grow_to_a_cap_with_jitter_and_are_forgiven() -> None:
    """Each opening in a row is longer, at most the cap and its jitter; a lasting recovery starts over."""
    breaker, now = make(), T0
    periods = []
    breaker.record(now, failing(3))
    for _ in range(6):
        periods.append(breaker.state.open_until - now)
        now = breaker.state.open_until
        generation = breaker.tick(now).generation
        breaker.record(now, failing(1, generation=generation))
    for index, period in enumerate(periods):
        # Each failure comes in the instant in which a trial is due.
        plain = min(SETTINGS.open_cap, SETTINGS.open_seconds * SETTINGS.open_factor**index)
        assert plain <= period <= plain * (1 + SETTINGS.jitter)
    now = breaker.state.open_until
    generation = breaker.tick(now).generation
    assert breaker.record(now, Evidence(successes=1, generation=generation)).state is CircuitState.CLOSED
    now += SETTINGS.forgive_seconds + 1
    assert breaker.record(now, failing(3)).trips == 1


def test_a_sixty_second_outage_costs_five_calls() -> None:
    """Three calls open the circuit, two probes find it still down, the next, within 16 s of its end, closes it."""
    for seed in range(50):
        breaker, wasted, now = Breaker(SETTINGS, Random(seed)), 0, T0
        while breaker.state.state is not CircuitState.CLOSED or now < T0 + 60:
            permit = breaker.acquire(now)
            if permit is not None:
                ok = now >= T0 + 60
                wasted += not ok
                evidence = Evidence(successes=1) if ok else failing(1)
                breaker.record(
                    now, Evidence(evidence.successes, evidence.failures, generation=permit.generation)
                )
                breaker.release(permit.id)
            now += 0.5
        assert wasted <= 5
        assert now <= T0 + 76


def test_a_shorter_cooldown_replaces_a_longer_one() -> None:
    """Named regression: it must not. Retry-After extends a cooldown, whatever arrives later."""
    breaker = make()
    breaker.record(T0, failing(1, ErrorClass.RATE_LIMITED, retry_not_before=T0 + 60))
    breaker.record(T0 + 1, failing(1, ErrorClass.RATE_LIMITED, retry_not_before=T0 + 5))
    breaker.record(T0 + 2, failing(3, generation=0))
    breaker.trip(T0 + 2, TripCause.FAULTS, 1.0)
    assert breaker.state.open_until == T0 + 60
    longer = breaker.record(T0 + 3, failing(1, ErrorClass.RATE_LIMITED, retry_not_before=T0 + 90))
    assert longer.open_until == T0 + 90


def test_a_shorter_cooldown_of_another_replica_does_not_replace_a_longer_one() -> None:
    """Named regression, across replicas: a later generation that never heard the Retry-After still waits for it."""
    breaker = make()
    breaker.record(T0, failing(1, ErrorClass.OVERLOADED, retry_not_before=T0 + 300))
    breaker.record(T0, failing(1, ErrorClass.OVERLOADED, retry_not_before=T0 + 2))
    shorter = BreakerState(CircuitState.OPEN, 9, T0 + 5, TripCause.FAULTS, T0, 1)
    assert breaker.merge(T0 + 1, shorter).open_until == T0 + 300
    half = BreakerState(CircuitState.HALF_OPEN, 20, 0.0, TripCause.FAULTS, T0, 1)
    assert breaker.merge(T0 + 6, half).open_until == T0 + 300
    closed = BreakerState(CircuitState.CLOSED, 30, since=T0 + 6, trips=1)
    assert breaker.merge(T0 + 7, closed).state is CircuitState.CLOSED


def test_a_cooldown_is_bounded_and_means_nothing_on_success() -> None:
    """A Retry-After of a year is cut to the bound; one on a 200 is ignored."""
    breaker = make()
    breaker.record(T0, Evidence(successes=1, retry_not_before=T0 + 60))
    assert breaker.state.state is CircuitState.CLOSED
    breaker.record(T0, failing(1, ErrorClass.RATE_LIMITED, retry_not_before=T0 + 3e7))
    assert breaker.state.open_until == T0 + SETTINGS.max_cooldown


def test_after_a_mere_cooldown_traffic_returns_at_once() -> None:
    """The provider said when to come back and nothing was broken: no probe, no ramp."""
    breaker = make()
    breaker.record(T0, failing(1, ErrorClass.RATE_LIMITED, retry_not_before=T0 + 3))
    assert breaker.acquire(T0 + 2.9) is None
    assert breaker.acquire(T0 + 3) is not None
    assert breaker.ramp(T0 + 3) == 1.0


def test_a_half_open_permit_is_lost_and_the_breaker_never_closes() -> None:
    """Named regression: it must. A permit nobody returned comes back by itself and the next probe closes."""
    breaker, now = half_open()
    assert breaker.acquire(now) is not None
    assert breaker.acquire(now + 1) is None
    later = now + SETTINGS.permit_ttl
    permit = breaker.acquire(later)
    assert permit is not None
    state = breaker.record(later + 1, Evidence(successes=1, generation=permit.generation))
    assert state.state is CircuitState.CLOSED


def test_late_results_of_an_earlier_generation_do_not_count() -> None:
    """A stream that began before the circuit opened neither closes nor reopens it."""
    breaker, now = half_open()
    generation = breaker.state.generation
    assert breaker.record(now, Evidence(successes=5, generation=0)).state is CircuitState.HALF_OPEN
    assert breaker.record(now, Evidence(successes=5)).state is CircuitState.HALF_OPEN
    assert breaker.record(now, failing(5, generation=0)).generation == generation


def test_a_call_without_alternative_may_close_an_open_circuit() -> None:
    """A success of a call that began after the opening closes it at once where everything was down."""
    breaker = opened()
    state = breaker.record(T0 + 1, Evidence(successes=1, generation=breaker.state.generation))
    assert state.state is CircuitState.CLOSED


def test_evidence_from_a_later_generation_is_taken_and_caught_up_with() -> None:
    """A restarted replica that counts from 0 again does not ignore routers that remember more."""
    breaker = make()
    state = breaker.record(T0, failing(3, generation=41))
    assert (state.state, state.generation) == (CircuitState.OPEN, 42)


def test_a_recovering_target_is_ramped_up() -> None:
    """From the floor to all of its traffic over the ramp, and an untouched target gets all of it."""
    assert make().ramp(T0) == 1.0
    breaker, now = half_open()
    assert breaker.ramp(now) == 0.0
    breaker.record(now, Evidence(successes=1, generation=breaker.state.generation))
    assert breaker.ramp(now) == pytest.approx(SETTINGS.ramp_floor)
    assert SETTINGS.ramp_floor < breaker.ramp(now + SETTINGS.ramp_seconds / 2) < 1
    assert breaker.ramp(now + SETTINGS.ramp_seconds) == 1.0


def test_a_free_hint_half_opens_early_but_not_against_retry_after_or_an_operator() -> None:
    """Reachability is a reason to try, not a verdict."""
    breaker = opened()
    assert breaker.allow_early(T0 + 1).state is CircuitState.HALF_OPEN
    waiting = make()
    waiting.record(T0, failing(3, ErrorClass.OVERLOADED, retry_not_before=T0 + 100))
    assert waiting.allow_early(T0 + 50).state is CircuitState.OPEN
    manual = make()
    manual.trip(T0, TripCause.OPERATOR, 600.0)
    assert manual.allow_early(T0 + 1).state is CircuitState.OPEN
    assert manual.record(T0 + 2, Evidence(successes=9, generation=1)).state is CircuitState.OPEN


def test_an_operator_resets_everything() -> None:
    """Rehabilitation closes at full traffic, in a new generation that wins every merge."""
    breaker = opened()
    before = breaker.state
    state = breaker.reset(T0 + 1)
    assert state.merge(before) == state
    assert breaker.ramp(T0 + 1) == 1.0
    assert breaker.counts(T0 + 1).calls == 0


def test_a_state_from_a_wrong_clock_is_not_believed() -> None:
    """A replica whose clock is a year ahead cannot close the provider for a year."""
    breaker = make()
    assert breaker.merge(T0, BreakerState(CircuitState.OPEN, 5, T0 + 3e7)) == BreakerState()


def test_settings_and_states_validate() -> None:
    """Nonsense is refused when it is written down, not when it is needed."""
    for wrong in (
        {"failure_rate": 0.0},
        {"minimum_calls": 0},
        {"open_cap": 1.0},
        {"permit_ttl": 0.0},
        {"open_factor": 0.5},
        {"longest_open": 1.0},
    ):
        with pytest.raises(ValueError, match="must be"):
            BreakerSettings(**wrong)
    with pytest.raises(ValueError, match="open_until"):
        BreakerState(CircuitState.OPEN, 1)
    with pytest.raises(ValueError, match="count from 0"):
        BreakerState(generation=-1)
