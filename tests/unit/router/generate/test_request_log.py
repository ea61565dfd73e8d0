"""The record of each request at its end: what its caller saw, and what was decided."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import PointsmanError
from libs.request_record import RequestRecord
from libs.types import ErrorClass
from services.router.generate.request_log import MOST_CANDIDATES
from tests.support.routing import HANG, TENANT, Harness, catalog, denial, fail, generation, model

A, B = model("a/m"), model("b/m")


def only(harness: Harness) -> RequestRecord:
    (record,) = harness.spool.requests
    return record


async def test_an_answer_is_recorded_with_what_was_decided() -> None:
    """The models considered in their order with their scores, the chance of the choice, and the caller's account."""
    h = Harness(catalog([A], [B]), {"a/m": ["fine"]})
    result = await h.generate.whole(h.catalog, TENANT, generation(labels={"sku": "1"}, campaign="spring"))
    record = only(h)
    assert (record.outcome, record.error_reason, record.attempts, record.failed_over) == (
        "success",
        "",
        1,
        False,
    )
    assert [(c.model, c.passed_over, c.tier) for c in record.candidates] == [("a/m", "", 0), ("b/m", "", 1)]
    assert record.candidates[0].scores == result.selection.scores
    assert (record.provider, record.model, record.probability) == ("a", "m", 1.0)
    assert (record.labels, record.campaign, record.cost_micro_usd) == (
        {"sku": "1"},
        "spring",
        result.cost_micro_usd,
    )
    assert record.latency == result.latency
    assert record.policy_version == h.catalog.version


async def test_a_failover_is_one_request_with_two_attempts() -> None:
    """Its cost is that of both, and the one that answered is named."""
    h = Harness(catalog([A], [B]), {"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": ["fine"]})
    result = await h.generate.whole(h.catalog, TENANT, generation())
    record = only(h)
    assert (record.attempts, record.failed_over, record.provider) == (2, True, "b")
    assert record.cost_micro_usd == result.cost_micro_usd


async def test_an_old_answer_is_recorded_as_one_without_failover() -> None:
    """Its attempts failed, and the answer is that of an earlier request: the record names who gave it then."""
    h = Harness(
        catalog([A], degradation=("stale_cache",)), {"a/m": ["fine", *[fail(ErrorClass.OVERLOADED)] * 4]}
    )
    await h.generate.whole(h.catalog, TENANT, generation())
    result = await h.generate.whole(h.catalog, TENANT, generation())
    first, record = sorted(h.spool.requests, key=lambda one: one.cached)
    assert (first.cached, first.outcome) == (False, "success")
    assert (record.cached, record.outcome, record.error_reason, record.failed_over) == (
        True,
        "success",
        "",
        False,
    )
    assert (record.provider, record.model) == ("a", "m")
    assert (record.attempts, record.cost_micro_usd) == (len(result.attempts), result.cost_micro_usd)
    assert record.record_id != first.record_id


async def test_an_error_is_recorded_as_its_caller_got_it() -> None:
    """With the reason of the error, once, and the money that was spent."""
    h = Harness(catalog([A]), {"a/m": [fail(ErrorClass.OVERLOADED)] * 4})
    with pytest.raises(PointsmanError) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    record = only(h)
    assert (record.outcome, record.error_reason, record.provider, record.failed_over) == (
        "failure",
        caught.value.reason,
        "",
        False,
    )


async def test_a_limited_candidate_is_recorded_with_the_limit() -> None:
    """The reason for which it was not called is that of the limiter."""
    h = Harness(catalog([A], [B]), {"b/m": ["fine"]})
    h.admission.denied["provider:a"] = denial("provider:a")
    await h.generate.whole(h.catalog, TENANT, generation())
    record = only(h)
    assert record.candidates[0].passed_over
    assert (record.candidates[1].passed_over, record.provider, record.failed_over) == ("", "b", False)


async def test_a_caller_that_leaves_is_recorded_as_cancelled() -> None:
    """Whole or streamed; the attempt that was broken off counts."""
    h = Harness(catalog([A]), {"a/m": [HANG]})
    running = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation()))
    while not h.providers.calls:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    h.providers.script["a/m"] = [["About: ", HANG]]
    events = h.generate.stream(h.catalog, TENANT, generation())
    async for event in events:
        if type(event).__name__ == "Delta":
            break
    await events.aclose()
    assert [(r.outcome, r.error_reason, r.attempts) for r in h.spool.requests] == [("cancelled", "", 1)] * 2


async def test_a_stream_is_recorded_once_although_it_is_closed_after_its_end() -> None:
    """The answer was complete; that its caller closes the stream then changes nothing."""
    h = Harness(catalog([A]), {"a/m": [["fine"]]})
    events = h.generate.stream(h.catalog, TENANT, generation())
    async for event in events:
        if type(event).__name__ == "Completed":
            break
    await events.aclose()
    record = only(h)
    assert (record.outcome, record.streamed) == ("success", True)


async def test_of_a_large_catalog_as_many_candidates_are_recorded_as_the_ledger_keeps() -> None:
    """With and without one that a limit kept from being called: the ledger refused the whole record of a request
    that considered more, where nothing was passed over."""
    models = [model(f"a/m{i}") for i in range(MOST_CANDIDATES + 1)]
    for denied in (False, True):
        h = Harness(catalog([A], models), {"a/m": ["fine"], "a/m0": ["fine"]})
        if denied:
            h.admission.denied["model:a/m"] = denial("model:a/m")
        await h.generate.whole(h.catalog, TENANT, generation())
        assert len(only(h).candidates) == MOST_CANDIDATES
