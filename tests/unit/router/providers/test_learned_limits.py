"""Limits learned from headers and refusals, in virtual time, from simulated providers that change their limits."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.providers import learned_limits as ll
from services.router.providers.learned_limits import (
    LearnedLimit,
    LimitLearner,
    ObservedLimit,
    Rate,
    Refusals,
    Source,
    Stated,
)

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
        return ObservedLimit("requests", self.limit, int(self.level), round(reset, 3))


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
            "requests", self.limit, int(self.level), round(self.period - self.at % self.period, 3)
        )


def drive(provider: Bucket, stated: Stated, start: float, seconds: float, rate: float, rng: Random) -> float:
    """Calls at `rate` a second, irregularly; headers of each are read. The time after."""
    now, end = start, start + seconds
    while now < end:
        now += rng.expovariate(rate)
        provider.ask(now)
        stated.observe(now, provider.headers())
    return now


def known(stated: Stated, now: float) -> LearnedLimit:
    found = stated.learned("a/m", "requests", now)
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(ll.PERIODS.items())),
    st.lists(st.integers(200, 100_000), min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_a_steadily_refilled_limit_is_found_with_its_period(
    period: tuple[str, float], limits: list[int], seed: int
) -> None:
    """Whatever the period, which the headers do not name, and however the limit changes, up or down: it is known
    and trusted after a minute of calls, from headers alone."""
    name, seconds = period
    rng, stated, now = Random(seed), Stated(""), 1.0
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
    st.sampled_from([("second", 1.0), ("minute", 60.0)]),
    st.integers(20, 5000),
    st.floats(0.05, 2.0),
    st.integers(0, 2**32),
)
def test_a_window_is_never_taken_for_a_longer_period(
    period: tuple[str, float], limit: int, use: float, seed: int
) -> None:
    """At no moment is a window's limit trusted with a period that would make it stricter than it is."""
    name, seconds = period
    rng, stated, now = Random(seed), Stated(""), 1.0
    provider = Window(limit, seconds)
    rate = min(50.0, max(1.0, use * limit / seconds))
    for _ in range(120):
        now = drive(provider, stated, now, 1.5, rate, rng)
        found = known(stated, now)
        if found.confidence >= TRUSTED:
            assert ll.PERIODS[found.period] <= seconds
    if name == "minute":
        assert (found.period, found.confidence >= TRUSTED) == ("minute", True)


def test_a_lower_limit_is_kept_at_once_and_a_higher_one_when_said_twice() -> None:
    """Trust in a source outlives a change, so a cut never opens a gap without any limit."""
    stated = Stated("minute")
    for _ in range(3):
        stated.observe(0.0, ObservedLimit("requests", 1000, 1, 1.0, "minute"))
    trusted = known(stated, 0.0).confidence
    stated.observe(1.0, ObservedLimit("requests", 100, 1, 1.0, "minute"))
    assert (known(stated, 1.0).value, known(stated, 1.0).confidence) == (100, trusted)
    stated.observe(2.0, ObservedLimit("requests", 2000, 1, 1.0, "minute"))
    assert known(stated, 2.0).value == 100
    stated.observe(3.0, ObservedLimit("requests", 2000, 1, 1.0, "minute"))
    assert known(stated, 3.0).value == 2000


def test_one_answer_is_not_enough() -> None:
    """A limit seen once is shown, not trusted; without a known period it never is."""
    stated = Stated("minute")
    stated.observe(0.0, ObservedLimit("requests", 100, None, None, "minute"))
    assert known(stated, 0.0).confidence < TRUSTED
    vague = Stated("")
    for n in range(1000):
        vague.observe(float(n), ObservedLimit("requests", 100, None, None))
    assert known(vague, 1000.0).confidence < TRUSTED


def test_what_says_nothing_teaches_nothing() -> None:
    """No limit, none at all, or an absurd one: nothing is learned and nothing breaks."""
    stated = Stated("")
    for limit, remaining, reset in ((None, 5, 1.0), (0, 0, 1.0), (-3, 0, -1.0)):
        stated.observe(0.0, ObservedLimit("requests", limit, remaining, reset))
    assert stated.learned("a/m", "requests", 0.0) is None
    stated.observe(0.0, ObservedLimit("requests", 10, -5, 0.0))
    stated.observe(0.0, ObservedLimit("requests", 10, 50, 9e9))
    assert known(stated, 0.0).value == 10


def test_what_is_not_said_any_more_is_forgotten() -> None:
    """An hour without evidence is the end of a learned limit."""
    stated = Stated("minute")
    stated.observe(0.0, ObservedLimit("requests", 100, None, None, "minute"))
    assert stated.learned("a/m", "requests", ll.FORGET) is not None
    assert stated.learned("a/m", "requests", ll.FORGET + 1) is None


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


def test_refusals_that_stay_away_are_forgotten() -> None:
    """A limit that is gone does not hold traffic for ever."""
    refusals = Refusals()
    for n in range(101):
        refusals.answered(n / 5)
    refusals.refused(20.0)
    refusals.refused(20.1)
    found = refusals.learned("a/m", 21.0)
    assert found is not None
    assert (found.source, found.value, found.confidence) == (Source.REFUSALS, 242, 0.75)
    assert refusals.learned("a/m", 21.0 + ll.REFUSALS_FORGET) is None


def test_a_stated_limit_that_is_used_up_explains_a_refusal() -> None:
    """Only refusals that no header explains lower the rate."""
    learner = LimitLearner()
    full = ObservedLimit("total_tokens", 1000, 0, 5.0, "minute")
    for n in range(200):
        learner.answered(n / 10, "a/m")
        learner.refused(n / 10, "a/m", [full])
    assert [limit.source for limit in learner.learned(20.0)] == [Source.HEADERS]
    learner.refused(21.0, "a/m", [])
    assert Source.REFUSALS in {limit.source for limit in learner.learned(21.0)}


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
    rate, now = Rate(), 1000.0
    times = []
    for wait in waits:
        now += wait
        rate.add(now)
        times.append(now)
        assert sum(t > now - 50 for t in times) <= rate.count(now) <= sum(t > now - 60 for t in times)
