"""Plans change a history as they would have changed it: nothing is lost or made on the way."""

from __future__ import annotations

import math
import random

import pytest

from libs.errors import FailedPrecondition, InvalidArgument
from services.analytics.forecasts.history import COUNTED, History, HourOfUse, Measure, UseKey, history_of
from services.analytics.forecasts.what_if import (
    MAX_CHANGES,
    PriceChange,
    Replacement,
    Target,
    WhatIf,
    change,
)

DEAR = UseKey("acme", "openai", "large")
CHEAP = UseKey("acme", "openai", "small")
OTHER = UseKey("globex", "anthropic", "haiku")
#: Cost, input and output tokens, requests, attempts in an hour; 5, 1 and 2 micro-USD a token.
USE = {
    DEAR: (5000.0, 600.0, 400.0, 9.0, 10.0),
    CHEAP: (1000.0, 600.0, 400.0, 5.0, 5.0),
    OTHER: (4000.0, 1500.0, 500.0, 20.0, 20.0),
}


def history(hours: int = 3) -> History:
    rows = [HourOfUse(key, 100 + hour, amounts) for key, amounts in USE.items() for hour in range(hours)]
    return history_of(rows, 100, 100 + hours)


def sums(of: History, *keys: UseKey) -> dict[Measure, float]:
    return {measure: round(amount, 6) for measure, amount in of.sums(keys or of.series).items()}


def test_growth_multiplies_everything() -> None:
    """Money, tokens and calls alike."""
    before, after = sums(history()), sums(change(history(), WhatIf(growth=2.5)))
    assert after == {measure: 2.5 * amount for measure, amount in before.items()}


def test_a_price_changes_the_cost_of_its_models_alone() -> None:
    """Of a provider: of all its models; several factors multiply."""
    plan = WhatIf(prices=(PriceChange(Target("openai"), 0.5), PriceChange(Target("openai", "large"), 0.1)))
    after = change(history(), plan)
    assert sums(after, DEAR)[Measure.COST] == 3 * 250
    assert sums(after, CHEAP)[Measure.COST] == 3 * 500
    assert sums(after, OTHER) == sums(history(), OTHER)
    assert sums(after)[Measure.INPUT_TOKENS] == sums(history())[Measure.INPUT_TOKENS]


def test_a_replaced_model_is_paid_as_the_new_one() -> None:
    """At what was paid for it so far, or at the price given; for the same tenant."""
    to_small = WhatIf(replacements=(Replacement(Target("openai", "large"), Target("openai", "small")),))
    after = change(history(), to_small)
    assert DEAR not in after.series
    assert sums(after, CHEAP)[Measure.COST] == 3 * (1000 + 1000)
    assert sums(after, CHEAP)[Measure.ATTEMPTS] == 3 * 15
    new = UseKey("acme", "mistral", "new")
    given = Replacement(Target("openai", "large"), Target("mistral", "new"), price=3_000_000)
    assert sums(change(history(), WhatIf(replacements=(given,))), new)[Measure.COST] == 3 * 3000


def test_a_lost_providers_tokens_go_to_the_others() -> None:
    """By their share of the calls, at what is paid there; none is lost, and the tenant stays."""
    after = change(history(), WhatIf(lost_providers=("anthropic",)))
    assert {key.provider for key in after.series} == {"openai"}
    before, now = sums(history()), sums(after)
    for measure in COUNTED:
        if measure is not Measure.COST:
            assert now[measure] == pytest.approx(before[measure])
    moved = sums(after, UseKey("globex", "openai", "large"))
    assert moved[Measure.ATTEMPTS] == pytest.approx(3 * 20 * 10 / 15)
    assert moved[Measure.COST] == pytest.approx(3 * 2000 * 10 / 15 * 5)


def test_a_plan_that_loses_all_is_refused() -> None:
    """FAILED_PRECONDITION, whether it names them in any order."""
    with pytest.raises(FailedPrecondition) as refused:
        change(history(), WhatIf(lost_providers=("openai", "anthropic")))
    assert refused.value.reason == "NO_PROVIDER_LEFT"


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (WhatIf(lost_providers=("nobody",)), "what_if.lost_providers[0]"),
        (WhatIf(prices=(PriceChange(Target("openai", "none"), 1.0),)), "what_if.prices[0]"),
        (
            WhatIf(replacements=(Replacement(Target("x"), Target("openai", "small")),)),
            "what_if.replacements[0].old",
        ),
        (
            WhatIf(replacements=(Replacement(Target("openai"), Target("openai", "x")),)),
            "what_if.replacements[0].new",
        ),
    ],
)
def test_what_had_no_use_is_named(plan: WhatIf, field: str) -> None:
    """A plan about nothing would be answered as if it changed nothing."""
    with pytest.raises(InvalidArgument) as refused:
        change(history(), plan)
    assert [fault.field for fault in refused.value.violations] == [field]


def test_a_new_models_price_may_change_in_the_same_plan() -> None:
    """Models are replaced before prices change; a model in its own place is refused."""
    new = Replacement(Target("openai", "large"), Target("mistral", "new"), price=3_000_000)
    plan = WhatIf(replacements=(new,), prices=(PriceChange(Target("mistral", "new"), 0.5),))
    assert sums(change(history(), plan), UseKey("acme", "mistral", "new"))[Measure.COST] == 3 * 1500
    with pytest.raises(InvalidArgument) as refused:
        WhatIf(replacements=(new, Replacement(Target("openai", "large"), Target("openai", "large"))))
    assert [fault.field for fault in refused.value.violations] == ["what_if.replacements[1].new"]


@pytest.mark.parametrize("growth", [0.0, -1.0, math.nan, math.inf, 1001.0])
def test_factors_out_of_bounds_are_refused(growth: float) -> None:
    """Of traffic and of prices, and more changes than a plan may have."""
    with pytest.raises(InvalidArgument):
        WhatIf(growth=growth)
    if growth:
        with pytest.raises(InvalidArgument):
            WhatIf(prices=(PriceChange(Target("openai"), growth),))
    with pytest.raises(InvalidArgument):
        WhatIf(lost_providers=("a",) * (MAX_CHANGES + 1))


def test_the_order_of_hours_is_kept() -> None:
    """Each hour's use is moved in that hour."""
    rng = random.Random(3)
    amounts = [rng.random() for _ in range(48)]
    rows = [HourOfUse(OTHER, hour, (a, a, a, a, a)) for hour, a in enumerate(amounts)]
    rows += [HourOfUse(DEAR, hour, (1.0,) * 5) for hour in range(48)]
    after = change(history_of(rows, 0, 48), WhatIf(lost_providers=("anthropic",)))
    moved = after.series[UseKey("globex", "openai", "large")][Measure.INPUT_TOKENS]
    assert moved == pytest.approx(amounts)
