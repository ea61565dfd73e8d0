"""The effect of a budget's use on a request: thresholds, their actions, and every attempt that meets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from libs.answer import Completed, Result
from libs.catalog.catalog import Catalog
from libs.catalog.limits import LimitSpec, Threshold
from libs.catalog.model import Model, Tenant
from libs.errors import ResourceExhausted, Unavailable
from libs.limits import Amounts, Period, Scope, Unit
from libs.selection import Degradation
from libs.types import ErrorClass, Priority
from services.router.admission.admission import Claim, Permit
from services.router.budgets.budget import UNRESTRICTED, budgets_of, judge_budgets, window_end
from tests.support.routing import (
    TENANT,
    FakeAdmission,
    Harness,
    catalog,
    denial,
    fail,
    generation,
    model,
)

DEAR, CHEAP, MIDDLE = model("a/dear", quality=1.0), model("b/cheap"), model("c/middle")
PRICES = {"a/dear": 1000, "b/cheap": 100, "c/middle": 140}


def spec(*thresholds: tuple[int, str], limit: int = 10_000, shadow: bool = False) -> LimitSpec:
    steps = tuple(Threshold(percent, action) for percent, action in (*thresholds, (100, "refuse")))
    return LimitSpec(Unit.MICRO_USD, Period.MONTH, limit, shadow=shadow, thresholds=steps)


def bed(
    tenant: Tenant,
    used: int | None,
    *,
    scope: str = "tenant:acme",
    tiers: tuple[Model, ...] = (DEAR, CHEAP, MIDDLE),
) -> Harness:
    """A router whose limiter says that so much of the scope's 10,000 micro-USD a month is used."""
    known: Catalog = catalog(*([m] for m in tiers))
    harness = Harness(
        replace(known, tenants={tenant.name: tenant}),
        {name: [name] for name in PRICES},
        price=lambda provider, model, usage, at, name: PRICES[model.id],
    )
    if used is not None:
        harness.admission.budgets[scope, "month"] = (used, 10_000)
    return harness


async def whole(harness: Harness, **more: object) -> Result:
    tenant = harness.catalog.tenants["acme"]
    return await harness.generate.whole(harness.catalog, tenant, generation(**more))  # type: ignore[arg-type]


def named(result: Result) -> list[tuple[str, int, str]]:
    return [(n.scope, n.percent, n.action) for n in result.budgets]


def acme(*thresholds: tuple[int, str], shadow: bool = False) -> Tenant:
    return replace(TENANT, limits=(spec(*thresholds, shadow=shadow),))


async def test_a_budget_that_is_hardly_used_says_nothing() -> None:
    """Below its first threshold."""
    result = await whole(bed(acme((50, "warn")), 4_999))
    assert (result.text, result.budgets, result.degradation) == ("a/dear", (), None)


async def test_a_threshold_warns_and_changes_nothing() -> None:
    """The highest that is reached is named, in a stream's account too."""
    h = bed(acme((50, "warn"), (80, "warn")), 8_000)
    result = await whole(h)
    assert (result.text, named(result)) == ("a/dear", [("tenant:acme", 80, "warn")])
    h.providers.script["a/dear"] = [["a/dear"]]
    events = [e async for e in h.generate.stream(h.catalog, h.catalog.tenants["acme"], generation())]
    last = events[-1]
    assert isinstance(last, Completed)
    assert named(last.result) == [("tenant:acme", 80, "warn")]


async def test_cheaper_models_leaves_the_dear_ones_out_and_says_so() -> None:
    """A model that costs more than half as much again as the cheapest is not called, even as a fallback."""
    h = bed(acme((60, "cheaper_models")), 6_000)
    h.providers.script["b/cheap"] = [fail(ErrorClass.OVERLOADED)]
    result = await whole(h)
    assert (result.text, result.degradation) == ("c/middle", Degradation.CHEAPER_MODEL)
    assert h.providers.calls == ["b/cheap", "c/middle"]
    h.assert_settled()


async def test_where_the_cheap_would_have_served_anyway_nothing_is_degraded() -> None:
    """The notice stays."""
    result = await whole(bed(acme((60, "cheaper_models")), 6_000, tiers=(CHEAP, DEAR)))
    assert (result.text, result.degradation) == ("b/cheap", None)
    assert named(result) == [("tenant:acme", 60, "cheaper_models")]


async def test_queue_makes_it_a_background_request() -> None:
    """It asks the limits behind everybody else; below the threshold it keeps its class."""
    for used, priority in ((9_500, Priority.BACKGROUND), (8_000, Priority.INTERACTIVE)):
        h = bed(acme((90, "queue")), used)
        h.admission.leased = False
        await whole(h, priority=Priority.INTERACTIVE)
        assert [claim.priority for claim in h.admission.claims] == [priority]


async def test_refuse_below_a_hundred_refuses_at_once() -> None:
    """RESOURCE_EXHAUSTED names the budget and when its window ends; nobody is called or charged."""
    h = bed(acme((95, "refuse")), 9_500)
    with pytest.raises(ResourceExhausted) as caught:
        await whole(h)
    (violation,) = caught.value.violations
    assert violation.subject == "tenant:acme micro_usd month"
    assert (violation.limit, violation.used) == (10_000, 9_500)
    assert violation.reset_seconds is not None
    assert caught.value.retry_after == violation.reset_seconds
    assert h.providers.calls == []
    h.assert_settled()


