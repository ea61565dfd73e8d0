"""Rules that save money: they find what is there with an honest interval, and nothing where there is nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.model import Price, Tenant
from libs.catalog.prices import cost_micro_usd
from libs.types import Usage
from services.analytics.recommendations.evidence import (
    CutAnswers,
    Details,
    Evidence,
    HedgeUse,
    ModelUse,
    TenantUse,
)
from services.analytics.recommendations.market import Market
from services.analytics.recommendations.money_rules import (
    cheaper_models,
    cut_answers,
    highest_share,
    idle_hedges,
    long_prompts,
)
from services.analytics.recommendations.recommendation import FactKind, RecommendationKind, RiskLevel, Subject
from services.analytics.recommendations.saving import HORIZON_DAYS, WINDOW_DAYS
from tests.support.ledger import NOW
from tests.support.recommendations import priced_catalog

DAYS = range(WINDOW_DAYS)


def market(catalog: Catalog | None = None) -> Market:
    return Market(catalog or priced_catalog(), cost_micro_usd, NOW)


def use_of_dear(rng: random.Random, days: int) -> list[ModelUse]:
    """Daily calls for blogs at a/dear, on some weekdays more."""
    weekdays, mean = [rng.uniform(0.5, 1.5) for _ in range(7)], rng.uniform(50, 500)
    found = []
    for day in range(days):
        calls = 1 + round(mean * weekdays[day % 7] * rng.gammavariate(10, 0.1))
        tokens = Usage(calls * rng.randrange(500, 900), calls * rng.randrange(200, 400))
        cost = 4 * (tokens.input_tokens + tokens.output_tokens)
        found.append(ModelUse(day, "blog", "a/dear", calls, cost, tokens))
    return found


def test_the_interval_of_a_cheaper_model_covers_what_it_saves() -> None:
    """75 to 85 % of the intervals hold what the next 30 days cost less at the other's prices."""
    rng, covered, trials = random.Random(11), 0, 400
    for _ in range(trials):
        uses = use_of_dear(rng, WINDOW_DAYS + HORIZON_DAYS)
        (found,) = cheaper_models(Evidence(WINDOW_DAYS, uses[:WINDOW_DAYS]), market())
        later = uses[WINDOW_DAYS:]
        covered += found.saving.covers(
            sum(3 * (use.usage.input_tokens + use.usage.output_tokens) for use in later)
        )
    assert 0.75 <= covered / trials <= 0.85


def test_a_cheaper_model_says_what_and_why() -> None:
    """The cheapest that is declared as good, the policies to change, what both cost, and the risk."""
    evidence = Evidence(WINDOW_DAYS, use_of_dear(random.Random(1), WINDOW_DAYS))
    (found,) = cheaper_models(evidence, market())
    assert (found.kind, found.subject) == (
        RecommendationKind.CHEAPER_MODEL,
        Subject("", "blog", "a", "dear"),
    )
    assert (found.proposal.new_model, found.proposal.policies) == ("b/cheap", ("default",))
    facts = {fact.kind: fact.value for fact in found.evidence}
    assert facts[FactKind.SPENT] == pytest.approx(evidence.cost, rel=0.001)
    assert facts[FactKind.SPENT_INSTEAD] == pytest.approx(evidence.cost / 4, rel=0.001)
    assert (facts[FactKind.QUALITY], facts[FactKind.QUALITY_INSTEAD]) == (0.8, 0.8)
    assert found.risk is RiskLevel.MEDIUM
    assert found.saving.p50 == pytest.approx(evidence.cost * 0.75 / WINDOW_DAYS * 30, rel=0.001)


CHEAP, DEAR = priced_catalog().models["b/cheap"], priced_catalog().models["a/dear"]


