"""Bounds on what a server takes in."""

from __future__ import annotations

import pytest

from libs.errors import ResourceExhausted, Unauthenticated
from libs.intake import BytesInFlight, UnknownCallers
from tests.support.clock import ManualClock


def test_bytes_beyond_a_bound_are_refused_and_not_counted() -> None:
    """One caller's bytes end at its own bound, all callers' at the other, and what is given back counts no more."""
    bytes_in_flight = BytesInFlight(most=100, most_of_one=60)
    bytes_in_flight.take("a", 60)
    with pytest.raises(ResourceExhausted) as refused:
        bytes_in_flight.take("a", 1)
    assert refused.value.reason == "BYTES_IN_FLIGHT"
    assert refused.value.retry_after
    bytes_in_flight.take("b", 40)
    with pytest.raises(ResourceExhausted):
        bytes_in_flight.take("c", 1)
    bytes_in_flight.give_back("a", 60)
    bytes_in_flight.take("c", 60)
    assert bytes_in_flight.total == 100


def test_no_caller_is_remembered_that_holds_nothing() -> None:
    """A caller's last byte given back forgets the caller: memory does not grow with callers ever seen."""
    bytes_in_flight = BytesInFlight(most=100, most_of_one=60)
    for number in range(1000):
        bytes_in_flight.take(f"caller {number}", 50)
        bytes_in_flight.give_back(f"caller {number}", 50)
    assert bytes_in_flight.total == 0
    assert not bytes_in_flight._held


@pytest.mark.parametrize(("most", "most_of_one"), [(10, 0), (10, 11), (0, 0)])
def test_bounds_that_bound_nothing_are_refused(most: int, most_of_one: int) -> None:
    """One caller may hold something, and not more than all."""
    with pytest.raises(ValueError, match="bound"):
        BytesInFlight(most, most_of_one)


def test_unknown_callers_are_told_so_at_a_bounded_rate() -> None:
    """Beyond the burst they are told to come back later; the bucket fills again with time, up to the burst."""
    clock = ManualClock()
    unknown = UnknownCallers(clock, rate=2, burst=3)
    refusal = Unauthenticated("No tenant has this key", reason="KEY_UNKNOWN")
    assert [unknown.answer(refusal).reason for _ in range(4)] == ["KEY_UNKNOWN"] * 3 + ["UNKNOWN_CALLERS"]
    clock.advance(0.5)
    assert [unknown.answer(refusal).reason for _ in range(2)] == ["KEY_UNKNOWN", "UNKNOWN_CALLERS"]
    clock.advance(3600)
    assert [unknown.answer(refusal).reason for _ in range(4)] == ["KEY_UNKNOWN"] * 3 + ["UNKNOWN_CALLERS"]
