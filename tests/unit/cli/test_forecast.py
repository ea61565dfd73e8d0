"""The limits that `pointsman forecast --limits` asks about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.forecast import compared
from libs.client import ForecastQuestion
from tests.unit.cli.test_layout import QUOTA

SCOPES = (
    "tenant:acme",
    "tenant:globex",
    "provider:p",
    "model:p/m",
    "model:q/m",
    "key:k",
    "campaign:acme/may",
)


@pytest.mark.parametrize(
    ("question", "scopes"),
    [
        (ForecastQuestion(), ["tenant:acme", "tenant:globex", "provider:p", "model:p/m", "model:q/m"]),
        (ForecastQuestion(tenant="acme"), ["tenant:acme"]),
        (ForecastQuestion(provider="p"), ["provider:p", "model:p/m"]),
        (ForecastQuestion(tenant="acme", provider="p"), []),
    ],
)
def test_only_limits_whose_use_is_whole_are_compared(question: ForecastQuestion, scopes: list[str]) -> None:
    """Analytics refuses the others: one tenant's part of a provider's use says nothing of its limit."""
    found = compared([replace(QUOTA, scope=scope) for scope in SCOPES], question)
    assert [limit.scope for limit in found] == scopes
    assert {limit.time_zone for limit in found} <= {"Europe/Vienna"}
