"""Answers that were broken off: a reason that is no end, an end without a reason, an error in an unusual place. None of
them may pass for a whole answer, and what was said and used before is kept."""

# ruff: noqa: E501

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.request.generation import ProviderFailure, TextDelta
from tests.unit.router.providers.wires.samples import WIRES, chunk, frame, lines, sse, told, typed, wrapped
from tests.unit.router.providers.wires.test_streams import read

C = ErrorClass
HI = TextDelta("Hi")


def chat(finish: Any, **choice: Any) -> bytes:
    """A stream that says "Hi", then why it stopped, then what it used."""
    end = chunk({"content": ""})
    end["choices"] = [{"index": 0, "delta": {}, "finish_reason": finish, **choice}]
    used = {"prompt_tokens": 20, "completion_tokens": 7}
    return sse(chunk({"content": "Hi"}), end, chunk(usage=used), done=True)


def messages(*more: dict[str, Any]) -> bytes:
    """An Anthropic stream that says "Hi"."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 20, "output_tokens": 1}}}
    said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
    return typed(start, said, *more)


def gemini(reason: Any, **more: Any) -> bytes:
    """A Gemini stream that says "Hi"."""
    said = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}
    used = {"promptTokenCount": 20, "candidatesTokenCount": 7}
    return sse(said, {"candidates": [{"finishReason": reason, **more}], "usageMetadata": used})


def converse(reason: str) -> bytes:
    """A Bedrock stream that says "Hi"."""
    said = frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
    used = {"usage": {"inputTokens": 20, "outputTokens": 7}}
    return said + frame("messageStop", {"stopReason": reason}) + frame("metadata", used)


def cohere(**delta: Any) -> bytes:
    """A Cohere stream that says "Hi"."""
    said = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}
    used = {"billed_units": {"input_tokens": 20, "output_tokens": 7}}
    return typed(said, {"type": "message-end", "delta": {"usage": used, **delta}})


def response(status: str, kind: str = "response.completed", **more: Any) -> bytes:
    """A stream of responses that says "Hi"."""
    said = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi"}
    used = {"input_tokens": 20, "output_tokens": 7}
    return typed(said, {"type": kind, "response": {"status": status, "usage": used, **more}})


USED = Usage(20, 7)
#: Told, but not at an end.
SO_FAR = Usage(20, 7, accuracy=UsageAccuracy.ESTIMATED)
STREAMS: dict[str, tuple[str, bytes, ErrorClass, Usage | None]] = {
    "deepseek has no room": ("deepseek", chat("insufficient_system_resource"), C.OVERLOADED, USED),
    "vllm aborts": ("vllm", chat("abort"), C.TRANSPORT, USED),
    "sglang aborts": ("openai_compatible", chat({"type": "abort", "message": "x"}), C.TRANSPORT, USED),
    "a server cancels": ("openai_compatible", chat("cancelled"), C.TRANSPORT, USED),
    "a server fails": ("openai_compatible", chat("engine_error"), C.SERVER_ERROR, USED),
    "a server runs out of time": ("openai_compatible", chat("timed_out"), C.TIMEOUT, USED),
    "[DONE] without a reason": ("openai", chat(None), C.TRANSPORT, SO_FAR),
    "[DONE] with an empty reason": ("openai_compatible", chat(""), C.TRANSPORT, SO_FAR),
    "groq, beside no choices": ("groq", sse(chunk({"content": "Hi"}), {"x_groq": {"id": "r", "error": "over capacity"}, "choices": []}, done=True), C.OVERLOADED, None),
    "openrouter, in a choice": ("openrouter", chat(None, error={"code": 502, "message": "Upstream"}), C.SERVER_ERROR, None),
    "openrouter, in a choice that stopped": ("openrouter", chat("stop", error={"code": 429, "message": "Upstream"}), C.RATE_LIMITED, None),
    "message_stop without a reason": ("anthropic", messages({"type": "message_stop"}), C.TRANSPORT, Usage(20, 1, accuracy=UsageAccuracy.ESTIMATED)),
    "bedrock could not read the model": ("bedrock", converse("malformed_model_output"), C.MALFORMED, USED),
    "bedrock could not read a call": ("bedrock", converse("malformed_tool_use"), C.MALFORMED, USED),
    "gemini could not read a call": ("gemini", gemini("MALFORMED_FUNCTION_CALL", finishMessage="print(x)"), C.MALFORMED, USED),
    "gemini called what it was not given": ("gemini", gemini("UNEXPECTED_TOOL_CALL"), C.MALFORMED, USED),
    "gemini called too often": ("vertex", gemini("TOO_MANY_TOOL_CALLS"), C.MALFORMED, USED),
    "gemini by number": ("vertex", gemini(9), C.MALFORMED, USED),
    "cohere fails": ("cohere", cohere(finish_reason="ERROR"), C.SERVER_ERROR, USED),
    "cohere says why it fails": ("cohere", cohere(finish_reason="ERROR", error="overloaded"), C.OVERLOADED, USED),
    "cohere was cancelled": ("cohere", cohere(finish_reason="USER_CANCEL"), C.TRANSPORT, USED),
    "cohere ran out of time": ("cohere", cohere(finish_reason="TIMEOUT"), C.TIMEOUT, USED),
    "cohere gives no reason": ("cohere", cohere(), C.TRANSPORT, SO_FAR),
    "a cancelled response": ("openai_responses", response("cancelled"), C.TRANSPORT, USED),
    "a response still in progress": ("openai_responses", response("in_progress"), C.TRANSPORT, USED),
    "a failed response without an error": ("openai_responses", response("failed", "response.failed", error=None), C.SERVER_ERROR, USED),
    "a failed response that is completed": ("openai_responses", response("failed", error=None), C.SERVER_ERROR, USED),
    "invoke: cohere on bedrock": ("bedrock_invoke", wrapped({"text": "Hi"}) + wrapped({"is_finished": True, "finish_reason": "ERROR"}), C.SERVER_ERROR, None),
    "ollama": ("ollama_native", lines({"message": {"content": "Hi"}}, {"message": {"content": ""}, "done": True, "done_reason": "error", "prompt_eval_count": 20, "eval_count": 7}), C.SERVER_ERROR, USED),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_was_broken_off_is_a_failure(name: str) -> None:
    """After its text, with the usage that was stated, however the stream is cut."""
    kind, data, expected, usage = STREAMS[name]
    events, failure = read(kind, [data])
    assert events == [HI]
    assert failure is not None
    assert (failure[0], failure[2]) == (expected, usage)
    assert read(kind, [data[i : i + 1] for i in range(len(data))]) == (events, failure)


def whole(finish: Any, **choice: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": "Hi"}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}]}


TEXT = [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]
WHOLE: list[tuple[str, Any, ErrorClass]] = [
    ("deepseek", whole("insufficient_system_resource"), C.OVERLOADED),
    ("vllm", whole("abort"), C.TRANSPORT),
    ("openai_compatible", whole({"type": "abort"}), C.TRANSPORT),
    ("openrouter", whole("stop", error={"code": 502, "message": "x"}), C.SERVER_ERROR),
    ("openai_responses", {"status": "cancelled", "output": TEXT}, C.TRANSPORT),
    ("openai_responses", {"status": "in_progress", "output": TEXT}, C.TRANSPORT),
    ("openai_responses", {"status": "queued", "output": []}, C.TRANSPORT),
    ("openai_responses", {"status": "failed", "error": None, "output": TEXT}, C.SERVER_ERROR),
    ("gemini", {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "MALFORMED_FUNCTION_CALL"}]}, C.MALFORMED),
    ("gemini", {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "MISSING_THOUGHT_SIGNATURE"}]}, C.MALFORMED),
    ("bedrock", {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "malformed_model_output"}, C.MALFORMED),
    ("bedrock_invoke", {"generations": [{"text": "Hi", "finish_reason": "ERROR"}]}, C.SERVER_ERROR),
    ("cohere", {"message": {"content": [{"type": "text", "text": "Hi"}]}, "finish_reason": "USER_CANCEL"}, C.TRANSPORT),
    ("cohere", {"text": "Hi", "finish_reason": "TIMEOUT"}, C.TIMEOUT),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "expected"), WHOLE)
def test_a_whole_body_may_hold_a_broken_answer(kind: str, body: Any, expected: ErrorClass) -> None:
    """The same reasons where nothing is streamed."""
    with pytest.raises(ProviderFailure) as caught:
        WIRES[kind].completion(200, {}, json.dumps(body).encode())
    assert caught.value.error_class is expected
    assert caught.value.http_status == 200


OTHER: list[tuple[str, bytes]] = [
    ("anthropic", messages({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}, {"type": "message_stop"})),
    ("anthropic", messages({"type": "message_delta", "delta": {"stop_reason": "brand_new"}}, {"type": "message_stop"})),
    ("openai", chat("brand_new")),
    ("gemini", gemini("OTHER")),
    ("gemini", gemini("LANGUAGE")),
    ("vertex", gemini(5)),
    ("bedrock", converse("brand_new")),
    ("openai_responses", response("incomplete", "response.incomplete", incomplete_details={"reason": "brand_new"})),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data"), OTHER)
def test_a_reason_that_nobody_knows_is_other(kind: str, data: bytes) -> None:
    """A pause, and reasons that are new or say nothing, are passed on as what they are: not known to be an end."""
    events, failure = read(kind, [data])
    assert failure is None
    assert told(events).end.finish_reason is FinishReason.OTHER


KNOWN: list[tuple[str, bytes, FinishReason]] = [
    ("cohere", cohere(finish_reason="ERROR_TOXIC"), FinishReason.CONTENT_FILTER),
    ("bedrock_invoke", wrapped({"text": "Hi"}) + wrapped({"is_finished": True, "finish_reason": "ERROR_TOXIC"}), FinishReason.CONTENT_FILTER),
    ("bedrock", converse("model_context_window_exceeded"), FinishReason.LENGTH),
    ("openai_compatible", chat({"type": "length", "length": 7}), FinishReason.LENGTH),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data", "expected"), KNOWN)
def test_a_reason_that_is_known_is_no_failure_whatever_its_name(
    kind: str, data: bytes, expected: FinishReason
) -> None:
    """The table of each wire comes before what names have in common."""
    events, failure = read(kind, [data])
    assert failure is None
    assert told(events).end.finish_reason is expected
