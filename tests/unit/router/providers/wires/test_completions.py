"""Whole answers: text, tools, finish, usage; and what is no answer though its status is 200."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.conversation import Reasoning, ToolCall
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.request.generation import Completion, ProviderFailure
from tests.unit.router.providers.wires.samples import WIRES

STOP, LENGTH, TOOLS, FILTER = (
    FinishReason.STOP,
    FinishReason.LENGTH,
    FinishReason.TOOL_CALLS,
    FinishReason.CONTENT_FILTER,
)
WEATHER = ToolCall("a", "weather", '{"city":"Bern"}')


def answer(kind: str, body: Any, headers: dict[str, str] | None = None) -> Completion:
    """The completion of a 200."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WIRES[kind].completion(200, headers or {}, data)


def chat(message: dict[str, Any] | None, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "something": ["new"]}
    if message is not None:
        choice["message"] = {"role": "assistant", **message}
    return {"id": "c1", "model": "m-1", "choices": [choice], "unknown": {"field": 1}, **more}


def used(**counts: Any) -> dict[str, Any]:
    """Chat usage."""
    return {"prompt_tokens": 20, "completion_tokens": 7, **counts}


FUNCTION = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
GEMINI_CALL = {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Bern"}}}
ANSWERS: list[tuple[str, Any, Completion]] = [
    ("openai", chat({"content": "hi"}), Completion("hi", STOP, None, (), "m-1")),
    ("openai", chat({"content": "hi"}, "length"), Completion("hi", LENGTH, None, (), "m-1")),
    ("openai", chat({"content": ""}, "length"), Completion("", LENGTH, None, (), "m-1")),
    ("openai", chat(None, "content_filter"), Completion("", FILTER, None, (), "m-1")),
    (
        "openai",
        chat({"content": None, "refusal": "No."}),
        Completion("", FILTER, None, (), "m-1", refusal="No."),
    ),
    (
        "openai",
        chat({"tool_calls": [FUNCTION]}, "tool_calls"),
        Completion("", TOOLS, None, (WEATHER,), "m-1"),
    ),
    (
        "snowflake",
        chat({"content": "", "tool_calls": [FUNCTION]}, ""),
        Completion("", TOOLS, None, (WEATHER,), "m-1"),
    ),
    ("openai", chat({"content": "hi"}, "brand_new"), Completion("hi", FinishReason.OTHER, None, (), "m-1")),
    (
        "openai",
        chat({"function_call": {"name": "weather", "arguments": "{}"}}, "function_call"),
        Completion("", TOOLS, None, (ToolCall("", "weather", "{}"),), "m-1"),
    ),
    (
        "mistral",
        chat({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]}),
        Completion("hi", STOP, None, (), "m-1", (Reasoning("hm"),)),
    ),
    (
        "anthropic",
        {
            "type": "message",
            "model": "m-1",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "hi"},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Bern"}},
                {"type": "brand_new", "text": "not text"},
            ],
            "stop_reason": "tool_use",
        },
        Completion("hi", TOOLS, None, (WEATHER,), "m-1", (Reasoning("hm", "x"),)),
    ),
    (
        "anthropic",
        {"type": "message", "content": [], "stop_reason": "refusal"},
        Completion("", FILTER, None),
    ),
    (
        "gemini",
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "hm", "thought": True}, {"text": "hi"}, GEMINI_CALL]},
                    "finishReason": "STOP",
                }
            ],
            "modelVersion": "m-1",
        },
        Completion("hi", TOOLS, None, (WEATHER,), "m-1", (Reasoning("hm", summary=True),)),
    ),
    ("gemini", {"candidates": [{"finishReason": "SAFETY"}]}, Completion("", FILTER, None)),
    ("gemini", {"candidates": [{"finishReason": "MAX_TOKENS"}]}, Completion("", LENGTH, None)),
    (
        "openai_responses",
        {
            "model": "m-1",
            "status": "completed",
            "error": None,
            "output": [
                {"type": "reasoning", "summary": [{"text": "hm"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
                {
                    "type": "function_call",
                    "call_id": "a",
                    "id": "x",
                    "name": "weather",
                    "arguments": '{"city":"Bern"}',
                },
            ],
        },
        Completion("hi", TOOLS, None, (WEATHER,), "m-1", (Reasoning("hm", summary=True),)),
    ),
    (
        "cohere",
        {
            "message": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]},
            "finish_reason": "MAX_TOKENS",
        },
        Completion("hi", LENGTH, None, reasoning=(Reasoning("hm"),)),
    ),
    ("cohere", {"text": "hi", "finish_reason": "COMPLETE", "meta": {}}, Completion("hi", STOP, None)),
    (
        "ollama_native",
        {"model": "m-1", "message": {"content": "hi"}, "done": True, "done_reason": "length"},
        Completion("hi", LENGTH, None, (), "m-1"),
    ),
    (
        "bedrock",
        {
            "output": {
                "message": {
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "hm"}}},
                        {"text": "hi"},
                        {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": "Bern"}}},
                    ]
                }
            },
            "stopReason": "guardrail_intervened",
        },
        Completion("hi", FILTER, None, (WEATHER,), reasoning=(Reasoning("hm"),)),
    ),
    (
        "bedrock_invoke",
        {
            "inputTextTokenCount": 5,
            "results": [{"tokenCount": 3, "outputText": "hi", "completionReason": "LENGTH"}],
        },
        Completion("hi", LENGTH, Usage(5, 3)),
    ),
]


