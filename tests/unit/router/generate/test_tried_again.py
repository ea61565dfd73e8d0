"""A target that was silent is tried again by a call whose caller does not wait for it."""

from __future__ import annotations

import asyncio

import pytest

from libs.types import ErrorClass
from services.router.health.target_health import Availability, TargetHealth
from services.router.ledger.usage_record import Outcome
from services.router.planning.recent_calls import AVOID_SILENT
from tests.support.routing import AT_ONCE, HANG, TENANT, Harness, catalog, fail, generation, model

A, B = model("a/m"), model("b/m")
SILENT = fail(ErrorClass.TIMEOUT)


async def until_settled(h: Harness) -> None:
    """Returns once every ticket has come back."""
    async with asyncio.timeout(5):
        while h.health.tickets:
            await asyncio.sleep(0)


async def stream(h: Harness, request_id: str, most: int | None = None) -> None:
    request = generation(request_id=request_id, max_cost_micro_usd=most)
    async for _ in h.generate.stream(h.catalog, TENANT, request):
        pass


@pytest.mark.parametrize(("shown", "verdict"), [("back", None), (SILENT, ErrorClass.TIMEOUT)])
async def test_a_probe_goes_on_without_its_request_until_it_shows_something(
    shown: object, verdict: ErrorClass | None
) -> None:
    """The next candidate answers beside it; the probe is accounted to its request as a call that was given up, and
    its ticket comes back with what it has shown: else each later caller would wait for it again."""
    released = asyncio.Event()
    h = Harness(catalog([A], [B]), {"a/m": [[released, shown, HANG]], "b/m": [["fine"]]}, learned=AT_ONCE)
    h.health.half_open = {"a/m"}
    await stream(h, "r1")
    assert [(r.model, r.provider, r.outcome) for r in h.spool.ended] == [
        ("m", "a", Outcome.CANCELLED),
        ("m", "b", Outcome.SUCCESS),
    ]
    assert (h.health.tickets, h.admission.open) == (1, 0)
    released.set()
    await until_settled(h)
    assert h.health.outcomes == [("b/m", None), ("a/m", verdict)]
    h.assert_settled()


async def test_a_dear_fallback_stands_in_for_a_probe() -> None:
    """It would be called in its place after all; only a hedge that callers ask for is capped by the first's cost. Not
    beyond what the request may cost."""
    prices = {"a/m": 100, "b/m": 1_000}
    for most, expected in ((None, ["a/m", "b/m"]), (1_050, ["a/m"])):
        h = Harness(
            catalog([A], [B]),
            {"a/m": [[HANG]], "b/m": [["fine"]]},
            price=lambda provider, model, usage, at, name: prices[model.id],
            learned=AT_ONCE,
        )
        h.health.half_open = {"a/m"}
        task = asyncio.create_task(stream(h, "r1", most))
        for _ in range(30):
            await asyncio.sleep(0)
        assert h.providers.calls == expected
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_probe_that_answers_first_gives_the_answer() -> None:
    """As any other call; nobody else is called."""
    h = Harness(catalog([A], [B]), {"a/m": ["back"], "b/m": ["fine"]})
    h.health.half_open = {"a/m"}
    result = await h.generate.whole(h.catalog, TENANT, generation())
    assert (result.text, h.providers.calls) == ("back", ["a/m"])
    h.assert_settled()


async def test_regression_a_silent_target_costs_later_callers_nothing() -> None:
    """Named regression: at light traffic every 20th second a caller waited two seconds for a target that had been
    silent all the time, since one timeout opens no circuit. It is tried again beside the next candidate, and what it
    shows puts it behind the others again."""
    released = asyncio.Event()
    script: dict[str, list[object]] = {"a/m": [[SILENT], [released, SILENT]], "b/m": [["fine"]]}
    h = Harness(catalog([A], [B]), script, learned=AT_ONCE)
    await stream(h, "r1")
    h.clock.advance(AVOID_SILENT + 1)
    await stream(h, "r2")
    assert h.providers.calls == ["a/m", "b/m", "a/m", "b/m"]
    assert not h.recent.avoids(A, TENANT.name, h.clock.monotonic())
    released.set()
    await until_settled(h)
    assert h.recent.avoids(A, TENANT.name, h.clock.monotonic())
    h.assert_settled()


async def test_of_two_silent_targets_neither_is_tried_beside_the_other() -> None:
    """Named regression: with two silent providers, whoever tried the first again had the second called beside it, and
    waited for both. A target without failures comes first."""
    released = asyncio.Event()
    script: dict[str, list[object]] = {
        "a/m": [[SILENT], [released, SILENT]],
        "b/m": [[SILENT], [HANG]],
        "c/m": [["fine"]],
    }
    h = Harness(catalog([A], [B], [model("c/m")]), script, learned=AT_ONCE)
    await stream(h, "r1")
    h.clock.advance(AVOID_SILENT + 1)
    await stream(h, "r2")
    assert h.providers.calls == ["a/m", "b/m", "c/m", "a/m", "c/m"]
    released.set()
    await until_settled(h)
    h.assert_settled()


@pytest.mark.parametrize("probing", [True, False])
async def test_a_doubted_target_is_no_fallback_while_another_is_left(probing: bool) -> None:
    """A fallback is not raced: whoever has met one failure does not wait for a silence too."""
    script: dict[str, list[object]] = {
        "a/m": [fail(ErrorClass.OVERLOADED)],
        "b/m": [[SILENT]],
        "c/m": [["fine"]],
    }
    h = Harness(catalog([A], [B], [model("c/m")]), script, learned=AT_ONCE)
    if probing:
        h.health.states = {"b/m": TargetHealth(Availability.PROBING)}
    else:
        await stream(h, "r1")
        h.clock.advance(AVOID_SILENT + 1)
        h.providers.calls.clear()
    await stream(h, "r2")
    assert h.providers.calls == ["a/m", "c/m"]


async def test_a_target_that_failed_visibly_is_not_raced() -> None:
    """It costs its caller next to nothing."""
    h = Harness(
        catalog([A], [B]),
        {"a/m": [fail(ErrorClass.OVERLOADED), fail(ErrorClass.OVERLOADED), "back"], "b/m": ["fine"]},
        learned=AT_ONCE,
    )
    for number in range(3):
        await h.generate.whole(h.catalog, TENANT, generation(request_id=f"r{number}"))
        h.clock.advance(AVOID_SILENT)
    assert h.providers.calls == ["a/m", "b/m", "a/m", "b/m", "a/m"]
    assert not any(r.hedge for r in h.spool.ended)
    h.assert_settled()


async def test_a_caller_that_leaves_ends_the_trial_too() -> None:
    """Nobody has answered in its place, so nothing goes on."""
    h = Harness(catalog([A], [B]), {"a/m": [[HANG]], "b/m": [[HANG]]}, learned=AT_ONCE)
    h.health.half_open = {"a/m"}
    task = asyncio.create_task(stream(h, "r1"))
    while len(h.providers.calls) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [r.outcome for r in h.spool.ended] == [Outcome.CANCELLED, Outcome.CANCELLED]
    h.assert_settled()
