"""Limits learned from headers and refusals, in virtual time, from simulated providers that change their limits."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.limits import Period, Unit
from services.router.providers.call_rate import CallRate
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.learned_report import REPEAT_EVERY, LearnedReports
from services.router.providers.limit_evidence import LearnedLimit, ObservedLimit, Source
from services.router.providers.refusal_rate import FIRST_PAUSE, REFUSALS_FORGET, RefusalRate
from services.router.providers.stated_limit import FORGET, LENGTHS, StatedLimit

TRUSTED = 0.75


class Bucket:
    """A provider's token bucket: `limit` per `period` seconds, refilled steadily, full at first."""

    def __init__(self, limit: int, period: float) -> None:
        self.period = period
        self.limit = limit
        self.level = float(limit)
        self.at = 0.0

    def change(self, limit: int) -> None:
        self.level = min(self.level, limit)
        self.limit = limit

    def ask(self, now: float, amount: float = 1.0) -> bool:
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / self.period)
        self.at = now
        if self.level < amount:
            return False
        self.level -= amount
        return True

    def headers(self) -> ObservedLimit:
        reset = (self.limit - self.level) * self.period / self.limit
        return ObservedLimit(Unit.REQUESTS, self.limit, int(self.level), round(reset, 3))


class Window(Bucket):
    """A provider that counts in fixed windows."""

    def ask(self, now: float, amount: float = 1.0) -> bool:
        if int(now / self.period) != int(self.at / self.period):
            self.level = self.limit
        self.at = now
        if self.level < amount:
            return False
        self.level -= amount
        return True

    def headers(self) -> ObservedLimit:
        return ObservedLimit(
            Unit.REQUESTS, self.limit, int(self.level), round(self.period - self.at % self.period, 3)
        )


def drive(
    provider: Bucket, stated: StatedLimit, start: float, seconds: float, rate: float, rng: Random
) -> float:
    """Calls at `rate` a second, irregularly; headers of each are read. The time after."""
    now, end = start, start + seconds
    while now < end:
        now += rng.expovariate(rate)
        provider.ask(now)
        stated.observe(now, provider.headers())
    return now


def known(stated: StatedLimit, now: float) -> LearnedLimit:
    found = stated.learned("a/m", Unit.REQUESTS, now)
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(LENGTHS.items())),
    st.lists(st.integers(200, 100_000), min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_a_steadily_refilled_limit_is_found_with_its_period(
    period: tuple[Period, float], limits: list[int], seed: int
) -> None:
    """Whatever the period, which the headers do not name, and however the limit changes, up or down: it is known
    and trusted after a minute of calls, from headers alone."""
    name, seconds = period
    rng, stated, now = Random(seed), StatedLimit(Period.NONE), 1.0
    provider = Bucket(limits[0], seconds)
    for limit in limits:
        provider.change(limit)
        now = (
            drive(provider, stated, now, 60.0, max(2.0, limit / seconds / 2), rng)
            if limit / seconds < 100
            else now
        )
        if limit / seconds >= 100:
            for _ in range(300):
                now += 0.01
                provider.ask(now, limit / seconds / 50)
                stated.observe(now, provider.headers())
        found = known(stated, now)
        assert found.value == limit
        assert (found.period, found.confidence > TRUSTED) == (name, True)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(Period.SECOND, 1.0), (Period.MINUTE, 60.0)]),
    st.integers(20, 5000),
    st.floats(0.05, 2.0),
    st.integers(0, 2**32),
)
def test_a_window_is_never_taken_for_a_longer_period(
    period: tuple[Period, float], limit: int, use: float, seed: int
) -> None:
    """At no moment is a window's limit trusted with a period that would make it stricter than it is."""
    name, seconds = period
    rng, stated, now = Random(seed), StatedLimit(Period.NONE), 1.0
    provider = Window(limit, seconds)
    rate = min(50.0, max(1.0, use * limit / seconds))
    for _ in range(120):
        now = drive(provider, stated, now, 1.5, rate, rng)
        found = known(stated, now)
        if found.confidence >= TRUSTED:
            assert LENGTHS[found.period] <= seconds
    if name is Period.MINUTE:
        assert (found.period, found.confidence >= TRUSTED) == (Period.MINUTE, True)


def test_a_lower_limit_is_kept_at_once_and_a_higher_one_when_said_twice() -> None:
    """Trust in a source outlives a change, so a cut never opens a gap without any limit."""
    stated = StatedLimit(Period.MINUTE)
    for _ in range(3):
        stated.observe(0.0, ObservedLimit(Unit.REQUESTS, 1000, 1, 1.0, Period.MINUTE))
    trusted = known(stated, 0.0).confidence
    stated.observe(1.0, ObservedLimit(Unit.REQUESTS, 100, 1, 1.0, Period.MINUTE))
    assert (known(stated, 1.0).value, known(stated, 1.0).confidence) == (100, trusted)
    stated.observe(2.0, ObservedLimit(Unit.REQUESTS, 2000, 1, 1.0, Period.MINUTE))
    assert known(stated, 2.0).value == 100
    stated.observe(3.0, ObservedLimit(Unit.REQUESTS, 2000, 1, 1.0, Period.MINUTE))
    assert known(stated, 3.0).value == 2000


