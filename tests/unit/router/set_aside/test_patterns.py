"""Set-aside after repeated failures: its causes, what is never set aside, and how it comes back."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.catalog.model import Provider
from libs.conversation import File, Image, Message, ReasoningEffort, ResponseFormat, Role, Tool
from libs.errors import InvalidArgument, NotFound, Unavailable
from libs.types import ErrorClass
from services.router.health.target_health import Availability
from services.router.request.generation import Prompt
from services.router.set_aside import patterns, suspicion
from services.router.set_aside.combinations import RULES, Call, CombinationKind, shape_of
from services.router.set_aside.features import FEATURES
from services.router.set_aside.patterns import Patterns
from tests.support.routing import TENANT, Harness, catalog, fail, generation, model

NOT_FOUND, INVALID, REFUSED = (
    ErrorClass.MODEL_NOT_FOUND,
    ErrorClass.INVALID_REQUEST,
    ErrorClass.CONTENT_REFUSED,
)
FAULT = ErrorClass.SERVER_ERROR


def call(
    target: str = "a/m",
    text: str = "x",
    *,
    tenant: str = "acme",
    schema: bool = False,
    region: str = "",
) -> Call:
    chosen = model(target)
    shape = ResponseFormat('{"type": "object"}') if schema else None
    prompt = Prompt((Message(Role.USER, text),), 100, response_format=shape)
    provider = Provider(chosen.provider, "openai_compatible", "http://p.test/v1", region=region)
    return Call(provider, chosen, generation(tenant=tenant, prompt=prompt), False)


def one_key(provider: Provider) -> str:
    """Returns the version of a key that is never replaced."""
    return "1"


def fails(learner: Patterns, now: float, made: Call, error_class: ErrorClass, times: int) -> None:
    """A call that fails `times` times, each with another prompt."""
    for n in range(times):
        prompt = replace_text(made, f"{error_class} {n}")
        learner.record_failure(now, now, prompt, error_class)


def replace_text(made: Call, text: str) -> Call:
    """The same kind of request with another prompt."""
    old = made.generation.prompt
    prompt = Prompt((Message(Role.USER, text),), 100, response_format=old.response_format)
    return Call(
        made.provider, made.model, generation(tenant=made.generation.tenant, prompt=prompt), made.stream
    )


def succeeds(learner: Patterns, now: float, made: Call, times: int = 1) -> None:
    for _ in range(times):
        learner.record_success(now, now, made)


def closed(learner: Patterns, now: float, made: Call) -> bool:
    verdict = learner.verdict(now, made)
    return verdict is not None and verdict.seconds is not None


def test_a_retired_model_is_set_aside_for_all_tenants_but_not_its_provider() -> None:
    """Three MODEL_NOT_FOUND in a row, whoever asked, set the model aside; other models of the provider stay."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call(), NOT_FOUND, 2)
    assert not closed(learner, 0.0, call())
    fails(learner, 1.0, call(tenant="globex"), NOT_FOUND, 1)
    assert closed(learner, 1.0, call(tenant="initech"))
    assert not closed(learner, 1.0, call("a/other"))


def test_a_success_between_failures_is_the_end_of_a_suspicion() -> None:
    """Only failures in a row count."""
    learner = Patterns(Random(1), one_key)
    for now in range(20):
        fails(learner, float(now), call(), NOT_FOUND, 2)
        succeeds(learner, float(now), call())
    assert len(learner) == 0


def test_failures_hours_apart_are_no_pattern() -> None:
    """Failures that happen once in a while are not one pattern."""
    learner = Patterns(Random(1), one_key)
    for hour in range(10):
        fails(learner, hour * (patterns.MEMORY + 1), call(), NOT_FOUND, 1)
    assert len(learner) == 0


