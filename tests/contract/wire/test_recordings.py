"""Recorded exchanges with real providers: every answer, stream and error as it was.

Each fact is checked against `recorded.py`, which reads the recordings without the project's code, against the
usage and cost that genai-prices computed, or against a person's reading of the error.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from libs.catalog.kinds import KINDS
from libs.catalog.model import Model, Provider
from libs.catalog.prices import cost_micro_usd
from libs.conversation import Message, ReasoningDelta, Role, ToolCall, ToolCallDelta
from libs.types import ErrorClass, FinishReason, Usage
from services.router.providers.wires.wire import Endpoint, Wire
from services.router.providers.wires.wires import wires
from services.router.request.generation import (
    Completion,
    Prompt,
    ProviderFailure,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from tests.contract.wire.expected_errors import EXPECTED, INSIDE
from tests.contract.wire.recorded import (
    Row,
    Said,
    body_of,
    generates_text,
    headers_of,
    is_cut,
    kind_of,
    oracle,
    rows,
    said,
)
from tests.support.clock import ManualClock

pytestmark = pytest.mark.real_data

WIRES: dict[str, Wire] = wires(ManualClock())

#: Writer's legacy completions end without finish reason or terminator: whole or cut cannot be told, so it counts as
#: cut, and its text is not lost.
UNFINISHED = {"b3933f088ba26221"}

FINISH = {
    FinishReason.STOP: ("stop", "end_turn", "STOP", 1, "COMPLETE", "completed", "FINISH"),
    FinishReason.LENGTH: ("length", "max_tokens", "LENGTH", "MAX_TOKENS"),
    FinishReason.TOOL_CALLS: ("tool_calls", "tool_use", "TOOL_CALL"),
    FinishReason.CONTENT_FILTER: ("content_filter", "guardrail_intervened"),
    FinishReason.OTHER: (None,),
}
#: Wires without a word of their own for "asked for tools", and Snowflake, which gives none at all.
NO_WORD_FOR_TOOLS = ("STOP", 1, "completed", "stop", None)


def unary(row: Row) -> Completion:
    """The completion of a recorded 200."""
    return WIRES[kind_of(row)].completion(row["status"], headers_of(row), body_of(row))


def attempt(wire: Wire, body: bytes, size: int = 0) -> tuple[list[StreamEvent], ProviderFailure | None]:
    """The events of a stream fed in pieces of `size` bytes, and how it failed if it did."""
    decoder, events = wire.decoder(), []
    step = size or max(len(body), 1)
    try:
        for at in range(0, len(body), step):
            events += decoder.feed(body[at : at + step])
        events += decoder.close()
    except ProviderFailure as failure:
        return events, failure
    return events, None


def streamed(row: Row, size: int = 0) -> list[StreamEvent]:
    """The events of a recorded stream that succeeded."""
    events, failure = attempt(WIRES[kind_of(row)], body_of(row), size)
    assert failure is None, row["id"]
    return events


def joined(events: list[StreamEvent]) -> Completion:
    """A stream's events as a completion."""
    end = events[-1]
    assert isinstance(end, StreamEnd)
    assert not any(isinstance(event, StreamEnd) for event in events[:-1])
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            entry = calls.setdefault(event.index, ["", "", ""])
            for place, text in enumerate((event.id, event.name, event.arguments_json)):
                entry[place] += text
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    refusal = "".join(event.text for event in events if isinstance(event, RefusalDelta))
    tools = tuple(ToolCall(c[0], c[1], c[2]) for c in calls.values())
    return Completion(text, end.finish_reason, end.usage, tools, end.response_model, refusal=refusal)


def successes() -> list[Row]:
    """Text generation that succeeded and was recorded whole."""
    return [
        row
        for row in rows()
        if row["status"] == 200
        and generates_text(row)
        and not is_cut(row)
        and row["id"] not in INSIDE
        and row["id"] not in UNFINISHED
    ]


