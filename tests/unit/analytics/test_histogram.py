"""Quantiles of histograms are near those of the values, also of histograms that were added up."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.rollups.histogram import bin_value, quantiles
from services.analytics.rollups.postgres_stretch import StepSize
from services.analytics.rollups.tables import GAMMA

SHARES = (0.5, 0.9, 0.95, 0.99)
#: Microseconds, up to the longest that an attempt may take.
VALUES = st.lists(st.integers(0, 7 * 86_400 * 10**6), min_size=1, max_size=60)


def bin_of(micros: int) -> int:
    """As `bin_sql` does it in the database."""
    return math.ceil(math.log(micros) / math.log(GAMMA)) if micros > 0 else 0


@given(values=VALUES, more=VALUES)
def test_quantiles_are_off_by_at_most_one_percent(values: list[int], more: list[int]) -> None:
    """Of the value that at least the share does not exceed."""
    counts = Counter(map(bin_of, values)) + Counter(map(bin_of, more))
    both = sorted([*values, *more])
    found = quantiles(counts, SHARES)
    assert found is not None
    for share, value in zip(SHARES, found, strict=True):
        exact = both[max(1, math.ceil(share * len(both))) - 1]
        assert value == pytest.approx(exact, rel=(GAMMA - 1) / (GAMMA + 1) + 1e-9, abs=0.02)


def test_nothing_has_no_quantiles_and_zero_is_zero() -> None:
    """A histogram from which everything was taken away is empty too."""
    assert quantiles({}, SHARES) is None
    assert quantiles({5: 0}, SHARES) is None
    assert quantiles({0: 3}, SHARES) == [0.0] * 4
    assert bin_value(1) == pytest.approx(1.0, rel=0.011)


def test_a_step_that_fails_is_halved_and_grows_again() -> None:
    """So a rebuild on a slow server ends; never below the least nor above the most."""
    step = StepSize()
    step.succeeded()
    assert step.attempts == StepSize.MOST
    step.failed()
    assert step.attempts == StepSize.MOST // 2
    for _ in range(20):
        step.failed()
    assert step.attempts == StepSize.LEAST
    for _ in range(100):
        step.succeeded()
    assert step.attempts == StepSize.MOST