def test_a_bad_key_needs_several_models() -> None:
    """Account failures of one model are its breaker's business; of two models, the provider's key is bad."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call("a/m"), ErrorClass.AUTHENTICATION, 10)
    assert not closed(learner, 0.0, call("a/third"))
    fails(learner, 0.0, call("a/other"), ErrorClass.QUOTA_EXHAUSTED, 1)
    assert closed(learner, 0.0, call("a/third"))
    assert not closed(learner, 0.0, call("b/m"))


def test_a_shape_is_blamed_only_while_others_succeed_there() -> None:
    """Five different prompts with a schema refused, while plain ones are served, set aside schemas alone."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call(schema=True), INVALID, 20)
    assert len(learner) == 0
    succeeds(learner, 0.0, call(), suspicion.CONTRAST)
    fails(learner, 0.0, call(schema=True), INVALID, 1)
    assert closed(learner, 0.0, call(schema=True))
    assert not closed(learner, 0.0, call())
    assert not closed(learner, 0.0, call("a/other", schema=True))


def test_one_tenants_bad_requests_never_hurt_another() -> None:
    """The same shape of another tenant is still called."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call(schema=True), INVALID, 1)
    succeeds(learner, 0.0, call(), suspicion.CONTRAST)
    fails(learner, 0.0, call(schema=True), INVALID, 50)
    assert closed(learner, 0.0, call(schema=True))
    assert not closed(learner, 0.0, call(schema=True, tenant="globex"))


def test_the_same_prompt_again_and_again_proves_nothing() -> None:
    """A caller who repeats one bad request does not set its shape aside."""
    learner = Patterns(Random(1), one_key)
    learner.record_failure(0.0, 0.0, call(schema=True), INVALID)
    succeeds(learner, 0.0, call(), 100)
    for _ in range(100):
        learner.record_failure(0.0, 0.0, call(schema=True), INVALID)
    assert len(learner) == 0


def test_a_shape_is_named_by_what_it_uses() -> None:
    """Tenant, content type and every feature beyond plain text, in words."""
    prompt = Prompt(
        (Message(Role.SYSTEM, "s"), Message(Role.USER, parts=(Image(b"x"), File(b"x")))),
        100,
        temperature=0.0,
        top_p=1.0,
        seed=0,
        stop_sequences=(".",),
        response_format=ResponseFormat("{}"),
        tools=(Tool("t"),),
        tool_choice="auto",
        reasoning_effort=ReasoningEffort.LOW,
        presence_penalty=0.0,
    )
    made = call()
    shape = shape_of(Call(made.provider, made.model, generation(prompt=prompt), True))
    assert shape.features == [name for name in FEATURES if name != "json"]
    assert shape_of(call()).name == "shape:acme/general/plain@a/m"
    assert shape_of(call(schema=True)).name == "shape:acme/general/json_schema@a/m"
    json = Prompt((Message(Role.USER, "u"),), 100, response_format=ResponseFormat())
    assert shape_of(Call(made.provider, made.model, generation(prompt=json), False)).features == ["json"]


def test_refused_content_needs_twice_the_evidence() -> None:
    """Content is refused for what it says; ten different prompts say something about the shape."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call(schema=True), REFUSED, 1)
    succeeds(learner, 0.0, call(), suspicion.CONTRAST)
    fails(learner, 0.0, call(schema=True), REFUSED, suspicion.REFUSALS - 1)
    assert len(learner) == 0
    learner.record_failure(0.0, 0.0, call(schema=True, text="another"), REFUSED)
    assert closed(learner, 0.0, call(schema=True))


def test_a_region_fails_when_several_of_its_providers_do_and_others_work() -> None:
    """Two providers of a region down at once, another region up: the third provider of the region is spared."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call("a/m", region="eu"), FAULT, 2)
    succeeds(learner, 0.5, call("d/m", region="us"))
    fails(learner, 1.0, call("b/m", region="eu"), FAULT, 1)
    assert not closed(learner, 1.0, call("c/m", region="eu"))
    fails(learner, 1.0, call("b/m", region="eu"), FAULT, 1)
    assert closed(learner, 1.0, call("c/m", region="eu"))
    assert not closed(learner, 1.0, call("d/m", region="us"))


def test_a_total_outage_is_no_regions_fault() -> None:
    """Nothing is set aside while nobody works anywhere, so recovery is as fast as the breakers'."""
    learner = Patterns(Random(1), one_key)
    succeeds(learner, 0.0, call("d/m", region="us"))
    for name in "abd":
        fails(learner, 1.0, call(f"{name}/m", region="us" if name == "d" else "eu"), FAULT, 20)
    assert len(learner) == 0


