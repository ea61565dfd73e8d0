"""Hand-made answers and streams, one set per wire, and what they mean. One event is one line, however long."""

# ruff: noqa: E501

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from libs.answer import Delta
from libs.client.assembler import TextAssembler
from libs.conversation import Reasoning, ReasoningDelta, ToolCallDelta
from libs.types import FinishReason, Usage
from services.router.providers.wires.wire import Wire
from services.router.providers.wires.wires import wires
from services.router.request.generation import RefusalDelta, StreamEnd, StreamEvent, TextDelta
from tests.support.clock import ManualClock

WIRES: dict[str, Wire] = wires(ManualClock())


@dataclass(frozen=True, slots=True)
class Told:
    """A stream read to its end. `tools`: (id, name, arguments) of each call."""

    text: str
    tools: tuple[tuple[str, str, str], ...]
    end: StreamEnd
    refusal: str = ""
    reasoning: tuple[Reasoning, ...] = ()


def told(events: list[StreamEvent]) -> Told:
    """Puts the pieces of a whole stream together."""
    *pieces, end = events
    assert isinstance(end, StreamEnd)
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    refusal = "".join(piece.text for piece in pieces if isinstance(piece, RefusalDelta))
    calls: dict[int, list[str]] = {}
    for piece in pieces:
        if isinstance(piece, ToolCallDelta):
            call = calls.setdefault(piece.index, ["", "", ""])
            for place, value in enumerate((piece.id, piece.name, piece.arguments_json)):
                call[place] += value
    assert sorted(calls) == list(range(len(calls)))
    thoughts = TextAssembler()
    thoughts.feed(Delta(reasoning=tuple(piece for piece in pieces if isinstance(piece, ReasoningDelta))))
    tools = tuple((c[0], c[1], c[2]) for c in calls.values())
    return Told(text, tools, end, refusal, thoughts.reasoning)


def sse(*events: Any, done: bool = False, newline: str = "\n") -> bytes:
    """Events as server-sent events; a pair is a named one."""
    lines = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        lines.append(
            (f"event: {name}{newline}" if name else "") + f"data: {json.dumps(data)}{newline}{newline}"
        )
    return ("".join(lines) + (f"data: [DONE]{newline}{newline}" if done else "")).encode()


def typed(*events: dict[str, Any]) -> bytes:
    """Events named after their `type`."""
    return sse(*((event["type"], event) for event in events))


