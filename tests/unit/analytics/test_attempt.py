"""Attempts out of bounds are refused, and of two records of one the better is kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bounds import MAX_TOKENS
from libs.types import Usage, UsageAccuracy
from services.analytics.ledger.attempt import Attempt, Outcome, best_by_id
from services.analytics.ledger.record_bounds import (
    MAX_AHEAD,
    MAX_COST_MICRO_USD,
    MAX_DURATION,
    MIN_STARTED,
    UnusableRecord,
    check_recent,
)
from tests.support.ledger import NOW, an_attempt

TOO_LONG = "x" * 129


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *[(name, value) for name in ("attempt_id", "request_id", "tenant", "provider", "model")
          for value in ("", TOO_LONG, "a\0b")],
        *[(name, value) for name in ("campaign", "content_type", "trace_id") for value in (TOO_LONG, "a\0b")],
        ("attempt_number", 0), ("attempt_number", -1), ("attempt_number", 10_001),
        ("http_status", -1), ("http_status", 1000),
        ("cost_micro_usd", -1), ("cost_micro_usd", MAX_COST_MICRO_USD + 1),
        ("usage", Usage(input_tokens=-1)), ("usage", Usage(output_tokens=-1)), ("usage", Usage(cache_read_tokens=-1)),
        ("usage", Usage(cache_write_tokens=-1)), ("usage", Usage(reasoning_tokens=MAX_TOKENS + 1)),
        ("latency", -1e-9), ("latency", MAX_DURATION + 1), ("latency", math.nan), ("latency", math.inf),
        ("time_to_first_token", -0.1),
        ("started", 0.0), ("started", MIN_STARTED - 1), ("started", math.nan),
        ("labels", {"": "v"}), ("labels", {"k": "x" * 513}), ("labels", {"k\0": "v"}), ("labels", {"k": "\0"}),
        ("labels", {str(i): "" for i in range(33)}),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_unusable(name: str, bad: Any) -> None:
    """Every field has bounds, and the reason names the field."""
    with pytest.raises(UnusableRecord, match=name.removesuffix("_micro_usd")):
        an_attempt(**{"attempt_id": "a1", name: bad})


def test_what_is_at_the_bounds_is_kept() -> None:
    """Bounds are inclusive; characters are counted, not bytes."""
    most = Usage(MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS)
    an_attempt(
        "ü" * 128,
        request_id="r1",
        usage=most,
        cost_micro_usd=MAX_COST_MICRO_USD,
        latency=MAX_DURATION,
        started=MIN_STARTED,
    )
    an_attempt(usage=Usage(), cost_micro_usd=0, latency=0.0, time_to_first_token=0.0, http_status=0)


def test_the_future_is_refused_from_a_day_ahead() -> None:
    """A clock somewhat ahead loses nothing."""
    check_recent(NOW + MAX_AHEAD, NOW, None)
    with pytest.raises(UnusableRecord, match="future"):
        check_recent(NOW + MAX_AHEAD + 1, NOW, None)


def test_what_is_older_than_the_ledger_keeps_is_refused() -> None:
    """Its row may have been dropped, so nobody could tell a duplicate from a new one."""
    check_recent(NOW - 100, NOW, 100.0)
    with pytest.raises(UnusableRecord, match="longer ago"):
        check_recent(NOW - 101, NOW, 100.0)


records = st.builds(
    lambda attempt_id, outcome, accuracy, cost: an_attempt(
        attempt_id, outcome=outcome, usage=Usage(accuracy=accuracy), cost_micro_usd=cost
    ),
    st.sampled_from(["a1", "a2", "a3"]),
    st.sampled_from(Outcome),
    st.sampled_from(UsageAccuracy),
    st.integers(0, 5),
)


@given(st.lists(records))
def test_the_best_record_wins_whatever_the_order(history: list[Attempt]) -> None:
    """Of each attempt one record stays, of the highest rank there was, also when the history runs backwards."""
    best = best_by_id(history)
    assert set(best) == {attempt.attempt_id for attempt in history}
    for attempt_id, kept in best.items():
        ranks = [attempt.rank for attempt in history if attempt.attempt_id == attempt_id]
        assert kept in history
        assert kept.rank == max(ranks) == best_by_id(reversed(history))[attempt_id].rank


@given(records, records)
def test_a_known_end_and_better_accuracy_rank_higher(one: Attempt, other: Attempt) -> None:
    """A known end counts more than accuracy; all known ends are equal."""
    order = [UsageAccuracy.UNCERTAIN, UsageAccuracy.ESTIMATED, UsageAccuracy.EXACT]

    def key(attempt: Attempt) -> tuple[bool, int]:
        return attempt.outcome is not Outcome.UNKNOWN, order.index(attempt.usage.accuracy)

    assert (one.rank > other.rank) == (key(one) > key(other))