def test_a_region_with_a_working_provider_is_not_failing() -> None:
    """One success in the region is proof of the contrary."""
    learner = Patterns(Random(1), one_key)
    fails(learner, 0.0, call("a/m", region="eu"), FAULT, 5)
    succeeds(learner, 0.0, call("d/m", region="us"))
    succeeds(learner, 0.0, call("c/m", region="eu"))
    fails(learner, 0.0, call("b/m", region="eu"), FAULT, 5)
    assert len(learner) == 0


def retired(learner: Patterns, now: float = 0.0) -> float:
    """Sets a/m aside; until when."""
    fails(learner, now, call(), NOT_FOUND, 3)
    return learner.entries(now)[0].until


def test_expiry_lets_exactly_one_trial_through_and_its_success_puts_back() -> None:
    """After its time one call goes; the others wait for what it shows."""
    learner = Patterns(Random(1), one_key)
    until = retired(learner)
    assert not learner.begin_call(until - 1, call())
    assert not closed(learner, until, call())
    assert learner.begin_call(until, call())
    assert not learner.begin_call(until, call())
    assert closed(learner, until, call())
    [back] = learner.record_success(until + 1, until, call())
    assert back.combination.name == "model:a/m"
    assert learner.verdict(until + 1, call()) is None


def test_a_failed_trial_doubles_the_time_up_to_a_cap() -> None:
    """The time grows, is bounded, and no two combinations end in step."""
    learner = Patterns(Random(1), one_key)
    rule, spans = RULES[CombinationKind.MODEL], []
    now = 0.0
    until = retired(learner)
    for _ in range(12):
        spans.append(until - now)
        now = until
        assert learner.begin_call(now, call())
        learner.record_failure(now, now, call(), NOT_FOUND)
        until = learner.entries(now)[0].until
    for n, span in enumerate(spans):
        planned = min(rule.cap, rule.base * patterns.GROWTH**n)
        assert planned <= span <= planned * (1 + patterns.JITTER)
    assert len(set(spans)) == len(spans)


def test_a_lost_trial_gives_way_to_the_next() -> None:
    """A trial whose caller left blocks nobody for longer than TRIAL."""
    learner = Patterns(Random(1), one_key)
    until = retired(learner)
    assert learner.begin_call(until, call())
    assert not learner.begin_call(until + patterns.TRIAL - 1, call())
    assert learner.begin_call(until + patterns.TRIAL, call())


def test_a_trial_that_fails_otherwise_lets_the_next_try_at_once() -> None:
    """An overload says nothing about whether the model exists."""
    learner = Patterns(Random(1), one_key)
    until = retired(learner)
    assert learner.begin_call(until, call())
    learner.record_failure(until, until, call(), ErrorClass.OVERLOADED)
    assert learner.begin_call(until, call())


def test_calls_that_began_before_say_nothing() -> None:
    """A late outcome neither puts back nor extends."""
    learner = Patterns(Random(1), one_key)
    until = retired(learner, 100.0)
    assert learner.record_success(101.0, 99.0, call()) == []
    assert learner.record_failure(until, 99.0, call(), NOT_FOUND) is None
    assert learner.entries(until)[0].times == 1


def test_a_relapse_goes_on_growing() -> None:
    """Set aside again soon after it was put back, a combination stays away longer than the first time."""
    learner = Patterns(Random(1), one_key)
    until = retired(learner)
    learner.begin_call(until, call())
    succeeds(learner, until, call())
    again = retired(learner, until)
    assert again - until >= RULES[CombinationKind.MODEL].base * patterns.GROWTH


def test_an_operators_word_forgets_all() -> None:
    """Cleared, it is called at once, and its next time is the first."""
    learner = Patterns(Random(1), one_key)
    retired(learner)
    assert learner.clear("model:a/other") is None
    assert learner.clear("model:a/m") is not None
    assert learner.verdict(0.0, call()) is None
    retired(learner)
    assert learner.entries(0.0)[0].times == 1