@pytest.mark.parametrize(
    "catalog",
    [
        priced_catalog(cheap=replace(CHEAP, quality={"blog": 0.79})),
        priced_catalog(cheap=replace(CHEAP, quality={})),
        priced_catalog(dear=replace(DEAR, quality={})),
        priced_catalog(dear=replace(DEAR, capabilities=DEAR.capabilities | {"tools"})),
        priced_catalog(cheap=replace(CHEAP, context_window=50_000)),
        priced_catalog(cheap=replace(CHEAP, max_output_tokens=100)),
        priced_catalog(cheap=replace(CHEAP, price=Price(4_000_000, 4_000_000))),
        priced_catalog(cheap=replace(CHEAP, price=Price(3_990_000, 3_990_000))),
        priced_catalog(cheap=replace(CHEAP, price=None)),
        priced_catalog(Tenant("acme", allowed_providers=frozenset({"a"}))),
    ],
    ids=[
        "worse",
        "quality not declared",
        "quality of the dear one not declared",
        "cannot do all of it",
        "shorter context",
        "shorter answers",
        "as dear",
        "not worth a minute",
        "price unknown",
        "not for a tenant that may use the dear one",
    ],
)
def test_models_that_are_no_replacement(catalog: Catalog) -> None:
    """Nobody is sent to one that is worse, can do less, is not known to be cheaper or not open to all."""
    evidence = Evidence(WINDOW_DAYS, use_of_dear(random.Random(1), WINDOW_DAYS))
    assert list(cheaper_models(evidence, market(catalog))) == []


def test_nobody_is_sent_to_a_provider_that_fails() -> None:
    """A provider that another rule would demote is no replacement; for another content type it is."""
    evidence = Evidence(WINDOW_DAYS, use_of_dear(random.Random(1), WINDOW_DAYS))
    assert list(cheaper_models(evidence, market(), {("blog", "b")})) == []
    assert list(cheaper_models(evidence, market(), {("ad", "b")})) != []


def test_longer_answers_of_the_cheaper_model_are_counted() -> None:
    """Three times as long on the same days they save a third less, twelve times as long nothing. Shorter ones, as to
    easier requests, and those to a few calls change nothing."""

    def found(calls: int, answer: float) -> float | None:
        uses = use_of_dear(random.Random(1), WINDOW_DAYS)
        uses = [replace(use, usage=Usage(use.calls * 300, use.calls * 300)) for use in uses]
        cheap = Usage(calls * 300, round(calls * 300 * answer))
        uses += [ModelUse(day, "blog", "b/cheap", calls, 1, cheap) for day in DAYS]
        one = next(cheaper_models(Evidence(WINDOW_DAYS, uses), market()), None)
        return None if one is None else one.saving.p50

    alike = found(50, 1.0)
    assert alike is not None
    assert found(50, 3.0) == pytest.approx(alike * (8 - 4) / (8 - 2))
    assert found(50, 12.0) is None
    assert found(50, 0.3) == pytest.approx(alike)
    assert found(1, 12.0) == pytest.approx(alike)


def test_prices_that_step_up_with_the_input_are_those_of_a_single_call() -> None:
    """A day's tokens in one would be priced as one huge prompt."""
    seen: list[int] = []

    def price(provider: object, model: object, usage: Usage, at: float, name: str) -> int:
        seen.append(usage.input_tokens)
        return usage.input_tokens

    calls = 10_000
    found = Market(priced_catalog(), price, NOW).cost(DEAR, calls, Usage(calls * 20_000))
    assert (found, seen) == (calls * 20_000, [20_000])


def tenants(
    prompts: Sequence[int], answer: Callable[[int], int] = lambda place: 100, price: float = 4.0
) -> list[TenantUse]:
    """Ten requests a day of each tenant t0, t1 …, with prompts of so many tokens, a token at so many micro-USD."""
    rng = random.Random(4)
    return [
        TenantUse(
            *(day, f"t{place}", "blog", requests, requests * tokens, requests * answer(place)),
            round(requests * (tokens + answer(place)) * price),
        )
        for day in DAYS
        for place, tokens in enumerate(prompts)
        for requests in [rng.randrange(8, 13)]
    ]


