"""Totals over days ahead: their intervals, weekdays, and the part of a day."""

from __future__ import annotations

import math
import random

import pytest

from libs.forecast.days_ahead import DAY_SECONDS, MIN_TOTAL_DAYS, DaysAhead, forecast_days_ahead
from libs.forecast.next_day import Method
from libs.forecast.profile import HOURS, NotEnoughHistory

SHAPE = [10.0 + 8.0 * math.cos(math.tau * (hour - 14) / HOURS) for hour in range(HOURS)]


def noisy(days: int, seed: int = 1, weekend: float = 1.0) -> list[float]:
    rng = random.Random(seed)
    found = []
    for day in range(days):
        level = rng.gammavariate(16, 1 / 16) * (weekend if day % 7 >= 5 else 1.0)
        found += [amount * level for amount in SHAPE]
    return found


def ahead(hours: list[float], days: float) -> DaysAhead:
    found = forecast_days_ahead(hours, days * DAY_SECONDS)
    assert isinstance(found, DaysAhead)
    return found


def test_a_short_past_is_an_answer() -> None:
    """Eight whole days are needed."""
    assert forecast_days_ahead(noisy(7), DAY_SECONDS) == NotEnoughHistory(7, MIN_TOTAL_DAYS)


def test_totals_grow_with_the_shape_of_the_day() -> None:
    """Nothing in no time; a quarter of a day at night is a twelfth of its use; 30 days are 30 times one."""
    found = ahead(noisy(30), 30)
    assert found.use(0).mean == 0
    day = found.band(DAY_SECONDS).p50
    assert 0 < found.band(DAY_SECONDS / 4).p50 < 0.12 * day
    assert found.band(30 * DAY_SECONDS).p50 == pytest.approx(30 * sum(SHAPE), rel=0.1)
    assert day == pytest.approx(sum(SHAPE), rel=0.15)


def test_weekends_are_counted() -> None:
    """After a Friday two days of a tenth come, then five whole ones."""
    found = ahead(noisy(7 * 8 + 5, weekend=0.1), 7)
    assert found.band(2 * DAY_SECONDS).p50 < 0.6 * sum(SHAPE)
    assert found.band(7 * DAY_SECONDS).p50 == pytest.approx(5.2 * sum(SHAPE), rel=0.25)


def test_four_in_five_weeks_are_inside() -> None:
    """The next week's total of 60 histories of four weeks lies in its interval 70 to 95 times in 100."""
    inside = 0
    for seed in range(60):
        hours = noisy(35, seed)
        band = ahead(hours[: 28 * HOURS], 7).band(7 * DAY_SECONDS)
        inside += band.covers(sum(hours[28 * HOURS :]))
        assert band.p10 <= band.p50 <= band.p90
    assert 42 <= inside <= 57


def test_the_high_end_stays_near_what_was_ever_used() -> None:
    """Of clients of two weeks that come and go, with nothing for days and bursts of a thousandfold, none is told to
    use a hundred times its mean in a month; a month's interval is in order and not empty."""
    for seed in range(60):
        rng = random.Random(seed)
        days = [rng.paretovariate(0.6) if rng.random() < 0.5 else 0.0 for _ in range(13)]
        hours = [10 * max(0.01, day) * amount for day in [1.0, *days] for amount in SHAPE]
        band = ahead(hours, 30).band(30 * DAY_SECONDS)
        assert 0 <= band.p10 < band.p50 < band.p90
        assert band.p90 <= 100 * sum(hours) / len(hours) * 24 * 30, seed


def test_where_the_last_week_was_better_it_is_taken() -> None:
    """Then the backtest's error is that of the seasonal-naive forecast, and the median the last week again."""
    for seed in range(40):
        hours = [amount * (2 if hour // HOURS >= 20 else 1) for hour, amount in enumerate(noisy(30, seed))]
        found = ahead(hours, 7)
        assert found.backtest.error <= found.backtest.naive_error + 1e-6
        if found.method is Method.SEASONAL_NAIVE:
            assert found.backtest.ratio == pytest.approx(1.0)
            assert found.band(7 * DAY_SECONDS).p50 == pytest.approx(sum(hours[-7 * HOURS :]), rel=0.01)
            return
    pytest.fail("none of the histories is best forecast by the last week")


def test_no_use_for_weeks_is_forecast_to_go_on() -> None:
    """And nothing divides by it."""
    found = ahead(noisy(10) + [0.0] * (20 * HOURS), 30)
    assert found.band(30 * DAY_SECONDS).p50 <= 0.1 * 30 * sum(SHAPE)
