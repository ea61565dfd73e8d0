"""Features that a model refuses: learned for the tenant that met it, then for all, for a bounded time."""

from __future__ import annotations

from random import Random

import pytest

from libs.catalog.model import Provider
from libs.conversation import Message, ReasoningEffort, Role
from libs.errors import FailedPrecondition, InvalidArgument, Unavailable
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.router.request.features import Feature, Unsupported
from services.router.request.generation import Prompt, ProviderFailure
from services.router.set_aside.combinations import RULES, Call, CombinationKind
from services.router.set_aside.entry import SetAsideEntry
from services.router.set_aside.patterns import Patterns
from tests.support.routing import TENANT, Harness, catalog, generation, model

HERE = ErrorClass.UNSUPPORTED_HERE
SAMPLING = Unsupported(Feature.SAMPLING)


def call(
    *,
    tenant: str = "acme",
    temperature: float | None = 0.5,
    effort: ReasoningEffort | None = None,
    target: str = "a/m",
    text: str = "x",
) -> Call:
    chosen = model(target)
    prompt = Prompt((Message(Role.USER, text),), 100, temperature=temperature, reasoning_effort=effort)
    provider = Provider(chosen.provider, "openai_compatible", "http://p.test/v1")
    return Call(provider, chosen, generation(tenant=tenant, prompt=prompt), False)


def learner() -> Patterns:
    return Patterns(Random(1), lambda _: "1")


def refuse(
    patterns: Patterns, now: float, made: Call, what: Unsupported | None = SAMPLING, *, explicit: bool = True
) -> SetAsideEntry | None:
    return patterns.record_failure(now, now, made, HERE, explicit=explicit, unsupported=what)


def avoided(patterns: Patterns, now: float, made: Call) -> bool:
    verdict = patterns.verdict(now, made)
    return verdict is not None and verdict.seconds is not None


def test_two_refusals_are_enough_for_the_tenant_and_its_feature_alone() -> None:
    """Other tenants, requests without the feature, and other models of the provider are called as before."""
    patterns = learner()
    assert refuse(patterns, 0.0, call()) is None
    entry = refuse(patterns, 1.0, call())
    assert entry is not None
    assert (entry.combination.name, entry.combination.features) == ("feature:acme/sampling@a/m", ["sampling"])
    assert entry.reason == "a said 2 times in a row that it does not support sampling here"
    assert avoided(patterns, 2.0, call(text="another prompt"))
    assert not avoided(patterns, 2.0, call(temperature=None))
    assert not avoided(patterns, 2.0, call(tenant="globex"))
    assert not avoided(patterns, 2.0, call(target="a/other"))


@pytest.mark.parametrize("explicit", [True, False])
def test_when_another_tenant_meets_the_same_it_is_avoided_for_all(explicit: bool) -> None:
    """One tenant alone, however often and whatever it sends, takes nothing from others."""
    patterns = learner()
    for number in range(20):
        refuse(patterns, float(number), call(text=f"{number}"), explicit=explicit)
    assert not avoided(patterns, 20.0, call(tenant="initech"))
    refuse(patterns, 21.0, call(tenant="globex"), explicit=explicit)
    assert avoided(patterns, 22.0, call(tenant="initech"))
    assert "feature:sampling@a/m" in [entry.combination.name for entry in patterns.entries(22.0)]


def test_an_answer_with_the_feature_ends_the_suspicion_and_the_setting_aside() -> None:
    """And so does an operator; a new catalog lets it be tried at once."""
    patterns = learner()
    refuse(patterns, 0.0, call())
    patterns.record_success(1.0, 1.0, call())
    assert refuse(patterns, 2.0, call()) is None
    refuse(patterns, 3.0, call())
    assert avoided(patterns, 4.0, call())
    patterns.allow_trials(5.0)
    assert not avoided(patterns, 6.0, call())
    assert patterns.begin_call(6.0, call())
    assert [entry.combination.kind for entry in patterns.record_success(7.0, 6.0, call())] == [
        CombinationKind.FEATURE
    ]
    for now in (8.0, 9.0):
        refuse(patterns, now, call())
    assert patterns.clear("feature:acme/sampling@a/m") is not None
    assert not avoided(patterns, 10.0, call())


def test_it_is_avoided_for_a_bounded_time_and_then_tried_by_one_call() -> None:
    """A failed trial sets it aside for longer, up to an hour."""
    patterns = learner()
    refuse(patterns, 0.0, call())
    refuse(patterns, 0.0, call())
    rule, until = RULES[CombinationKind.FEATURE], 0.0
    for _ in range(12):
        [entry] = [e for e in patterns.entries(until) if e.combination.tenant]
        assert rule.base <= entry.until - entry.since <= rule.cap + 0.2 * rule.base
        until = entry.until
        assert not avoided(patterns, until, call())
        assert patterns.begin_call(until, call())
        assert avoided(patterns, until, call())
        refuse(patterns, until, call())


