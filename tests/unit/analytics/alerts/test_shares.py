"""Shares of failures: what is usual, what is an anomaly, and what burns an objective's budget."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.alerts.alert import Severity
from services.analytics.alerts.shares import BURN_PAIRS, Count, burning, usual_share

counts = st.builds(
    lambda ended, part: Count(ended, int(ended * part)), st.integers(0, 10**6), st.floats(0, 1)
)


@given(st.integers(0, 10**6), st.floats(0, 0.05))
def test_failures_as_ever_are_no_anomaly(ended: int, share: float) -> None:
    usual = usual_share([Count(10_000, int(10_000 * share))] * 336)
    assert not usual.is_anomaly(Count(ended, int(ended * share)), standing=False)


@given(st.integers(100, 10**6), st.floats(0, 0.05), st.floats(0.2, 1))
def test_far_more_failures_than_ever_are_one(ended: int, share: float, now: float) -> None:
    """And it is over when they are as ever."""
    usual = usual_share([Count(10_000, int(10_000 * share))] * 336)
    assert usual.is_anomaly(Count(ended, max(20, int(ended * now))), standing=False)
    assert not usual.is_anomaly(Count(ended, int(ended * share)), standing=True)


@pytest.mark.parametrize(("ended", "failed"), [(19, 19), (1000, 19), (0, 0)])
def test_a_few_failures_are_none_whatever_their_share(ended: int, failed: int) -> None:
    assert not usual_share([]).is_anomaly(Count(ended, failed), standing=False)


def test_a_provider_that_always_has_bad_hours_has_one_more() -> None:
    """One hour in ten with a third of failures is how it is."""
    usual = usual_share([Count(1000, 330 if i % 10 == 0 else 5) for i in range(336)])
    assert not usual.is_anomaly(Count(1000, 350), standing=False)
    assert usual.is_anomaly(Count(1000, 500), standing=False)


def test_chance_raises_no_alarm_in_a_month() -> None:
    """A provider with 2 % of failures, looked at every five minutes."""
    rng = Random(7)
    usual = usual_share([Count(400, 8)] * 336)
    found = [
        usual.is_anomaly(Count(100, sum(rng.random() < 0.02 for _ in range(100))), standing=False)
        for _ in range(30 * 288)
    ]
    assert not any(found)


FAST, SLOW = BURN_PAIRS


def both(long: Count, short: Count) -> list[tuple[Count, Count]]:
    return [(long, short), (long, short)]


@given(st.integers(0, 10**6), st.floats(0.9, 0.999), st.floats(0, 5.9))
def test_what_the_objective_allows_burns_nothing(ended: int, objective: float, times: float) -> None:
    now = Count(ended, int(ended * min(1.0, times * (1 - objective))))
    assert burning(both(now, now), objective, standing=False) is None


@pytest.mark.parametrize(("share", "pair"), [(0.05, None), (0.07, SLOW), (0.15, FAST), (1.0, FAST)], ids=str)
def test_the_faster_pair_that_burns_counts(share: float, pair: object) -> None:
    """At an objective of 99 %: from 6 % of failures the slow one, from 14.4 % the fast one."""
    now = Count(1000, int(1000 * share))
    found = burning(both(now, now), 0.99, standing=False)
    assert (found and found[0]) == pair


def test_both_windows_must_burn_and_the_short_one_ends_it() -> None:
    calm, burnt = Count(1000, 0), Count(1000, 500)
    assert burning(both(burnt, calm), 0.99, standing=False) is None
    assert burning(both(calm, burnt), 0.99, standing=False) is None
    assert burning(both(Count(10_000, 600), burnt), 0.99, standing=True) is not None
    assert burning(both(burnt, calm), 0.99, standing=True) is None


def test_nine_failures_burn_nothing() -> None:
    nine, ten = Count(9, 9), Count(10, 10)
    assert burning(both(nine, nine), 0.99, standing=False) is None
    found = burning(both(ten, ten), 0.99, standing=False)
    assert found is not None
    assert found[0].severity is Severity.CRITICAL
    assert found[2] == pytest.approx(100)