@pytest.mark.parametrize(("kind", "body", "expected"), ANSWERS)
def test_an_answer_is_read(kind: str, body: Any, expected: Completion) -> None:
    """Text, tools and finish reason of every wire; thoughts are not text and unknown fields do no harm."""
    assert answer(kind, body) == expected


USAGES: list[tuple[str, Any, Usage | None]] = [
    ("openai", used(), Usage(20, 7)),
    ("openai", used(prompt_tokens=0, completion_tokens=0), Usage(0, 0)),
    ("openai", {}, None),
    ("openai", {"total_tokens": 9}, None),
    ("openai", used(prompt_tokens="20"), Usage(0, 7, accuracy=UsageAccuracy.ESTIMATED)),
    ("openai", used(prompt_tokens=-1, completion_tokens=10**30), None),
    ("openai", used(prompt_tokens_details=None, completion_tokens_details=None), Usage(20, 7)),
    ("openai", used(prompt_tokens_details={"cached_tokens": 8, "cache_write_tokens": 2}), Usage(20, 7, 8, 2)),
    ("openai", used(completion_tokens_details={"reasoning_tokens": 3}), Usage(20, 7, 0, 0, 3)),
    ("deepseek", used(prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=12), Usage(20, 7, 8)),
    ("together", used(cached_tokens=8), Usage(20, 7, 8)),
    ("xai", used(completion_tokens_details={"reasoning_tokens": 3}), Usage(20, 10, 0, 0, 3)),
    ("perplexity", used(reasoning_tokens=3), Usage(20, 10, 0, 0, 3)),
    (
        "azure_ai",
        used(prompt_tokens=7, prompt_tokens_details={"cached_tokens": 161}),
        Usage(168, 7, 161, accuracy=UsageAccuracy.ESTIMATED),
    ),
    (
        "openai",
        used(completion_tokens_details={"reasoning_tokens": 30}),
        Usage(20, 37, 0, 0, 30, UsageAccuracy.ESTIMATED),
    ),
]


@pytest.mark.parametrize(("kind", "usage", "expected"), USAGES)
def test_chat_usage(kind: str, usage: Any, expected: Usage | None) -> None:
    """Cached tokens are part of the input and counted once; an explicit zero is a zero; nothing said is None.
    A count that is missing, or less than its part, is not exact."""
    assert answer(kind, chat({"content": "hi"}, usage=usage)).usage == expected