def test_one_effort_of_reasoning_does_not_take_the_others() -> None:
    """A model without `none` has `high`."""
    patterns = learner()
    asked = call(temperature=None, effort=ReasoningEffort.NONE)
    for now in (0.0, 1.0):
        refuse(patterns, now, asked, Unsupported(Feature.REASONING))
    assert avoided(patterns, 2.0, asked)
    assert not avoided(patterns, 2.0, call(temperature=None, effort=ReasoningEffort.HIGH))


def test_a_refusal_that_names_nothing_of_the_request_blames_its_kind() -> None:
    """As a refused request does: several different ones, while others are answered."""
    patterns = learner()
    for number in range(5):
        refuse(patterns, float(number), call(text=f"{number}"), Unsupported(Feature.TOOLS))
        patterns.record_success(float(number), float(number), call(temperature=None))
    assert [entry.combination.kind for entry in patterns.entries(9.0)] == [CombinationKind.SHAPE]


def test_a_days_quota_is_learned_until_it_is_whole_again() -> None:
    """By the first call, for that model alone; while another tenant is answered there it is not believed at once."""
    patterns = learner()
    made = call()
    entry = patterns.record_failure(0.0, 0.0, made, ErrorClass.QUOTA_EXHAUSTED, quota_back=40_000.0)
    assert entry is not None
    assert (entry.combination.name, entry.error_class) == ("key:a/m", ErrorClass.QUOTA_EXHAUSTED)
    assert 40_000.0 <= entry.until <= 40_000.0 + 300.0
    assert avoided(patterns, 39_999.0, call(temperature=None, tenant="globex"))
    assert not avoided(patterns, 1.0, call(target="a/other"))
    assert patterns.record_failure(1.0, 1.0, made, ErrorClass.QUOTA_EXHAUSTED, quota_back=40_000.0) is None
    doubted = learner()
    doubted.record_success(0.0, 0.0, call(tenant="globex"))
    assert doubted.record_failure(1.0, 1.0, made, ErrorClass.QUOTA_EXHAUSTED, quota_back=40_000.0) is None


def unsupported() -> ProviderFailure:
    return ProviderFailure(HERE, "temperature is not supported", unsupported=SAMPLING)


async def test_the_fallback_serves_and_nothing_else_suffers() -> None:
    """No circuit hears of a fault, no retry is spent, and after two refusals the model is passed over."""
    known = catalog([model("a/m")], [model("b/m")])
    h = Harness(known, {"a/m": [unsupported()], "b/m": ["fine"]})
    prompt = Prompt((Message(Role.USER, "x"),), 100, temperature=0.5)
    for number in range(4):
        made = generation(request_id=f"r{number}", deadline=9e9, prompt=prompt)
        assert (await h.generate.whole(known, TENANT, made)).text == "fine"
    assert h.providers.calls == ["a/m", "b/m", "a/m", "b/m", "b/m", "b/m"]
    assert [entry.combination.kind for entry in h.set_aside.entries()] == [CombinationKind.FEATURE]
    assert {error for target, error in h.health.outcomes if target == "a/m"} == {HERE}
    assert HERE not in PROVIDER_FAULTS


@pytest.mark.parametrize(
    ("failures", "error", "reason"),
    [
        ([HERE, HERE], FailedPrecondition, "UNSUPPORTED_HERE"),
        ([HERE, ErrorClass.INVALID_REQUEST], FailedPrecondition, "UNSUPPORTED_HERE"),
        ([HERE, ErrorClass.CONTEXT_TOO_LONG], FailedPrecondition, "UNSUPPORTED_HERE"),
        ([HERE, ErrorClass.SERVER_ERROR], Unavailable, "PROVIDERS_FAILED"),
        ([ErrorClass.INVALID_REQUEST, HERE], InvalidArgument, "INVALID_REQUEST"),
    ],
)
async def test_the_caller_hears_what_nobody_supports(
    failures: list[ErrorClass], error: type[Exception], reason: str
) -> None:
    """With what each said; where another only failed, the same call may succeed later."""
    known = catalog([model("a/m")], [model("b/m")])
    first, second = (ProviderFailure(failure, f"it is {failure}") for failure in failures)
    h = Harness(known, {"a/m": [first], "b/m": [second]})
    with pytest.raises(error) as caught:
        await h.generate.whole(known, TENANT, generation(deadline=9e9))
    assert caught.value.reason == reason  # type: ignore[attr-defined]
