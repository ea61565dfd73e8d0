"""Forecasts of the next 24 hours are at least as good as the day before again, and say how good."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from libs.forecast.days_ahead import DAY_SECONDS, DaysAhead, forecast_days_ahead
from libs.forecast.growth import Growth, forecast_growth
from libs.forecast.next_day import MIN_DAYS, Method, NextDay, forecast_next_day
from libs.forecast.profile import EVEN, HOURS, NotEnoughHistory, split_days, weekday_weights

SHAPE = [10.0 + 8.0 * math.cos(math.tau * (hour - 14) / HOURS) for hour in range(HOURS)]


def noisy(days: int, seed: int = 1, weekend: float = 1.0) -> list[float]:
    rng = random.Random(seed)
    return [
        amount * rng.gammavariate(4, 0.25) * (weekend if day % 7 >= 5 else 1.0)
        for day in range(days)
        for amount in SHAPE
    ]


def forecast(hours: list[float]) -> NextDay:
    found = forecast_next_day(hours)
    assert isinstance(found, NextDay)
    return found


def test_a_short_past_is_an_answer() -> None:
    """So many whole days since the first use, and how many are needed."""
    assert forecast_next_day([]) == NotEnoughHistory(0, MIN_DAYS)
    assert forecast_next_day([0.0] * 500) == NotEnoughHistory(0, MIN_DAYS)
    assert forecast_next_day([0.0] * 500 + noisy(2)) == NotEnoughHistory(2, MIN_DAYS)
    assert forecast_next_day(noisy(4)[1:]) == NotEnoughHistory(3, MIN_DAYS)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_amounts_that_are_none_are_refused(wrong: float) -> None:
    """ValueError, wherever they stand."""
    with pytest.raises(ValueError, match="at least 0"):
        forecast_next_day([*noisy(5), wrong])


def test_a_day_that_repeats_is_forecast_exactly() -> None:
    """With an interval of no width but for its prior, by the seasonal-naive method: none is better."""
    found = forecast(SHAPE * 10)
    assert found.method is Method.SEASONAL_NAIVE
    assert [band.p50 for band in found.hours] == pytest.approx(SHAPE)
    assert all(band.p90 - band.p10 < 0.01 for band in found.hours)
    assert found.backtest.ratio is None


def test_noise_is_averaged_and_covered() -> None:
    """The backtest in the answer is as good as what then happens: a third off, and 80 % inside."""
    inside = total = 0
    ratios = []
    for seed in range(20):
        hours = noisy(20, seed)
        found = forecast(hours[:-HOURS])
        inside += sum(band.covers(real) for band, real in zip(found.hours, hours[-HOURS:], strict=True))
        total += HOURS
        assert found.backtest.ratio is not None
        assert found.backtest.coverage is not None
        ratios.append(found.backtest.ratio)
    assert sum(ratios) / len(ratios) < 0.8
    assert 0.72 < inside / total < 0.9


def test_weekdays_count_once_there_are_three_weeks() -> None:
    """Before a weekend that is a tenth of a weekday, a method that knows weekdays is taken and forecasts a tenth;
    with two weeks all days weigh the same."""
    found = forecast(noisy(7 * 5 + 5, weekend=0.1))
    assert found.method in (Method.WEEKLY_BLEND, Method.SAME_WEEKDAY)
    assert sum(band.p50 for band in found.hours) < 0.4 * sum(SHAPE)
    assert weekday_weights(split_days(noisy(20, weekend=0.1))) == EVEN


@pytest.mark.parametrize("ago", [0, 3])
def test_a_spike_is_no_new_level(ago: int) -> None:
    """After one day of a thousandfold use neither a day, nor a month, nor growth is forecast at that level; once use
    has stayed there for three days, it is."""
    spike = [1000 * amount for amount in noisy(1, seed=3)]
    hours = noisy(20) + spike + noisy(ago, seed=2)
    assert sum(band.p50 for band in forecast(hours).hours) < 3 * sum(SHAPE)
    month = forecast_days_ahead(hours, 30 * DAY_SECONDS)
    assert isinstance(month, DaysAhead)
    assert month.band(30 * DAY_SECONDS).p50 < 3 * 30 * sum(SHAPE)
    totals = [sum(hours[i : i + HOURS]) for i in range(0, len(hours), HOURS)]
    growth = forecast_growth(totals, 5 * sum(SHAPE))
    assert isinstance(growth, Growth)
    assert growth.p50 is None
    stayed = noisy(20) + [1000 * amount for amount in noisy(3, seed=3)]
    assert sum(band.p50 for band in forecast(stayed).hours) > 300 * sum(SHAPE)


@pytest.mark.parametrize("weeks", [3, 6])
def test_a_weekend_of_another_shape_is_not_taken_for_a_weekday(weeks: int) -> None:
    """Nights that are busy at weekends and no other are forecast for the weekend; the Monday after days without any
    use is forecast as Mondays were."""
    other = SHAPE[12:] + SHAPE[:12]
    week = [SHAPE] * 5 + [other] * 2
    rng = random.Random(3)
    past = [rng.gammavariate(30, 1 / 30) * amount for _ in range(weeks) for day in week for amount in day]
    past += [rng.gammavariate(30, 1 / 30) * amount for day in week[:5] for amount in day]
    found = forecast(past)
    assert found.method is Method.SAME_WEEKDAY
    assert [band.p50 for band in found.hours] == pytest.approx(other, rel=0.4)
    closed = [[0.0] * HOURS if day is other else day for day in week]
    past = [rng.gammavariate(30, 1 / 30) * amount for _ in range(weeks) for day in closed for amount in day]
    assert sum(band.p50 for band in forecast(past).hours) == pytest.approx(sum(SHAPE), rel=0.1)


def test_an_idle_week_is_no_evidence_of_the_shape() -> None:
    """While it lasts nothing is forecast; a day after, the forecast is near what it was before."""
    before = noisy(14)
    idle = before + [0.0] * (7 * HOURS)
    assert [band.p50 for band in forecast(idle).hours] == [0.0] * HOURS
    after = forecast(idle + noisy(1, seed=2))
    assert sum(band.p50 for band in after.hours) == pytest.approx(sum(SHAPE), rel=0.2)


def test_a_break_is_followed_within_days() -> None:
    """Three days after use tripled, the forecast is nearer to the new level than to the old one."""
    hours = noisy(14) + [3 * amount for amount in noisy(3, seed=2)]
    assert sum(band.p50 for band in forecast(hours).hours) > 2 * sum(SHAPE)


@pytest.mark.parametrize("seed", range(12))
def test_bands_are_ordered_and_finite_whatever_the_past(seed: int) -> None:
    """0 <= p10 <= p50 <= p90, and no band reaches far above what was ever seen."""
    rng = random.Random(seed)
    shapes: list[Callable[[], float]] = [
        lambda: rng.choice([0.0, 1.0]),
        lambda: rng.paretovariate(0.7),
        lambda: float(rng.random() < 0.02) * 1e12,
        lambda: 1e-12,
        lambda: rng.lognormvariate(0, 4),
    ]
    shape = rng.choice(shapes)
    hours = [1.0] * HOURS + [shape() for _ in range(rng.choice([120, 192, 24 * 40]))]
    found = forecast(hours)
    for band in found.hours:
        assert 0 <= band.p10 <= band.p50 <= band.p90 < math.inf
        assert band.p90 <= max(1.5 * max(hours) + 1e-6, band.p50)
