"""Streams: what they tell, however they are cut; what is whole and what is not; errors inside a 200."""

# ruff: noqa: E501

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.conversation import ToolCallDelta
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.request.generation import ProviderFailure, StreamEnd, StreamEvent, TextDelta
from tests.unit.router.providers.wires.samples import (
    STREAMS,
    WIRES,
    chunk,
    frame,
    lines,
    sse,
    told,
    tool_chunk,
    typed,
    wrapped,
)

Outcome = tuple[list[StreamEvent], tuple[ErrorClass, str, Usage | None] | None]


def read(kind: str, chunks: Sequence[bytes], *, may_be_empty: bool = False) -> Outcome:
    """All events of a stream, and how it failed if it did."""
    decoder = WIRES[kind].decoder(may_be_empty=may_be_empty)
    events: list[StreamEvent] = []
    try:
        for piece in chunks:
            events += decoder.feed(piece)
        events += decoder.close()
    except ProviderFailure as failure:
        return events, (failure.error_class, failure.message, failure.usage)
    return events, None


def fails(kind: str, data: bytes) -> tuple[list[StreamEvent], ErrorClass]:
    """The events of a stream that must fail, and the class."""
    events, failure = read(kind, [data])
    assert failure is not None
    return events, failure[0]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_its_text_tools_finish_and_usage(name: str) -> None:
    """Every wire's hand-made stream reads as it was meant."""
    kind, data, expected = STREAMS[name]
    events, failure = read(kind, [data])
    assert failure is None
    assert told(events) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_byte_by_byte_tells_the_same(name: str) -> None:
    """The finest cut of all changes nothing."""
    kind, data, _ = STREAMS[name]
    assert read(kind, [data[i : i + 1] for i in range(len(data))]) == read(kind, [data])


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(STREAMS)), places=st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_cut_tells_the_same(name: str, places: list[int]) -> None:
    """Chunk borders mean nothing."""
    kind, data, _ = STREAMS[name]
    assert read(kind, cut(data, places)) == read(kind, [data])


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(STREAMS)),
    length=st.integers(0, 1 << 16),
    places=st.lists(st.integers(0, 1 << 16), max_size=6),
)
def test_a_stream_cut_short_never_passes_for_whole(name: str, length: int, places: list[int]) -> None:
    """Of any prefix: the whole text, or a failure; and the same however the prefix is cut."""
    kind, data, expected = STREAMS[name]
    prefix = data[: length % len(data)]
    events, failure = read(kind, [prefix])
    assert read(kind, cut(prefix, places)) == (events, failure)
    if failure is None:
        assert told(events).text == expected.text
        assert told(events).end.finish_reason == expected.end.finish_reason
    else:
        assert failure[0] in (ErrorClass.TRANSPORT, ErrorClass.MALFORMED)
        assert not any(isinstance(event, StreamEnd) for event in events)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "index",
                    "id",
                    "name",
                    "finish_reason",
                    "usage",
                    "error",
                    "type",
                    "message",
                    "candidates",
                    "parts",
                    "text",
                    "functionCall",
                    "args",
                    "usageMetadata",
                    "promptTokenCount",
                    "response",
                    "output",
                    "item",
                    "content_block",
                    "stop_reason",
                    "input_tokens",
                    "output_tokens",
                    "prompt_tokens",
                    "done",
                    "event_type",
                    "bytes",
                    "delta",
                    "messageStop",
                    "stopReason",
                    "toolUse",
                    "metadata",
                    "code",
                    "status",
                    "details",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_TYPES = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "error",
        "message-end",
        "content-delta",
        "tool-call-start",
        "stream-end",
        "response.completed",
        "response.failed",
        "response.output_item.done",
        "response.output_text.delta",
        "messageStop",
        "metadata",
        "contentBlockDelta",
        "contentBlockStart",
        "ping",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(WIRES)),
    values=st.lists(st.tuples(_TYPES, _JSON), max_size=4),
    framing=st.integers(0, 3),
)
def test_no_json_breaks_a_decoder(kind: str, values: list[tuple[str, Any]], framing: int) -> None:
    """Whatever shape events have, a decoder ends properly or with a ProviderFailure."""
    events = [{**value, "type": name} if isinstance(value, dict) else value for name, value in values]
    data = (
        lambda: sse(*zip((name for name, _ in values), events, strict=True)),
        lambda: lines(*events),
        lambda: b"".join(frame(name, value) for name, value in values),
        lambda: b"".join(wrapped(event) for event in events),
    )[framing]()
    read(kind, [data])


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(WIRES)), chunks=st.lists(st.binary(max_size=64), max_size=6))
def test_no_bytes_break_a_decoder(kind: str, chunks: list[bytes]) -> None:
    """Noise fails as a ProviderFailure."""
    _, failure = read(kind, chunks)
    assert failure is not None


