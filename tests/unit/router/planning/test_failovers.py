"""Failovers of some calls, and shares of the rehabilitated: what plans make of operators' words."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from libs.catalog.model import Tenant
from libs.resilience.circuit import BreakerState
from libs.selection import SelectionReason
from services.router.health.exchanged import Judgement
from services.router.health.failovers import Failover
from services.router.health.target_health import Availability, TargetHealth
from services.router.health.targets import Targets
from services.router.planning.plan import Plan
from tests.support.routing import TENANT, Harness, catalog, generation, model

MODELS = [model("a/m"), model("a/n"), model("b/m"), model("c/m")]
TIERS = catalog(*[[each] for each in MODELS])
OTHER = Tenant("other", policies={"blog": "default"})


@pytest.fixture
def harness() -> Harness:
    return Harness(TIERS, {m.id: [] for m in MODELS})


def plan(harness: Harness, tenant: Tenant = TENANT, content_type: str = "general") -> Plan:
    asked = generation(tenant=tenant.name, content_type=content_type)
    return harness.planner.plan(TIERS, tenant, asked, stream=False)


def order(made: Plan) -> list[str]:
    return [c.target for c in made.candidates]


def test_calls_of_those_named_go_to_the_next(harness: Harness) -> None:
    """Of the provider all models; others' calls go where they went."""
    until = harness.clock.now() + 60
    harness.failovers.replace("a", "", (Failover(until, "contract", frozenset({TENANT.name})),))
    made = plan(harness)
    assert order(made) == ["b/m", "c/m"]
    assert made.candidates[0].reason is SelectionReason.AVAILABILITY
    assert {c.excluded for c in made.excluded} == {"an operator has failed it over: contract"}
    assert made.retry_after() == pytest.approx(60)
    assert order(plan(harness, OTHER)) == ["a/m", "a/n", "b/m", "c/m"]


def test_a_failover_of_a_model_is_its_own_and_by_content_type(harness: Harness) -> None:
    """The provider's others stay."""
    until = harness.clock.now() + 60
    harness.failovers.replace("a", "m", (Failover(until, "x", content_types=frozenset({"general"})),))
    assert order(plan(harness)) == ["a/n", "b/m", "c/m"]
    assert order(plan(harness, OTHER)) == ["a/n", "b/m", "c/m"]
    assert order(plan(harness, OTHER, "blog")) == ["a/m", "a/n", "b/m", "c/m"]


def test_the_target_that_is_named_comes_first(harness: Harness) -> None:
    """Whatever its tier, unless it is down itself or recovers; then the next of the policy."""
    until = harness.clock.now() + 60
    harness.failovers.replace("a", "m", (Failover(until, "x", to_provider="c"),))
    assert order(plan(harness)) == ["c/m", "a/n", "b/m"]
    for state in (TargetHealth(Availability.DOWN), TargetHealth(ramp=0.1)):
        harness.health.states["c/m"] = state
        assert order(plan(harness))[0] == "a/n"


def test_a_model_of_the_target_that_is_named_comes_first(harness: Harness) -> None:
    """And no other of its provider."""
    until = harness.clock.now() + 60
    harness.failovers.replace("b", "", (Failover(until, "x", to_provider="a", to_model="n"),))
    assert order(plan(harness)) == ["a/n", "a/m", "c/m"]


def test_a_failover_ends_by_itself(harness: Harness) -> None:
    """Though nobody says so; and when the service takes it back."""
    until = harness.clock.now() + 60
    harness.failovers.replace("a", "", (Failover(until, "x"),))
    assert order(plan(harness)) == ["b/m", "c/m"]
    harness.clock.advance(60)
    assert order(plan(harness)) == ["a/m", "a/n", "b/m", "c/m"]
    harness.clock.advance(-60)
    harness.failovers.replace("a", "", ())
    assert order(plan(harness)) == ["a/m", "a/n", "b/m", "c/m"]


def test_everything_failed_over_says_when_to_come_back(harness: Harness) -> None:
    """Nobody is tried against an operator's word."""
    until = harness.clock.now() + 60
    for provider in "abc":
        harness.failovers.replace(provider, "", (Failover(until, "x"),))
    made = plan(harness)
    assert not made.candidates
    assert made.retry_after() == pytest.approx(60)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 1.0])
def test_a_rehabilitated_provider_gets_its_share(harness: Harness, share: float) -> None:
    """With all of its models together, of 2000 calls: within four standard deviations, and so within ten points."""
    targets = Targets(harness.clock, Random(3), harness.health)  # type: ignore[arg-type]  # it asks for no permit
    targets.apply_judgement("a", "", Judgement(BreakerState(), rehabilitated_share=share))
    for item in MODELS:
        harness.health.states[item.id] = targets.health_of(item)
    first = Counter(order(plan(harness))[0].partition("/")[0] for _ in range(2000))
    assert first["a"] / 2000 == pytest.approx(share, abs=0.045)


def test_a_rehabilitated_model_gets_its_share(harness: Harness) -> None:
    """Its provider's others are called as usual."""
    targets = Targets(harness.clock, Random(3), harness.health)  # type: ignore[arg-type]  # it asks for no permit
    targets.apply_judgement("a", "m", Judgement(BreakerState(), rehabilitated_share=0.25))
    for item in MODELS:
        harness.health.states[item.id] = targets.health_of(item)
    first = Counter(order(plan(harness))[0] for _ in range(2000))
    assert first["a/m"] / 2000 == pytest.approx(0.25, abs=0.045)
    assert first["a/m"] + first["a/n"] == 2000
