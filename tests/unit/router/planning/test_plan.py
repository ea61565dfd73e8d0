"""The models that may serve a request, in what order, and why."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Price, Provider, Tenant
from libs.conversation import File, Image, Message, ResponseFormat, Role, Text
from libs.selection import SelectionReason, Strategy
from services.router.health.target_health import UNKNOWN, Availability, TargetHealth
from services.router.planning.entries import PolicyEntry, entries_for
from services.router.planning.plan import Conditions, Plan, PlanRequest, make_plan
from services.router.planning.scoring import WeightedScorer
from services.router.request.attachments import Attachment, SentImage
from services.router.request.generation import Generation, Prompt
from services.router.request.tokens import estimate_input_tokens
from tests.support.routing import TENANT, catalog, generation, model

A, B, C = model("a/m", quality=0.9), model("b/m", quality=0.5), model("c/m", quality=0.1)
PRICES = {"a/m": 300, "b/m": 100, "c/m": 200}


def plan(
    found: Catalog,
    request: Generation | None = None,
    states: dict[str, TargetHealth] | None = None,
    tenant: Tenant = TENANT,
    seed: int = 1,
    *,
    stream: bool = False,
) -> Plan:
    """A plan with fixed prices."""
    request = request or generation()
    return make_plan(
        entries_for(found, found.policy_for(tenant, request.content_type), request.models),
        PlanRequest(request, tenant, found.policies["default"], stream),
        Conditions(
            lambda m: (states or {}).get(m.id, UNKNOWN),
            lambda provider, m, usage, at, answered: PRICES[m.id],
            0.0,
            lambda provider: "",
        ),
        WeightedScorer(),
        Random(seed),
    )


def order(made: Plan) -> list[str]:
    return [c.target for c in made.candidates]


@pytest.mark.parametrize(
    ("strategy", "first", "reason"),
    [
        (Strategy.COST_FIRST, "b/m", SelectionReason.COST),
        (Strategy.SPECIALIZED, "a/m", SelectionReason.SPECIALIZATION),
        (Strategy.PERFORMANCE_FIRST, "c/m", SelectionReason.PERFORMANCE),
    ],
)
def test_the_strategy_decides_inside_a_tier(strategy: Strategy, first: str, reason: SelectionReason) -> None:
    """Each strategy puts first whoever is best by its criterion, and says so."""
    states = {
        "a/m": TargetHealth(latency=2.0),
        "b/m": TargetHealth(latency=1.0),
        "c/m": TargetHealth(latency=0.2),
    }
    made = plan(catalog([A, B, C]), generation(strategy=strategy), states)
    assert (order(made)[0], made.candidates[0].reason) == (first, reason)
    assert 0 < made.candidates[0].confidence <= 1


def test_tiers_come_before_scores_and_health_before_tiers() -> None:
    """A degraded first tier is used after a healthy second but for its share; a down one not at all, with its
    reason."""
    tiers = catalog([A], [B], [C])
    assert order(plan(tiers)) == ["a/m", "b/m", "c/m"]
    degraded = plan(tiers, states={"a/m": TargetHealth(Availability.DEGRADED, ramp=0.1)})
    assert order(degraded) == ["b/m", "c/m", "a/m"]
    down = plan(tiers, states={"a/m": TargetHealth(Availability.DOWN, reason="circuit open")})
    assert order(down) == ["b/m", "c/m"]
    assert [c.excluded for c in down.excluded] == ["circuit open"]
    assert down.candidates[0].reason is SelectionReason.AVAILABILITY


def test_weights_share_the_load() -> None:
    """Over many requests, first places follow the weights within sampling error."""
    weighted = catalog([A, B], weights={"a/m": 3, "b/m": 1})
    firsts = Counter(order(plan(weighted, seed=seed))[0] for seed in range(2000))
    assert 0.72 < firsts["a/m"] / 2000 < 0.78
    assert plan(weighted).candidates[0].reason is SelectionReason.LOAD_BALANCE


def test_a_recovering_target_gets_its_share() -> None:
    """With a ramp of 0.2 a target comes first in about a fifth of plans."""
    states = {"a/m": TargetHealth(ramp=0.2)}
    firsts = Counter(order(plan(catalog([A], [B]), states=states, seed=seed))[0] for seed in range(2000))
    assert 0.16 < firsts["a/m"] / 2000 < 0.24


def shares(
    states: dict[str, TargetHealth], found: Catalog, request: Generation | None = None
) -> Counter[str]:
    """Counts each order, of a thousand plans."""
    return Counter(" ".join(order(plan(found, request, states, seed=seed))) for seed in range(1000))


def test_a_degraded_target_gets_a_trickle_and_stands_before_the_last_resort() -> None:
    """Named regression: it stood behind the last resort, and got nothing that could have shown it to be well."""
    states = {"a/m": TargetHealth(Availability.DEGRADED, ramp=0.1)}
    found = shares(states, catalog([A], [B], last_resort=[C]))
    assert set(found) == {"a/m b/m c/m", "b/m a/m c/m"}
    assert 70 < found["a/m b/m c/m"] < 130
    alone = shares(states, catalog([A], last_resort=[C]))
    assert set(alone) == {"a/m c/m"}


def test_a_degraded_target_does_not_change_the_callers_own_order() -> None:
    """A caller that names the models has the word; a recovering one is spared all the same."""
    found, asked = catalog([A], [B], [C]), generation(models=("a/m", "b/m"))
    assert set(shares({"a/m": TargetHealth(Availability.DEGRADED, ramp=0.1)}, found, asked)) == {"a/m b/m"}
    ramped = shares({"a/m": TargetHealth(ramp=0.3)}, found, asked)
    assert 250 < ramped["a/m b/m"] < 350


def test_a_recovering_target_is_not_flooded_where_only_a_last_resort_served() -> None:
    """The last resort goes on for the rest of the ramp."""
    found = shares({"a/m": TargetHealth(ramp=0.3)}, catalog([A], last_resort=[C]))
    assert 250 < found["a/m c/m"] < 350


def test_hard_constraints_exclude_with_a_reason() -> None:
    """Capability, context window, price limit and tenant policy each keep a model out and say why."""
    plain = Model("b", "m", "m", 100_000, 4096, frozenset({"system"}))
    small = model("c/m", window=4096)
    found = catalog([A], [plain], [small])
    schema = Prompt((Message(Role.USER, "x" * 20_000),), 100, response_format=ResponseFormat('{"a":1}'))
    made = plan(found, generation(prompt=schema), stream=True)
    assert order(made) == ["a/m"]
    reasons = {c.target: c.excluded for c in made.excluded}
    assert reasons["b/m"] == "cannot do json_schema, streaming"
    assert "do not fit its context window of 4096" in reasons["c/m"]
    dear = plan(found, generation(max_cost_micro_usd=250))
    assert "a/m" not in order(dear)
    only_b = Tenant("acme", allowed_providers=frozenset({"b"}))
    assert order(plan(found, tenant=only_b)) == ["b/m"]


def test_the_callers_models_replace_the_policy() -> None:
    """`models` is tried in the caller's order; a bare name means it at every provider."""
    found = catalog([A], [B], [C])
    assert order(plan(found, generation(models=("c/m", "a/m")))) == ["c/m", "a/m"]
    assert set(order(plan(found, generation(models=("m",))))) == {"a/m", "b/m", "c/m"}
    assert plan(found, generation(models=("c/m",))).candidates[0].reason is SelectionReason.REQUESTED


