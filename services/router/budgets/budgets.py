"""Budgets of the catalog, checked against their use as this router knows it."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import lru_cache, partial

from libs.answer import LimitState
from libs.catalog.catalog import Catalog
from libs.catalog.model import Tenant
from libs.clock import Clock
from libs.limits import Scope, ScopeKind
from libs.telemetry import Metrics
from services.router.budgets.budget import (
    UNRESTRICTED,
    Budget,
    BudgetVerdict,
    Notice,
    budgets_of,
    judge_budgets,
)
from services.router.budgets.view import BudgetView
from services.router.request.generation import Generation

#: Made once: to check a name takes longer than to look it up.
_scope_of = lru_cache(maxsize=4096)(partial(Scope, ScopeKind.TENANT))

#: Budgets that are remembered, each list for one (tenant, content type, campaign).
REMEMBERED = 4096


class Budgets:
    """All budgets. One per process."""

    def __init__(self, view: BudgetView, clock: Clock, metrics: Metrics) -> None:
        self._view = view
        self._clock = clock
        self._version = ""
        self._known: dict[tuple[str, str, str], tuple[Budget, ...]] = {}
        self._reached = metrics.counter(
            "budget_thresholds",
            "Requests that met a budget used up to a threshold, by the budget's kind, the highest threshold and its "
            "action; shadow: without effect",
            ("kind", "percent", "action", "shadow"),
        )

    def of(self, catalog: Catalog, tenant: Tenant, generation: Generation) -> tuple[Budget, ...]:
        """Returns the budgets that pay for a request."""
        if catalog.version != self._version:
            self._known.clear()
            self._version = catalog.version
        # Campaigns are named by callers: those without limits are not remembered one by one.
        campaign = generation.campaign if generation.campaign in tenant.campaigns else ""
        key = (tenant.name, generation.content_type, campaign)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = budgets_of(tenant, generation.content_type, campaign)
        return found

    def check_budgets(self, budgets: tuple[Budget, ...]) -> BudgetVerdict:
        """Returns their verdict now."""
        return judge_budgets(budgets, self._view.budget_use, self._clock.now()) if budgets else UNRESTRICTED

    def limits(self, tenant: str) -> tuple[LimitState, ...]:
        """Returns the tenant's own limits of requests and tokens now."""
        return self._view.limit_states(_scope_of(tenant))

    def record_notices(self, notices: tuple[Notice, ...], before: MutableMapping[Budget, Notice]) -> None:
        """Adds to what a request has met `before`, and counts what is new."""
        for notice in notices:
            known = before.get(notice.budget)
            if known is None or known.threshold.percent < notice.threshold.percent:
                before[notice.budget] = notice
                threshold, spec = notice.threshold, notice.budget.spec
                self._reached.labels(
                    notice.budget.scope.kind, threshold.percent, threshold.action, str(spec.shadow).lower()
                ).inc()