def lines(*values: Any) -> bytes:
    """Lines of JSON."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def frame(name: str, payload: Any, kind: str = "event") -> bytes:
    """One message of an AWS event stream."""
    key = {"event": ":event-type", "exception": ":exception-type"}[kind]
    headers = b"".join(
        bytes([len(n)]) + n.encode() + b"\x07" + struct.pack(">H", len(v)) + v.encode()
        for n, v in ((key, name), (":content-type", "application/json"), (":message-type", kind))
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def wrapped(value: Any) -> bytes:
    """A chunk of InvokeModelWithResponseStream."""
    return frame("chunk", {"bytes": b64encode(json.dumps(value).encode()).decode(), "p": "abc"})


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chat.completion.chunk."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": choices, **more}


def tool_chunk(index: int | None, call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """A chunk with a piece of a tool call."""
    call = {
        "index": index,
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return chunk({"tool_calls": [call]})


_CHAT_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
_RESPONSES_USAGE = {
    "input_tokens": 20,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens_details": {"reasoning_tokens": 3},
}
_GEMINI_USAGE = {
    "promptTokenCount": 20,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 3,
    "cachedContentTokenCount": 8,
}
_TEXT = "Grüße, 世界 🚂"

#: (wire, stream, what it tells). Every one is whole.
STREAMS: dict[str, tuple[str, bytes, Told]] = {
    "openai text": (
        "openai",
        sse(
            chunk({"role": "assistant", "content": "", "refusal": None}),
            chunk({"content": "Grüße, "}),
            chunk({"content": "世界 🚂"}),
            chunk({}, "stop", usage=None),
            chunk(usage=_CHAT_USAGE),
            done=True,
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7, 8, 2, 3), "m-1")),
    ),
    "openai two tools": (
        "openai",
        sse(
            chunk({"role": "assistant", "content": None}),
            tool_chunk(0, "a", "weather", ""),
            tool_chunk(0, None, None, '{"city":'),
            tool_chunk(1, "b", "time", ""),
            tool_chunk(0, None, None, '"Bern"}'),
            tool_chunk(1, None, None, "{}"),
            chunk({}, "tool_calls"),
            done=True,
        ),
        Told("", (("a", "weather", '{"city":"Bern"}'), ("b", "time", "{}")), StreamEnd(FinishReason.TOOL_CALLS, None, "m-1")),
    ),
    "openrouter comments, usage with the finish": (
        "openrouter",
        b": OPENROUTER PROCESSING\n\n" * 2
        + sse(chunk({"content": _TEXT}), chunk({"content": ""}, "length", usage=_CHAT_USAGE), done=True),
        Told(_TEXT, (), StreamEnd(FinishReason.LENGTH, Usage(20, 7, 8, 2, 3), "m-1")),
    ),
    "azure filter results, a choice without delta, CRLF": (
        "azure_openai",
        sse(
            {"choices": [], "model": "", "prompt_filter_results": [{"prompt_index": 0}]},
            {"choices": [{"content_filter_results": {}, "finish_reason": None, "index": 0}], "model": "m-1"},
            chunk({"content": _TEXT}),
            chunk({}, "content_filter"),
            done=True,
            newline="\r\n",
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.CONTENT_FILTER, None, "m-1")),
    ),
    "deepseek thinks first": (
        "deepseek",
        sse(
            chunk({"reasoning_content": "hm"}),
            chunk({"content": _TEXT, "reasoning_content": None}),
            chunk({"content": ""}, "stop", usage={"prompt_tokens": 20, "completion_tokens": 7, "prompt_cache_hit_tokens": 8}),
            done=True,
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7, 8), "m-1"), reasoning=(Reasoning("hm"),)),
    ),
    "mistral content blocks, usage in the last chunk": (
        "mistral",
        sse(
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
            chunk({"content": [{"type": "text", "text": _TEXT}]}),
            chunk({"content": ""}, "stop", usage={"prompt_tokens": 0, "completion_tokens": 0}),
            done=True,
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(0, 0), "m-1"), reasoning=(Reasoning("hm"),)),
    ),
    "xai counts reasoning apart, no terminator": (
        "xai",
        sse(chunk({"content": _TEXT}), chunk({}, "stop"), chunk(usage=_CHAT_USAGE)),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 10, 8, 2, 3), "m-1")),
    ),
    "writer repeats ids and has no index": (
        "writer",
        sse(
            tool_chunk(None, "a", "weather", '{"city":'),
            tool_chunk(None, "a", "weather", '"Bern"}'),
            tool_chunk(None, "b", "time", "{}"),
            chunk({}, "tool_calls"),
        ),
        Told("", (("a", "weather", '{"city":"Bern"}'), ("b", "time", "{}")), StreamEnd(FinishReason.TOOL_CALLS, None, "m-1")),
    ),
    "compatible server answers whole though a stream was asked for": (
        "openai_compatible",
        json.dumps({"model": "m-1", "choices": [{"message": {"content": _TEXT}, "finish_reason": "stop"}]}).encode(),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, None, "m-1")),
    ),
    "responses text": (
        "openai_responses",
        typed(
            {"type": "response.created", "response": {"status": "in_progress", "error": None}},
            {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}},
            {"type": "response.something.new", "delta": "ignored"},
            {"type": "response.output_text.delta", "output_index": 1, "delta": "Grüße, "},
            {"type": "response.output_text.delta", "output_index": 1, "delta": "世界 🚂"},
            {"type": "response.output_text.done", "output_index": 1, "text": _TEXT},
            {
                "type": "response.incomplete",
                "response": {
                    "model": "m-1",
                    "status": "incomplete",
                    "incomplete_details": {"reason": "max_output_tokens"},
                    "usage": _RESPONSES_USAGE,
                },
            },
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.LENGTH, Usage(20, 7, 8, 0, 3), "m-1")),
    ),
    "responses tools, one with deltas and one without": (
        "openai_responses",
        typed(
            {"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "a", "name": "weather", "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"city":'},
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '"Bern"}'},
            {"type": "response.output_item.done", "output_index": 1, "item": {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"city":"Bern"}'}},
            {"type": "response.output_item.done", "output_index": 2, "item": {"type": "function_call", "call_id": "b", "name": "time", "arguments": "{}"}},
            {"type": "response.completed", "response": {"model": "m-1", "status": "completed"}},
        ),
        Told("", (("a", "weather", '{"city":"Bern"}'), ("b", "time", "{}")), StreamEnd(FinishReason.TOOL_CALLS, None, "m-1")),
    ),
    "anthropic thinking, text and a tool": (
        "anthropic",
        typed(
            {"type": "message_start", "message": {"model": "m-1", "usage": {"input_tokens": 10, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "ping"},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": _TEXT}},
            {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "a", "name": "weather", "input": {}}},
            {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
            {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city":"Bern"}'}},
            {"type": "content_block_stop", "index": 2},
            {"type": "brand_new_event", "data": {}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7, "input_tokens": None}},
            {"type": "message_stop"},
        ),
        Told(_TEXT, (("a", "weather", '{"city":"Bern"}'),), StreamEnd(FinishReason.TOOL_CALLS, Usage(20, 7, 8, 2), "m-1"), reasoning=(Reasoning("hm", "x"),)),
    ),
    "gemini thoughts and text": (
        "gemini",
        sse(
            {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}], "usageMetadata": {"trafficType": "X"}},
            {"candidates": [{"content": {"parts": [{"text": "Grüße, "}]}}], "usageMetadata": {"promptTokenCount": 20}},
            {"candidates": [{"content": {"parts": [{"text": "世界 🚂"}]}, "finishReason": "STOP"}], "usageMetadata": _GEMINI_USAGE, "modelVersion": "m-1"},
            newline="\r\n",
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7, 8, 0, 3), "m-1"), reasoning=(Reasoning("hm", summary=True),)),
    ),
    "gemini two tools in one array": (
        "vertex",
        json.dumps(
            [
                {"candidates": [{"content": {"parts": [{"functionCall": {"name": "weather", "args": {"city": "Bern"}}}]}}]},
                {"candidates": [{"content": {"parts": [{"functionCall": {"name": "time", "args": {}, "id": "b"}}]}, "finishReason": "STOP"}], "modelVersion": "m-1"},
            ],
            indent=1,
        ).encode(),
        Told("", (("call_0", "weather", '{"city":"Bern"}'), ("b", "time", "{}")), StreamEnd(FinishReason.TOOL_CALLS, None, "m-1")),
    ),
    "cohere text": (
        "cohere",
        typed(
            {"type": "message-start", "id": "x", "delta": {"message": {"role": "assistant", "content": []}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": _TEXT}}}},
            {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"text": "x"}}}},
            {"type": "content-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 20, "output_tokens": 7}, "tokens": {"input_tokens": 500, "output_tokens": 9}}}},
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7), "")),
    ),
    "cohere tools": (
        "cohere",
        typed(
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will"}}},
            {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"id": "a", "type": "function", "function": {"name": "weather", "arguments": ""}}}}},
            {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": '{"city":"Bern"}'}}}}},
            {"type": "tool-call-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {}}},
        ),
        Told("", (("a", "weather", '{"city":"Bern"}'),), StreamEnd(FinishReason.TOOL_CALLS, None, ""), reasoning=(Reasoning("I will", id="tool_plan", tool_call_id="a"),)),
    ),
    "cohere version 1": (
        "cohere",
        lines(
            {"is_finished": False, "event_type": "stream-start"},
            {"is_finished": False, "event_type": "text-generation", "text": _TEXT},
            {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"text": _TEXT, "meta": {"billed_units": {"input_tokens": 20, "output_tokens": 7}}}},
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7), "")),
    ),
    "ollama lines": (
        "ollama_native",
        lines(
            {"model": "m-1", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {"model": "m-1", "message": {"content": "Grüße, "}, "done": False},
            {"model": "m-1", "message": {"content": "世界 🚂"}, "done": False},
            {"model": "m-1", "message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 20, "eval_count": 7},
        ),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7), "m-1"), reasoning=(Reasoning("hm"),)),
    ),
    "bedrock converse": (
        "bedrock",
        frame("messageStart", {"role": "assistant", "p": "ab"})
        + frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}})
        + frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": _TEXT}})
        + frame("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "a", "name": "weather"}}})
        + frame("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"city":"Bern"}'}}})
        + frame("contentBlockStop", {"contentBlockIndex": 2})
        + frame("messageStop", {"stopReason": "tool_use"})
        + frame("metadata", {"usage": {"inputTokens": 10, "outputTokens": 7, "cacheReadInputTokens": 8, "cacheWriteInputTokens": 2}}),
        Told(_TEXT, (("a", "weather", '{"city":"Bern"}'),), StreamEnd(FinishReason.TOOL_CALLS, Usage(20, 7, 8, 2), ""), reasoning=(Reasoning("hm"),)),
    ),
    "bedrock invoke, anthropic": (
        "bedrock_invoke",
        wrapped({"type": "message_start", "message": {"model": "m-1", "usage": {"input_tokens": 20}}})
        + wrapped({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _TEXT}})
        + wrapped({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}})
        + wrapped({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 20}}),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7), "m-1")),
    ),
    "bedrock invoke, nova": (
        "bedrock_invoke",
        wrapped({"messageStart": {"role": "assistant"}})
        + wrapped({"contentBlockDelta": {"delta": {"text": _TEXT}, "contentBlockIndex": 0}})
        + wrapped({"messageStop": {"stopReason": "max_tokens"}})
        + wrapped({"metadata": {"usage": {"inputTokens": 20, "outputTokens": 7}}}),
        Told(_TEXT, (), StreamEnd(FinishReason.LENGTH, Usage(20, 7), "")),
    ),
    "bedrock invoke, titan": (
        "bedrock_invoke",
        wrapped({"outputText": _TEXT, "index": 0, "inputTextTokenCount": 20.0, "totalOutputTextTokenCount": 7, "completionReason": "FINISH"}),
        Told(_TEXT, (), StreamEnd(FinishReason.STOP, Usage(20, 7), "")),
    ),
}  # fmt: skip