@pytest.mark.parametrize(("text", "low", "high"), [("word " * 100, 100, 150), ("描述一把铲子" * 20, 80, 130)])
def test_token_estimates_are_in_the_right_range(text: str, low: int, high: int) -> None:
    """English comes out near a token a word, Chinese near a token a character."""
    assert low <= estimate_input_tokens(Prompt((Message(Role.USER, text),), 1)) <= high


def test_a_total_outage_opens_no_forbidden_door() -> None:
    """Named regression: with every circuit open, whoever was excluded for another reason was tried as well: a
    provider that the tenant may not use, a model that cannot do what is asked."""
    states = {m.id: TargetHealth(Availability.DOWN, reason="open", trial=True) for m in (A, B)}
    made = plan(catalog([A], [B]), states=states, tenant=Tenant("acme", allowed_providers=frozenset({"b"})))
    assert order(made) == ["b/m"]
    assert [(c.target, "may not use" in c.excluded) for c in made.excluded] == [("a/m", True)]


SHOWN = (SentImage(1000, 1000, 5000, "image/png"),)


def sees(name: str, kind: str, *capabilities: str) -> tuple[Model, Provider]:
    """A model of that vendor's."""
    return (
        Model(name, "m", "m", 20_000, 1000, frozenset(capabilities), Price(10**6, 10**6)),
        Provider(name, kind, "https://a.example"),
    )


def plan_images(prompt: Prompt, attachments: tuple[Attachment, ...]) -> Plan:
    """A plan of five vendors' models at one micro-USD a token."""
    pairs = [
        sees("blind", "openai"),
        sees("openai", "openai", "image", "image_url", "pdf"),
        sees("anthropic", "anthropic", "image", "image_url", "pdf", "pdf_url"),
        sees("gemini", "gemini", "image", "pdf"),
        sees("bedrock", "bedrock", "image", "pdf"),
    ]
    made = generation(prompt=prompt, attachments=attachments)
    entries = [PolicyEntry(provider, found, 0, 1, False) for found, provider in pairs]
    return make_plan(
        entries,
        PlanRequest(made, TENANT, catalog([A]).policies["default"]),
        Conditions(
            lambda m: UNKNOWN,
            lambda provider, m, usage, at, answered: usage.input_tokens + usage.output_tokens,
            0.0,
            lambda provider: "",
        ),
        WeightedScorer(),
        Random(1),
    )