def test_what_nobody_tries_is_forgotten() -> None:
    """Without traffic an entry does not stay for ever."""
    learner = Patterns(Random(1), one_key)
    until = retired(learner)
    assert learner.entries(until + patterns.FORGIVE + 1) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of tenants and failures leaves a bounded number of suspicions and entries."""
    monkeypatch.setattr(patterns, "MAX_SUSPICIONS", 50)
    monkeypatch.setattr(patterns, "MAX_SET_ASIDE", 20)
    learner = Patterns(Random(1), one_key)
    for n in range(300):
        fails(learner, float(n), call(tenant=f"t{n}", schema=True), INVALID, 1)
        fails(learner, float(n), call(f"p{n}/m"), NOT_FOUND, 3)
    assert len(learner) == 20
    assert len(learner._suspicions) <= 50


OUTCOMES = st.lists(
    st.tuples(
        st.floats(0, 400),
        st.sampled_from(["a/m", "a/n", "b/m", "c/m"]),
        st.sampled_from(["acme", "globex"]),
        st.booleans(),
        st.integers(0, 30),
        st.sampled_from([None, None, NOT_FOUND, INVALID, REFUSED, ErrorClass.AUTHENTICATION, FAULT]),
    ),
    max_size=150,
)
REGIONS = {"a/m": "eu", "a/n": "eu", "b/m": "eu", "c/m": "us"}


@settings(max_examples=150, deadline=None)
@given(OUTCOMES, st.integers(0, 2**32))
def test_whatever_happens_there_is_evidence_and_a_way_back(
    outcomes: list[tuple[float, str, str, bool, int, ErrorClass | None]], seed: int
) -> None:
    """In any history: an entry has at least as many failures of its own kind as its rule wants without a success
    since it was last put back, a shape is blamed for its own tenant alone, and after its time one success puts an
    entry back."""
    learner = Patterns(Random(seed), one_key)
    now = 0.0
    since: list[tuple[Call, ErrorClass]] = []
    for wait, target, tenant, schema, text, error_class in outcomes:
        now += wait
        made = call(target, str(text), tenant=tenant, schema=schema, region=REGIONS[target])
        if error_class is None:
            learner.record_success(now, now, made)
            continue
        since.append((made, error_class))
        entry = learner.record_failure(now, now, made, error_class)
        if entry is None:
            continue
        found = entry.combination
        mine = [
            c
            for c, e in since
            if (found.kind is not CombinationKind.SHAPE or c.generation.tenant == found.tenant)
            and (found.kind is CombinationKind.REGION or c.provider.name == found.provider)
        ]
        assert len(mine) >= found.rule.failures
        assert entry.since == now < entry.until
        assert entry.until - now <= RULES[found.kind].cap * (1 + patterns.JITTER)
    for target, region in REGIONS.items():
        for tenant in ("acme", "globex"):
            for schema in (False, True):
                made = call(target, tenant=tenant, schema=schema, region=region)
                while closed(learner, now, made):
                    verdict = learner.verdict(now, made)
                    assert verdict is not None
                    assert verdict.seconds is not None
                    assert verdict.seconds > 0
                    now += verdict.seconds + 0.001
                assert learner.begin_call(now, made)
                learner.record_success(now, now, made)
                assert learner.verdict(now, made) is None


A, B = model("a/m"), model("b/m")


async def test_generate_stops_asking_for_a_retired_model() -> None:
    """Three callers find out that it is gone; the rest go to the next at once, with the reason in the plan."""
    h = Harness(catalog([A], [B]), {"a/m": [fail(NOT_FOUND)], "b/m": ["fine"]})
    for n in range(10):
        await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{n}", deadline=9e9))
    assert h.providers.calls.count("a/m") == 3
    [entry] = h.set_aside.entries()
    assert entry.combination.name == "model:a/m"
    assert "no such model" in entry.reason


async def test_with_nobody_else_a_retired_model_is_unavailable_with_a_time() -> None:
    """Nothing is called in vain, and the caller is told when to come back."""
    h = Harness(catalog([A]), {"a/m": [fail(NOT_FOUND)]})
    for n in range(3):
        with pytest.raises(Unavailable):
            await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{n}", deadline=9e9))
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation(deadline=9e9))
    assert h.providers.calls == ["a/m"] * 3
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 200


async def refuse_schemas(h: Harness) -> None:
    """Plain requests succeed at a/m, those with a schema are refused, until they are set aside."""
    shape = ResponseFormat('{"type": "object"}')
    h.script["a/m"][:] = [fail(INVALID), "ok", "ok", "ok"] + [fail(INVALID)] * 5
    for n in range(8):
        plain = n in (1, 2, 3)
        prompt = Prompt((Message(Role.USER, f"p{n}"),), 100, response_format=None if plain else shape)
        request = generation(request_id=f"s{n}", prompt=prompt, deadline=9e9)
        if plain:
            await h.generate.whole(h.catalog, TENANT, request)
        else:
            with pytest.raises(InvalidArgument):
                await h.generate.whole(h.catalog, TENANT, request)
    assert [e.combination.kind for e in h.set_aside.entries()] == [CombinationKind.SHAPE]


def with_schema(request_id: str) -> object:
    prompt = Prompt(
        (Message(Role.USER, request_id),), 100, response_format=ResponseFormat('{"type": "object"}')
    )
    return generation(request_id=request_id, prompt=prompt, deadline=9e9)


async def test_a_refused_shape_goes_elsewhere_and_its_trial_costs_no_caller_an_error() -> None:
    """Set aside, the shape is served by the next provider; the trial's refusal is followed by the next, too."""
    h = Harness(catalog([A], [B]), {"a/m": ["ok"], "b/m": ["fine"]})
    await refuse_schemas(h)
    before = h.providers.calls.count("a/m")
    assert (await h.generate.whole(h.catalog, TENANT, with_schema("x1"))).text == "fine"  # type: ignore[arg-type]
    assert h.providers.calls.count("a/m") == before
    h.clock.advance(RULES[CombinationKind.SHAPE].base * 1.3)
    assert (await h.generate.whole(h.catalog, TENANT, with_schema("x2"))).text == "fine"  # type: ignore[arg-type]
    assert h.providers.calls.count("a/m") == before + 1
    assert h.set_aside.entries()[0].times == 2
    h.assert_settled()


