"""The failover loop with fakes all around: who is called, what the caller gets, what the ledger holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from libs.answer import Completed, Delta, Event, Restarted, Selected, SwitchedProvider
from libs.catalog.model import Policy
from libs.conversation import ToolCall, ToolCallDelta
from libs.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from libs.limits import Amounts, Scope, scope_of
from libs.resilience.retry_budget import RetryBudget
from libs.selection import Degradation
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.admission.admission import Claim, Permit
from services.router.admission.amounts import AdmissionDenied
from services.router.health.target_health import Availability, TargetHealth
from services.router.ledger.usage_record import Outcome
from services.router.request.generation import Completion, Generation, StreamEnd
from tests.support.routing import (
    AT_ONCE,
    CUT,
    HANG,
    TENANT,
    FakeAdmission,
    Harness,
    catalog,
    denial,
    fail,
    generation,
    model,
)

A, B, C = model("a/m"), model("b/m"), model("c/m", prefill=True)
THREE = catalog([A], [B], [C])


async def stream(harness: Harness, request: Generation | None = None) -> list[Event]:
    return [e async for e in harness.generate.stream(harness.catalog, TENANT, request or generation())]


def text_seen(events: list[Event]) -> str:
    """Returns the text of a caller who follows the protocol."""
    text = ""
    for event in events:
        if isinstance(event, Restarted):
            text = ""
        elif isinstance(event, Delta):
            text += event.text
    return text


async def test_the_first_candidate_answers() -> None:
    """With nothing wrong there is one attempt, and usage and cost are the provider's."""
    h = Harness(THREE, {"a/m": ["hello"]})
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert (result.text, result.cost_micro_usd, result.usage) == ("hello", 15, Usage(10, 5))
    assert h.providers.calls == ["a/m"]
    h.assert_settled()


@pytest.mark.parametrize(
    "error_class",
    [
        ErrorClass.OVERLOADED,
        ErrorClass.SERVER_ERROR,
        ErrorClass.TIMEOUT,
        ErrorClass.STALLED,
        ErrorClass.MALFORMED,
        ErrorClass.TRANSPORT,
        ErrorClass.RATE_LIMITED,
        ErrorClass.AUTHENTICATION,
        ErrorClass.QUOTA_EXHAUSTED,
        ErrorClass.MODEL_NOT_FOUND,
    ],
)
async def test_a_provider_fault_goes_to_the_next_provider(error_class: ErrorClass) -> None:
    """Every fault that is not the request's leads to the next candidate, and both attempts are in the ledger."""
    h = Harness(THREE, {"a/m": [fail(error_class)], "b/m": ["fine"]})
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert result.text == "fine"
    assert [r.error_class for r in result.attempts] == [error_class, None]
    h.assert_settled()


async def test_what_a_provider_says_went_wrong_is_told_and_never_kept() -> None:
    """It may repeat the prompt: the caller hears it, the spool never gets it."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.SERVER_ERROR)], "b/m": ["fine"]})
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert result.attempts[0].message
    assert [(r.message, r.error_class) for r in h.spool.ended] == [("", ErrorClass.SERVER_ERROR), ("", None)]


async def test_a_content_refusal_is_never_routed_around() -> None:
    """A refusal reaches the caller as that; nobody else is asked."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.CONTENT_REFUSED)]})
    with pytest.raises(FailedPrecondition) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert caught.value.reason == "CONTENT_REFUSED"
    assert h.providers.calls == ["a/m"]
    h.assert_settled()


async def test_a_bad_request_is_the_callers() -> None:
    """A provider's 400 on the first attempt is INVALID_ARGUMENT at once."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.INVALID_REQUEST)]})
    with pytest.raises(InvalidArgument):
        await h.generate.whole(h.catalog, TENANT, generation())
    assert h.providers.calls == ["a/m"]


async def test_a_bad_request_without_a_reason_is_tried_at_one_other_provider() -> None:
    """It may serve. Where it refuses as well, the caller is told the reason that anyone gave."""
    bare = fail(ErrorClass.INVALID_REQUEST, unexplained=True)
    h = Harness(THREE, {"a/m": [bare], "b/m": ["served"]})
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "served"
    assert h.providers.calls == ["a/m", "b/m"]
    h.assert_settled()
    h = Harness(THREE, {"a/m": [bare], "b/m": [fail(ErrorClass.INVALID_REQUEST)]})
    with pytest.raises(InvalidArgument) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert "b/m says" in caught.value.violations[0].description
    assert h.providers.calls == ["a/m", "b/m"]
    h = Harness(THREE, {"a/m": [bare], "b/m": [bare]})
    with pytest.raises(InvalidArgument):
        await h.generate.whole(h.catalog, TENANT, generation())
    assert h.providers.calls == ["a/m", "b/m"]


async def test_the_fallbacks_own_400_does_not_hide_the_real_failure() -> None:
    """Named regression: after an outage, a fallback's 400 is not what the caller is told."""
    bad = fail(ErrorClass.INVALID_REQUEST)
    h = Harness(THREE, {"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": [bad], "c/m": [bad]})
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert caught.value.metadata["attempts"].startswith("a/m=overloaded,")
    h.assert_settled()