def test_finish_reason_without_terminator_is_whole() -> None:
    """A provider that forgets [DONE] has answered all the same."""
    events, failure = read("openai", [sse(chunk({"content": "hi"}), chunk({}, "stop"))])
    assert failure is None
    assert told(events).end.finish_reason is FinishReason.STOP


def test_end_without_newline_is_whole() -> None:
    """The last event counts though the stream ends before its blank line."""
    events, failure = read("openai", [sse(chunk({"content": "hi"}), chunk({}, "stop")).rstrip(b"\n")])
    assert failure is None
    assert told(events).text == "hi"


def test_terminator_is_enough_for_a_provider_that_never_gives_a_reason() -> None:
    """Snowflake's finish reason is always empty, so [DONE] is all that says the answer is over."""
    events, _ = read("snowflake", [sse(chunk({"content": "hi"}, ""), done=True)])
    assert told(events).end.finish_reason is FinishReason.OTHER
    events, _ = read("snowflake", [sse(tool_chunk(0, "a", "f", "{}"), done=True)])
    assert told(events).end.finish_reason is FinishReason.TOOL_CALLS


def test_cut_stream_keeps_what_was_consumed() -> None:
    """The input tokens of a stream that broke off are in the failure."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}
    events, failure = read("anthropic", [typed(start, delta)])
    assert events == [TextDelta("hi")]
    assert failure is not None
    assert failure[0] is ErrorClass.TRANSPORT
    assert failure[2] == Usage(9, 1, accuracy=UsageAccuracy.ESTIMATED)


def test_nothing_after_the_end_is_looked_at() -> None:
    """Rubbish behind the terminator harms nothing, in the same chunk or later."""
    whole = sse(chunk({"content": "hi"}), chunk({}, "stop"), done=True)
    events, failure = read("openai", [whole + b"data: {rubbish\n\n", b"\xff\xff"])
    assert failure is None
    assert told(events).text == "hi"


def test_malformed_chunk_fails_and_keeps_the_text_before_it() -> None:
    """A chunk that is not JSON is not skipped: the hole would be hidden. What came before is handed out first."""
    data = sse(chunk({"content": "hi"})) + b'data: {"choices": [{"del\n\n' + sse(chunk({}, "stop"), done=True)
    assert fails("openai", data) == ([TextDelta("hi")], ErrorClass.MALFORMED)


def test_html_is_not_a_stream() -> None:
    """A proxy's page with status 200 is malformed; a connection closed before any byte is transport."""
    assert fails("openai", b"<html><body>Welcome</body></html>") == ([], ErrorClass.MALFORMED)
    assert fails("openai", b"") == ([], ErrorClass.TRANSPORT)


@pytest.mark.parametrize("kind", ["openai", "gemini", "mistral"])
def test_an_empty_answer_is_no_answer(kind: str) -> None:
    """A proper end without a word fails, unless the stream goes on from text that was already sent."""
    data = {
        "gemini": sse({"candidates": [{"finishReason": "STOP"}]}),
    }.get(kind, sse(chunk({"content": ""}), chunk({}, "stop"), done=True))
    assert fails(kind, data) == ([], ErrorClass.MALFORMED)
    events, failure = read(kind, [data], may_be_empty=True)
    assert failure is None
    assert len(events) == 1


def test_an_empty_answer_for_a_reason_is_an_answer() -> None:
    """A length limit or a content filter explain why nothing was said."""
    for reason, expected in (
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
    ):
        events, failure = read("openai", [sse(chunk({}, reason), done=True)])
        assert failure is None
        assert told(events).end.finish_reason is expected


def test_a_refusal_is_passed_on_as_filtered() -> None:
    """The refusal of a model is no text, and its finish reason is content_filter."""
    events, _ = read("openai", [sse(chunk({"refusal": "I can't."}), chunk({}, "stop"), done=True)])
    found = told(events)
    assert (found.text, found.refusal) == ("", "I can't.")
    assert found.end.finish_reason is FinishReason.CONTENT_FILTER


