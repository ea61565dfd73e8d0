"""Usage that a provider tells bit by bit: what was told once stays told, and is all of it at the end alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bounds import MAX_TOKENS
from libs.types import Usage, UsageAccuracy
from services.router.providers.wires.wire import StreamDecoder
from services.router.request.generation import ProviderFailure, StreamEnd
from services.router.request.usage import merge_usage, told_usage
from tests.unit.router.providers.wires.samples import STREAMS, WIRES, chunk, frame, lines, sse, typed, wrapped

EXACT, ESTIMATED, _ = UsageAccuracy
FIELDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_CHAT: dict[str, Any] = {"prompt_tokens": 17_000, "prompt_tokens_details": {"cached_tokens": 16_000}}
_RESPONSES: dict[str, Any] = {"input_tokens": 17_000, "input_tokens_details": {"cached_tokens": 16_000}}
_HI = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
_START = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 1_000, "cache_read_input_tokens": 16_000, "output_tokens": 1}},
}


def stop(**usage: int | None) -> dict[str, Any]:
    """The last but one event of a message."""
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


def gemini(text: str, usage: dict[str, int], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}]}, **more}], "usageMetadata": usage}


#: Streams that tell 17,000 input tokens, 16,000 of them cached where the wire can say so, and leave them out or zero
#: them when they tell the 40 of the output.
TOLD_TWICE: dict[str, tuple[str, bytes]] = {
    "anthropic, zeros": (
        "anthropic",
        typed(_START, _HI, stop(input_tokens=0, cache_read_input_tokens=0, output_tokens=40)),
    ),
    "anthropic, one zero": (
        "anthropic",
        typed(_START, _HI, stop(input_tokens=1_000, cache_read_input_tokens=0, output_tokens=40)),
    ),
    "anthropic, left out": ("anthropic", typed(_START, _HI, stop(output_tokens=40))),
    "anthropic, nulls": ("anthropic", typed(_START, _HI, stop(input_tokens=None, output_tokens=40))),
    "anthropic, the total at first": (
        "anthropic",
        typed(
            {"type": "message_start", "message": {"usage": {"input_tokens": 17_000, "output_tokens": 1}}},
            _HI,
            stop(input_tokens=1_000, cache_read_input_tokens=16_000, output_tokens=40),
        ),
    ),
    "bedrock invoke": (
        "bedrock_invoke",
        b"".join(
            map(wrapped, (_START, _HI, stop(input_tokens=0, cache_read_input_tokens=0, output_tokens=40)))
        ),
    ),
    "chat": (
        "openai",
        sse(
            chunk({"content": "Hi"}, usage={**_CHAT, "completion_tokens": 1}),
            chunk({}, "stop", usage={"prompt_tokens": 0, "completion_tokens": 40}),
        ),
    ),
    "chat, zeros after the end": (
        "openai_compatible",
        sse(
            chunk({"content": "Hi"}),
            chunk({}, "stop", usage={**_CHAT, "completion_tokens": 40}),
            chunk(usage={"prompt_tokens": 0, "completion_tokens": 0}),
        ),
    ),
    "responses": (
        "openai_responses",
        typed(
            {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
            {
                "type": "response.completed",
                "response": {"status": "completed", "usage": {**_RESPONSES, "output_tokens": 40}},
            },
        ),
    ),
    "gemini": (
        "gemini",
        sse(
            gemini(
                "Hi",
                {"promptTokenCount": 17_000, "cachedContentTokenCount": 16_000, "totalTokenCount": 17_000},
            ),
            gemini("", {"promptTokenCount": 0, "candidatesTokenCount": 40}, finishReason="STOP"),
        ),
    ),
    "gemini, corrected": (
        "gemini",
        sse(
            gemini(
                "Hi",
                {"promptTokenCount": 17_002, "cachedContentTokenCount": 16_000, "totalTokenCount": 17_002},
            ),
            gemini("", {"promptTokenCount": 17_000, "candidatesTokenCount": 40}, finishReason="STOP"),
        ),
    ),
    "gemini, the output in the total alone": (
        "gemini",
        sse(
            gemini(
                "Hi",
                {"promptTokenCount": 17_000, "cachedContentTokenCount": 16_000, "totalTokenCount": 17_040},
                finishReason="STOP",
            )
        ),
    ),
    "converse, a null beside the other name of the field": (
        "bedrock",
        frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
        + frame("messageStop", {"stopReason": "end_turn"})
        + frame(
            "metadata",
            {
                "usage": {
                    "inputTokens": 1_000,
                    "outputTokens": 40,
                    "cacheReadInputTokens": None,
                    "cacheReadInputTokenCount": 16_000,
                }
            },
        ),
    ),
    "converse": (
        "bedrock",
        frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
        + frame(
            "metadata", {"usage": {"inputTokens": 1_000, "cacheReadInputTokens": 16_000, "outputTokens": 1}}
        )
        + frame("messageStop", {"stopReason": "end_turn"})
        + frame("metadata", {"usage": {"inputTokens": 0, "outputTokens": 40}}),
    ),
}


def ended(decoder: StreamDecoder, data: bytes) -> StreamEnd:
    end = [*decoder.feed(data), *decoder.close()][-1]
    assert isinstance(end, StreamEnd)
    return end


@pytest.mark.parametrize("name", TOLD_TWICE)
def test_regression_later_zeros_do_not_wipe_out_what_was_told(name: str) -> None:
    """The most of every count, exact since it was told at the end."""
    kind, data = TOLD_TWICE[name]
    assert ended(WIRES[kind].decoder(), data).usage == Usage(17_000, 40, 16_000)


@pytest.mark.parametrize(
    "count", [MAX_TOKENS // 4, MAX_TOKENS // 4 + 1, MAX_TOKENS, MAX_TOKENS + 1, 10**12, 2**63]
)
@pytest.mark.parametrize("name", [name for name, (kind, _) in TOLD_TWICE.items() if "bedrock" not in kind])
def test_no_count_is_told_that_the_ledger_would_refuse(name: str, count: int) -> None:
    """An absurd count is none; those that are added up, of which each is kept, stay within what is kept too. Counts
    of thousands of millions were taken over, and the ledger then refused the whole record."""
    kind, data = TOLD_TWICE[name]
    usage = ended(WIRES[kind].decoder(), re.sub(rb"\b\d+000\b", b"%d" % count, data)).usage
    assert usage is None or all(0 <= getattr(usage, field) <= MAX_TOKENS for field in FIELDS)


#: Told before the rest of the text came.
_FIRST = Usage(17_000, 1, 16_000)
_METRICS = {
    "type": "message_stop",
    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1_000, "outputTokenCount": 40},
}
_PROMPT_249: dict[str, Any] = {"prompt_tokens": 249, "completion_tokens": 12}
NOT_ALL: dict[str, tuple[str, bytes, Usage]] = {
    "at the beginning alone": ("anthropic", typed(_START, _HI, stop()), Usage(17_000, 1, 16_000)),
    "before the rest of the text": (
        "openai_compatible",
        sse(
            chunk({"content": "Hi"}, usage={**_CHAT, "completion_tokens": 1}),
            chunk({"content": "!"}),
            chunk({}, "stop"),
        ),
        Usage(17_000, 1, 16_000),
    ),
    "the output alone": ("anthropic", typed(_HI, stop(output_tokens=40)), Usage(0, 40)),
    "ollama, whose prompt was in its cache": (
        "ollama_native",
        lines({"message": {"content": "Hi"}}, {"done": True, "eval_count": 40}),
        Usage(0, 40),
    ),
    "gemini, the prompt alone": (
        "gemini",
        sse(gemini("Hi", {"promptTokenCount": 17_000}, finishReason="STOP")),
        Usage(17_000, 0),
    ),
    "anthropic, the output zeroed": ("anthropic", typed(_START, _HI, stop(output_tokens=0)), _FIRST),
    "anthropic, the output null": (
        "anthropic",
        typed(_START, _HI, stop(input_tokens=1_000, output_tokens=None)),
        _FIRST,
    ),
    "anthropic, a negative output": ("anthropic", typed(_START, _HI, stop(output_tokens=-3)), _FIRST),
    "bedrock invoke, the output in its metrics alone": (
        "bedrock_invoke",
        b"".join(map(wrapped, (_START, _HI, stop(output_tokens=0), _METRICS))),
        Usage(17_000, 40, 16_000),
    ),
    "chat, all zeroed after the rest of the text": (
        "openai_compatible",
        sse(
            chunk({"content": "Hi"}, usage={**_CHAT, "completion_tokens": 1}),
            chunk({"content": "!"}),
            chunk({}, "stop"),
            chunk(usage={"prompt_tokens": 0, "completion_tokens": 0}),
        ),
        _FIRST,
    ),
    "gemini, the output zeroed with the rest of the text": (
        "gemini",
        sse(
            gemini("Hi", {"promptTokenCount": 17_000, "candidatesTokenCount": 1}),
            gemini("!", {"promptTokenCount": 17_000, "candidatesTokenCount": 0}, finishReason="STOP"),
        ),
        Usage(17_000, 1),
    ),
    "converse, all zeroed": (
        "bedrock",
        frame("metadata", {"usage": {"inputTokens": 1_000, "outputTokens": 1}})
        + frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
        + frame("messageStop", {"stopReason": "end_turn"})
        + frame("metadata", {"usage": {"inputTokens": 0, "outputTokens": 0}}),
        Usage(1_000, 1),
    ),
    "deepseek, more cached than the prompt": (
        "deepseek",
        sse(
            chunk({"content": "Hi"}),
            chunk({}, "stop", usage={**_PROMPT_249, "prompt_cache_hit_tokens": 416}),
        ),
        Usage(665, 12, 416),
    ),
    "gemini, more cached than the prompt": (
        "gemini",
        sse(
            gemini(
                "Hi",
                {"promptTokenCount": 249, "cachedContentTokenCount": 416, "candidatesTokenCount": 12},
                finishReason="STOP",
            )
        ),
        Usage(665, 12, 416),
    ),
    "less than before": (
        "openai_compatible",
        sse(
            chunk({"content": "Hi"}, usage={"prompt_tokens": 25, "completion_tokens": 1}),
            chunk({}, "stop", usage={"prompt_tokens": 20, "completion_tokens": 40}),
        ),
        Usage(25, 40),
    ),
}


@pytest.mark.parametrize("name", NOT_ALL)
def test_a_part_of_the_truth_is_not_exact(name: str) -> None:
    """Told before the rest was generated (a later zero stands for left out), without one of its halves, or against
    itself."""
    kind, data, counts = NOT_ALL[name]
    usage = ended(WIRES[kind].decoder(), data).usage
    assert usage is not None
    assert [getattr(usage, field) for field in FIELDS] == [getattr(counts, field) for field in FIELDS]
    assert usage.accuracy is ESTIMATED


@pytest.mark.parametrize("name", [*STREAMS, *TOLD_TWICE])
def test_usage_is_known_at_any_time_and_never_shrinks(name: str) -> None:
    """Byte by byte, on every wire, but where a provider corrects itself; exact with the finish reason at the
    earliest."""
    kind, data = TOLD_TWICE[name] if name in TOLD_TWICE else STREAMS[name][:2]
    decoder, before = WIRES[kind].decoder(), Usage()
    for at in range(len(data)):
        decoder.feed(data[at : at + 1])
        usage = decoder.usage or before
        assert "corrected" in name or all(getattr(usage, f) >= getattr(before, f) for f in FIELDS)
        assert decoder.usage is None or usage.accuracy is ESTIMATED or decoder.finish is not None
        before = usage


counts = st.none() | st.integers(0, 1_000)
parts = st.integers(0, 1_000)
told = st.builds(told_usage, counts, counts, parts, parts, parts)


@given(st.lists(told, max_size=6))
def test_merging_keeps_the_most_of_every_count(told: list[Usage | None]) -> None:
    """Whatever is told in turn; exact only where the last was."""
    merged: Usage | None = None
    for usage in told:
        merged = merge_usage(merged, usage)
    known = [usage for usage in told if usage is not None]
    if merged is None:
        assert not known
        return
    for field in FIELDS:
        assert getattr(merged, field) >= max(getattr(usage, field) for usage in known)
    assert merged.cache_read_tokens + merged.cache_write_tokens <= merged.input_tokens
    assert merged.reasoning_tokens <= merged.output_tokens
    assert merged.accuracy is not EXACT or known[-1].accuracy is EXACT


@given(counts, counts, parts, parts, parts)
def test_usage_that_contradicts_itself_is_not_exact(
    inputs: int | None, output: int | None, read: int, written: int, reasoning: int
) -> None:
    """Cached tokens are in the input and reasoning in the output, as a provider tells it or because they are added;
    exact means told so, with both halves."""
    usage = told_usage(inputs, output, read, written, reasoning)
    if usage is None:
        assert inputs is output is None
        return
    assert usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
    assert (usage.accuracy is EXACT) == ((usage.input_tokens, usage.output_tokens) == (inputs, output))


def test_regression_cached_tokens_above_the_prompts_are_not_exact() -> None:
    """Azure AI's Grok counted the same request as 249 and as 416 cached tokens beside 249."""
    usage = {"prompt_tokens": 249, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 416}}
    answer = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": usage}
    found = WIRES["azure_ai"].completion(200, {}, json.dumps(answer).encode()).usage
    assert found == Usage(665, 12, 416, accuracy=ESTIMATED)