async def test_a_server_fault_is_tried_once_more_on_the_same_provider() -> None:
    """A 500 that may be gone is tried once more there; a second one moves on."""
    fault = fail(ErrorClass.SERVER_ERROR, retry_same=True)
    h = Harness(THREE, {"a/m": [fault, "back"]})
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "back"
    assert h.providers.calls == ["a/m", "a/m"]
    h = Harness(THREE, {"a/m": [fault], "b/m": ["other"]})
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "other"
    assert h.providers.calls == ["a/m", "a/m", "b/m"]


async def test_a_silent_route_is_not_tried_again() -> None:
    """After a timeout the same provider is not called again, even where the failure would allow it."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.TIMEOUT, retry_same=True)], "b/m": ["other"]})
    await h.generate.whole(h.catalog, TENANT, generation())
    assert h.providers.calls == ["a/m", "b/m"]


async def test_too_long_a_context_goes_only_to_larger_windows() -> None:
    """CONTEXT_TOO_LONG skips every model whose window is not larger; with none left the caller is told so."""
    small, large = model("b/m", window=100_000), model("c/m", window=900_000)
    h = Harness(catalog([A], [small], [large]), {"a/m": [fail(ErrorClass.CONTEXT_TOO_LONG)], "c/m": ["fits"]})
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "fits"
    assert h.providers.calls == ["a/m", "c/m"]
    h = Harness(catalog([A], [small]), {"a/m": [fail(ErrorClass.CONTEXT_TOO_LONG)]})
    with pytest.raises(FailedPrecondition) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert caught.value.reason == "CONTEXT_TOO_LONG"


async def test_an_account_fault_rules_out_the_whole_provider() -> None:
    """A bad key fails every model of its provider: the next provider is asked."""
    other = model("a/n")
    h = Harness(catalog([A], [other], [B]), {"a/m": [fail(ErrorClass.AUTHENTICATION)], "b/m": ["ok"]})
    await h.generate.whole(h.catalog, TENANT, generation())
    assert h.providers.calls == ["a/m", "b/m"]


async def test_a_rate_limit_is_waited_out_only_when_nobody_else_is_left() -> None:
    """Retry-After within the policy's bound is honoured when there is no other candidate; beyond it, UNAVAILABLE
    with that time as RetryInfo."""
    wait = fail(ErrorClass.RATE_LIMITED, retry_after=0.01, retry_same=True)
    h = Harness(catalog([A]), {"a/m": [wait, "later"]})
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "later"
    long = fail(ErrorClass.RATE_LIMITED, retry_after=30, retry_same=True)
    h = Harness(catalog([A]), {"a/m": [long]})
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert caught.value.retry_after == pytest.approx(30, abs=1)


async def test_everyone_down_is_unavailable_with_the_soonest_return() -> None:
    """With every circuit open no provider is called, and RetryInfo names the first that may be tried."""
    h = Harness(THREE, {})
    for target, seconds in (("a/m", 9.0), ("b/m", 4.0), ("c/m", 6.0)):
        h.health.states[target] = TargetHealth(Availability.DOWN, reason="open", retry_after=seconds)
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == ("PROVIDERS_DOWN", 4.0)
    assert h.providers.calls == []


async def test_providers_that_are_not_set_up_are_the_operators_fault() -> None:
    """Callers get UNAVAILABLE where only a provider without its key meets the request's needs; a need that no model
    meets is still the caller's."""
    h = Harness(catalog([A], [B]), {})
    h.providers.without_key = {"a": "its key is missing", "b": "its key is missing"}
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == ("PROVIDER_NOT_SET_UP", None)
    assert "a/m: its key is missing" in caught.value.message
    with pytest.raises(FailedPrecondition) as barred:
        await h.generate.whole(h.catalog, TENANT, generation(max_cost_micro_usd=0))
    assert barred.value.reason == "NO_CANDIDATE"


