"""All rules together, on whatever evidence: nothing is recommended that does not stand out."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.catalog.prices import cost_micro_usd
from libs.types import Usage
from services.analytics.recommendations.adviser import recommend
from services.analytics.recommendations.evidence import (
    CutAnswers,
    Details,
    Evidence,
    ExhaustedQuota,
    HedgeUse,
    ModelUse,
    ProviderCalls,
    Refusals,
    TenantUse,
)
from services.analytics.recommendations.market import Market
from services.analytics.recommendations.saving import WINDOW_DAYS
from tests.support.ledger import NOW
from tests.support.recommendations import priced_catalog

DAYS = range(WINDOW_DAYS)
MARKET = Market(priced_catalog(), cost_micro_usd, NOW)


def evidence(rng: random.Random) -> Evidence:
    """Days on which everything happens now and then, sometimes much, sometimes never."""

    def some(most: int) -> int:
        return rng.choice([0, rng.randrange(most + 1), most])

    def calls(model: str) -> ModelUse:
        count = some(500)
        usage = Usage(count * rng.randrange(2000), count * rng.randrange(500))
        return ModelUse(day, "blog", model, count, 3 * (usage.input_tokens + usage.output_tokens), usage)

    models, providers, tenants, hedges, cut, refusals = [], [], [], [], [], []
    for day in DAYS:
        models += [calls(model) for model in ("a/dear", "b/cheap", "c/mean", "gone/model")]
        for provider in "abc":
            count = some(300)
            providers.append(ProviderCalls(day, "blog", provider, count, rng.randrange(count + 1)))
        for tenant in ("t0", "t1", "t2", "t3", "t4"):
            requests = some(50)
            tenants.append(
                TenantUse(day, tenant, "blog", requests, requests * some(9000), requests * some(300), 10**9)
            )
            cut.append(CutAnswers(day, tenant, "blog", some(requests), some(100_000)))
            refusals.append(Refusals(day, tenant, some(100)))
        number = some(30)
        hedges.append(HedgeUse(day, "blog", number, some(number) // 10, some(10**6)))
    quotas = [
        ExhaustedQuota(f"tenant:{name}", "requests", "day", 100, 5, frozenset(rng.sample(DAYS, 5)))
        for name in ("t0", "t1")
    ]
    return Evidence(WINDOW_DAYS, models, providers, tenants, quotas, Details(hedges, cut, refusals))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_is_recommended_that_does_not_stand_out(seed: int) -> None:
    """Every saving is above 0 in its whole interval, in order, of enough days;
    each has a name of its own, evidence and a risk."""
    found = list(recommend(evidence(random.Random(seed)), MARKET))
    assert len({one.id for one in found}) == len(found)
    for one in found:
        assert 0 < one.saving.p10 <= one.saving.p50 <= one.saving.p90
        assert one.days >= 14
        assert one.evidence
        assert one.risks


def test_an_idle_service_needs_no_advice() -> None:
    """Nothing used, nothing found, with a catalog and without."""
    assert list(recommend(Evidence(WINDOW_DAYS), MARKET)) == []
    assert list(recommend(Evidence(WINDOW_DAYS), None)) == []