ERRORS: list[tuple[str, bytes, ErrorClass]] = [
    ("anthropic", typed({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), ErrorClass.OVERLOADED),
    ("anthropic", typed({"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}), ErrorClass.SERVER_ERROR),
    ("anthropic", typed({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}), ErrorClass.RATE_LIMITED),
    ("groq", sse(("error", {"error": {"message": "no call", "code": "tool_use_failed", "status_code": 400}})), ErrorClass.MALFORMED),
    ("groq", sse({"error": {"message": "Internal", "type": "internal_server_error"}}), ErrorClass.SERVER_ERROR),
    ("openai", sse({"error": {"message": "The server had an error", "type": "server_error", "code": None}}), ErrorClass.SERVER_ERROR),
    ("openai", sse({"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}}), ErrorClass.RATE_LIMITED),
    ("openrouter", sse({**chunk({"content": ""}, "error"), "error": {"code": 429, "message": "Rate limited upstream"}}), ErrorClass.RATE_LIMITED),
    ("openrouter", sse({**chunk({"content": ""}, "error"), "error": {"code": "server_error", "message": "Disconnected"}}), ErrorClass.SERVER_ERROR),
    ("openrouter", sse(chunk({"content": ""}, "error")), ErrorClass.SERVER_ERROR),
    ("vllm", sse({"object": "error", "message": "maximum context length is 4096 tokens", "type": "BadRequestError", "code": 400}), ErrorClass.CONTEXT_TOO_LONG),
    ("azure_openai", sse({"error": {"code": "content_filter", "message": "filtered", "status": 400}}), ErrorClass.CONTENT_REFUSED),
    ("openai_responses", typed({"type": "error", "code": "rate_limit_exceeded", "message": "Rate limit reached"}), ErrorClass.RATE_LIMITED),
    ("openai_responses", typed({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "Sorry"}}}), ErrorClass.SERVER_ERROR),
    ("openai_responses", typed({"type": "error", "error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your current quota"}}), ErrorClass.QUOTA_EXHAUSTED),
    ("gemini", sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}), ErrorClass.OVERLOADED),
    ("gemini", json.dumps([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota"}}], indent=2).encode(), ErrorClass.RATE_LIMITED),
    ("gemini", sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}}), ErrorClass.CONTENT_REFUSED),
    ("cohere", typed({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "Overloaded"}}), ErrorClass.OVERLOADED),
    ("ollama_native", lines({"error": "model runner has unexpectedly stopped"}), ErrorClass.SERVER_ERROR),
    ("bedrock", frame("throttlingException", {"message": "Too many tokens, please wait"}, "exception"), ErrorClass.RATE_LIMITED),
    ("bedrock", frame("internalServerException", {"message": "Oops"}, "exception"), ErrorClass.SERVER_ERROR),
    ("bedrock", frame("validationException", {"message": "Bad"}, "exception"), ErrorClass.INVALID_REQUEST),
    ("bedrock_invoke", frame("serviceUnavailableException", {"message": "Wait"}, "exception"), ErrorClass.OVERLOADED),
    ("bedrock", frame("modelStreamErrorException", {"message": "Broken"}, "exception"), ErrorClass.SERVER_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data", "expected"), ERRORS)
def test_an_error_inside_a_200_is_classified(kind: str, data: bytes, expected: ErrorClass) -> None:
    """The event says what went wrong though the status said all was well."""
    assert fails(kind, data) == ([], expected)


def test_two_calls_that_share_an_index_stay_two() -> None:
    """Gemini's compatible endpoint numbers every call 0; the ids tell them apart."""
    data = sse(tool_chunk(0, "a", "f", "{}"), tool_chunk(0, "b", "g", "[]"), chunk({}, "stop"), done=True)
    events, _ = read("openai_compatible", [data])
    assert events[:2] == [ToolCallDelta(0, "a", "f", "{}"), ToolCallDelta(1, "b", "g", "[]")]


def test_a_broken_checksum_fails_after_the_whole_messages() -> None:
    """A damaged frame is malformed; what came whole before it is handed out."""
    good = frame("contentBlockDelta", {"delta": {"text": "hi"}})
    bad = bytearray(frame("contentBlockDelta", {"delta": {"text": "there"}}))
    bad[-10] ^= 1
    assert fails("bedrock", good + bytes(bad)) == ([TextDelta("hi")], ErrorClass.MALFORMED)


def test_nothing_unmakes_a_finished_answer() -> None:
    """After the finish reason, half a usage chunk or an error event changes nothing."""
    whole = sse(chunk({"content": "hi"}), chunk({}, "stop"))
    for rest in (b'data: {"usage": {"prompt\n\n', sse({"error": {"message": "usage is unavailable"}})):
        events, failure = read("openai", [whole + rest])
        assert failure is None
        assert told(events).text == "hi"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_bare_json_error_is_classified(indent: int | None) -> None:
    """A stream request answered with a 200 and a plain JSON error, printed in any way, in an object or an array."""
    error = {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}
    for body in (error, [error]):
        assert fails("openai_compatible", json.dumps(body, indent=indent).encode()) == (
            [],
            ErrorClass.RATE_LIMITED,
        )