async def test_a_tenants_own_limit_is_refused_at_once() -> None:
    """A denial by the tenant's limit is RESOURCE_EXHAUSTED with the violation; nobody is called or charged."""
    h = Harness(THREE, {})
    h.admission.denied["tenant:acme"] = denial("tenant:acme")
    with pytest.raises(ResourceExhausted) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert [v.subject for v in caught.value.violations] == ["tenant:acme requests minute"]
    assert caught.value.retry_after == 7.0
    assert h.providers.calls == []
    h.assert_settled()


def unknown(scope: str) -> AdmissionDenied:
    """Returns the denial of a scope while the limiter is gone."""
    denied = denial(scope, 2.0)
    return AdmissionDenied([replace(v, unknown=True) for v in denied.violations], denied.retry_after)


@pytest.mark.parametrize(
    "scope", ["tenant:acme", "campaign:acme/spring sale", "tenant_provider:acme/a", "model:a/m"]
)
async def test_a_limiter_that_is_gone_is_no_limit_without_room(scope: str) -> None:
    """UNAVAILABLE with a reason of its own and when to come back, for every kind of scope, whatever the limits of the
    other candidates say; nobody is called."""
    h = Harness(THREE, {})
    h.admission.denied |= {"model:b/m": denial("model:b/m"), "model:c/m": denial("model:c/m")}
    h.admission.denied[scope] = unknown(scope)
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation(campaign="spring sale"))
    assert (caught.value.reason, caught.value.retry_after) == ("LIMITER_UNAVAILABLE", 2.0)
    assert h.providers.calls == []
    h.assert_settled()


async def test_a_known_limit_without_room_stands_although_others_are_unknown() -> None:
    """The limiter's return would not help."""
    h = Harness(THREE, {})
    both = [*denial("tenant:acme").violations, *unknown("provider:a").violations]
    h.admission.denied["tenant:acme"] = AdmissionDenied(both, 7.0)
    with pytest.raises(ResourceExhausted) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == ("LIMIT_EXCEEDED", 7.0)
    assert [v.subject for v in caught.value.violations] == ["tenant:acme requests minute"]


async def test_a_request_above_every_whole_limit_says_so() -> None:
    """It must not be retried as it is: no RetryInfo, and a reason of its own; where one candidate's limit will have
    room, that is what is said."""
    h = Harness(THREE, {})
    h.admission.denied |= {f"model:{name}/m": denial(f"model:{name}/m", None) for name in "abc"}
    with pytest.raises(ResourceExhausted) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == ("REQUEST_ABOVE_LIMIT", None)
    h.admission.denied["model:b/m"] = denial("model:b/m", 3.0)
    with pytest.raises(ResourceExhausted) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == ("LIMIT_EXCEEDED", 3.0)


async def test_a_providers_limit_leads_to_the_next() -> None:
    """A denial by a provider's limit is no attempt: the next candidate is used, without spending a retry."""
    h = Harness(THREE, {"b/m": ["b"]})
    h.admission.denied["provider:a"] = denial("provider:a")
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert result.text == "b"
    assert len(result.attempts) == 1
    h.assert_settled()


