"""Ids that sort by time."""

from __future__ import annotations

from random import Random

import pytest

from libs.ids import TimeOrderedIds, first_id

#: A clock that stands, goes on, jumps a day ahead and is set back again.
READINGS = [
    1_800_000_000.0,
    1_800_000_000.0,
    1_800_000_000.0005,
    1_800_000_001.0,
    1_800_086_400.0,
    1_800_000_002.0,
]


def test_the_ids_of_a_process_only_grow_whatever_its_clock_does() -> None:
    """Each is greater than the one before and of one length, also within a millisecond and after a step back."""
    ids = TimeOrderedIds(Random(1))
    made = [ids.make(now) for now in READINGS for _ in range(20)]
    assert made == sorted(set(made))
    assert {len(made_id) for made_id in made} == {32}


def test_two_processes_make_different_ids_in_the_same_instant() -> None:
    """Each draws the end of its ids by its own chance."""
    one, other = TimeOrderedIds(Random(1)), TimeOrderedIds(Random(2))
    assert not {one.make(1.0) for _ in range(100)} & {other.make(1.0) for _ in range(100)}


@pytest.mark.parametrize("old", ["0123456789abcdef-1", "ffffffffffffffff-ff", "f" * 32])
def test_ids_of_earlier_versions_sort_before_all(old: str) -> None:
    """Hex digits come before the mark, so old ids lie before every bound of time."""
    assert old < first_id(0.0) <= TimeOrderedIds(Random(1)).make(0.0)


@pytest.mark.parametrize("instant", [0.0, 1_800_000_000.0, 1_800_000_000.25, 9_999_999_999.0])
def test_the_bound_of_an_instant_parts_what_was_made_before_from_what_was_made_since(instant: float) -> None:
    """An id of the instant is not less than its bound; one of the millisecond before is, and so is a clock's zero."""
    assert TimeOrderedIds(Random(1)).make(instant) >= first_id(instant)
    assert TimeOrderedIds(Random(1)).make(max(0.0, instant - 0.001)) < first_id(instant) or instant == 0.0
