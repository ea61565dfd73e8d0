"""Every ending of an attempt is accounted for by one rule."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.answer import Delta
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.generate.accounting import Ending, account, ending_of, reserved_usage
from services.router.ledger.usage_record import Outcome
from services.router.request.generation import Completion, StreamEnd
from tests.support.routing import HANG, TENANT, Harness, catalog, fail, generation, model

EXACT, ESTIMATED, UNCERTAIN = UsageAccuracy
RESERVED = reserved_usage(12, 100)
NOTHING = Usage(accuracy=ESTIMATED)

counts = st.integers(0, 50_000)
usages = st.builds(Usage, counts, counts, counts, counts, counts, st.sampled_from(UsageAccuracy))
texts = st.text(max_size=600) | st.integers(0, 20_000).map("x".__mul__)


@given(st.sampled_from(Ending), st.none() | usages, texts, counts, counts)
def test_no_ending_counts_less_than_was_told_or_is_exact_by_itself(
    ending: Ending, told: Usage | None, came: str, inputs: int, output: int
) -> None:
    """Never below any count that was told; EXACT is what was told as that, unchanged, and nothing else; an estimate
    stays within what was reserved, unless more was told or what came has too many bytes for it; and nobody at work is
    booked as having used nothing."""
    found = account(ending, told, came, reserved_usage(inputs, output))
    least = told or Usage()
    for name in (
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
    ):
        assert getattr(found, name) >= getattr(least, name)
    assert (found.accuracy is EXACT) == (least.accuracy is EXACT and told is not None)
    if found.accuracy is EXACT:
        assert found == told
        return
    assert found.input_tokens <= max(inputs, least.input_tokens)
    assert found.output_tokens <= max(output, least.output_tokens, len(came.encode()) / 16 + 1)
    if came or ending is not Ending.REFUSED:
        assert found.input_tokens >= (least.input_tokens or inputs)
    if ending is Ending.BROKEN_OFF and not came:
        assert (found.output_tokens >= output, found.accuracy) == (True, UNCERTAIN)


def test_more_told_is_never_less_counted() -> None:
    """Usage told so far raises what is known; what is generated after it is counted from what came."""
    told = Usage(17_000, 1, 16_000, accuracy=ESTIMATED)
    found = account(Ending.BROKEN_OFF, told, "eleven words " * 4, RESERVED)
    assert found == Usage(17_000, 13, 16_000, accuracy=ESTIMATED)
    assert account(Ending.BROKEN_OFF, None, "x" * 4_000, RESERVED).output_tokens == 250


ENDINGS = [
    (ErrorClass.OVERLOADED, 503, Ending.REFUSED),
    (ErrorClass.RATE_LIMITED, 429, Ending.REFUSED),
    (ErrorClass.TRANSPORT, 0, Ending.REFUSED),
    (ErrorClass.TRANSPORT, 502, Ending.REFUSED),
    (ErrorClass.TRANSPORT, 200, Ending.BROKEN_OFF),
    (ErrorClass.TIMEOUT, 0, Ending.BROKEN_OFF),
    (ErrorClass.STALLED, 200, Ending.BROKEN_OFF),
    (ErrorClass.MALFORMED, 200, Ending.BROKEN_OFF),
]


@pytest.mark.parametrize(("error_class", "status", "expected"), ENDINGS)
def test_an_answer_that_began_was_worked_on(error_class: ErrorClass, status: int, expected: Ending) -> None:
    """An error status and a connection without an answer cost nothing; a cut answer, and one not waited for, may."""
    assert ending_of(fail(error_class, status=status)) is expected


TOLD = Usage(1_700, 1, 1_600, accuracy=ESTIMATED)
CUT = fail(ErrorClass.TRANSPORT, status=200)
#: What the provider does → the attempt's usage. The prompt of `generation` is reserved with 100 tokens of output.
FAILURES: dict[str, tuple[object, Usage | None]] = {
    "refused": (fail(ErrorClass.OVERLOADED, status=503), NOTHING),
    "never reached": (fail(ErrorClass.TRANSPORT), NOTHING),
    "a whole answer or head does not come": (fail(ErrorClass.TIMEOUT), None),
    "a body is cut": (CUT, None),
    "an answer is none": (fail(ErrorClass.MALFORMED, status=200), None),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_before_any_content(name: str, streamed: bool) -> None:
    """Nothing where the provider said no; all that was reserved where nobody knows (None), as if the router had been
    killed. Ledger, limits and metrics have the same figures."""
    step, expected = FAILURES[name]
    h = Harness(
        catalog([model("a/m")], [model("b/m")]), {"a/m": [step], "b/m": [["fine"] if streamed else "fine"]}
    )
    if streamed:
        async for _ in h.generate.stream(h.catalog, TENANT, generation()):
            pass
    else:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert_ended(h, expected or reserved(h))
    assert h.spool.ended[0].http_status == getattr(step, "http_status", 0)


#: Pieces of a stream, then how it ends → the attempt's usage.
STREAMS: dict[str, tuple[list[object], Usage]] = {
    "cut after usage was told": (["x" * 40, TOLD, CUT], Usage(1_700, 10, 1_600, accuracy=ESTIMATED)),
    "cut after more was told than came": (
        ["x", Usage(9, 50, accuracy=ESTIMATED), CUT],
        Usage(9, 50, accuracy=ESTIMATED),
    ),
    "an error after usage was told, without content": (
        [TOLD, fail(ErrorClass.OVERLOADED, status=200)],
        TOLD,
    ),
    "a stall": (
        [TOLD, "x" * 40, fail(ErrorClass.STALLED, status=200)],
        Usage(1_700, 10, 1_600, accuracy=ESTIMATED),
    ),
    "an end with all usage": (["x", StreamEnd(FinishReason.STOP, Usage(9, 3))], Usage(9, 3)),
    "an end with a part of it": (
        ["x" * 40, StreamEnd(FinishReason.STOP, TOLD)],
        Usage(1_700, 10, 1_600, accuracy=ESTIMATED),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_that_ends(name: str) -> None:
    """Counts that were told stay told; text that came is counted beside them."""
    steps, expected = STREAMS[name]
    h = Harness(catalog([model("a/m")], [model("b/m")]), {"a/m": [steps], "b/m": [["anything"]]})
    async for _ in h.generate.stream(h.catalog, TENANT, generation()):
        pass
    assert_ended(h, expected)


@pytest.mark.parametrize("content", [True, False])
async def test_a_stream_left_by_its_caller_keeps_what_was_told(content: bool) -> None:
    """With the part that came; before any, what was reserved for the answer, as nobody knows."""
    steps = [TOLD, "x" * 40, HANG] if content else [TOLD, HANG]
    h = Harness(catalog([model("a/m")]), {"a/m": [steps]})

    async def read(begun: asyncio.Event) -> None:
        async for event in h.generate.stream(h.catalog, TENANT, generation()):
            if isinstance(event, Delta):
                begun.set()

    begun = asyncio.Event()
    caller = asyncio.create_task(read(begun))
    while not (begun.is_set() if content else h.providers.calls):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    assert h.spool.ended[0].outcome is Outcome.CANCELLED
    expected = (
        Usage(1_700, 10, 1_600, accuracy=ESTIMATED)
        if content
        else Usage(1_700, 100, 1_600, accuracy=UNCERTAIN)
    )
    assert_ended(h, expected)


async def test_a_whole_answer_left_by_its_caller_is_booked_as_by_a_killed_router() -> None:
    """Nobody knows what the provider made of it: the record is the one that recovery would send."""
    h = Harness(catalog([model("a/m")]), {"a/m": [HANG]})
    caller = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation()))
    while not h.spool.begun:
        await asyncio.sleep(0)
    (begun,) = h.spool.begun.values()
    caller.cancel()
    await asyncio.wait({caller})
    (left,) = h.spool.ended
    assert (left.usage, left.cost_micro_usd) == (begun.usage, begun.cost_micro_usd)
    assert_ended(h, reserved(h))


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_hedge_that_lost_is_booked_as_reserved(streamed: bool) -> None:
    """It showed nothing before it was ended."""
    answer = Completion("fine", FinishReason.STOP, Usage(10, 5))
    h = Harness(
        catalog([model("a/m")], [model("b/m")]),
        {"a/m": [[HANG] if streamed else HANG], "b/m": [["fine"] if streamed else answer]},
    )
    request = generation(hedge=True)
    if streamed:
        async for _ in h.generate.stream(h.catalog, TENANT, request):
            pass
    else:
        await h.generate.whole(h.catalog, TENANT, request)
    assert_ended(h, reserved(h))


def reserved(h: Harness) -> Usage:
    """The usage that the first attempt reserved."""
    amounts = h.admission.settled[0][0]
    return reserved_usage(amounts.input_tokens, amounts.output_tokens)


def assert_ended(h: Harness, expected: Usage) -> None:
    """The first attempt's usage in the ledger; and ledger, limits and metrics agree on all of them."""
    first, *_ = h.spool.ended
    assert first.usage == expected
    assert first.cost_micro_usd == expected.input_tokens + expected.output_tokens
    assert h.admission.open == 0
    used = [amounts for _, amounts in h.admission.settled]
    tokens = [record.usage or NOTHING for record in h.spool.ended]
    costs = [record.cost_micro_usd for record in h.spool.ended]
    assert [(a.input_tokens, a.output_tokens, a.micro_usd) for a in used] == [
        (usage.input_tokens, usage.output_tokens, cost) for usage, cost in zip(tokens, costs, strict=True)
    ]
    counted = [
        (sample.labels["direction"], sample.value)
        for metric in h.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "pointsman_tokens_total"
    ]
    for direction, total in (
        ("input", sum(usage.input_tokens for usage in tokens)),
        ("output", sum(usage.output_tokens for usage in tokens)),
    ):
        assert sum(value for labelled, value in counted if labelled == direction) == total