async def test_the_retry_budget_bounds_attempts_in_a_total_outage() -> None:
    """In a total outage attempts in vain stay within the budget; attempts that work give theirs back."""
    down = fail(ErrorClass.OVERLOADED)
    h = Harness(THREE, {"a/m": [down], "b/m": [down], "c/m": [down]}, budget=RetryBudget(0.1, 10))
    h.providers.seconds = 0.0
    for number in range(200):
        with pytest.raises(Unavailable):
            await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{number}"))
    assert len(h.providers.calls) <= 200 * 1.1
    h = Harness(THREE, {"a/m": [down], "b/m": ["fine"]}, budget=RetryBudget(0.1, 1))
    for number in range(50):
        assert (await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{number}"))).text == "fine"


async def test_regression_little_traffic_is_no_excuse_in_a_total_outage() -> None:
    """Named regression: a floor meant for failover gave four requests a second 1.217 attempts each. What answers
    again gives the floor back at once."""
    down = fail(ErrorClass.OVERLOADED)
    h = Harness(THREE, {f"{name}/m": [down] for name in "abc"}, budget=RetryBudget(0.08, 50))
    h.providers.seconds = 0.0
    for number in range(240):
        h.clock.advance(0.25)
        with pytest.raises(Unavailable):
            await h.generate.whole(
                h.catalog, TENANT, generation(request_id=f"r{number}", deadline=h.clock.monotonic() + 60)
            )
    assert len(h.providers.calls) <= 240 * 1.1
    h.providers.script["a/m"] = ["back", down]
    h.providers.script["b/m"] = ["fine"]
    for text in ("back", *["fine"] * 10):
        request = generation(deadline=h.clock.monotonic() + 60)
        assert (await h.generate.whole(h.catalog, TENANT, request)).text == text


async def test_a_deadline_ends_the_search() -> None:
    """A caller whose deadline passes between attempts gets DEADLINE_EXCEEDED, not another attempt."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.OVERLOADED)]})
    with pytest.raises(DeadlineExceeded):
        await h.generate.whole(h.catalog, TENANT, generation(deadline=1000.4))
    assert h.providers.calls == ["a/m"]
    h.assert_settled()


async def test_money_is_part_of_the_envelope() -> None:
    """A fallback that would break the request's own cost limit is not tried."""
    h = Harness(THREE, {"a/m": [["part", fail(ErrorClass.TRANSPORT)]], "b/m": [["x"]]})
    with pytest.raises(Unavailable):
        # One attempt is estimated at 9 + 100 tokens; after the first spent some there is no room for another.
        await stream(h, generation(max_cost_micro_usd=110))
    assert h.providers.calls == ["a/m"]


async def test_a_request_id_cannot_run_twice_at_once() -> None:
    """A second call with a running request's id is ALREADY_EXISTS; afterwards the id is free."""
    h = Harness(THREE, {"a/m": [HANG, "done"]})
    first = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation()))
    while not h.providers.calls:
        await asyncio.sleep(0)
    with pytest.raises(AlreadyExists):
        await h.generate.whole(h.catalog, TENANT, generation())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert h.providers.cancelled == 1
    assert h.spool.ended[0].outcome is Outcome.CANCELLED
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "done"
    h.assert_settled()


async def test_a_stream_is_selected_deltas_completed() -> None:
    """A stream that goes well: selected, deltas, one completed with usage and cost."""
    h = Harness(THREE, {"a/m": [["Hel", "lo"]]})
    events = await stream(h)
    assert [type(e) for e in events] == [Selected, Delta, Delta, Completed]
    assert text_seen(events) == "Hello"
    last = events[-1]
    assert isinstance(last, Completed)
    assert last.result.cost_micro_usd == 15
    h.assert_settled()


