"""Rules that save failed calls and refused requests: a provider to demote, a limit to raise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import ceil, floor, log10
from typing import Final

from libs.limits import Scope, ScopeKind, scope_of
from services.analytics.recommendations.evidence import Evidence, ExhaustedQuota, ProviderCalls
from services.analytics.recommendations.market import Market
from services.analytics.recommendations.recommendation import (
    Fact,
    FactKind,
    LimitChange,
    Proposal,
    Recommendation,
    RecommendationKind,
    RiskKind,
    Subject,
)
from services.analytics.recommendations.saving import HORIZON_DAYS, expect_saving

#: Calls on a day, of a provider and of the others, below which that day says nothing about it.
MIN_CALLS: Final = 10
#: The share of its calls that a provider must fail more often than the others.
MIN_EXCESS: Final = 0.01
#: The most that a limit is raised by at once: requests that are refused are often sent again.
MOST_RAISE: Final = 3.0
#: Windows that a quota per day must have been used up in.
MIN_WINDOWS: Final = 2


def failing_providers(evidence: Evidence, market: Market | None) -> Iterator[Recommendation]:
    """Yields providers that fail more often than the others do for the same content type on the same days. A day's
    saving is paired: its failures less those that as many calls would have had at the others' rate."""
    days: defaultdict[tuple[str, int], list[ProviderCalls]] = defaultdict(list)
    for row in evidence.providers:
        days[row.content_type, row.day].append(row)
    for content_type, provider in sorted({(row.content_type, row.provider) for row in evidence.providers}):
        daily = [0.0] * evidence.days
        calls = faults = others_calls = others_faults = 0
        for day in range(evidence.days):
            rows = days[content_type, day]
            own = [row for row in rows if row.provider == provider]
            others = [row for row in rows if row.provider != provider]
            here, there = sum(row.calls for row in own), sum(row.calls for row in others)
            if here < MIN_CALLS or there < MIN_CALLS:
                continue
            failed, failed_there = sum(row.faults for row in own), sum(row.faults for row in others)
            daily[day] = failed - here * failed_there / there
            calls, faults = calls + here, faults + failed
            others_calls, others_faults = others_calls + there, others_faults + failed_there
        saving = expect_saving(daily)
        if (
            saving is None
            or not saving.stands_out
            or saving.band.p50 < MIN_EXCESS * calls / evidence.days * HORIZON_DAYS
        ):
            continue
        facts = {
            FactKind.CALLS: calls,
            FactKind.FAILURE_RATE: faults / calls,
            FactKind.FAILURE_RATE_OF_OTHERS: others_faults / others_calls,
        }
        models = market.catalog.models.values() if market is not None else ()
        ids = frozenset(model.id for model in models if model.provider == provider)
        yield Recommendation(
            RecommendationKind.DEMOTE_PROVIDER,
            Subject("", content_type, provider),
            Proposal(market.policies_with(ids, content_type) if market is not None else ()),
            saving.band,
            saving.days,
            tuple(Fact(kind, float(value)) for kind, value in facts.items()),
            (RiskKind.FEWER_PROVIDERS, RiskKind.PRICE_MAY_DIFFER),
        )


def tight_limits(evidence: Evidence) -> Iterator[Recommendation]:
    """Yields quotas of tenants that were used up again and again while requests were refused. A day's saving: the
    tenant's refused requests of a day on which the quota was used up. The new limit has room for them, up to
    MOST_RAISE times the present one."""
    for quota in evidence.quotas:
        scope = scope_of(quota.scope)
        tenant = _tenant(scope)
        if tenant is None or (quota.period == "day" and quota.windows < MIN_WINDOWS):
            continue
        daily = [0.0] * evidence.days
        for refusals in evidence.details.refusals:
            if refusals.tenant == tenant and refusals.day in quota.days:
                daily[refusals.day] += refusals.requests
        saving = expect_saving(daily)
        if saving is None or not saving.stands_out:
            continue
        served = [0] * evidence.days
        for use in evidence.tenants:
            if use.tenant == tenant:
                served[use.day] += use.requests
        yield Recommendation(
            RecommendationKind.RAISE_LIMIT,
            _subject(scope, tenant),
            Proposal(limit=_raised(quota, daily, served)),
            saving.band,
            saving.days,
            (
                Fact(FactKind.WINDOWS_EXHAUSTED, float(quota.windows)),
                Fact(FactKind.REQUESTS_REFUSED, sum(daily)),
            ),
            (RiskKind.SPEND_MAY_GROW,),
        )


def _tenant(scope: Scope) -> str | None:
    """Returns the tenant that meets the limit; None: it is shared, or not a caller's."""
    if scope.kind is ScopeKind.TENANT:
        return scope.name
    return scope.tenant if scope.kind.callers else None


def _subject(scope: Scope, tenant: str) -> Subject:
    return Subject(tenant, scope.name if scope.kind is ScopeKind.TENANT_CONTENT else "")


def _raised(quota: ExhaustedQuota, refused: list[float], served: list[int]) -> LimitChange:
    ratios = [more / had for more, had in zip(refused, served, strict=True) if more and had]
    wanted = quota.limit * min(MOST_RAISE, 1 + (max(ratios) if ratios else 1.0))
    step = 10 ** max(0, floor(log10(max(1.0, wanted))) - 1)
    new = max(quota.limit + 1, ceil(wanted / step) * step)
    return LimitChange(quota.scope, quota.unit, quota.period, quota.limit, new)
