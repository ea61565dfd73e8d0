"""Forecasts of exhaustion are calibrated, and cheap."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from libs.forecast.exhaustion import TimeToExhaustion, proportional, time_to_exhaustion
from libs.forecast.gamma import Gamma
from libs.forecast.level_forecast import MIN_INTERVALS, LevelForecast
from libs.limits import LimitKey, Period, Unit, scope_of
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Reading
from services.ratelimit.forecasting.exhaustion import forecast_exhaustion
from services.ratelimit.forecasting.trend import Trend

STEP = 5.0


def ahead(amounts: list[float], left: int, horizon: float, refill: float = 0.0) -> TimeToExhaustion:
    return time_to_exhaustion(LevelForecast(amounts, STEP, horizon).use, left, refill, horizon)


def poisson(rng: random.Random, mean: float) -> int:
    at, count = rng.expovariate(mean), 0
    while at < 1:
        at, count = at + rng.expovariate(mean), count + 1
    return count


def test_too_short_a_past_is_not_forecast_from() -> None:
    """ValueError; the service then goes by the window's mean."""
    with pytest.raises(ValueError, match="8 intervals"):
        LevelForecast([1.0] * (MIN_INTERVALS - 1), STEP, 60)


def test_even_use_runs_out_when_it_must() -> None:
    """2 a second of 100: in 50 s, certainly; not within 40."""
    sure = ahead([10.0] * 40, 100, 60)
    assert sure.probability > 0.999
    assert sure.p50 == pytest.approx(50, abs=0.1)
    never = ahead([10.0] * 40, 100, 40)
    assert never.probability < 0.001
    assert (never.p10, never.p50, never.p90) == (None, None, None)


def test_a_bucket_that_refills_faster_is_not_used_up_by_the_mean() -> None:
    """And one that refills slower is, at the difference."""
    assert ahead([10.0] * 40, 100, 3600, refill=3).probability < 0.001
    slow = ahead([10.0] * 40, 100, 600, refill=1)
    assert slow.p50 == pytest.approx(100, abs=0.5)


def test_nothing_left_is_now_and_no_time_left_is_never() -> None:
    """Probability 1 at once, 0 for ever."""
    use = proportional(60.0, 60, 60)
    assert time_to_exhaustion(use, 0, 0, 60) == TimeToExhaustion(1.0, 0.0, 0.0, 0.0)
    assert time_to_exhaustion(use, 5, 0, 0) == TimeToExhaustion(0.0, None, None, None)


def test_no_use_at_all_exhausts_nothing() -> None:
    """Not even by a wide model."""
    assert ahead([0.0] * 40, 10, 600).probability == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_are_ordered_and_go_with_the_probability(seed: int) -> None:
    """Whatever the past: a quantile is there where the probability reaches it, within the horizon."""
    rng = random.Random(seed)
    shapes: list[Callable[[int], float]] = [
        lambda i: rng.choice([0.0, 1.0]),
        lambda i: rng.paretovariate(1.1),
        lambda i: 1e9 * (i % 7),
        lambda i: 1e-9,
        lambda i: float(i == 3),
        lambda i: rng.lognormvariate(5, 2),
    ]
    shape = rng.choice(shapes)
    amounts = [shape(i) for i in range(rng.choice([8, 9, 25, 240]))]
    horizon = rng.choice([1.0, 60.0, 1e5])
    found = ahead(amounts, rng.choice([1, 1000, 10**15]), horizon, rng.choice([0.0, 0.1, 1e6]))
    assert 0 <= found.probability <= 1
    known = [p for p in (found.p10, found.p50, found.p90) if p is not None]
    assert known == sorted(known)
    assert all(0 <= p <= horizon for p in known)
    for q, value in ((0.1, found.p10), (0.5, found.p50), (0.9, found.p90)):
        assert (value is not None) == (found.probability >= q)


@pytest.mark.simulation
def test_intervals_cover_what_happens_on_poisson_arrivals() -> None:
    """80 % intervals of the time to exhaustion hold 72 to 92 % of 200 simulated ends (seed 11)."""
    rng = random.Random(11)
    inside = 0
    for _ in range(200):
        past = [float(poisson(rng, 15.0)) for _ in range(60)]
        found = ahead(past, 150, 3000)
        at, left = 0.0, 150
        while left > 0:
            at, left = at + rng.expovariate(3.0), left - 1
        assert found.p10 is not None
        assert found.p90 is not None
        inside += found.p10 <= at <= found.p90
    assert 144 <= inside <= 184