async def test_before_the_first_content_another_provider_just_begins() -> None:
    """A failure before the commit point costs the caller nothing but a switched_provider event."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.TIMEOUT)], "b/m": [["Hello"]]})
    events = await stream(h)
    assert [type(e) for e in events] == [Selected, SwitchedProvider, Delta, Completed]


async def test_a_cut_stream_is_matched_and_continued() -> None:
    """After a cut, the same answer from another provider is suppressed up to where the first stopped."""
    cut = fail(ErrorClass.TRANSPORT)
    h = Harness(THREE, {"a/m": [["The best ", "sho", cut]], "b/m": [["The be", "st shovel ", "ever"]]})
    events = await stream(h)
    assert text_seen(events) == "The best shovel ever"
    assert [type(e) for e in events].count(SwitchedProvider) == 1
    assert not any(isinstance(e, Restarted) for e in events)
    first, second = h.spool.ended
    assert first.usage is not None
    assert first.usage.accuracy is UsageAccuracy.ESTIMATED
    assert first.usage.output_tokens > 0
    assert second.outcome is Outcome.SUCCESS


async def test_regression_a_truncated_answer_is_not_reported_as_success() -> None:
    """A stream that ends without saying how is a failure, gone on with elsewhere, and an error where nobody is left.
    An answer that its model had to end is whole, says so, and is not kept to be given again."""
    h = Harness(THREE, {"a/m": [["half ", CUT]], "b/m": [["half and half"]]})
    events = await stream(h)
    assert text_seen(events) == "half and half"
    assert isinstance(events[-1], Completed)
    assert [a.error_class for a in events[-1].result.attempts] == [ErrorClass.MALFORMED, None]
    h = Harness(catalog([A], degradation=("stale_cache", "refuse")), {"a/m": [["half ", CUT]]})
    with pytest.raises(Unavailable):
        await stream(h)
    h.assert_settled()
    h.providers.script["a/m"] = [Completion("half", FinishReason.LENGTH, None), fail(ErrorClass.OVERLOADED)]
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert (result.text, result.finish_reason) == ("half", FinishReason.LENGTH)
    with pytest.raises(Unavailable):
        await h.generate.whole(h.catalog, TENANT, generation())


WORDS = ["The ", "best ", "shovel ", "ever"]
#: A stream that breaks off after some words, and one whose provider is down for a moment.
AFTER_ONE = [*WORDS[:1], fail(ErrorClass.TRANSPORT, retry_same=True)]
AFTER_THREE = [*WORDS[:3], fail(ErrorClass.STALLED)]
DOWN_ONCE = fail(ErrorClass.SERVER_ERROR, retry_same=True)


@pytest.mark.parametrize(
    ("script", "calls"),
    [
        ({"a/m": [AFTER_THREE], "b/m": [DOWN_ONCE, WORDS]}, "abb"),
        ({"a/m": [AFTER_THREE], "b/m": [fail(ErrorClass.OVERLOADED)], "c/m": [[" ever"]]}, "abc"),
        ({"a/m": [AFTER_THREE, WORDS], "b/m": [AFTER_ONE]}, "aba"),
        ({"a/m": [AFTER_THREE], "b/m": [AFTER_ONE, WORDS]}, "abab"),
        ({"a/m": [AFTER_ONE, AFTER_THREE, AFTER_ONE, WORDS]}, "aaaa"),
        ({"a/m": [AFTER_THREE, DOWN_ONCE, WORDS]}, "aaa"),
        ({"c/m": [AFTER_ONE, [" best ", "shovel ", CUT], [" ever"]]}, "ccc"),
    ],
)
async def test_regression_after_content_failing_over_goes_on(
    script: dict[str, list[object]], calls: str
) -> None:
    """Named regression: once any text was sent, nobody was called a second time: a cut, then a fallback that was down
    for a moment, ended the request after 2 of 4 attempts. A cut with nobody else, and a fallback that is down or cut
    in its turn, go on as long as the envelope allows; the caller has the whole answer once."""
    h = Harness(catalog(*[[m] for m in (A, B, C) if m.id in script]), script)
    events = await stream(h)
    assert text_seen(events) == "".join(WORDS)
    assert [call[0] for call in h.providers.calls] == list(calls)
    assert not any(isinstance(e, Restarted) for e in events)
    h.assert_settled()


async def test_a_stream_that_is_always_cut_ends_with_the_envelope() -> None:
    """Four attempts, and an error that names them."""
    h = Harness(catalog([A]), {"a/m": [AFTER_THREE]})
    with pytest.raises(Unavailable) as caught:
        await stream(h)
    assert caught.value.reason == "ATTEMPTS_EXHAUSTED"
    assert h.providers.calls == ["a/m"] * 4
    h.assert_settled()


async def test_a_different_answer_restarts() -> None:
    """A caller whose new answer differs is told to discard, and gets all of the new one."""
    cut = fail(ErrorClass.TRANSPORT)
    h = Harness(THREE, {"a/m": [["The best ", cut]], "b/m": [["A fine ", "shovel"]]})
    events = await stream(h)
    assert text_seen(events) == "A fine shovel"
    assert sum(isinstance(e, Restarted) for e in events) == 1


async def test_a_shorter_answer_restarts() -> None:
    """A new answer that ends before the part already sent is another answer."""
    h = Harness(THREE, {"a/m": [["The best shovel", fail(ErrorClass.STALLED)]], "b/m": [["The best"]]})
    assert text_seen(await stream(h)) == "The best"


async def test_prefill_continues_without_repeating() -> None:
    """A model that accepts a prefill gets what was sent, without trailing space, and goes on from there."""
    h = Harness(
        catalog([A], [C]), {"a/m": [["The best ", fail(ErrorClass.STALLED)]], "c/m": [[" shovel", " ever"]]}
    )
    assert text_seen(await stream(h)) == "The best shovel ever"
    assert h.providers.prompts[1].prefill == "The best"


async def test_regression_a_continuation_generates_no_more_than_the_caller_allowed_in_all() -> None:
    """The text already sent is taken off the limit, as far as it can be estimated; one token is always left to end
    with."""
    for sent, left in (("The best ", 98), ("word " * 200, 1)):
        h = Harness(catalog([A], [C]), {"a/m": [[sent, fail(ErrorClass.STALLED)]], "c/m": [["rest"]]})
        await stream(h)
        assert [p.max_output_tokens for p in h.providers.prompts] == [100, left]


async def test_regression_a_tool_call_without_reported_usage_is_not_free() -> None:
    """Its name and arguments are what the model generated: 40 bytes are about 10 tokens, streamed or whole."""
    arguments = '{"city": "Oslo", "unit": "celsius"}'
    end = StreamEnd(FinishReason.TOOL_CALLS, None)
    steps = [
        ToolCallDelta(0, "1", "tempo", arguments[:9]),
        ToolCallDelta(0, arguments_json=arguments[9:]),
        end,
    ]
    h = Harness(THREE, {"a/m": [steps]})
    completed = (await stream(h))[-1]
    assert isinstance(completed, Completed)
    whole = Completion("", FinishReason.TOOL_CALLS, None, (ToolCall("1", "tempo", arguments),))
    other = Harness(THREE, {"a/m": [whole]})
    for result in (completed.result, await other.generate.whole(other.catalog, TENANT, generation())):
        assert (result.usage.output_tokens, result.usage.accuracy) == (10, UsageAccuracy.ESTIMATED)


async def test_a_refused_prefill_is_generated_anew() -> None:
    """A fallback whose 400 is about the prefill is asked again without it."""
    h = Harness(
        catalog([A], [C]),
        {
            "a/m": [["The best ", fail(ErrorClass.STALLED)]],
            "c/m": [fail(ErrorClass.INVALID_REQUEST, status=400), ["The best shovel"]],
        },
    )
    assert text_seen(await stream(h)) == "The best shovel"
    assert [p.prefill for p in h.providers.prompts] == ["", "The best", ""]
    h.assert_settled()


async def test_leaving_a_stream_cancels_the_provider_and_is_accounted() -> None:
    """Named regression: a cancelled stream bills what came, not one token, nothing, or everything."""
    h = Harness(THREE, {"a/m": [["x" * 40, "y" * 40, "z" * 40]]})
    events = h.generate.stream(h.catalog, TENANT, generation())
    async for event in events:
        if isinstance(event, Delta):
            break
    await events.aclose()
    assert h.providers.cancelled == 1
    (record,) = h.spool.ended
    assert record.outcome is Outcome.CANCELLED
    assert record.usage is not None
    assert record.usage.output_tokens == 10
    assert record.cost_micro_usd == record.usage.input_tokens + 10
    h.assert_settled()


async def test_the_attempt_before_a_crash_would_be_uncertain() -> None:
    """The spool's record of a running call says unknown outcome at the reservation's estimate."""
    h = Harness(THREE, {"a/m": [HANG]})
    task = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation()))
    while not h.providers.calls:
        await asyncio.sleep(0)
    (record,) = h.spool.begun.values()
    assert record.outcome is Outcome.UNKNOWN
    assert record.usage is not None
    assert record.usage.accuracy is UsageAccuracy.UNCERTAIN
    assert record.cost_micro_usd > 100
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_in_a_total_outage_a_target_is_tried_now_and_then() -> None:
    """With every circuit open by faults, one that may be tried is; its answer is the caller's."""
    h = Harness(THREE, {"b/m": ["back"]})
    for target in ("a/m", "b/m", "c/m"):
        h.health.states[target] = TargetHealth(
            Availability.DOWN, reason="open", retry_after=9.0, trial=target == "b/m"
        )
    assert (await h.generate.whole(h.catalog, TENANT, generation())).text == "back"
    assert h.providers.calls == ["b/m"]


