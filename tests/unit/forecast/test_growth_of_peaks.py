"""The day on which a limit is outgrown."""

from __future__ import annotations

import math
import random

import pytest

from libs.forecast.growth import MOST_DAYS, Growth, forecast_growth
from libs.forecast.profile import NotEnoughHistory


def peaks(days: int, growth: float, seed: int = 1, weekend: float = 0.6) -> list[float]:
    rng = random.Random(seed)
    level, found = 0.0, []
    for day in range(days):
        level = 0.7 * level + rng.gauss(0, 0.1)
        weekly = weekend if day % 7 >= 5 else 1.0
        found.append(100 * math.exp(growth * day + level + rng.gauss(0, 0.1)) * weekly)
    return found


def growth_of(series: list[float], limit: float) -> Growth:
    found = forecast_growth(series, limit)
    assert isinstance(found, Growth)
    return found


def test_two_weeks_with_use_are_needed() -> None:
    """Days without use do not count."""
    assert forecast_growth(peaks(13, 0.1), 1000) == NotEnoughHistory(13, 14)
    assert forecast_growth([0.0] * 50 + peaks(13, 0.1), 1000) == NotEnoughHistory(13, 14)
    assert forecast_growth([], 1000) == NotEnoughHistory(0, 14)


def test_a_limit_below_the_peaks_is_reached_today() -> None:
    """With every chance."""
    found = growth_of(peaks(56, 0.0, weekend=1.0), 30)
    assert (found.p10, found.p50, found.p90) == (0, 0, 0)


def test_exact_growth_is_told_to_the_day() -> None:
    """2 % a day double in 35 days."""
    found = growth_of([100 * 1.02**day for day in range(56)], 200 * 1.02**55)
    assert found.per_day == pytest.approx(1.02)
    assert found.p50 is not None
    assert abs(found.p50 - 35) <= 1


def test_most_series_without_growth_reach_nothing() -> None:
    """At most one in eight of them is told to reach 2.5 times its level within a year, none of those that do not
    vary."""
    told = sum(growth_of(peaks(56, 0.0, seed), 250).p50 is not None for seed in range(80))
    assert told <= 10
    assert growth_of([100.0] * 56, 101).p10 is None


def test_what_ended_a_week_ago_outgrows_nothing() -> None:
    """Days of use that came before an idle week say nothing of a limit that they would have met."""
    assert forecast_growth([200.0] * 28 + [0.0] * 7, 100) == NotEnoughHistory(0, 14)
    assert growth_of([200.0] * 28 + [0.0] * 6, 100).p50 == 0


@pytest.mark.parametrize("days", [28, 56])
def test_the_day_lies_between_the_chances_mostly(days: int) -> None:
    """Of 100 growing series the day on which the limit was first reached is between p10 and p90 in 70 to 90, and
    they are in order in all."""
    inside = 0
    for seed in range(100):
        growth = random.Random(seed).uniform(0.01, 0.04)
        series = peaks(days + MOST_DAYS, growth, seed)
        limit = 2 * max(series[days - 7 : days])
        first = next(i - days + 1 for i in range(days, len(series)) if series[i] >= limit)
        found = growth_of(series[:days], limit)
        told = [day if day is not None else MOST_DAYS + 1 for day in (found.p10, found.p50, found.p90)]
        assert told == sorted(told)
        inside += told[0] <= first <= told[2]
    assert 70 <= inside <= 90
