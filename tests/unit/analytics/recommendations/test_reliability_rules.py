"""Rules that save failed calls and refused requests."""

from __future__ import annotations

import math
import random

import pytest

from libs.catalog.prices import cost_micro_usd
from services.analytics.recommendations.evidence import (
    Details,
    Evidence,
    ExhaustedQuota,
    ProviderCalls,
    Refusals,
    TenantUse,
)
from services.analytics.recommendations.market import Market
from services.analytics.recommendations.recommendation import FactKind, LimitChange, Subject
from services.analytics.recommendations.reliability_rules import failing_providers, tight_limits
from services.analytics.recommendations.saving import HORIZON_DAYS, WINDOW_DAYS
from tests.support.ledger import NOW
from tests.support.recommendations import priced_catalog

MARKET = Market(priced_catalog(), cost_micro_usd, NOW)
DAYS = range(WINDOW_DAYS)


def calls(rng: random.Random, days: int, rates: dict[str, float]) -> list[ProviderCalls]:
    """Daily calls of providers that fail at so high a rate, all of them more often on some days."""
    found = []
    for day in range(days):
        trouble = rng.uniform(0.5, 2.0)
        for provider, rate in rates.items():
            count = rng.randrange(150, 250)
            mean = count * rate * trouble
            faults = max(0, round(rng.gauss(mean, math.sqrt(mean))))
            found.append(ProviderCalls(day, "blog", provider, count, faults))
    return found


def excess(rows: list[ProviderCalls], provider: str) -> float:
    """Failures of a provider above those at the others' rate of the same day."""
    found = 0.0
    for own in (row for row in rows if row.provider == provider):
        others = [row for row in rows if row.day == own.day and row.provider != provider]
        found += own.faults - own.calls * sum(row.faults for row in others) / sum(row.calls for row in others)
    return found


def test_the_interval_of_a_demotion_covers_the_failures_saved() -> None:
    """75 to 85 % of the intervals hold the excess of the next 30 days, and the provider is always found."""
    rng, covered, trials = random.Random(7), 0, 150
    for _ in range(trials):
        rows = calls(rng, WINDOW_DAYS + HORIZON_DAYS, {"a": 0.08, "b": 0.02, "c": 0.02})
        evidence = Evidence(WINDOW_DAYS, providers=[row for row in rows if row.day < WINDOW_DAYS])
        (found,) = failing_providers(evidence, MARKET)
        assert found.subject == Subject("", "blog", "a")
        assert found.proposal.policies == ("default",)
        covered += found.saving.covers(excess([row for row in rows if row.day >= WINDOW_DAYS], "a"))
    assert 0.75 <= covered / trials <= 0.85


def test_providers_alike_are_left_alone() -> None:
    """Failing as often as the others, in good days and bad ones, is no reason: at most one time in fifty."""
    rng, found, trials = random.Random(8), 0, 150
    for _ in range(trials):
        rows = calls(rng, WINDOW_DAYS, {"a": 0.05, "b": 0.05})
        found += len(list(failing_providers(Evidence(WINDOW_DAYS, providers=rows), MARKET)))
    assert found <= trials // 50


@pytest.mark.parametrize("others", [0, 9])
def test_without_others_nobody_is_demoted(others: int) -> None:
    """A provider is judged beside others that serve the same on the same days."""
    rows = [ProviderCalls(day, "blog", "a", 100, 50) for day in DAYS]
    rows += [ProviderCalls(day, "blog", "b", others, 0) for day in DAYS if others]
    rows += [ProviderCalls(day, "ad", "b", 100, 0) for day in DAYS]
    assert list(failing_providers(Evidence(WINDOW_DAYS, providers=rows), None)) == []


def evidence_of(scope: str, refused: int, windows: int = 20) -> Evidence:
    """A quota of 1000 requests a day, used up on the last `windows` days."""
    days = frozenset(DAYS[WINDOW_DAYS - windows :])
    return Evidence(
        WINDOW_DAYS,
        tenants=[TenantUse(day, "acme", "blog", 1000, 0, 0, 0) for day in DAYS],
        quotas=[ExhaustedQuota(scope, "requests", "day", 1000, windows, days)],
        details=Details(refusals=[Refusals(day, "acme", refused + day % 3) for day in DAYS if refused]),
    )


@pytest.mark.parametrize("scope", ["tenant:acme", "campaign:acme/summer", "tenant_content:acme/blog"])
def test_a_limit_to_raise_has_room_for_what_was_refused(scope: str) -> None:
    """Saved are the refusals of the days on which it was used up; other days' are not its doing."""
    evidence = evidence_of(scope, 200)
    (found,) = tight_limits(evidence)
    assert found.subject == Subject("acme", "blog" if "blog" in scope else "")
    assert found.proposal.limit == LimitChange(scope, "requests", "day", 1000, 1300)
    facts = {fact.kind: fact.value for fact in found.evidence}
    assert facts[FactKind.WINDOWS_EXHAUSTED] == 20
    assert 200 * 20 <= facts[FactKind.REQUESTS_REFUSED] <= 202 * 20
    assert found.saving.p50 > 0


def test_requests_that_are_refused_again_and_again_raise_a_limit_in_steps() -> None:
    """A caller that tries a refused request fifty times is not told to need fifty times the limit."""
    (found,) = tight_limits(evidence_of("tenant:acme", 50_000))
    assert found.proposal.limit == LimitChange("tenant:acme", "requests", "day", 1000, 3000)


@pytest.mark.parametrize(
    "evidence",
    [evidence_of("tenant:acme", 0), evidence_of("tenant:acme", 200, 1), evidence_of("provider:a", 200)],
    ids=["nothing refused", "once", "not a tenant's"],
)
def test_limits_that_stay(evidence: Evidence) -> None:
    """A quota that is used up without a refusal, or once, or that is a provider's own, is left."""
    assert list(tight_limits(evidence)) == []