async def test_a_slow_stream_is_hedged_and_the_loser_accounted() -> None:
    """A caller that asks for it is answered by a second provider when the first shows nothing; the first is cancelled
    and stands in the ledger as that.
    and stands in the ledger as that."""
    h = Harness(THREE, {"a/m": [[HANG]], "b/m": [["quick"]]}, learned=AT_ONCE)
    events = await stream(h, generation(hedge=True))
    assert text_seen(events) == "quick"
    assert [type(e) for e in events] == [Selected, SwitchedProvider, Delta, Completed]
    assert [(r.outcome, r.hedge) for r in h.spool.ended] == [
        (Outcome.CANCELLED, False),
        (Outcome.SUCCESS, True),
    ]
    assert h.providers.cancelled == 1
    h.assert_settled()


async def test_a_slow_unary_call_is_hedged() -> None:
    """The same for a whole answer; its cost holds both attempts."""
    h = Harness(THREE, {"a/m": [HANG], "b/m": ["quick"]}, learned=AT_ONCE)
    result = await h.generate.whole(h.catalog, TENANT, generation(hedge=True))
    assert result.text == "quick"
    assert [a.provider for a in result.attempts] == ["a", "b"]
    assert result.cost_micro_usd == sum(a.cost_micro_usd or 0 for a in result.attempts)
    h.assert_settled()


