"""Throttling of one thing that is said again and again."""

from __future__ import annotations

from libs.throttle import Throttle
from tests.support.clock import ManualClock


def test_the_first_is_said_at_once_and_the_rest_is_counted() -> None:
    """One line an interval says how often it happened since the last."""
    clock = ManualClock()
    throttle = Throttle(clock, 10.0)
    assert throttle.due() == 1
    assert [throttle.due() for _ in range(5)] == [None] * 5
    clock.advance(10.0)
    assert throttle.due() == 6
    assert throttle.due() is None
    clock.advance(100.0)
    assert throttle.due() == 2
