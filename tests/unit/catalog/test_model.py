"""The catalog's values refuse what makes no sense, also without a file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.limits import LimitSpec, Threshold
from libs.catalog.model import ContentType, Model, Policy, Price, Provider, Tenant, Timeouts, Weighted
from libs.limits import Period, Unit


@pytest.mark.parametrize(
    "build",
    [
        lambda: LimitSpec(Unit.REQUESTS, Period.MINUTE, -1),
        lambda: LimitSpec(Unit.REQUESTS, Period.NONE, 1),
        lambda: LimitSpec(Unit.CONCURRENCY, Period.MINUTE, 1),
        lambda: LimitSpec(Unit.REQUESTS, Period.DAY, 1, burst=1),
        lambda: LimitSpec(Unit.REQUESTS, Period.DAY, 1, pace=True),
        lambda: LimitSpec(Unit.CONCURRENCY, Period.NONE, 1, pace=True),
        lambda: LimitSpec(Unit.REQUESTS, Period.MINUTE, 10**10 + 1),
        lambda: LimitSpec(Unit.REQUESTS, Period.DAY, 10**15 + 1),
        lambda: LimitSpec(Unit.REQUESTS, Period.DAY, 1, thresholds=(Threshold(50, "warn"),)),
        lambda: LimitSpec(
            Unit.MICRO_USD, Period.DAY, 1, thresholds=(Threshold(50, "warn"), Threshold(5, "warn"))
        ),
        lambda: Threshold(0, "warn"),
        lambda: Threshold(50, "shout"),
        lambda: Threshold(100, "warn"),
        lambda: Timeouts(idle=float("nan")),
        lambda: Timeouts(total=float("inf")),
        lambda: Provider("a b", "openai", "https://x"),
        lambda: Provider("a", "nope", "https://x"),
        lambda: Provider("a", "openai", "https://x/"),
        lambda: Provider("a", "openai", "x"),
        lambda: Provider(
            "a", "openai", "https://x", limits=(LimitSpec(Unit.CONCURRENCY, Period.NONE, 1),) * 2
        ),
        lambda: Price(-1, 0),
        lambda: Model("a", "b c", "b", 10, 10),
        lambda: Model("a", "b", "", 10, 10),
        lambda: Model("a", "b", "b", 10, 11),
        lambda: Model("a", "b", "b", 10, 10, quality={"default": float("nan")}),
        lambda: Weighted("a/b", -1),
        lambda: Policy("p", ()),
        lambda: Policy("p", ((),)),
        lambda: Policy("p", ((Weighted("a/b"),),), max_retry_after=float("nan")),
        lambda: Policy("p", ((Weighted("a/b"), Weighted("a/b")),)),
        lambda: ContentType("c", 0),
        lambda: Tenant("t", ("ABC",)),
        lambda: Tenant("t", default_deadline=0),
        lambda: Tenant("t", max_cost_micro_usd=0),
        lambda: Catalog("v", "d", "general", {}, {}, {}, {}, {}),
    ],
)
def test_constructors_validate(build: Callable[[], object]) -> None:
    """Each of these raises ValueError with a sentence."""
    with pytest.raises(ValueError, match=r"\w \w"):
        build()


def test_a_catalog_made_by_hand_has_its_references_checked() -> None:
    """Without a loader, a broken reference is found just the same."""
    provider = Provider("a", "vllm", "http://x")
    model = Model("a", "m", "m", 100, 50)
    policy = Policy("default", ((Weighted("a/n"),),))
    general = ContentType("general", 10)
    with pytest.raises(ValueError, match='unknown model "a/n"'):
        Catalog(
            "v",
            "d",
            "general",
            {"a": provider},
            {"a/m": model},
            {"default": policy},
            {"general": general},
            {},
        )


def test_values_can_be_keys_and_cannot_be_changed() -> None:
    """Providers, models and tenants are hashable, and their mappings are read-only."""
    model = Model("a", "m", "m", 100, 50, quality={"default": 0.4})
    assert {model: 1, Provider("a", "vllm", "http://x", options={"a": "b"}): 2, Tenant("t"): 3}[model] == 1
    with pytest.raises(TypeError):
        model.quality["default"] = 1.0  # type: ignore[index]


def test_quality_falls_back_to_the_default_rating() -> None:
    """A content type without a rating takes the default one, and without that the middle."""
    model = Model("a", "m", "m", 100, 50, quality={"default": 0.4, "email": 0.9})
    assert (model.quality_for("email"), model.quality_for("ad_copy")) == (0.9, 0.4)
    assert Model("a", "m", "m", 100, 50).quality_for("email") == 0.5


def test_an_id_wins_over_a_name_that_looks_like_one() -> None:
    """`openai/gpt` is the model of provider openai even where a reseller's model has that very name."""
    models = [Model("reseller", "openai/gpt", "openai/gpt", 100, 50), Model("openai", "gpt", "gpt", 100, 50)]
    catalog = Catalog(
        "v",
        "d",
        "general",
        {name: Provider(name, "vllm", "http://x") for name in ("openai", "reseller")},
        {model.id: model for model in models},
        {"default": Policy("default", ((Weighted("openai/gpt"),),))},
        {"general": ContentType("general", 10)},
        {},
    )
    assert catalog.resolve_model("openai/gpt") == (models[1],)
    assert catalog.resolve_model("reseller/openai/gpt") == (models[0],)