def test_one_answer_is_not_enough() -> None:
    """A limit seen once is shown, not trusted; without a known period it never is."""
    stated = StatedLimit(Period.MINUTE)
    stated.observe(0.0, ObservedLimit(Unit.REQUESTS, 100, None, None, Period.MINUTE))
    assert known(stated, 0.0).confidence < TRUSTED
    vague = StatedLimit(Period.NONE)
    for n in range(1000):
        vague.observe(float(n), ObservedLimit(Unit.REQUESTS, 100, None, None))
    assert known(vague, 1000.0).confidence < TRUSTED


def test_what_says_nothing_teaches_nothing() -> None:
    """No limit, none at all, or an absurd one: nothing is learned and nothing breaks."""
    stated = StatedLimit(Period.NONE)
    for limit, remaining, reset in ((None, 5, 1.0), (0, 0, 1.0), (-3, 0, -1.0)):
        stated.observe(0.0, ObservedLimit(Unit.REQUESTS, limit, remaining, reset))
    assert stated.learned("a/m", Unit.REQUESTS, 0.0) is None
    stated.observe(0.0, ObservedLimit(Unit.REQUESTS, 10, -5, 0.0))
    stated.observe(0.0, ObservedLimit(Unit.REQUESTS, 10, 50, 9e9))
    assert known(stated, 0.0).value == 10


def test_what_is_not_said_any_more_is_forgotten() -> None:
    """An hour without evidence is the end of a learned limit."""
    stated = StatedLimit(Period.MINUTE)
    stated.observe(0.0, ObservedLimit(Unit.REQUESTS, 100, None, None, Period.MINUTE))
    assert stated.learned("a/m", Unit.REQUESTS, FORGET) is not None
    assert stated.learned("a/m", Unit.REQUESTS, FORGET + 1) is None


def run_refused(
    learner: LimitLearner, provider: Bucket, start: float, minutes: float, demand: float
) -> tuple[float, int, int]:
    """`demand` calls a second, held to what is learned where it is trusted, to a provider that says nothing but yes
    or no. The time after, and how many it let through and refused in the last half."""
    now, end, half = start, start + minutes * 60, start + minutes * 30
    own = Bucket(10**9, 60.0)
    passed = refused = 0
    while now < end:
        now += 1 / demand
        trusted = [limit.value for limit in learner.learned(now) if limit.confidence >= TRUSTED]
        own.change(min(trusted, default=10**9))
        if trusted:
            # As the limiter does: steady, with little burst.
            own.level = min(own.level, max(1.0, own.limit / 20))
        if not own.ask(now):
            continue
        if provider.ask(now):
            learner.answered(now, "a/m")
            passed += now >= half
        else:
            learner.refused(now, "a/m", ())
            refused += now >= half
    return now, passed, refused


@pytest.mark.parametrize("limits", [(600, 200, 900), (100, 1000), (1200, 60)])
def test_a_silent_provider_is_found_out_and_followed(limits: tuple[int, ...]) -> None:
    """Demand of three times the limit, no headers: at most one call in twenty is refused, at least six tenths of
    the limit are used, before and after it changes down and up."""
    learner, now = LimitLearner(), 0.0
    provider = Bucket(limits[0], 60.0)
    provider.level = 0.0
    for limit in limits:
        provider.change(limit)
        now, passed, refused = run_refused(learner, provider, now, 40.0, max(2.0, 3 * limit / 60))
        assert refused <= 0.05 * passed
        assert passed >= 0.6 * limit * 20


def refuse_beside(rate: RefusalRate, start: float, seconds: float, good: int = 1, bad: int = 1) -> float:
    """Two calls a second, of which in turn so many are let through and so many refused. The time after."""
    for n in range(int(seconds * 2)):
        now = start + n / 2
        if n % (good + bad) < good:
            rate.answered(now)
        else:
            rate.refused(now)
    return start + seconds


def test_refusals_that_stay_away_are_forgotten() -> None:
    """A limit that is gone does not hold traffic for ever."""
    refusals = RefusalRate()
    now = refuse_beside(refusals, 0.0, 45.0)
    found = refusals.learned("a/m", now)
    assert found is not None
    assert (found.source, found.confidence) == (Source.REFUSALS, 0.75)
    assert 40 <= found.value <= 0.8 * 60 * 1.05
    assert refusals.learned("a/m", now + REFUSALS_FORGET) is None