async def test_a_refused_shape_that_nobody_else_serves_gets_the_providers_own_answer() -> None:
    """The last one left is asked after all: the caller learns what is wrong, not that all are down."""
    h = Harness(catalog([A]), {"a/m": ["ok"]})
    await refuse_schemas(h)
    with pytest.raises(InvalidArgument):
        await h.generate.whole(h.catalog, TENANT, with_schema("x1"))  # type: ignore[arg-type]
    h.assert_settled()


async def test_a_new_catalog_is_tried_at_once() -> None:
    """A mended name or key does not wait for the old one's time to pass."""
    h = Harness(catalog([A], [B]), {"a/m": [fail(NOT_FOUND)] * 3 + ["back"], "b/m": ["fine"]})
    for n in range(4):
        await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{n}", deadline=9e9))
    mended = replace(h.catalog, version="000000000002")
    answer = await h.generate.whole(mended, TENANT, generation(deadline=9e9))
    assert answer.text == "back"
    assert h.set_aside.entries() == []


async def test_an_operator_puts_back_by_name() -> None:
    """NOT_FOUND for what is not set aside."""
    h = Harness(catalog([A], [B]), {"a/m": [fail(NOT_FOUND)] * 3 + ["back"], "b/m": ["fine"]})
    for n in range(4):
        await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{n}", deadline=9e9))
    with pytest.raises(NotFound):
        h.set_aside.clear("model:b/m")
    h.set_aside.clear("model:a/m")
    assert (await h.generate.whole(h.catalog, TENANT, generation(deadline=9e9))).text == "back"


async def test_a_plan_is_no_trial() -> None:
    """A dry run shows a due combination as available and leaves the trial to a real call."""
    h = Harness(catalog([A], [B]), {"a/m": [fail(NOT_FOUND)], "b/m": ["fine"]})
    for n in range(3):
        await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{n}", deadline=9e9))
    h.clock.advance(RULES[CombinationKind.MODEL].base * 1.3)
    for _ in range(3):
        seen = h.set_aside.view(h.health.health_of, h.catalog, generation(), stream=False)(A)
        assert seen.availability is Availability.HEALTHY