def test_images_go_to_those_who_see_and_count_by_each_vendors_rule() -> None:
    """In the estimate of tokens and in what is reserved; who cannot see is left out by name."""
    prompt = Prompt((Message(Role.USER, parts=(Image(b"x"), Text("What is this?"))),), 100)
    made = plan_images(prompt, SHOWN)
    text = estimate_input_tokens(prompt)
    expected = {"openai/m": 765, "anthropic/m": 1334, "gemini/m": 258 * 4, "bedrock/m": 1334}
    assert {c.target: c.input_tokens - text for c in made.candidates} == expected
    assert {c.target: c.estimated_micro_usd - text - 100 for c in made.candidates} == expected
    assert [(c.target, c.excluded) for c in made.excluded] == [("blind/m", "cannot do image")]


def test_addresses_go_to_those_who_fetch_them() -> None:
    """Of images and of documents, each by a capability of its own."""
    for part, able in (
        (Image(url="https://a.example/b.png"), {"openai/m", "anthropic/m"}),
        (File(url="https://a.example/b.pdf"), {"anthropic/m"}),
        (File(b"x"), {"openai/m", "anthropic/m", "gemini/m", "bedrock/m"}),
    ):
        made = plan_images(Prompt((Message(Role.USER, parts=(part,)),), 100), ())
        assert set(order(made)) == able


def test_more_than_a_vendor_takes_goes_to_another() -> None:
    """By number and size as it documents them, and by its context window."""
    prompt = Prompt((Message(Role.USER, parts=(Image(b"x"),)),), 100)
    made = plan_images(prompt, (SentImage(8, 8, 4_000_000, "image/gif"),))
    assert {c.target: c.excluded for c in made.excluded} == {
        "blind/m": "cannot do image",
        "gemini/m": "does not take image/gif",
        "bedrock/m": "takes images of at most 3750000 bytes",
    }
    assert "do not fit" in plan_images(prompt, SHOWN * 20).excluded[1].excluded


def test_a_provider_that_cannot_be_called_is_left_out_with_its_reason() -> None:
    """Without its key, say: also in a total outage."""
    found = catalog([A], [B])
    for state in (UNKNOWN, TargetHealth(Availability.DOWN, reason="open", trial=True)):
        made = make_plan(
            entries_for(found, found.policy_for(TENANT, "general"), ()),
            PlanRequest(generation(), TENANT, found.policies["default"]),
            Conditions(
                lambda m, state=state: state,  # type: ignore[misc]
                lambda provider, m, usage, at, answered: PRICES[m.id],
                0.0,
                lambda provider: "set A_KEY" if provider.name == "a" else "",
            ),
            WeightedScorer(),
            Random(1),
        )
        assert order(made) == ["b/m"]
        assert [c.excluded for c in made.excluded] == ["set A_KEY"]


@pytest.mark.parametrize("seed", range(20))
def test_regression_the_strategy_that_the_caller_asks_for_stands_before_weights(seed: int) -> None:
    """Named regression: `--strategy cost_first` bought the dear model three times of four where one model of the tier
    had a weight. A weight of 0 stays last; a strategy that the caller did not ask for changes no weights."""
    weighted = catalog([A, B, C], weights={"a/m": 2, "b/m": 1, "c/m": 0})
    asked = plan(weighted, generation(strategy=Strategy.COST_FIRST, strategy_asked=True), seed=seed)
    assert order(asked) == ["b/m", "a/m", "c/m"]
    assert asked.candidates[0].reason is SelectionReason.COST
    default = plan(weighted, generation(strategy=Strategy.COST_FIRST), seed=seed)
    assert default.candidates[0].reason is SelectionReason.LOAD_BALANCE


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("seed", range(20))
def test_regression_scores_compare_the_models_of_one_tier(strategy: Strategy, seed: int) -> None:
    """Named regression: a free last resort made every paid model's cost score 0.01. Models of other tiers, however
    cheap or fast, change neither order nor scores of a tier."""
    rng = Random(seed)
    tier = [model(f"t{n}/m", quality=rng.random()) for n in range(4)]
    others = [model(f"o{n}/m", quality=rng.random()) for n in range(3)]
    prices = {m.id: rng.randrange(1, 1000) for m in tier} | {m.id: rng.choice([0, 1, 5000]) for m in others}
    states = {m.id: TargetHealth(latency=rng.choice([None, 0.001, 0.5, 3.0])) for m in [*tier, *others]}

    def scored(*tiers: list[Model]) -> list[tuple[str, float, float]]:
        found = catalog(*tiers)
        made = make_plan(
            entries_for(found, found.policy_for(TENANT, "general"), ()),
            PlanRequest(generation(strategy=strategy), TENANT, found.policies["default"]),
            Conditions(
                lambda m: states[m.id],
                lambda provider, m, usage, at, answered: prices[m.id],
                0.0,
                lambda provider: "",
            ),
            WeightedScorer(),
            Random(1),
        )
        return [(c.target, c.scores.cost, c.scores.total) for c in made.candidates]

    alone, beside = scored(tier), scored(tier, others)
    assert beside[: len(tier)] == alone
    assert max(cost for _, cost, _ in alone) == 1.0