def test_what_refuses_everything_is_no_limit() -> None:
    """Ten minutes of refusals with nothing let through, again and again: never trusted, nor is what follows."""
    refusals, now = RefusalRate(), 0.0
    for _ in range(5):
        now = refuse_beside(refusals, now, 300.0, bad=0)
        now = refuse_beside(refusals, now, 600.0, good=0)
        found = refusals.learned("a/m", now)
        assert found is None or found.confidence < TRUSTED


@pytest.mark.parametrize("good", [1, 3])
def test_a_rate_that_was_kept_and_explained_nothing_is_forgotten(good: int) -> None:
    """Half or a quarter of the calls are refused however few there are: within two minutes of having been trusted the
    rate is gone, and none is learned for a while, then twice as long."""
    refusals, now = RefusalRate(), 0.0
    held: list[tuple[float, float]] = []
    trusted_since = None
    while now < 3000.0:
        found = refusals.learned("a/m", now)
        trusted = found is not None and found.confidence >= TRUSTED
        if trusted and trusted_since is None:
            trusted_since = now
        elif not trusted and trusted_since is not None:
            held.append((trusted_since, now))
            trusted_since = None
        # As the limiter does: no more are sent than is allowed.
        pause = 60 / found.value if found is not None and trusted else 0.5
        for n in range(good + 1):
            now += pause
            if n < good:
                refusals.answered(now)
            else:
                refusals.refused(now)
    assert all(end - start <= 120.0 for start, end in held)
    (first, second, third) = held[:3]
    assert second[0] - first[1] >= FIRST_PAUSE
    assert third[0] - second[1] >= 2 * FIRST_PAUSE


def test_few_refusals_hold_nobody() -> None:
    """One call in ten: it goes elsewhere, which costs less than a limit that is wrong."""
    refusals = RefusalRate()
    now = refuse_beside(refusals, 0.0, 3600.0, good=9)
    assert refusals.learned("a/m", now) is None


def test_counted_only_a_rate_follows_what_is_let_through() -> None:
    """A limit that nobody keeps to is never refuted and follows the provider."""
    refusals = RefusalRate()
    now = refuse_beside(refusals, 0.0, 1000.0)
    now = refuse_beside(refusals, now, 1000.0, good=1, bad=3)
    found = refusals.learned("a/m", now)
    assert found is not None
    assert 20 <= found.value <= 30


def test_a_stated_limit_that_is_used_up_explains_a_refusal() -> None:
    """Only refusals that no header explains lower the rate."""
    learner = LimitLearner()
    full = ObservedLimit(Unit.TOTAL_TOKENS, 1000, 0, 5.0, Period.MINUTE)
    for n in range(200):
        learner.answered(n / 2, "a/m")
        learner.refused(n / 2, "a/m", [full])
    assert [limit.source for limit in learner.learned(100.0)] == [Source.HEADERS]
    for n in range(60):
        learner.answered(100.0 + n / 2, "a/m")
        learner.refused(100.0 + n / 2, "a/m", [])
    assert Source.REFUSALS in {limit.source for limit in learner.learned(130.0)}


def test_what_is_learned_is_sent_when_it_changes_and_every_ten_seconds() -> None:
    """Nothing while there is nothing; and once what was known is forgotten, that too, once."""
    learner = LimitLearner()
    reports = LearnedReports(learner)
    assert reports.due(0.0) is None
    learner.observed(1.0, "a/m", [ObservedLimit(Unit.REQUESTS, 100, None, None, Period.MINUTE)])
    first = reports.due(1.0)
    assert first is not None
    assert [(limit.unit, limit.period, limit.value) for limit in first.limits] == [
        (Unit.REQUESTS, Period.MINUTE, 100)
    ]
    assert reports.due(2.0) is None
    assert reports.due(1.0 + REPEAT_EVERY) is not None
    learner.observed(12.0, "a/m", [ObservedLimit(Unit.REQUESTS, 50, None, None, Period.MINUTE)])
    assert reports.due(12.0) is not None
    emptied = reports.due(12.0 + FORGET + 1)
    assert emptied is not None
    assert emptied.limits == []
    assert reports.due(12.0 + FORGET + 2) is None


def test_few_calls_teach_no_rate() -> None:
    """A refusal of the very first call says nothing about how many a minute are allowed."""
    learner = LimitLearner()
    for n in range(50):
        learner.refused(n * 10.0, "a/m", ())
    assert learner.learned(500.0) == []


def test_headers_are_read_now_and_then() -> None:
    """Twice a second for each model, however many calls there are."""
    learner = LimitLearner()
    assert sum(learner.answered(n / 1000, "a/m") for n in range(10_000)) == 20
    assert learner.answered(5.0, "b/m")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 30), max_size=200))
def test_the_rate_counts_the_last_minute(waits: list[float]) -> None:
    """Never more than in the last 60 seconds, never less than in the last 50."""
    rate, now = CallRate(), 1000.0
    times = []
    for wait in waits:
        now += wait
        rate.add(now)
        times.append(now)
        assert sum(t > now - 50 for t in times) <= rate.count(now) <= sum(t > now - 60 for t in times)