async def test_a_hedge_keeps_to_the_requests_money() -> None:
    """Two attempts that together may cost more than the request's limit are not run side by side."""
    h = Harness(THREE, {"a/m": [HANG], "b/m": ["quick"]}, learned=AT_ONCE)
    task = asyncio.create_task(
        h.generate.whole(h.catalog, TENANT, generation(hedge=True, max_cost_micro_usd=150))
    )
    for _ in range(20):
        await asyncio.sleep(0)
    assert h.providers.calls == ["a/m"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    h.assert_settled()


async def test_regression_a_hedge_is_an_attempt_like_any_other() -> None:
    """Named regression: with one attempt allowed, two providers were called."""
    h = Harness(THREE, {"a/m": [HANG], "b/m": ["quick"]}, learned=AT_ONCE)
    task = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation(hedge=True, max_attempts=1)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert h.providers.calls == ["a/m"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    h.assert_settled()


async def test_a_record_tells_what_the_providers_prompt_cache_saved() -> None:
    """The price of the same usage without it, less the cost; nothing without cached tokens."""
    h = Harness(
        THREE,
        {"a/m": [Completion("hello", FinishReason.STOP, Usage(100, 5, cache_read_tokens=60)), "again"]},
        price=lambda provider, model, usage, at, name: 10 * usage.input_tokens - 9 * usage.cache_read_tokens,
    )
    for _ in range(2):
        await h.generate.whole(h.catalog, TENANT, generation())
    records = h.spool.ended
    assert [(r.cost_micro_usd, r.cache_saving_micro_usd) for r in records] == [(460, 540), (100, 0)]


async def test_a_hedge_is_capped_in_money_where_the_request_names_no_maximum() -> None:
    """It may cost twice what the first attempt may: of two others the dear one is passed over."""
    prices = {"a/m": 100, "b/m": 201, "c/m": 200}
    h = Harness(
        THREE,
        {"a/m": [HANG], "c/m": ["quick"]},
        learned=AT_ONCE,
        price=lambda provider, model, usage, at, name: prices[model.id],
    )
    result = await h.generate.whole(h.catalog, TENANT, generation(hedge=True))
    assert (result.text, h.providers.calls) == ("quick", ["a/m", "c/m"])
    h.assert_settled()


async def test_a_hedge_that_is_not_wanted_any_more_leaves_no_trace() -> None:
    """The caller leaves while the second attempt waits for its limits: nothing of it is held, spent or recorded."""
    h = Harness(
        THREE, {"a/m": [HANG]}, admission=HangingAdmission(), budget=RetryBudget(0.0, 1), learned=AT_ONCE
    )
    task = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation(hedge=True)))
    async with asyncio.timeout(5):
        while not h.admission.claims:
            await asyncio.sleep(0)
    assert h.budget.available(h.clock.monotonic()) == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert h.budget.available(h.clock.monotonic()) == 1
    assert [r.provider for r in h.spool.ended] == ["a"]
    h.assert_settled()


class HangingAdmission(FakeAdmission):
    """Admits calls to provider a at once, and never answers for others."""

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        return super().try_admit(scopes, amounts) if scope_of("provider:a") in scopes else None

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        self.claims.append(claim)
        await asyncio.Event().wait()
        raise AssertionError


async def test_leaving_a_hedged_stream_ends_both_calls() -> None:
    """A caller that leaves while two attempts run cancels both, and both are accounted."""
    h = Harness(THREE, {"a/m": [[HANG]], "b/m": [[HANG]]}, learned=AT_ONCE)
    task = asyncio.create_task(stream(h, generation(hedge=True)))
    while len(h.providers.calls) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [r.outcome for r in h.spool.ended] == [Outcome.CANCELLED, Outcome.CANCELLED]
    h.assert_settled()