def test_an_error_that_tells_all_usage_tells_it_exactly() -> None:
    """A failed response names what it used."""
    data = typed(
        {
            "type": "response.failed",
            "response": {
                "status": "failed",
                "error": {"code": "server_error"},
                "usage": {**_RESPONSES, "output_tokens": 40},
            },
        }
    )
    with pytest.raises(ProviderFailure) as caught:
        ended(WIRES["openai_responses"].decoder(), data)
    assert caught.value.usage == Usage(17_000, 40, 16_000)


_BOOM: dict[str, Any] = {"message": "boom", "type": "server_error"}
#: Errors inside a 200, whole and streamed, beside the usage that the call has cost.
ERRORS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "openai_compatible",
        {"error": _BOOM, "usage": {"prompt_tokens": 1_000, "completion_tokens": 7}},
    ),
    "gemini": (
        "gemini",
        {
            "error": {"code": 503, "message": "boom"},
            "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 7},
        },
    ),
    "ollama": ("ollama_native", {"error": "boom", "prompt_eval_count": 1_000, "eval_count": 7}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_usage_beside_an_error_is_told(name: str) -> None:
    """In the same object, before or after it, in a whole answer and in a stream."""
    kind, error = ERRORS[name]
    with pytest.raises(ProviderFailure) as whole:
        WIRES[kind].completion(200, {}, json.dumps(error).encode())
    with pytest.raises(ProviderFailure) as streamed:
        ended(WIRES[kind].decoder(), lines(error) if kind == "ollama_native" else sse(error))
    assert whole.value.usage == streamed.value.usage == Usage(1_000, 7)
