"""A trend keeps a limit's past use, the further back the coarser."""

from __future__ import annotations

import pytest

from libs.limits import LimitKey, Period, Unit, scope_of
from services.ratelimit.domain.limits import Limit
from services.ratelimit.forecasting.trend import KEPT, SAMPLE_SECONDS, STEPS, Trend
from services.ratelimit.forecasting.trends import TRACKED, Trends


def steady(seconds: float, rate: float = 2.0, window: float = 0.0) -> Trend:
    trend = Trend()
    for i in range(int(seconds / SAMPLE_SECONDS) + 1):
        trend.add(i * SAMPLE_SECONDS, int(rate * i * SAMPLE_SECONDS), window)
    return trend


def test_intervals_are_as_coarse_as_the_look_ahead_is_far() -> None:
    """Five seconds for a minute, 40 for half an hour, 320 for hours, once there are enough of them."""
    trend = steady(4 * 3600)
    for horizon, step in ((60.0, 5.0), (1800.0, 40.0), (4 * 3600.0, 320.0)):
        found = trend.intervals(horizon, 8)
        assert found is not None
        assert found[0] == step
        assert found[1] == pytest.approx([2 * step] * len(found[1]))
    young = steady(120)
    found = young.intervals(86_400.0, 8)
    assert found is not None
    assert found[0] == 5.0
    assert steady(30).intervals(60.0, 8) is None


def test_use_in_the_last_seconds_whatever_the_ring() -> None:
    """From seconds to hours back; what was before the first sample is not counted."""
    trend = steady(4 * 3600)
    for seconds in (10.0, 60.0, 1000.0, 3 * 3600.0):
        assert trend.used(seconds) == pytest.approx(2 * seconds, rel=0.02)
    assert steady(60).used(3600) == 120
    assert Trend().used(60) == 0.0


def test_a_new_window_and_a_forgotten_count_are_no_negative_use() -> None:
    """Only use since then counts."""
    trend = Trend()
    trend.add(0, 100, window=1.0)
    trend.add(5, 110, window=1.0)
    trend.add(10, 105, window=2.0)
    assert trend.used(60) == 10 + 105
    trend = Trend()
    for at, taken in ((0, 100), (5, 120), (10, 7), (15, 9)):
        trend.add(at, taken)
    assert trend.used(60) == 20 + 7 + 2


def test_an_estimate_that_comes_back_is_taken_from_what_follows() -> None:
    """No interval is negative, and the sum stays right."""
    trend = Trend()
    for i, taken in enumerate((0, 100, 80, 90, 110, 130, 130, 150, 150, 150)):
        trend.add(i * 5.0, taken)
    found = trend.intervals(60, 8)
    assert found is not None
    assert found[1] == [100, 0, 0, 10, 20, 0, 20, 0, 0]
    assert trend.used(60) == 150


def test_memory_is_bounded() -> None:
    """A ring holds at most twice what is kept, and only so many limits are followed."""
    trend = steady(KEPT * STEPS[1])
    assert all(len(ring.ats) <= 2 * KEPT + 1 for ring in trend._rings)
    trends = Trends()
    limits = [
        Limit(LimitKey(scope_of(f"tenant:t{i}"), Unit.REQUESTS, Period.DAY), 5) for i in range(TRACKED + 10)
    ]
    trends.follow(limits)
    assert len(trends.followed()) == TRACKED
    assert trends.of(limits[0].key) is None
    assert trends.of(limits[-1].key) is not None


def test_a_limit_that_changed_keeps_its_past() -> None:
    """Only what is allowed is new; concurrency is not followed."""
    trends = Trends()
    key = LimitKey(scope_of("tenant:a"), Unit.REQUESTS, Period.DAY)
    trends.follow([Limit(key, 5), Limit(LimitKey(scope_of("tenant:a"), Unit.CONCURRENCY, Period.NONE), 5)])
    trend = trends.of(key)
    trends.follow([Limit(key, 9)])
    assert trends.of(key) is trend
    assert [limit.limit for limit in trends.followed()] == [9]
