"""The breaker against a plain oracle, over random histories; merging against the laws it promises."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libs.resilience.breaker import Breaker
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.types import ErrorClass

T0 = 1_800_000_000.0
SETTINGS = BreakerSettings(jitter=0.0)


class Oracle:
    """Keeps every call ever made and recounts them each time; knows no buckets, no totals, no permits held."""

    def __init__(self) -> None:
        self.state = "closed"
        self.until = 0.0
        self.floor = 0.0
        self.trips = 0
        self.closed_at = 0.0
        self.cooldown = False
        self.calls: list[tuple[float, bool]] = []

    def open(self, now: float, until: float, cooldown: bool) -> None:
        self.state, self.until, self.cooldown, self.calls = "open", until, cooldown, []

    def trip(self, now: float, since: float) -> None:
        fresh = self.state == "closed" and now - self.closed_at >= SETTINGS.forgive_seconds
        self.trips = 1 if fresh or self.trips == 0 else self.trips + 1
        period = min(SETTINGS.open_cap, SETTINGS.open_seconds * SETTINGS.open_factor ** (self.trips - 1))
        self.open(now, max(since + period, now + period / 4, self.floor), cooldown=False)

    def close(self, now: float) -> None:
        self.state, self.calls, self.closed_at = "closed", [], now

    def tick(self, now: float) -> None:
        if self.state == "open" and now >= self.until:
            if self.cooldown:
                self.close(self.until)
            else:
                self.state = "half_open"

    def call(self, now: float, ok: bool) -> None:
        self.tick(now)
        if self.state == "closed":
            self.calls.append((now, ok))
            results = [good for _, good in self.calls]
            row = next((i for i, good in enumerate(reversed(results)) if good), len(results))
            bucket = SETTINGS.window_seconds / SETTINGS.buckets
            first = now // bucket - SETTINGS.buckets + 1
            recent = [good for at, good in self.calls if at // bucket >= first]
            enough = len(recent) >= SETTINGS.minimum_calls
            failed = max(0, recent.count(False) - row)
            rate = (failed + 0.1) / (recent.count(True) + failed + 10)
            wanted = SETTINGS.consecutive_failures
            while (
                rate**wanted * (recent.count(True) + failed + 10) > 1e-4 and wanted < SETTINGS.minimum_calls
            ):
                wanted += 1
            half = enough and recent.count(False) / len(recent) >= SETTINGS.failure_rate
            if not ok and (row >= wanted or half):
                self.trip(now, self.calls[-row][0])
        elif ok and now >= self.floor:
            self.close(now)
        elif not ok and self.state == "half_open":
            self.trip(now, self.until)

    def retry_after(self, now: float, seconds: float) -> None:
        self.tick(now)
        until = now + min(seconds, SETTINGS.max_cooldown)
        self.floor = max(self.floor, until)
        if self.state == "open":
            self.until = max(self.until, self.floor)
        else:
            self.open(now, self.floor, cooldown=self.state == "closed")


class BreakerAgainstOracle(RuleBasedStateMachine):
    """Calls, waits and Retry-Afters in any order; both must always agree."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.breaker = Breaker(SETTINGS, Random(1))
        self.oracle = Oracle()
        self.generation = 0

    @rule(ok=st.booleans(), count=st.integers(1, 12))
    def calls(self, ok: bool, count: int) -> None:
        for _ in range(count):
            generation = self.breaker.tick(self.now).generation
            self.breaker.record(
                self.now,
                Evidence(successes=1, generation=generation)
                if ok
                else Evidence(failures={ErrorClass.SERVER_ERROR: 1}, generation=generation),
            )
            self.oracle.call(self.now, ok)

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 400.0, 1e6]))
    def rate_limited(self, seconds: float) -> None:
        failure = {ErrorClass.RATE_LIMITED: 1}
        self.breaker.record(self.now, Evidence(failures=failure, retry_not_before=self.now + seconds))
        if seconds:
            self.oracle.retry_after(self.now, seconds)

    @rule(count=st.integers(1, 50))
    def late_results(self, count: int) -> None:
        generation = self.breaker.tick(self.now).generation - 1
        self.oracle.tick(self.now)
        if generation >= 0:
            failures = {ErrorClass.TIMEOUT: count}
            self.breaker.record(self.now, Evidence(count, failures, generation=generation))

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 10.0, 15.0, 45.0, 61.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def agree(self) -> None:
        state = self.breaker.tick(self.now)
        self.oracle.tick(self.now)
        assert state.state.value == self.oracle.state
        if state.state is CircuitState.OPEN:
            assert state.open_until == self.oracle.until
        assert state.generation >= self.generation
        self.generation = state.generation
        assert 0.0 <= self.breaker.ramp(self.now) <= 1.0
        assert (self.breaker.acquire(self.now) is None) <= (state.state is not CircuitState.CLOSED)


BreakerAgainstOracle.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerAgainstOracle = BreakerAgainstOracle.TestCase


@st.composite
def states(draw: st.DrawFn) -> BreakerState:
    state = draw(st.sampled_from(list(CircuitState)))
    until = draw(st.sampled_from([T0 + 5, T0 + 60, T0 + 61])) if state is CircuitState.OPEN else 0.0
    cause = draw(st.sampled_from(list(TripCause)))
    return BreakerState(
        state,
        draw(st.integers(0, 3)),
        until,
        cause,
        draw(st.sampled_from([0.0, T0])),
        draw(st.integers(0, 2)),
    )


@given(states(), states(), states())
def test_merging_is_commutative_associative_and_idempotent(
    a: BreakerState, b: BreakerState, c: BreakerState
) -> None:
    """Replicas may hear of each other in any order, any number of times."""
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a
    assert a.merge(b).generation == max(a.generation, b.generation)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 40)), max_size=60), st.randoms())
@settings(max_examples=60, deadline=None)
def test_replicas_that_exchange_states_agree(history: list[tuple[int, bool, int]], random: Random) -> None:
    """Three replicas judge what they see; once they have exchanged states, they are in the same one."""
    replicas = [Breaker(BreakerSettings(), Random(seed)) for seed in range(3)]
    now = T0
    for index, ok, wait in history:
        replica = replicas[index]
        generation = replica.tick(now).generation
        failures = {} if ok else {ErrorClass.TRANSPORT: 2}
        replica.record(now, Evidence(int(ok), failures, generation=generation))
        if random.random() < 0.3:
            replica.merge(now, replicas[random.randrange(3)].tick(now))
        now += wait
    for _ in range(2):
        for one in replicas:
            for other in replicas:
                one.merge(now, other.tick(now))
    assert len({replica.tick(now) for replica in replicas}) == 1