def blog_use() -> list[ModelUse]:
    return [ModelUse(day, "blog", "a/dear", 40, 400_000, Usage(40_000, 4_000)) for day in DAYS]


def test_long_prompts_are_those_far_above_the_others() -> None:
    """Saved are the tokens above the median of the others, at the price of input; the proposal names that median."""
    evidence = Evidence(WINDOW_DAYS, blog_use(), tenants=tenants([900, 1000, 1100, 5000]))
    (found,) = long_prompts(evidence, market())
    requests = sum(use.requests for use in evidence.tenants if use.tenant == "t3")
    assert found.subject == Subject("t3", "blog")
    assert found.proposal.tokens_per_request == 1000
    assert found.saving.p50 == pytest.approx(requests * 4000 * 4 / WINDOW_DAYS * 30)


def test_no_more_is_saved_by_shorter_prompts_than_is_paid_for_them() -> None:
    """A tenant served by a cheap model pays its price for its long prompts, whatever the others pay."""
    rows = tenants([900, 1000, 1100, 5000], price=0.01)
    spent = sum(use.cost for use in rows if use.tenant == "t3")
    evidence = Evidence(WINDOW_DAYS, [], tenants=rows)
    cheap = [ModelUse(use.day, "blog", "a/dear", 1, 1000, Usage(1000, 10)) for use in rows]
    (found,) = long_prompts(replace(evidence, models=cheap), market())
    assert 0.7 * spent < found.saving.p50 / 30 * WINDOW_DAYS < spent


@pytest.mark.parametrize(
    "rows",
    [
        tenants([900, 1000, 1100, 1900]),
        tenants([900, 1000, 5000]),
        tenants([900, 1000, 1100, 5000], lambda place: 300 if place == 3 else 100),
        tenants([1000, 1000, 1000, 5000])[:40],
    ],
    ids=["not twice as long", "too few others", "longer answers too", "too few requests"],
)
def test_prompts_that_are_not_told_to_be_long(rows: list[TenantUse]) -> None:
    """Without others to compare with, or where the answers are longer too, nothing is said."""
    assert list(long_prompts(Evidence(WINDOW_DAYS, blog_use(), tenants=rows), market())) == []


@pytest.mark.parametrize(("cut", "found"), [(5, 1), (0, 0)])
def test_cut_answers(cut: int, found: int) -> None:
    """The cost of cut answers is said where these are a twentieth of all and more."""
    rows = [CutAnswers(day, "t0", "blog", cut, cut * 10_000) for day in DAYS if cut]
    evidence = Evidence(WINDOW_DAYS, blog_use(), tenants=tenants([900]), details=Details(cut=rows))
    recommended = list(cut_answers(evidence))
    assert len(recommended) == found
    assert all(one.saving.p50 == 5 * 10_000 * 30 for one in recommended)


@pytest.mark.parametrize(("won", "found"), [(0, 1), (2, 0), (5, 0)])
def test_hedges_that_do_not_pay(won: int, found: int) -> None:
    """Of ten hedges a day that never answer the cost of the losers is saved; at a fifth of the answers they pay."""
    rng = random.Random(2)
    rows = [HedgeUse(day, "blog", 10, won, rng.randrange(40_000, 60_000)) for day in DAYS]
    evidence = Evidence(WINDOW_DAYS, blog_use(), details=Details(hedges=rows))
    recommended = list(idle_hedges(evidence))
    assert len(recommended) == found
    assert all(1_200_000 < one.saving.p50 < 1_800_000 for one in recommended)


def test_highest_share() -> None:
    """Wilson's bound: never 0, and close to the share of many."""
    assert highest_share(0, 100) == pytest.approx(0.0263, abs=0.0005)
    assert highest_share(100, 1000) == pytest.approx(0.1168, abs=0.0005)