def finish_of(one: Said, row: Row) -> FinishReason:
    """The finish reason that the provider's word stands for."""
    refused = not one.tools and row["set"] == "degenerate_200" and "refusal" in row["degenerate_marker"]
    if refused:
        return FinishReason.CONTENT_FILTER
    native = kind_of(row) in ("gemini", "vertex", "ollama_native") or kind_of(row).endswith("_responses")
    if one.tools and one.finish in NO_WORD_FOR_TOOLS and (native or one.finish is None):
        return FinishReason.TOOL_CALLS
    return next(reason for reason, words in FINISH.items() if one.finish in words)


def same(found: Completion, row: Row) -> None:
    """An answer is as recorded."""
    expected = said(row)
    assert (found.text or found.refusal) == expected.text
    assert [(call.name, json.loads(call.arguments_json or "{}")) for call in found.tool_calls] == [
        (name, arguments) for name, arguments in expected.tools
    ]
    assert found.finish_reason is finish_of(expected, row), expected.finish


def test_there_is_something_to_read() -> None:
    """The recordings divide into what generates text and what does not, with nothing left over."""
    assert len(rows()) >= 400
    others = [row for row in rows() if not generates_text(row)]
    assert {row.get("kind") for row in rows() if row not in others} >= {
        "success",
        "stream",
        "tool_call",
        "error",
    }
    assert all(row["kind"] in ("embedding", "count_tokens", "success") for row in others)
    assert len(successes()) >= 330


def test_every_answer_is_as_recorded() -> None:
    """Text, tool calls and finish reason of every unary answer."""
    checked = 0
    for row in successes():
        if not row["stream"]:
            same(unary(row), row)
            checked += 1
    assert checked >= 250


@pytest.mark.parametrize("size", [0, 7, 1000])
def test_every_stream_is_as_recorded(size: int) -> None:
    """Text, tool calls and finish reason of every stream, however it is cut."""
    checked = 0
    for row in successes():
        if row["stream"]:
            same(joined(streamed(row, size)), row)
            checked += 1
    assert checked >= 80


def test_usage_equals_the_oracle() -> None:
    """Every row that genai-prices covers: the same input, output, cached, written and reasoning tokens."""
    checked = set()
    for row in successes():
        expected = oracle().get(row["id"])
        if expected is None:
            continue
        counts = expected["usage"]
        names = ("input", "output", "cache_read", "cache_write", "output_reasoning")
        usage = unary(row).usage
        assert usage == Usage(*(counts.get(f"{name}_tokens", 0) for name in names)), row["id"]
        checked.add(row["id"])
    assert checked == set(oracle())


#: Rows whose cost differs from the oracle, with the reason.
COST_DIFFERS: dict[str, str] = {
    # 113 of its 239 input tokens are audio, which costs 56 micro-USD more than text; the router sends text only.
    "1022680e7e0b2231": "675 instead of 731",
}


def test_cost_equals_the_oracle() -> None:
    """Every row that genai-prices covers costs the same to the micro-USD, rounded half up."""
    at = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    differences = {}
    for row in successes():
        expected = oracle().get(row["id"])
        if expected is None or expected["cost_usd"] is None:
            continue
        found = unary(row)
        assert found.usage is not None
        provider, model = catalog_entry(row, expected)
        wanted = int((Decimal(expected["cost_usd"]) * 1_000_000).quantize(Decimal(1), ROUND_HALF_UP))
        cost = cost_micro_usd(provider, model, found.usage, at, found.response_model)
        if cost != wanted:
            differences[row["id"]] = f"{cost} instead of {wanted}"
    assert differences == COST_DIFFERS


def catalog_entry(row: Row, expected: Row) -> tuple[Provider, Model]:
    """A catalog's provider and model for a row: whose price list applies is a matter of the vendor, not the wire."""
    kind = row["provider"] if row["provider"] in KINDS else "openai_compatible"
    base = "/".join(row["url"].split("/")[:3])
    name = str(expected["model"] or expected["response_model"])
    return Provider("p", kind, base), Model("p", "m", name, 1_000_000, 1000)


