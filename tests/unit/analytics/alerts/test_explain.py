"""Explanations: the value of which dimension moved, by how much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.alerts.alert import Mover
from services.analytics.alerts.explain import LEAST_SHARE, MOST_MOVERS, explain

amounts = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**9), min_size=2)


@given(before=amounts, name=st.sampled_from("abcdefghij"), rise=st.integers(10**10, 10**12))
def test_the_one_that_rose_is_named_first(before: dict[str, int], name: str, rise: int) -> None:
    """Old or new, in the dimension in which it is one of several, with its amounts."""
    now = {**before, name: before.get(name, 0) + rise}
    others = {"content_type": {"seo": float(sum(now.values()))}}
    was = {"content_type": {"seo": float(sum(before.values()))}}
    found = explain({**others, "model": now}, {**was, "model": before})
    assert found[0] == Mover("model", name, now[name], before.get(name, 0), 1.0)


@given(before=amounts)
def test_without_a_change_nothing_moved(before: dict[str, int]) -> None:
    assert explain({"model": before}, {"model": before}) == ()


@given(
    now=st.dictionaries(st.sampled_from(["tenant", "model", "provider", "campaign"]), amounts), before=amounts
)
def test_at_most_three_are_told_one_a_dimension_each_a_good_part(
    now: dict[str, dict[str, int]], before: dict[str, int]
) -> None:
    found = explain(now, dict.fromkeys(now, before))
    assert len(found) <= MOST_MOVERS
    assert len({mover.dimension for mover in found}) == len(found)
    assert all(mover.share >= LEAST_SHARE for mover in found[1:])


def test_a_value_that_had_everything_before_tells_less_than_a_new_one() -> None:
    found = explain(
        {"provider": {"openai": 30, "other": 1}, "model": {"openai/o3": 20, "openai/4o": 10, "other/x": 1}},
        {"provider": {"openai": 10, "other": 1}, "model": {"openai/4o": 10, "other/x": 1}},
    )
    assert [(mover.dimension, mover.value) for mover in found] == [
        ("model", "openai/o3"),
        ("provider", "openai"),
    ]


def test_a_part_above_the_whole_where_others_fell() -> None:
    (mover,) = explain({"tenant": {"a": 30, "b": 0}}, {"tenant": {"a": 0, "b": 10}})
    assert mover.share == pytest.approx(1.5)


def test_where_every_dimension_has_one_value_the_first_is_named() -> None:
    (mover,) = explain({"model": {"m": 9}, "campaign": {"": 9}}, {"model": {"m": 3}, "campaign": {"": 3}})
    assert (mover.dimension, mover.value, mover.share) == ("model", "m", 1.0)
