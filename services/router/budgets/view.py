"""Limits as budgets need to know them."""

from __future__ import annotations

from typing import Protocol

from libs.answer import LimitState
from libs.limits import Period, Scope


class BudgetView(Protocol):
    """Limits as far as they are known. Never waits."""

    def budget_use(self, scope: Scope, period: Period) -> tuple[int, int] | None:
        """Returns what is used of the scope's limit per `day` or `month` by all routers, money that calls have
        reserved included, and the limit, in micro-USD. None: not known."""
        ...

    def limit_states(self, scope: Scope) -> tuple[LimitState, ...]:
        """Returns the scope's limits of requests and tokens, those that are known."""
        ...
