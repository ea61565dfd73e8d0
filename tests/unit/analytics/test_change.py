"""The change of costs is split exactly, against the right period."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidArgument
from libs.types import Usage
from services.analytics.reports.change import Cell, Change, compare_costs, period_before, split_change
from services.analytics.reports.query import Group, GroupBy, Interval, Query
from tests.support.ledger import NOW, MemoryLedger, an_attempt

CELLS = st.dictionaries(
    st.sampled_from("abc"), st.builds(Cell, st.integers(0, 10**12), st.integers(0, 10**9)), max_size=3
)


@given(before=CELLS, now=CELLS)
def test_the_parts_add_up_exactly(before: dict[str, Cell], now: dict[str, Cell]) -> None:
    """Whatever is new, gone, free or without tokens."""
    change = split_change(before, now)
    assert change.before == sum(cell.cost for cell in before.values())
    total = sum(cell.cost for cell in now.values()) - change.before
    assert change.volume + change.mix + change.price == total


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        # Twice the tokens at the same prices.
        ({"a": Cell(100, 10)}, {"a": Cell(200, 20)}, Change(100, 100, 0, 0)),
        # The same tokens, dearer.
        ({"a": Cell(100, 10)}, {"a": Cell(150, 10)}, Change(100, 0, 0, 50)),
        # The same number of tokens, of the dearer model.
        ({"a": Cell(10, 10), "b": Cell(100, 10)}, {"b": Cell(200, 20)}, Change(110, 0, 90, 0)),
        # A new model is mix; nothing before is volume.
        ({"a": Cell(100, 10)}, {"a": Cell(50, 5), "b": Cell(500, 5)}, Change(100, 0, 450, 0)),
        ({}, {"a": Cell(7, 1)}, Change(0, 7, 0, 0)),
        ({"a": Cell(7, 1)}, {}, Change(7, -7, 0, 0)),
    ],
)
def test_volume_mix_and_price_are_told_apart(
    before: dict[str, Cell], now: dict[str, Cell], change: Change
) -> None:
    """One cause at a time."""
    assert split_change(before, now) == change


def berlin(*fields: int) -> float:
    return datetime(*fields, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("since", "until", "before"),
    [
        # Months of 31 and 30 days; the clocks went back in October.
        (berlin(2026, 11, 1), berlin(2026, 12, 1), berlin(2026, 10, 1)),
        (berlin(2026, 1, 1), berlin(2026, 4, 1), berlin(2025, 10, 1)),
        # The day of 25 hours, and the one after it.
        (berlin(2026, 10, 26), berlin(2026, 10, 27), berlin(2026, 10, 25)),
        (berlin(2026, 10, 25), berlin(2026, 10, 26), berlin(2026, 10, 24)),
        # Not whole days.
        (berlin(2026, 11, 2, 3), berlin(2026, 11, 2, 5), berlin(2026, 11, 2, 1)),
        (0.0, 3600.0, 0.0),
    ],
)
def test_the_period_before_is_of_the_calendar(since: float, until: float, before: float) -> None:
    """Whole months against whole months, whole days against whole days, all else by its length."""
    assert period_before(Query(since, until, time_zone="Europe/Berlin")) == (before, since)


async def test_rows_and_total_have_their_changes() -> None:
    """By model within each tenant; a tenant that is new has none before."""
    ledger = MemoryLedger()
    day = 86_400.0
    tokens = Usage(input_tokens=10)
    await ledger.record(
        [
            an_attempt("a1", started=NOW - 1.5 * day, cost_micro_usd=10, usage=tokens),
            an_attempt("a2", started=NOW - 0.5 * day, cost_micro_usd=40, usage=tokens, model="large"),
            an_attempt("a3", started=NOW - 0.5 * day, cost_micro_usd=5, usage=tokens, tenant="zoo"),
        ]
    )
    compared = await compare_costs(ledger, Query(NOW - day, NOW, (GroupBy.TENANT,)))
    assert compared.changes == {Group(("acme",)): Change(10, 0, 30, 0), Group(("zoo",)): Change(0, 5, 0, 0)}
    assert compared.total == Change(10, 10, 25, 0)
    with pytest.raises(InvalidArgument):
        await compare_costs(ledger, Query(NOW - day, NOW, (), Interval.HOUR))
