"""A limit as `pointsman quotas` shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.quotas import table
from libs.client import QuotaState
from tests.support.clock import ManualClock

PLAIN = QuotaState(
    "tenant:acme", "requests", "minute", 60, 1, 0, 59, 60, 1, None, None, "UTC", shadow=False, version=0
)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (PLAIN, "60 requests/min"),
        (replace(PLAIN, pace=True), "60 requests/min (paced)"),
        (replace(PLAIN, shadow=True), "60 requests/min (shadow)"),
        (replace(PLAIN, shadow=True, pace=True), "60 requests/min (shadow, paced)"),
    ],
)
def test_a_limit_says_whether_it_is_counted_only_or_paced(state: QuotaState, expected: str) -> None:
    """Beside how much of what it allows."""
    shown = table([state], ManualClock())
    (cells,) = shown.rows
    assert cells[[column.name for column in shown.columns].index("limit")].plain == expected
