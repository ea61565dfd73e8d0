"""The verdict of budgets on a request, from their present use. Pure: use and time are parameters.

A budget is a money limit of a tenant, a campaign or a content type in a calendar window. The limiter refuses what
does not fit into it, exactly. Here its thresholds below that are checked, before every attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from libs.catalog.limits import LimitSpec, Threshold
from libs.catalog.model import Tenant
from libs.errors import QuotaViolation
from libs.limits import LimitKey, Period, Scope, ScopeKind, Unit

#: With `cheaper_models`, a model may cost at most this much more than the cheapest candidate, in percent.
DEAREST: Final = 150

#: Used and limit of a scope's budget per period in micro-USD; None: not known.
Use = Callable[[Scope, Period], tuple[int, int] | None]


class Budget(Struct, frozen=True):
    """One that pays for a request. `zone`: where its windows begin."""

    scope: Scope
    spec: LimitSpec
    zone: str


class Notice(Struct, frozen=True):
    """A budget is used up to a threshold: its highest that is reached."""

    budget: Budget
    threshold: Threshold


class BudgetVerdict(Struct, frozen=True):
    """The verdict of a request's budgets. `notices`: of thresholds that are reached; `cheaper`: why only cheap models
    may be used, empty: all; `queue`: it stands behind all others; `refused`: by these it is; `unsure`: the use of a
    budget is not known."""

    notices: tuple[Notice, ...] = ()
    cheaper: str = ""
    queue: bool = False
    refused: tuple[QuotaViolation, ...] = ()
    unsure: bool = False


#: No budget says anything.
UNRESTRICTED: Final = BudgetVerdict()


def budgets_of(tenant: Tenant, content_type: str, campaign: str) -> tuple[Budget, ...]:
    """Returns the budgets that pay for a request."""
    limits = (
        (ScopeKind.TENANT, "", tenant.name, tenant.limits),
        (ScopeKind.TENANT_CONTENT, tenant.name, content_type, tenant.content_limits.get(content_type, ())),
        (ScopeKind.CAMPAIGN, tenant.name, campaign, tenant.campaigns.get(campaign, ())),
    )
    return tuple(
        Budget(Scope(kind, name, owner), spec, tenant.time_zone)
        for kind, owner, name, specs in limits
        for spec in specs
        if spec.budget and spec.thresholds
    )


def judge_budgets(budgets: Sequence[Budget], use: Use, now: float) -> BudgetVerdict:
    """Returns the verdict at `now` (epoch seconds). Thresholds that are reached add up, within a budget and over
    all."""
    notices: list[Notice] = []
    refused: list[QuotaViolation] = []
    cheaper, queue, unsure = "", False, False
    for budget in budgets:
        known = use(budget.scope, budget.spec.period)
        if known is None:
            unsure = True
            continue
        used, limit = known
        if used * 100 < budget.spec.thresholds[0].percent * limit:
            continue
        reached = [t for t in budget.spec.thresholds if used * 100 >= t.percent * limit]
        if not reached:
            continue
        notices.append(Notice(budget, reached[-1]))
        if budget.spec.shadow:
            continue
        for threshold in reached:
            if threshold.action == "cheaper_models":
                cheaper = cheaper or (
                    f"{threshold.percent} % of {budget.scope}'s budget per {budget.spec.period} are used, and it "
                    f"costs more than {DEAREST} % of the cheapest"
                )
            elif threshold.action == "queue":
                queue = True
            # What still fits at 100 percent, the limiter knows.
            elif threshold.action == "refuse" and threshold.percent < 100:
                refused.append(_violation(budget, threshold, used, limit, now))
    if not notices and not unsure:
        return UNRESTRICTED
    return BudgetVerdict(tuple(notices), cheaper, queue, tuple(refused), unsure)


def dearest(costs: Iterable[int]) -> int:
    """Returns the most that one of these models may cost where only cheaper ones are wanted."""
    return min(costs) * DEAREST // 100


def window_end(period: Period, zone: str, now: float) -> float:
    """Returns the end of the budget's window, epoch seconds."""
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    today = datetime(local.year, local.month, local.day, tzinfo=local.tzinfo)
    following = today + timedelta(days=1)
    if period is Period.MONTH:
        following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return following.timestamp()


def _violation(budget: Budget, threshold: Threshold, used: int, limit: int, now: float) -> QuotaViolation:
    period = budget.spec.period
    return QuotaViolation(
        LimitKey(budget.scope, Unit.MICRO_USD, period),
        f"{budget.scope} may use {limit} micro usd per {period} and refuses from {threshold.percent} % on; "
        f"{used} are in use",
        limit,
        used,
        0,
        max(0.0, window_end(period, budget.zone, now) - now),
    )
