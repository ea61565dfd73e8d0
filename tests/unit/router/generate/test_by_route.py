"""A provider with several keys and endpoints loses one of them, and no call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from libs.answer import Delta, LimitState, Selected
from libs.catalog.catalog import Catalog
from libs.catalog.model import Provider
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.errors import InvalidArgument, ResourceExhausted, Unavailable
from libs.limits import Period, Unit
from libs.types import ErrorClass, RoutePart
from services.router.ledger.usage_record import Outcome
from services.router.routes.outages import LAST_RESORT
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

A, B, C = ProviderKey("A"), ProviderKey("B"), ProviderKey("C")
EU, US = ProviderEndpoint("http://eu.test"), ProviderEndpoint("http://us.test")
KEYS = {"A": "key-a", "B": "key-b", "C": "key-c"}
REFUSED = fail(ErrorClass.AUTHENTICATION, status=401)
UNREACHABLE = fail(ErrorClass.TRANSPORT, retry_same=True)


def pooled(*targets: str, **of_a: Any) -> Catalog:
    """A catalog of these models, one a tier, whose provider `a` has these keys and endpoints."""
    found = catalog(*([model(target)] for target in targets or ("a/m",)))
    pool = Provider("a", "openai_compatible", "http://a.test/v1", **of_a)
    return replace(found, providers={**found.providers, "a": pool})


def harness(found: Catalog, script: Mapping[str, list[object]], **more: Any) -> Harness:
    return Harness(found, dict(script), environ=dict(KEYS), **more)


def faults(harness: Harness) -> list[ErrorClass]:
    """The failures that health was told of."""
    return [f for _, f in harness.health.outcomes if f not in (None, ErrorClass.CANCELLED)]


async def ask(harness: Harness, **changes: Any) -> Any:
    return await harness.generate.whole(harness.catalog, TENANT, generation(**changes))


async def test_a_refused_key_is_replaced_at_once_and_left_alone() -> None:
    """The request gets its answer by the other key, later ones go there directly, and the attempt says that the key
    changed and not the provider, whose health hears of no failure."""
    live = harness(pooled(keys=(A, B)), {"A": [REFUSED], "B": ["fine"]})
    switched = []
    for number in range(20):
        result = await ask(live, request_id=f"r{number}")
        assert result.text == "fine"
        switched += [attempt.switched for attempt in result.attempts if attempt.switched]
    assert switched == [RoutePart.KEY]
    assert live.providers.routes.count(("A", "a.test/v1")) == 1
    assert faults(live) == []
    assert len(live.set_aside.entries()) == 0
    live.assert_settled()
    # For the request it was no failover.
    assert not any(record.failed_over for record in live.spool.requests)
    refused = next(r for r in live.spool.ended if r.outcome is Outcome.FAILURE)
    assert (refused.key, refused.endpoint, refused.switched) == ("A", "a.test/v1", None)
    after = next(r for r in live.spool.ended if r.switched)
    assert (after.key, after.switched, after.request_id) == ("B", RoutePart.KEY, refused.request_id)


async def test_a_failed_endpoint_is_replaced_at_once_and_left_alone() -> None:
    """Each way in which one address fails sends the request to the other, with the same key."""
    for fault in (
        UNREACHABLE,
        fail(ErrorClass.TIMEOUT),
        fail(ErrorClass.OVERLOADED, status=503, retry_same=True),
        fail(ErrorClass.SERVER_ERROR, status=502, retry_same=True),
        fail(ErrorClass.SERVER_ERROR, status=504, retry_same=True),
    ):
        found = pooled(api_key_env="A", endpoints=(replace(EU, weight=1000), US))
        live = harness(found, {"eu.test": [fault], "us.test": ["fine"]})
        result = await ask(live)
        assert result.text == "fine"
        assert [attempt.switched for attempt in result.attempts] == [None, RoutePart.ENDPOINT]
        assert live.providers.routes == [("A", "eu.test"), ("A", "us.test")]
        assert faults(live) == []


async def test_a_fault_of_the_provider_stays_the_providers() -> None:
    """A 500 names neither key nor endpoint: it counts against the target, and another provider is asked."""
    found = pooled("a/m", "b/m", keys=(A, B), endpoints=(EU, US))
    live = harness(found, {"a/m": [fail(ErrorClass.SERVER_ERROR, status=500)], "b/m": ["fine"]})
    result = await ask(live)
    assert [attempt.provider for attempt in result.attempts] == ["a", "b"]
    assert [attempt.switched for attempt in result.attempts] == [None, None]
    assert faults(live) == [ErrorClass.SERVER_ERROR]


async def test_the_last_endpoint_that_fails_counts_against_the_provider() -> None:
    """As no other serves, its breaker sees the fault, and calls go on by way of it."""
    found = pooled("a/m", "b/m", endpoints=(EU, US))
    live = harness(found, {"a/m": [fail(ErrorClass.TIMEOUT)], "b/m": ["fine"]})
    result = await ask(live)
    assert [attempt.provider for attempt in result.attempts] == ["a", "a", "b"]
    assert faults(live) == [ErrorClass.TIMEOUT]
    assert (await ask(live, request_id="r2")).text == "fine"


async def test_without_any_key_that_serves_the_provider_is_down() -> None:
    """Its models leave the plans with a reason that names no variable, until a key comes back."""
    live = harness(pooled(keys=(A, B)), {"A": [REFUSED], "B": [REFUSED]})
    with pytest.raises(Unavailable) as first:
        await ask(live)
    assert first.value.reason == "PROVIDER_KEY_REFUSED"
    assert len(live.providers.calls) == 2
    with pytest.raises(Unavailable) as second:
        await ask(live, request_id="r2")
    assert second.value.reason == "PROVIDERS_DOWN"
    assert "each of its keys is refused, used up or missing" in second.value.message
    assert 0 < (second.value.retry_after or 0.0) <= LAST_RESORT
    assert len(live.providers.calls) == 2


async def test_with_nobody_else_left_a_key_is_tried_before_its_time() -> None:
    """A key that was mended meanwhile answers though its outage would last; tried in vain, it is left alone for some
    seconds, and where another provider serves, it is not tried at all."""
    for others, expected in ((("a/m",), "fine"), (("a/m", "b/m"), "elsewhere")):
        live = harness(pooled(*others, keys=(A, B)), {"A": [REFUSED, REFUSED, "fine"], "B": [REFUSED]})
        live.script["b/m"] = ["elsewhere"]
        live.providers.seconds = 0.0
        live.clock.advance(1)
        texts = []
        for number in range(40):
            live.clock.advance(0.5)
            try:
                deadline = live.clock.monotonic() + 60
                texts.append((await ask(live, request_id=f"r{number}", deadline=deadline)).text)
            except Unavailable:
                texts.append("")
        assert texts[-1] == expected
        by_a = live.providers.routes.count(("A", "a.test/v1"))
        assert by_a <= (2 if expected == "elsewhere" else 40)
        assert live.providers.routes.count(("B", "a.test/v1")) <= 4


async def test_a_key_is_tried_by_one_call_when_its_time_is_over_and_comes_back() -> None:
    """Its answer puts it back; another refusal keeps it out for twice as long, and costs no call."""
    live = harness(pooled(keys=(A, replace(B, weight=0))), {"A": [REFUSED, REFUSED, "fine"], "B": ["fine"]})

    async def called() -> list[str]:
        """The keys of one more request, which is answered."""
        before = len(live.providers.routes)
        request = {"request_id": f"r{before}", "deadline": live.clock.monotonic() + 60}
        assert (await ask(live, **request)).text == "fine"
        return [key for key, _ in live.providers.routes[before:]]

    assert await called() == ["A", "B"]
    for least, keys in ((48, ["A", "B"]), (96, ["A"])):
        (out,) = live.routes.all_out()
        assert least <= out.until - out.since <= least * 1.5
        live.clock.advance(out.until - live.clock.now() - 1)
        assert await called() == ["B"]
        live.clock.advance(1)
        assert await called() == keys
    assert await called() == ["A"]
    assert live.routes.all_out() == []


async def test_a_replaced_key_is_back_at_once() -> None:
    """Another value under the same name is another key."""
    live = harness(pooled(keys=(A, replace(B, weight=0))), {"A": [REFUSED, "fine"], "B": ["fine"]})
    await ask(live)
    live.environ["A"] = "another"
    await ask(live, request_id="r2")
    assert [key for key, _ in live.providers.routes] == ["A", "B", "A"]


async def test_what_the_catalog_has_no_more_is_forgotten() -> None:
    """A refused key that was taken out of the catalog is nothing to look after; the others stay as they are."""
    live = harness(pooled(keys=(A, B, C)), {"A": [REFUSED], "B": [REFUSED], "C": ["fine"]})
    for number in range(20):
        await ask(live, request_id=f"r{number}")
    assert sorted(outage.place.name for outage in live.routes.all_out()) == ["A", "B"]
    live.catalog = replace(pooled(keys=(B, C)), version="000000000002")
    await ask(live, request_id="after")
    assert [outage.place.name for outage in live.routes.all_out()] == ["B"]


async def test_a_missing_key_is_no_call() -> None:
    """Of two keys one is not set: all calls go by the other, and none fails."""
    live = harness(pooled(keys=(replace(A, weight=1000), B)), {"A": [REFUSED], "B": ["fine"]})
    del live.environ["A"]
    result = await ask(live)
    assert len(result.attempts) == 1
    assert [key for key, _ in live.providers.routes] == ["B"]


async def test_a_limited_key_is_out_for_as_long_as_it_says_for_that_model_alone() -> None:
    """Other models go on with it, and it is back with its time, without a trial."""
    limited = fail(ErrorClass.RATE_LIMITED, retry_same=True, retry_after=20.0, status=429)
    found = pooled("a/m", "a/n", keys=(A, replace(B, weight=0)))
    live = harness(found, {"A": [limited, "fine"], "B": ["fine"]})
    result = await ask(live, models=("a/m",))
    assert [attempt.switched for attempt in result.attempts] == [None, RoutePart.KEY]
    await ask(live, request_id="r2", models=("a/n",))
    await ask(live, request_id="r3", models=("a/m",))
    live.clock.advance(20)
    await ask(live, request_id="r4", models=("a/m",), deadline=live.clock.monotonic() + 60)
    assert [key for key, _ in live.providers.routes] == ["A", "B", "A", "B", "A"]
    assert faults(live) == []


async def test_keys_that_are_all_limited_are_waited_for_as_one_was() -> None:
    """Nobody else is left: the request comes back when the provider said."""
    limited = fail(ErrorClass.RATE_LIMITED, retry_same=True, retry_after=0.6, status=429)
    live = harness(pooled(keys=(A, B)), {"A": [limited, "fine"], "B": [limited, "fine"]})

    async def pass_time() -> None:
        while len(live.providers.calls) < 2:
            await asyncio.sleep(0)
        live.clock.advance(5)

    result, _ = await asyncio.gather(ask(live), pass_time())
    assert result.text == "fine"
    assert len(live.providers.calls) == 3


async def test_one_envelope_holds_the_attempts_of_all_routes() -> None:
    """Keys that are all refused take no more attempts than the request has, and the last goes to another provider."""
    found = pooled("a/m", "b/m", keys=tuple(ProviderKey(f"K{i}") for i in range(8)))
    live = harness(found, {"a/m": [REFUSED], "b/m": ["fine"]})
    live.environ.update({f"K{i}": f"key-{i}" for i in range(8)})
    result = await ask(live, max_attempts=4)
    assert [attempt.provider for attempt in result.attempts] == ["a", "a", "a", "b"]
    assert [record.failed_over for record in live.spool.requests] == [True]


async def test_a_stream_goes_on_by_the_next_endpoint() -> None:
    """Cut after content, it is continued at the other address of the same provider."""
    found = pooled(endpoints=(replace(EU, weight=1000), US))
    cut: list[object] = [["Hello ", fail(ErrorClass.TRANSPORT, status=200, retry_same=True)]]
    live = harness(found, {"eu.test": cut, "us.test": [["Hello ", "world"]]})
    stream = live.generate.stream(found, TENANT, generation())
    events = [event async for event in stream]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Hello world"
    assert isinstance(events[0], Selected)
    assert [endpoint for _, endpoint in live.providers.routes] == ["eu.test", "us.test"]
    live.assert_settled()


async def test_a_key_without_room_leaves_it_to_the_next() -> None:
    """Its own limit refuses it alone: the attempt begins with another key, and the provider is not refused."""
    admission = FakeAdmission(denied={"key:A": denial("key:A", 5.0)})
    live = harness(pooled(keys=(replace(A, weight=1000), B)), {"B": ["fine"]}, admission=admission)
    assert len((await ask(live)).attempts) == 1
    admission.denied["key:B"] = denial("key:B", 5.0)
    with pytest.raises(ResourceExhausted):
        await ask(live, request_id="r2")


async def test_load_goes_by_weight_and_headroom() -> None:
    """Of equal weights the key with a quarter of its limit left gets a fifth of the calls; a key without weight gets
    none while another has room."""
    admission = FakeAdmission(states={"key:A": (LimitState(Unit.REQUESTS, Period.MINUTE, 100, 25),)})
    live = harness(pooled(keys=(A, B, replace(C, weight=0))), {"a/m": ["fine"]}, admission=admission)
    for number in range(400):
        await ask(live, request_id=f"r{number}", deadline=live.clock.monotonic() + 60)
    shares = [sum(key == name for key, _ in live.providers.routes) / 400 for name in "ABC"]
    assert shares[0] == pytest.approx(0.2, abs=0.06)
    assert shares[2] == 0.0


async def test_a_key_serves_its_own_models_alone() -> None:
    """A model that only one key may call is always called with it."""
    found = pooled("a/m", "a/n", keys=(replace(A, models=frozenset({"n"})), B))
    live = harness(found, {"A": ["fine"], "B": [REFUSED]})
    for number in range(10):
        await ask(live, request_id=f"r{number}", models=("a/n",))
    calls = len(live.providers.calls)
    with pytest.raises(Unavailable):
        await ask(live, request_id="m", models=("a/m",))
    assert len(live.providers.calls) == calls


async def test_a_wrong_request_is_not_hidden_by_a_refused_key() -> None:
    """The 400 that followed is the caller's answer, in the provider's words, and proves the key that got it."""
    wrong = fail(ErrorClass.INVALID_REQUEST, status=400)
    live = harness(pooled("a/m", "b/m", keys=(replace(A, weight=1000), B)), {"A": [REFUSED], "B": [wrong]})
    with pytest.raises(InvalidArgument) as raised:
        await ask(live)
    assert raised.value.reason == "INVALID_REQUEST"
    assert len(live.providers.calls) == 2


async def test_nothing_is_asked_of_routes_while_nothing_is_out() -> None:
    """The mark that planning reads is there with the first outage, and gone with the last."""
    live = harness(pooled(keys=(A, replace(B, weight=0))), {"A": [REFUSED, "fine"], "B": ["fine"]})
    assert not live.routes.places_out
    await ask(live)
    assert live.routes.places_out
    live.environ["A"] = "another"
    await ask(live, request_id="r2")
    assert not live.routes.places_out


async def test_a_caller_that_leaves_before_its_call_gives_the_trial_back() -> None:
    """The key's trial is the next call's: not lost, and not waited for."""
    live = harness(pooled(keys=(A, replace(B, weight=0))), {"A": [REFUSED, "fine"], "B": ["fine"]})
    await ask(live)
    live.clock.advance(100)
    (out,) = live.routes.all_out()
    route = live.catalog.providers["a"].routes[0]
    live.routes.begin_call(route, live.catalog.models["a/m"])
    assert live.routes.places_out[out.place] > live.clock.now()
    live.routes.give_up(route, live.catalog.models["a/m"])
    await ask(live, request_id="r2", deadline=live.clock.monotonic() + 60)
    assert [key for key, _ in live.providers.routes] == ["A", "B", "A"]


@pytest.mark.parametrize("seed", range(20))
async def test_no_call_is_lost_while_a_key_and_an_endpoint_serve(seed: int) -> None:
    """Keys are revoked and given back, endpoints break and are mended, one of each at a time, while others are still
    out for what they had before; every request is answered by this provider, within its attempts. A fault counts
    against it only where all endpoints are out at once, and never two in a row."""
    rng = Random(seed)
    endpoints = (EU, US, ProviderEndpoint("http://ap.test"))
    live = harness(pooled(keys=(A, B, C), endpoints=endpoints), {"a/m": ["fine"]})
    faults_of = {
        "A": fail(ErrorClass.AUTHENTICATION, status=401),
        "B": fail(ErrorClass.QUOTA_EXHAUSTED, status=402),
        "C": fail(ErrorClass.RATE_LIMITED, status=429, retry_same=True, retry_after=3.0),
        "eu.test": fail(ErrorClass.TRANSPORT, retry_same=True),
        "us.test": fail(ErrorClass.TIMEOUT),
        "ap.test": fail(ErrorClass.OVERLOADED, status=503, retry_same=True),
    }
    for number in range(150):
        if number % 10 == 0:
            for name in faults_of:
                live.script.pop(name, None)
            for name in (rng.choice("ABC"), rng.choice([endpoint.name for endpoint in endpoints])):
                if rng.random() < 0.8:
                    live.script[name] = [faults_of[name]]
        result = await ask(live, request_id=f"r{number}", deadline=live.clock.monotonic() + 60)
        assert result.text == "fine", number
        live.clock.advance(rng.expovariate(0.2))
    told = [f for _, f in live.health.outcomes if f is not ErrorClass.CANCELLED]
    assert not any(first and second for first, second in pairwise(told))
    assert sum(f is not None for f in told) <= 3
    live.assert_settled()
