"""When a limit will be used up."""

from __future__ import annotations

import random

from services.ratelimit.domain.forecast import Demand, Sample, demand, forecast


def even(rate: float, count: int = 20, step: float = 5.0) -> list[Sample]:
    return [Sample(1000 + i * step, round(i * step * rate)) for i in range(count)]


def test_too_few_samples_say_nothing() -> None:
    """Three increments at least."""
    assert demand(even(2, 3)) is None
    assert demand([]) is None


def test_a_new_window_is_not_negative_use() -> None:
    """The counter falls back to zero; that step is left out."""
    samples = [*even(2, 10), *(Sample(1050 + i * 5, i * 10) for i in range(10))]
    found = demand(samples)
    assert found is not None
    assert abs(found.rate - 2) < 1e-9


def test_even_use_runs_out_when_it_must() -> None:
    """2 a second of 100: in 50 s, certainly; not within 40."""
    found = demand(even(2))
    assert found is not None
    sure = forecast(found, 100, 0, 60)
    assert (sure.probability, sure.rate) == (1.0, 2.0)
    assert sure.p50 is not None
    assert abs(sure.p50 - 50) < 0.01
    never = forecast(found, 100, 0, 40)
    assert (never.probability, never.p10, never.p50, never.p90) == (0.0, None, None, None)


def test_a_bucket_that_refills_faster_never_runs_out() -> None:
    """And one that refills slower does, at the difference."""
    found = demand(even(2))
    assert found is not None
    assert forecast(found, 100, 3, 3600).probability == 0
    slow = forecast(found, 100, 1, 3600)
    assert slow.p50 is not None
    assert abs(slow.p50 - 100) < 0.1


def test_nothing_left_is_now() -> None:
    """Probability 1, at once."""
    assert forecast(Demand(0, 0, 0), 0, 0, 60).p90 == 0.0


def test_quantiles_are_ordered_and_the_far_tail_is_finite() -> None:
    """Whatever the figures."""
    rng = random.Random(7)
    for _ in range(300):
        use = Demand(
            rng.choice([0, 1e-6, 1.0, 1e6]), rng.choice([0, 1e-9, 1.0, 1e9]), rng.choice([0, 1e-9, 1.0])
        )
        found = forecast(use, rng.choice([1, 10**6, 10**15]), rng.choice([0, 1.0, 1e6]), rng.choice([1, 1e6]))
        assert 0 <= found.probability <= 1
        known = [p for p in (found.p10, found.p50, found.p90) if p is not None]
        assert known == sorted(known)
        assert (found.p90 is not None) == (found.probability >= 0.9)


def test_intervals_cover_what_happens_on_poisson_arrivals() -> None:
    """80 % intervals of the time to exhaustion hold 65 to 92 % of 400 simulated ends (seed 11)."""
    rng = random.Random(11)
    inside = 0
    for _ in range(400):
        at, taken, samples = 0.0, 0, [Sample(0.0, 0)]
        arrivals = [at := at + rng.expovariate(3.0) for _ in range(2000)]
        for end in range(5, 305, 5):
            taken = sum(arrival <= end for arrival in arrivals)
            samples.append(Sample(float(end), taken))
        use = demand(samples)
        assert use is not None
        found = forecast(use, 300, 0, 10_000)
        assert found.p10 is not None
        assert found.p90 is not None
        real = arrivals[taken + 299] - 300
        inside += found.p10 <= real <= found.p90
    assert 260 <= inside <= 368