async def test_an_old_answer_is_served_where_the_policy_says_so() -> None:
    """With `stale_cache` on the ladder a total failure is answered with the last answer to the same prompt, and the
    response says so; another prompt, or a policy without the step, gets the error."""
    ladder = catalog([A], degradation=("stale_cache", "refuse"))
    h = Harness(ladder, {"a/m": ["fresh", fail(ErrorClass.OVERLOADED)]})
    await h.generate.whole(h.catalog, TENANT, generation(request_id="r1"))
    result = await h.generate.whole(h.catalog, TENANT, generation(request_id="r2"))
    assert (result.text, result.cached, result.degradation) == ("fresh", True, Degradation.STALE_CACHE)
    assert [a.error_class for a in result.attempts] == [ErrorClass.OVERLOADED]
    assert text_seen(await stream_of(h)) == "fresh"
    with pytest.raises(Unavailable):
        await h.generate.whole(h.catalog, TENANT, generation("another prompt", request_id="r3"))
    h = Harness(catalog([A]), {"a/m": ["fresh", fail(ErrorClass.OVERLOADED)]})
    await h.generate.whole(h.catalog, TENANT, generation(request_id="r1"))
    with pytest.raises(Unavailable):
        await h.generate.whole(h.catalog, TENANT, generation(request_id="r2"))


async def stream_of(harness: Harness) -> list[Event]:
    """A streamed request against a provider that fails whole."""
    harness.providers.script["a/m"] = [fail(ErrorClass.OVERLOADED)]
    return await stream(harness, generation(request_id="streamed"))


def stepping_down() -> Harness:
    """A policy that names a/m alone, which fails, and may step down to the cheaper b/m."""
    whole = catalog([A], [B], degradation=("cheaper_model", "refuse"))
    only_a = Policy("default", whole.policies["default"].tiers[:1], degradation=("cheaper_model",))
    return Harness(
        replace(whole, policies={"default": only_a}),
        {"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": ["plain"]},
        price=lambda provider, model, usage, at, name: 100 if model.provider == "a" else 10,
    )


async def test_a_cheaper_model_is_tried_where_the_policy_says_so() -> None:
    """With `cheaper_model` on the ladder, models outside of the policy that cost less are tried when all in it
    failed, and the response says so."""
    h = stepping_down()
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert (result.text, result.degradation) == ("plain", Degradation.CHEAPER_MODEL)
    h.assert_settled()


async def test_regression_only_the_models_that_the_caller_names_may_answer() -> None:
    """The ladder's step to cheaper models goes beyond the policy, never beyond the caller's own list."""
    h = stepping_down()
    with pytest.raises(Unavailable):
        await h.generate.whole(h.catalog, TENANT, generation(models=("a/m",)))
    assert h.providers.calls == ["a/m"]
    h.assert_settled()


async def test_a_prompt_that_fits_no_window_is_told_so() -> None:
    """A prompt longer than every permitted model's window is CONTEXT_TOO_LONG, without a call."""
    h = Harness(catalog([model("a/m", window=4096)]), {})
    with pytest.raises(FailedPrecondition) as caught:
        await h.generate.whole(h.catalog, TENANT, generation("word " * 10_000))
    assert caught.value.reason == "CONTEXT_TOO_LONG"
    assert h.providers.calls == []


async def test_every_attempt_is_counted_in_the_metrics() -> None:
    """By provider, model and how it ended, failed ones too, with their tokens and cost; each once."""
    h = Harness(THREE, {"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": ["fine"]})
    await h.generate.whole(h.catalog, TENANT, generation())
    value = h.metrics.registry.get_sample_value
    for provider, outcome, error_class in (("a", "failure", "overloaded"), ("b", "success", "")):
        labels = {"provider": provider, "model": "m", "outcome": outcome, "error_class": error_class}
        assert value("pointsman_attempts_total", labels) == 1
    target = {"provider": "b", "model": "m"}
    assert value("pointsman_tokens_total", {**target, "direction": "output"}) == 5
    assert value("pointsman_cost_micro_usd_total", target) == 15
    assert value("pointsman_attempt_duration_seconds_count", target) == 1