@pytest.mark.simulation
def test_probabilities_are_what_happens_on_bursts() -> None:
    """Of 300 windows after bursty pasts, forecasts beat the straight line through the past (seed 5)."""
    rng = random.Random(5)
    ours = line = 0.0
    for _ in range(300):
        level, series = 10.0, []
        for _ in range(72):
            if rng.random() < 0.1:
                level = rng.choice([2.0, 10.0, 30.0])
            series.append(float(poisson(rng, level)))
        past, coming = series[:60], sum(series[60:])
        left = 150
        happened = coming >= left
        ours += (ahead(past, left, 60).probability - happened) ** 2
        line += (float(sum(past) / 60 * 12 >= left) - happened) ** 2
    assert ours < 0.8 * line


def test_a_gamma_without_variance_is_its_mean() -> None:
    """And any other's quantiles invert its distribution, stretched or not."""
    assert Gamma(5, 0).quantile(0.9) == 5
    assert (Gamma(5, 0).below(4.9), Gamma(5, 0).below(5.1)) == (0.0, 1.0)
    for variance in (0.5, 25.0, 4000.0):
        for stretch in (1.0, 1.7):
            found = Gamma(50, variance, stretch)
            for p in (0.1, 0.5, 0.9):
                assert found.below(found.quantile(p)) == pytest.approx(p, abs=1e-6)


MONTHLY = Limit(LimitKey(scope_of("tenant:acme"), Unit.MICRO_USD, Period.MONTH), 1000)


def test_without_a_trend_the_windows_mean_is_taken() -> None:
    """Half used in a tenth of the window: it will be used up, most likely after another tenth."""
    reading = Reading(500, 0, start=1000.0, finish=101_000.0)
    seen = forecast_exhaustion(MONTHLY, reading, 11_000.0, None)
    assert seen.rate == pytest.approx(0.05)
    assert seen.forecast.probability > 0.99
    assert seen.forecast.p50 == pytest.approx(10_000, rel=0.05)


def test_a_trend_says_what_the_mean_does_not_know() -> None:
    """All was used at the beginning, nothing since: the mean would go on, the trend does not."""
    trend = Trend()
    for i in range(800):
        trend.add(10_000.0 + i * 5, 500, window=0.0)
    reading = Reading(500, 0, start=9_000.0, finish=20_000.0)
    assert forecast_exhaustion(MONTHLY, reading, 14_000.0, trend).forecast.probability == 0.0
    assert forecast_exhaustion(MONTHLY, reading, 14_000.0, None).forecast.probability > 0.05


DAILY = Limit(LimitKey(scope_of("tenant:acme"), Unit.MICRO_USD, Period.DAY), 50_000_000)
NOON = 1_700_000_000.0


@pytest.mark.parametrize("followed", [40, 60, 120, 300, 600, 1200, 3600])
@pytest.mark.parametrize("elapsed", [50.0, 600.0, 40_000.0])
@pytest.mark.parametrize("seed", range(4))
def test_little_use_of_a_large_quota_is_no_alarm(followed: int, elapsed: float, seed: int) -> None:
    """A few calls that used a 30,000th of a day's budget, whenever they came, however long it is followed: 1 in 1000
    at most."""
    rng = random.Random(seed)
    calls = sorted(rng.uniform(0, followed) for _ in range(rng.choice([1, 2, 5])))
    spent = 1300 // len(calls)
    trend = Trend()
    for at in range(0, followed + 1, 5):
        trend.add(NOON - followed + at, spent * sum(call <= at for call in calls))
    within = sum(call >= followed - elapsed for call in calls)
    reading = Reading(spent * within, 0, start=NOON - elapsed, finish=NOON - elapsed + 86_400)
    for past in (trend, None):
        assert forecast_exhaustion(DAILY, reading, NOON, past).forecast.probability < 0.001


@pytest.mark.parametrize("followed", [60, 600, 3600])
def test_a_quota_used_too_fast_is_told_from_its_window_or_its_trend(followed: int) -> None:
    """Even use of twice the budget a day: likely after an hour, whether the process has seen all of it or a
    minute."""
    trend = Trend()
    for at in range(0, followed + 1, 5):
        trend.add(NOON - followed + at, 1157 * at)
    reading = Reading(1157 * 3600, 0, start=NOON - 3600, finish=NOON + 82_800)
    assert forecast_exhaustion(DAILY, reading, NOON, trend).forecast.probability > 0.9


def test_none_used_where_little_is_expected_is_no_surprise() -> None:
    """Zero scores as a likely amount under a distribution most of which is below one, and far off under a large
    one."""
    assert abs(Gamma(0.0, 0.0).score(0)) < 0.1
    assert abs(Gamma(0.05, 0.5).score(0)) < 1
    assert Gamma(1000.0, 100.0).score(0) == -6.0
