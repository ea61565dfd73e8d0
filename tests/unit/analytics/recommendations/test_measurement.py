"""The saving since an acceptance, against the share that was left as it was."""

from __future__ import annotations

import random

import pytest

from services.analytics.recommendations.measurement import Share, ShareDay, left_as_it_was, measure


def share(amounts: list[float]) -> Share:
    return Share(len(amounts), sum(amounts), sum(amount * amount for amount in amounts))


def a_week(rng: random.Random, saved: float) -> list[ShareDay]:
    """Days whose requests cost more or less, of which the changed ones cost `saved` less."""
    found = []
    for _ in range(7):
        level = rng.uniform(50, 200)
        left = [level * rng.gammavariate(4, 0.25) for _ in range(rng.randrange(10, 20))]
        changed = [level * rng.gammavariate(4, 0.25) - saved for _ in range(rng.randrange(60, 90))]
        found.append(ShareDay(share(left), share(changed)))
    return found


@pytest.mark.parametrize("saved", [0.0, 20.0])
def test_the_interval_covers_what_was_saved(saved: float) -> None:
    """75 to 85 % of the intervals hold what the changed requests really cost less, which may be nothing."""
    rng, covered, trials = random.Random(5), 0, 400
    for _ in range(trials):
        found = measure(a_week(rng, saved))
        assert found is not None
        assert found.days == 7
        covered += found.band.covers(saved * found.changed)
    assert 0.75 <= covered / trials <= 0.85


def test_a_day_counts_where_both_shares_were_seen() -> None:
    """Two requests each: one has no variance. Without such a day there is nothing to compare."""
    one, two = share([5.0]), share([5.0, 7.0])
    assert measure([]) is None
    assert measure([ShareDay(one, two), ShareDay(two, one), ShareDay(Share(), two)]) is None
    found = measure([ShareDay(one, two), ShareDay(two, two)])
    assert found is not None
    assert (found.changed, found.left, found.days, found.band.p50) == (2, 2, 1, 0.0)


def test_a_tenth_of_requests_is_left_the_same_ones_each_time() -> None:
    """By a hash: stable, even, and another tenth for another recommendation. The value of one is fixed, since it is
    promised to last."""
    ids = [f"request-{i}" for i in range(20_000)]
    left = {one for one in ids if left_as_it_was("cheaper_model-1", one)}
    assert left == {one for one in ids if left_as_it_was("cheaper_model-1", one)}
    assert 0.09 < len(left) / len(ids) < 0.11
    both = {one for one in left if left_as_it_was("cheaper_model-2", one)}
    assert 0.05 < len(both) / len(left) < 0.15
    assert [one for one in ids[:30] if left_as_it_was("cheaper_model-1", one)] == FIRST_LEFT


FIRST_LEFT = ["request-2", "request-18"]
