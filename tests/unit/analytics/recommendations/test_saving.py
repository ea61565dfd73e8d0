"""The saving to expect: its interval covers what comes, and noise is no saving."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.recommendations.saving import HORIZON_DAYS, expect_saving, students_t

TRIALS = 1200


def days_of_use(rng: random.Random, count: int, *, weekly: bool, persistence: float) -> list[float]:
    """Daily amounts of one mean: with gamma noise, a level that wanders and comes back, and weekdays that differ."""
    level, shape, start = rng.uniform(5, 500), rng.choice([4, 10, 40]), rng.randrange(7)
    weekdays = [rng.uniform(0.4, 1.6) if weekly else 1.0 for _ in range(7)]
    wander, found = 0.0, []
    for day in range(count):
        wander = persistence * wander + rng.gauss(0, 0.3 * math.sqrt(1 - persistence**2))
        noise = rng.gammavariate(shape, 1 / shape) * math.exp(wander)
        found.append(level * weekdays[(start + day) % 7] * noise)
    return found


@pytest.mark.parametrize("days", [14, 21, 28])
@pytest.mark.parametrize(("weekly", "persistence"), [(False, 0.0), (True, 0.0), (True, 0.3)])
def test_the_interval_covers_what_is_saved(days: int, weekly: bool, persistence: float) -> None:
    """75 to 85 % of 80 % intervals hold the sum of the 30 days that follow."""
    rng = random.Random(days)
    covered = 0
    for _ in range(TRIALS):
        daily = days_of_use(rng, days + HORIZON_DAYS, weekly=weekly, persistence=persistence)
        expected = expect_saving(daily[:days])
        assert expected is not None
        covered += expected.band.covers(sum(daily[days:]))
    assert 0.75 <= covered / TRIALS <= 0.85


def test_noise_is_no_saving() -> None:
    """Of days that save as often as they lose at most one series in a hundred stands out."""
    rng = random.Random(3)
    found = 0
    for _ in range(TRIALS):
        daily = days_of_use(rng, 28, weekly=True, persistence=0.0)
        expected = expect_saving([amount * rng.gauss(0, 1) for amount in daily])
        assert expected is not None
        found += expected.stands_out
    assert found / TRIALS <= 0.01


@given(st.lists(st.floats(-1e9, 1e9), max_size=40))
def test_what_stands_out_is_above_zero_in_its_whole_interval(daily: list[float]) -> None:
    """Whatever the days: the band is in order, and a saving above the noise has no part below 0."""
    expected = expect_saving(daily)
    if expected is None:
        return
    assert expected.band.p10 <= expected.band.p50 <= expected.band.p90
    assert expected.least <= expected.band.p10
    assert not expected.stands_out or expected.band.p10 > 0


def test_too_few_days_or_none_of_late_say_nothing() -> None:
    """Fewer than two weeks, or a last week without use; days before the first use do not count."""
    assert expect_saving([5.0] * 13) is None
    assert expect_saving([0.0] * 20 + [5.0] * 8) is None
    assert expect_saving([5.0] * 21 + [0.0] * 7) is None
    expected = expect_saving([0.0] * 10 + [5.0] * 18)
    assert expected is not None
    assert (expected.days, expected.band.p50) == (14, 150.0)


def test_students_t() -> None:
    """Within 1 % of the tables."""
    for normal, freedom, table in [
        (1.2816, 7, 1.415),
        (1.2816, 21, 1.323),
        (2.3263, 7, 2.998),
        (2.3263, 21, 2.518),
    ]:
        assert students_t(normal, freedom) == pytest.approx(table, rel=0.01)