def test_usage_of_the_other_wires() -> None:
    """Anthropic and Bedrock leave cached tokens out of the input, Gemini thoughts out of the output; Cohere bills
    fewer tokens than the model saw."""
    counts = {
        "input_tokens": 10,
        "cache_read_input_tokens": 8,
        "cache_creation_input_tokens": 2,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    message = {"type": "message", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}
    assert answer("anthropic", {**message, "usage": counts}).usage == Usage(20, 7, 8, 2, 3)
    meta = {
        "promptTokenCount": 15,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 4,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 8,
    }
    candidate = {"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}
    assert answer("gemini", {"candidates": [candidate], "usageMetadata": meta}).usage == Usage(20, 7, 8, 0, 3)
    bill = {
        "billed_units": {"input_tokens": 20, "output_tokens": 7},
        "tokens": {"input_tokens": 900},
        "cached_tokens": 880,
    }
    said = {
        "message": {"content": [{"type": "text", "text": "hi"}]},
        "finish_reason": "COMPLETE",
        "usage": bill,
    }
    assert answer("cohere", said).usage == Usage(20, 7)
    counted = {"x-amzn-bedrock-input-token-count": "20", "x-amzn-bedrock-output-token-count": "7"}
    assert answer("bedrock_invoke", {"generation": "hi", "stop_reason": "stop"}, counted).usage == Usage(
        20, 7
    )


BAD: list[tuple[str, Any, ErrorClass]] = [
    ("openai", b"<html><body>hello</body></html>", ErrorClass.MALFORMED),
    ("openai", b'{"choices": [{"message": {"content": "h', ErrorClass.MALFORMED),
    ("openai", b"", ErrorClass.MALFORMED),
    ("openai", b"null", ErrorClass.MALFORMED),
    ("openai", {"choices": []}, ErrorClass.MALFORMED),
    ("openai", chat({"content": ""}), ErrorClass.MALFORMED),
    ("openai", chat({"content": None}, "tool_calls"), ErrorClass.MALFORMED),
    ("openrouter", {"error": {"code": 502, "message": "Upstream error"}}, ErrorClass.SERVER_ERROR),
    ("openrouter", chat({"content": ""}, "error"), ErrorClass.SERVER_ERROR),
    ("openrouter", {"error": {"code": 429, "message": "Rate limit exceeded"}}, ErrorClass.RATE_LIMITED),
    (
        "openai_responses",
        {"status": "failed", "error": {"code": "server_error", "message": "x"}},
        ErrorClass.SERVER_ERROR,
    ),
    ("openai_responses", {"status": "completed", "output": []}, ErrorClass.MALFORMED),
    ("anthropic", {"type": "error", "error": {"type": "overloaded_error"}}, ErrorClass.OVERLOADED),
    ("anthropic", {"type": "message", "content": [], "stop_reason": "end_turn"}, ErrorClass.MALFORMED),
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, ErrorClass.CONTENT_REFUSED),
    ("gemini", {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, ErrorClass.MALFORMED),
    ("gemini", {}, ErrorClass.MALFORMED),
    ("cohere", {"message": "internal server error, this has been reported"}, ErrorClass.SERVER_ERROR),
    ("cohere", {"text": "hal", "finish_reason": "ERROR"}, ErrorClass.SERVER_ERROR),
    ("ollama_native", {"message": {"content": "hal"}, "done": False}, ErrorClass.MALFORMED),
    ("bedrock", {"__type": "InternalServerError", "message": "x"}, ErrorClass.SERVER_ERROR),
    ("bedrock_invoke", {"embedding": [0.5]}, ErrorClass.MALFORMED),
]


@pytest.mark.parametrize(("kind", "body", "expected"), BAD)
def test_a_200_may_be_no_success(kind: str, body: Any, expected: ErrorClass) -> None:
    """HTML, cut JSON, error objects and answers without a word fail; what they consumed is kept."""
    with pytest.raises(ProviderFailure) as caught:
        answer(kind, body, {"retry-after": "7"})
    assert caught.value.error_class is expected
    assert caught.value.retry_after is None


def test_an_empty_answer_still_cost_something() -> None:
    """The usage of an unusable answer is in the failure."""
    with pytest.raises(ProviderFailure) as caught:
        answer("openai", chat({"content": ""}, usage=used()))
    assert caught.value.usage == Usage(20, 7)


def test_sloppy_json_is_read() -> None:
    """NaN, a raw control character and half a surrogate pair, as Python servers send them, do no harm."""
    body = b'{"choices": [{"logprobs": NaN, "message": {"content": "a\tb\\ud83d"}, "finish_reason": "stop"}]}'
    assert answer("vllm", body).text == "a\tb?"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "finish_reason",
                    "usage",
                    "error",
                    "type",
                    "candidates",
                    "parts",
                    "functionCall",
                    "args",
                    "usageMetadata",
                    "output",
                    "stop_reason",
                    "text",
                    "results",
                    "generation",
                    "outputs",
                    "promptFeedback",
                    "meta",
                    "billed_units",
                    "done",
                    "status",
                    "incomplete_details",
                    "item",
                    "detail",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(WIRES)),
    body=st.binary(max_size=64) | _JSON.map(lambda value: json.dumps(value).encode()),
)
def test_nothing_breaks_a_wire(kind: str, body: bytes) -> None:
    """Whatever a 200 holds, it is a completion or a ProviderFailure."""
    try:
        found = WIRES[kind].completion(200, {}, body)
    except ProviderFailure:
        return
    assert found.text or found.tool_calls or found.finish_reason in (LENGTH, FILTER)
    found.text.encode()
