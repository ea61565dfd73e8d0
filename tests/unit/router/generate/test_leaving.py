"""A caller may leave at any moment: at each step of the event loop, and after each event of a stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from libs.answer import Selected, SwitchedProvider
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.ledger.usage_record import Outcome
from services.router.request.generation import StreamEnd
from tests.support.routing import AT_ONCE, HANG, TENANT, Harness, catalog, fail, generation, model

EXACT, ESTIMATED, UNCERTAIN = UsageAccuracy
A, B = model("a/m"), model("b/m")
TOLD = Usage(1_700, 1, 1_600, accuracy=ESTIMATED)
END = StreamEnd(FinishReason.STOP, Usage(1_700, 40, 1_600))
STREAM = [TOLD, "x" * 40, "y" * 40, END]
Script = dict[str, list[object]]
#: What the first provider and the second do → a script, True where the answer is streamed.
SCRIPTS: dict[str, tuple[Callable[[], Script], bool]] = {
    "a stream": (lambda: {"a/m": [STREAM], "b/m": [["fine"]]}, True),
    "a stream that is cut": (
        lambda: {
            "a/m": [[TOLD, "x" * 40, fail(ErrorClass.TRANSPORT, status=200)]],
            "b/m": [["x" * 40, "z", END]],
        },
        True,
    ),
    "a silent stream": (lambda: {"a/m": [[HANG]], "b/m": [STREAM]}, True),
    "a whole answer": (lambda: {"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": ["fine"]}, False),
    "a silent whole answer": (lambda: {"a/m": [HANG], "b/m": ["fine"]}, False),
}
#: A race of both, asked for by the caller or because the first is a probe; or none.
RACES = ("hedge", "probe", "none")


def harness(script: Script, race: str) -> Harness:
    h = Harness(catalog([A], [B]), script, learned=AT_ONCE)
    h.health.half_open = {"a/m"} if race == "probe" else set()
    return h


async def leave_at_step(h: Harness, race: str, step: int, *, streamed: bool) -> bool:
    """Returns True if the request had ended before that step."""
    request = generation(hedge=race == "hedge", deadline=h.clock.monotonic() + 60)

    async def ask() -> None:
        if not streamed:
            await h.generate.whole(h.catalog, TENANT, request)
            return
        async for _ in h.generate.stream(h.catalog, TENANT, request):
            await asyncio.sleep(0)

    task = asyncio.create_task(ask())
    for _ in range(step):
        await asyncio.sleep(0)
    ended = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return ended


def assert_nothing_left(h: Harness) -> None:
    assert (h.admission.open, h.health.tickets, h.spool.begun) == (0, 0, {})
    called = [
        r for r in h.spool.ended if r.usage != Usage(accuracy=ESTIMATED) or r.outcome is Outcome.FAILURE
    ]
    assert [f"{r.provider}/{r.model}" for r in called] == h.providers.calls


@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_regression_whenever_a_caller_leaves_every_attempt_ends(name: str, race: str) -> None:
    """Named regression: who left while the loser of a race was being ended left both attempts open: their limits, a
    ticket each, and a record that the next start took for that of a killed router."""
    script, streamed = SCRIPTS[name]
    for step in itertools.count():
        h = harness(script(), race)
        if "silent" in name and race == "none" and step > 20:
            # It would wait for a real timeout.
            break
        # The loop's end cancels what goes on without its request.
        ended = asyncio.run(leave_at_step(h, race, step, streamed=streamed))
        assert_nothing_left(h)
        left = [r.usage for r in h.spool.ended if r.outcome is Outcome.CANCELLED]
        assert not any(usage is None or usage.accuracy is EXACT for usage in left)
        if ended:
            break


@pytest.mark.parametrize("events", range(5))
@pytest.mark.parametrize("race", RACES)
def test_a_stream_is_left_after_any_of_its_events(events: int, race: str) -> None:
    """The first is the selection, before the provider is called: nothing was used then, and nothing is booked. Later
    it is what was told, and what came."""
    h = harness({"a/m": [STREAM], "b/m": [STREAM]}, race)

    async def leave() -> None:
        request = generation(hedge=race == "hedge", deadline=h.clock.monotonic() + 60)
        stream = h.generate.stream(h.catalog, TENANT, request)
        for _ in range(events):
            await anext(stream)
        await stream.aclose()

    asyncio.run(leave())
    assert_nothing_left(h)
    if events == 0:
        assert h.spool.ended == []
        return
    usage = h.spool.ended[0].usage
    expected = [Usage(accuracy=ESTIMATED), Usage(1_700, 10, 1_600, accuracy=ESTIMATED)]
    expected += [Usage(1_700, 20, 1_600, accuracy=ESTIMATED), Usage(1_700, 40, 1_600)]
    assert usage == expected[events - 1]


@pytest.mark.parametrize("race", ["hedge", "probe"])
def test_what_the_winner_of_a_race_has_shown_is_counted(race: str) -> None:
    """Also where its caller leaves at the notice that another provider answers, which comes before it."""
    h = harness({"a/m": [[HANG]], "b/m": [STREAM]}, race)

    async def leave() -> None:
        request = generation(hedge=race == "hedge", deadline=h.clock.monotonic() + 60)
        stream = h.generate.stream(h.catalog, TENANT, request)
        for expected in (Selected, SwitchedProvider):
            assert isinstance(await anext(stream), expected)
        await stream.aclose()

    asyncio.run(leave())
    assert_nothing_left(h)
    assert h.spool.ended[-1].usage == Usage(1_700, 10, 1_600, accuracy=ESTIMATED)