async def test_a_fallback_and_a_hedge_look_again() -> None:
    """A budget that fills between attempts stops the next one."""
    h = bed(acme((95, "refuse")), 9_000)
    failure = fail(ErrorClass.OVERLOADED)

    def fill() -> object:
        h.admission.budgets["tenant:acme", "month"] = (9_900, 10_000)
        return failure

    class Script(list[object]):
        def __getitem__(self, index: object) -> object:  # type: ignore[override]
            return fill()

    h.providers.script["a/dear"] = Script([failure])
    with pytest.raises(Exception, match="a/dear"):
        await whole(h)
    assert h.providers.calls == ["a/dear"]
    h.assert_settled()


class Broke(FakeAdmission):
    """The tenant's money is used up: only what costs nothing is admitted."""

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        return None if amounts.micro_usd else super().try_admit(scopes, amounts)

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        self.claims.append(claim)
        raise denial("tenant:acme")


async def test_regression_a_paid_fallback_does_not_skip_the_budget_check() -> None:
    """Named regression: the first provider costs nothing and fails; the one that costs something asks the budget for
    what it may cost, and is not called where that is denied."""
    h = Harness(
        catalog([DEAR], [CHEAP]),
        {"a/dear": [fail(ErrorClass.OVERLOADED)], "b/cheap": ["paid"]},
        admission=Broke(),
        price=lambda provider, model, usage, at, name: 100 if model is CHEAP else 0,
    )
    with pytest.raises(Unavailable):
        await h.generate.whole(h.catalog, TENANT, generation())
    assert [claim.amounts.micro_usd for claim in h.admission.claims] == [100]
    assert h.providers.calls == ["a/dear"]
    h.assert_settled()


async def test_what_is_not_known_is_asked_for_first() -> None:
    """The first request after a silence learns the budget's use with its lease, and then obeys it."""
    h = bed(acme((95, "refuse")), 9_600)
    h.admission.hidden = True
    with pytest.raises(ResourceExhausted):
        await whole(h)
    assert h.providers.calls == []
    h.assert_settled()


async def test_a_shadow_budget_is_reported_and_has_no_effect() -> None:
    """Whatever its actions."""
    result = await whole(bed(acme((50, "cheaper_models"), (90, "refuse"), shadow=True), 9_999))
    assert (result.text, named(result)) == ("a/dear", [("tenant:acme", 90, "refuse")])


async def test_content_types_and_campaigns_have_budgets_of_their_own() -> None:
    """Those of the request's count, others do not."""
    content = replace(TENANT, content_limits={"general": (spec((50, "warn")),)})
    result = await whole(bed(content, 6_000, scope="tenant_content:acme/general"))
    assert named(result) == [("tenant_content:acme/general", 50, "warn")]
    campaign = replace(TENANT, campaigns={"summer": (spec((50, "warn")),)})
    h = bed(campaign, 6_000, scope="campaign:acme/summer")
    assert (await whole(h)).budgets == ()
    assert named(await whole(h, campaign="summer")) == [("campaign:acme/summer", 50, "warn")]


async def test_thresholds_are_counted_once_a_request() -> None:
    """However many attempts it takes."""
    h = bed(acme((50, "warn")), 6_000)
    h.providers.script["a/dear"] = [fail(ErrorClass.OVERLOADED)]
    assert (await whole(h)).text == "b/cheap"
    labels = {"kind": "tenant", "percent": "50", "action": "warn", "shadow": "false"}
    assert h.metrics.registry.get_sample_value("pointsman_budget_thresholds_total", labels) == 1


def test_several_budgets_each_have_their_say() -> None:
    """One warns, one asks for cheaper models, one queues."""
    tenant = replace(
        acme((10, "queue")),
        content_limits={"general": (spec((10, "cheaper_models")),)},
        campaigns={"summer": (spec((10, "warn")),)},
    )
    budgets = budgets_of(tenant, "general", "summer")
    found = judge_budgets(budgets, lambda scope, period: (5_000, 10_000), 0.0)
    assert (len(found.notices), found.queue, bool(found.cheaper), found.refused) == (3, True, True, ())
    assert judge_budgets(budgets, lambda scope, period: (0, 10_000), 0.0) is UNRESTRICTED
    assert judge_budgets(budgets, lambda scope, period: None, 0.0).unsure


@pytest.mark.parametrize(
    ("period", "zone", "now", "end"),
    [
        ("day", "Europe/Zurich", (2026, 3, 28, 12), (2026, 3, 29, 0)),
        ("day", "Europe/Zurich", (2026, 3, 29, 12), (2026, 3, 30, 0)),
        ("month", "America/New_York", (2026, 12, 31, 23), (2027, 1, 1, 0)),
        ("month", "UTC", (2028, 2, 29, 1), (2028, 3, 1, 0)),
    ],
)
def test_windows_end_by_the_tenants_calendar(
    period: str, zone: str, now: tuple[int, ...], end: tuple[int, ...]
) -> None:
    """Across a change of the clock and the end of a year too."""
    here = ZoneInfo(zone)
    at = datetime(*now, tzinfo=here).timestamp()  # type: ignore[arg-type, misc]
    assert window_end(period, zone, at) == datetime(*end, tzinfo=here).timestamp()  # type: ignore[arg-type, misc]
