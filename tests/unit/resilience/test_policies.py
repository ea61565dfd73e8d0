"""Backoff, retry budget, permits, windows and learned quantiles."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.resilience.backoff import Backoff
from libs.resilience.circuit import BreakerState, CircuitState, worse
from libs.resilience.permits import CircuitPermits
from libs.resilience.quantile import DecayingQuantile
from libs.resilience.retry_budget import RetryBudget
from libs.resilience.window import SlidingCounts


@given(st.integers(-1, 10**9), st.randoms())
def test_full_jitter_stays_between_zero_and_the_cap(attempt: int, rng: Random) -> None:
    """For any attempt number, without overflow."""
    backoff = Backoff(base=0.1, cap=5.0)
    delay = backoff.delay(attempt, rng)
    assert delay is not None
    assert 0 <= delay <= min(5.0, 0.1 * 2.0 ** max(0, min(attempt, 32)))


def test_retry_after_is_a_floor_and_has_a_bound() -> None:
    """A wait the provider named is never cut short, and one beyond the bound is not waited for."""
    backoff = Backoff(max_retry_after=10.0)
    for attempt in range(10):
        delay = backoff.delay(attempt, Random(attempt), retry_after=4.0)
        assert delay is not None
        assert 4.0 <= delay <= 4.0 + backoff.base
    assert backoff.delay(0, Random(1), retry_after=10.1) is None
    with pytest.raises(ValueError, match="base"):
        Backoff(base=0)


@pytest.mark.parametrize("rate", [2, 10, 100])
def test_in_a_total_outage_providers_see_at_most_a_tenth_more(rate: int) -> None:
    """Every request wants three more attempts; in every minute at most 1.1 attempts per request pass."""
    budget, requests, retries = RetryBudget(), [0] * 180, [0] * 180
    for second in range(180):
        for _ in range(rate):
            budget.record_request(float(second))
            requests[second] += 1
            retries[second] += sum(budget.try_spend(float(second)) for _ in range(3))
    for start in range(121):
        minute = slice(start, start + 60)
        assert sum(retries[minute]) <= max(10, 0.1 * sum(requests[minute]))


def test_light_traffic_may_still_retry() -> None:
    """One request a minute has retries, and not without end."""
    budget = RetryBudget(min_retries=5)
    budget.record_request(0.0)
    assert [budget.try_spend(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.available(61.0) == 5


def test_permits_return_by_themselves() -> None:
    """A limit of two holds until one is released, expires or belongs to an earlier generation."""
    permits = CircuitPermits(limit=2, ttl=10.0)
    first = permits.acquire(0.0, 1)
    assert first is not None
    assert permits.acquire(0.0, 1) is not None
    assert permits.acquire(0.0, 1) is None
    permits.release(first.id)
    assert permits.acquire(0.0, 1) is not None
    assert permits.acquire(9.9, 1) is None
    assert permits.acquire(10.0, 1) is not None
    assert permits.acquire(10.0, 2) is not None


@given(st.lists(st.tuples(st.floats(-5, 20), st.integers(0, 3), st.integers(0, 3)), max_size=50))
def test_a_window_counts_what_is_in_it_and_stays_small(steps: list[tuple[float, int, int]]) -> None:
    """Equal to recounting every call, while time moves on; never more than its buckets, even when it goes back."""
    window, now = SlidingCounts(10.0, 10), 1000.0
    kept: list[tuple[float, int, int]] = []
    for step, successes, failures in steps:
        now += step
        kept = [c for c in kept if math.floor(now) - 9 <= math.floor(c[0]) <= math.floor(now)]
        kept.append((now, successes, failures))
        window.add(now, successes, failures)
        totals = window.totals(now)
        assert (totals.successes, totals.failures) == (sum(c[1] for c in kept), sum(c[2] for c in kept))
        assert len(window._entries) <= 10


def test_a_quantile_is_within_five_per_cent_and_follows_change() -> None:
    """Against sorted samples; after a few half-lives the new level is what it says."""
    rng, estimate, now = Random(3), DecayingQuantile(half_life=60.0), 0.0
    samples = [rng.lognormvariate(-0.5, 0.6) for _ in range(5000)]
    for sample in samples:
        estimate.add(now, sample)
    for q in (0.5, 0.95):
        exact = sorted(samples)[int(q * len(samples))]
        assert estimate.quantile(q) == pytest.approx(exact, rel=0.06)
    for _ in range(2000):
        now += 0.5
        estimate.add(now, 9.0)
    assert estimate.quantile(0.5) == pytest.approx(9.0, rel=0.06)
    assert estimate.samples(now) < 200
    estimate.add(now + 1e6, 0.2)
    assert estimate.quantile(0.5) == pytest.approx(0.2, rel=0.06)
    assert DecayingQuantile().quantile(0.5) is None


def test_a_call_respects_the_worse_of_provider_and_model() -> None:
    """An open provider outweighs a closed model, and the other way round."""
    opened = BreakerState(CircuitState.OPEN, 1, 10.0)
    assert worse(opened, BreakerState()) == opened
    assert worse(BreakerState(), opened) == opened