def test_every_error_has_its_class_and_wait() -> None:
    """Every recorded error as a person reads it."""
    found: dict[str, tuple[ErrorClass, bool, float | None]] = {}
    for row in rows():
        if row["status"] >= 400 and generates_text(row):
            failure = WIRES[kind_of(row)].failure(row["status"], headers_of(row), body_of(row))
            found[row["id"]] = (failure.error_class, failure.retry_same, failure.retry_after)
            assert failure.http_status == row["status"]
            assert 0 < len(failure.message) <= 300
    wrong = {i: (found[i], EXPECTED[i]) for i in found if i in EXPECTED and found[i] != EXPECTED[i]}
    assert wrong == {}
    assert sorted(EXPECTED) == sorted(found)


def test_every_error_inside_a_200_is_found() -> None:
    """Streams that fail after a 200 give what came before, then their class."""
    for row in rows():
        if row["id"] in INSIDE:
            events, failure = attempt(WIRES[kind_of(row)], body_of(row))
            assert failure is not None
            assert (failure.error_class, failure.retry_same, failure.retry_after) == INSIDE[row["id"]]
            before = [TextDelta("maybe")] if row["provider"] == "groq" else []
            assert [event for event in events if not isinstance(event, ReasoningDelta)] == before


def test_what_was_cut_in_the_recording_is_not_taken_for_whole() -> None:
    """Answers of which only the beginning was kept fail cleanly, and so does a stream without any end."""
    checked = 0
    for row in rows():
        if row["id"] not in UNFINISHED and not (is_cut(row) and generates_text(row)):
            continue
        if row["stream"]:
            _, failure = attempt(WIRES[kind_of(row)], body_of(row))
            assert failure is not None
            assert failure.error_class is ErrorClass.TRANSPORT
        else:
            with pytest.raises(ProviderFailure) as caught:
                unary(row)
            assert caught.value.error_class is ErrorClass.MALFORMED
        checked += 1
    assert checked >= 15


def test_no_prefix_of_a_recording_is_taken_for_whole() -> None:
    """Every stream cut at two thirds fails, or had said everything by then."""
    for row in successes():
        if not row["stream"]:
            continue
        body = body_of(row)
        events, failure = attempt(WIRES[kind_of(row)], body[: len(body) * 2 // 3])
        if failure is None:
            assert joined(events).text == said(row).text, row["id"]
        else:
            assert failure.error_class in (ErrorClass.TRANSPORT, ErrorClass.MALFORMED), row["id"]


def test_nothing_but_a_provider_failure_ever() -> None:
    """Every body through every wire, as an answer, a stream and an error: a foreign format harms nobody."""
    for row in rows():
        body, headers = body_of(row), headers_of(row)
        # One of each class: dialects of one wire decode alike.
        for wire in {type(wire): wire for wire in WIRES.values()}.values():
            wire.failure(row["status"], headers, body)
            with suppress(ProviderFailure):
                wire.completion(200, headers, body)
            attempt(wire, body)


def test_requests_have_the_shape_of_recorded_ones() -> None:
    """A conversation of plain text that a provider accepted is sent with the same roles and texts again."""
    checked = 0
    for row in successes():
        recorded = row["request_body"]
        messages: Any = recorded.get("messages") if isinstance(recorded, dict) else None
        kind = kind_of(row)
        plain = messages and all(
            isinstance(m.get("content"), str)
            and m["content"]
            and m["role"] in ("system", "user", "assistant")
            and not m.get("tool_calls")
            for m in messages
        )
        if not plain or kind.startswith(("bedrock", "anthropic", "gemini", "vertex")):
            continue
        prompt = Prompt(tuple(Message(Role(m["role"]), m["content"]) for m in messages), 100)
        request = WIRES[kind].request(prompt, Endpoint("https://h/v1", "m", "k", {}), stream=row["stream"])
        sent = json.loads(request.body)["messages"]
        assert sent == [{"role": m["role"], "content": m["content"]} for m in messages], row["id"]
        checked += 1
    assert checked >= 50
