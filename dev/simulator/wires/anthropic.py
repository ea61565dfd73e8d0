"""Anthropic messages. Source: docs.anthropic.com/en/api/messages, …/messages-streaming, …/errors, …/rate-limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from time import time
from typing import Any, ClassVar

from dev.simulator.behaviour import Preset
from dev.simulator.signatures import sign
from dev.simulator.wires.answer import Answer, Part, Script, Usage, call_id, lay_out
from dev.simulator.wires.base import (
    Ask,
    BadRequest,
    Problem,
    Quota,
    Reply,
    Tool,
    bearer,
    choose_calls,
    encode,
    mapping,
    media_of,
    positive,
    read_turns,
    sse,
    strings,
    text_of,
)
from dev.simulator.wires.openai_errors import plain, retry_headers

_FINISH = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "stop_sequence": "stop_sequence",
}

_ERRORS: dict[Preset, tuple[int, str, str]] = {
    "invalid_request": (400, "invalid_request_error", "messages.0: Input does not match the expected shape."),
    "context_length": (400, "invalid_request_error", "prompt is too long: 204800 tokens > 200000 maximum"),
    "content_filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "authentication": (401, "authentication_error", "invalid x-api-key"),
    "permission": (
        403,
        "permission_error",
        "Your API key does not have permission to use the specified resource",
    ),
    "model_not_found": (404, "not_found_error", "model: {m}"),
    "timeout": (408, "timeout_error", "Request timed out"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
    "rate_limited": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute. For details, refer to:"
        " https://docs.claude.com/en/api/rate-limits.",
    ),
    "quota": (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or"
        " purchase credits.",
    ),
    "server_error": (500, "api_error", "Internal server error"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "prefill": (
        400,
        "invalid_request_error",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}


def _usage(usage: Usage) -> dict[str, Any]:
    """Input leaves cached tokens out; output holds the thinking."""
    return {
        "input_tokens": usage.input - usage.cache_read - usage.cache_write,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output + usage.reasoning,
        "service_tier": "standard",
    }


def _read_turns(body: dict[str, Any]) -> list[tuple[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise BadRequest("messages: Field required")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    turns = [("system", text_of(body.get("system")))] if body.get("system") else []
    for index, message in enumerate(messages):
        role = mapping(message).get("role")
        if role not in ("user", "assistant"):
            raise BadRequest(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        content = message.get("content")
        if not isinstance(content, str | list):
            raise BadRequest(f"messages.{index}.content: Field required")
        text = text_of(content)
        last = index == len(messages) - 1
        if not content and not (last and role == "assistant"):
            raise BadRequest(
                "messages: text content blocks must be non-empty"
                if isinstance(content, list)
                else f"messages.{index}: all messages must have non-empty content except for the optional final"
                " assistant message"
            )
        if last and role == "assistant" and text != text.rstrip():
            raise BadRequest("messages: final assistant content cannot end with trailing whitespace")
        turns.append((role, text))
    return turns


def _read_calls(body: dict[str, Any], turns: list[tuple[str, str]]) -> tuple[Tool, ...]:
    choice = mapping(body.get("tool_choice"))
    kind = choice.get("type", "")
    forced = {"any": "", "tool": choice.get("name")}.get(kind)
    tools = [mapping(tool) for tool in body.get("tools") or ()]
    offered = [
        Tool(str(tool.get("name")), mapping(tool.get("input_schema")), str(tool.get("description", "")))
        for tool in tools
    ]
    many = not choice.get("disable_parallel_tool_use")
    return choose_calls(offered, forced, turns, free=kind != "none", many=many)


def _read_format(body: dict[str, Any]) -> Mapping[str, Any] | None:
    wanted = mapping(mapping(body.get("output_config")).get("format") or body.get("output_format"))
    return mapping(wanted.get("schema")) if wanted.get("type") == "json_schema" else None


#: The fields of a block that are still to be streamed.
_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "call": {"input": {}},
    "thinking": {"thinking": "", "signature": ""},
}
_DELTAS = {
    "text": b'"text_delta","text":',
    "call": b'"input_json_delta","partial_json":',
    "thinking": b'"thinking_delta","thinking":',
}


def _before(number: int, kind: str) -> bytes:
    """Returns what stands before a token."""
    start = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
    return start % number + _DELTAS[kind]


def _blocks(answer: Answer, uid: str) -> list[dict[str, Any]]:
    """Returns the blocks, whole."""
    blocks: list[dict[str, Any]] = []
    calls = 0
    for part in answer.parts:
        if part.kind == "thinking":
            signature = sign("anthropic", part.text)
            blocks.append({"type": "thinking", "thinking": part.text, "signature": signature})
        elif part.kind == "text":
            blocks.append({"type": "text", "text": part.text})
        else:
            identifier = call_id(answer, uid, calls, "toolu_")
            block = {"type": "tool_use", "id": identifier, "name": part.name, "input": part.arguments}
            blocks.append({name: value for name, value in block.items() if value is not None})
            calls += 1
    return blocks


class Anthropic:
    """POST …/v1/messages."""

    name: ClassVar[str] = "anthropic"
    stream_content_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        if not headers.get("anthropic-version"):
            raise BadRequest("anthropic-version: header is required")
        model = body.get("model") or ""
        if not isinstance(model, str) or not model:
            raise BadRequest("model: Field required")
        if body.get("max_tokens") is None:
            raise BadRequest("max_tokens: Field required")
        turns = _read_turns(body)
        prompt, characters, prefill = read_turns(turns)
        thinks = mapping(body.get("thinking")).get("type") in ("enabled", "adaptive")
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(body["max_tokens"], "max_tokens"),
            calls=_read_calls(body, turns),
            thinks=thinks,
            shows_thoughts=thinks,
            media=media_of(body.get("messages")),
            json_schema=_read_format(body),
            stop=strings(body.get("stop_sequences")),
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        return headers.get("x-api-key") or bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        now = time()

        def at(seconds: float) -> str:
            return datetime.fromtimestamp(now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

        rows = [
            ("requests", quota.request_limit, quota.requests_left, quota.requests_reset),
            ("tokens", quota.token_limit, quota.tokens_left, quota.tokens_reset),
            ("input-tokens", quota.token_limit, quota.tokens_left, quota.tokens_reset),
            ("output-tokens", quota.token_limit, quota.tokens_left, quota.tokens_reset),
        ]
        fields = [("request-id", f"req_{uid}"), ("anthropic-organization-id", "simulated")]
        for name, limit, left, reset in rows:
            fields.append((f"anthropic-ratelimit-{name}-limit", str(limit)))
            fields.append((f"anthropic-ratelimit-{name}-remaining", str(left)))
            fields.append((f"anthropic-ratelimit-{name}-reset", at(reset)))
        return fields

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        body: dict[str, Any] = {
            "id": f"msg_{uid}",
            "type": "message",
            "role": "assistant",
            "model": ask.model,
            "content": _blocks(answer, uid) if answer.count or answer.calls else [],
            "stop_reason": answer.finished(_FINISH),
            "stop_sequence": answer.stop_sequence,
        }
        if answer.usage:
            body["usage"] = _usage(answer.usage)
        return encode(body)

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        message: dict[str, Any] = {
            "id": f"msg_{uid}",
            "type": "message",
            "role": "assistant",
            "model": ask.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        if answer.usage:
            message["usage"] = {**_usage(answer.usage), "output_tokens": 1}
        blocks = _blocks(answer, uid)

        def begin(number: int, part: Part) -> bytes:
            block = {**blocks[number], **_EMPTY[part.kind]}
            start = {"type": "content_block_start", "index": number, "content_block": block}
            begun = sse(encode(start), "content_block_start")
            return begun if number else begun + sse(b'{"type": "ping"}', "ping")

        def end(number: int, part: Part) -> bytes:
            stop = sse(encode({"type": "content_block_stop", "index": number}), "content_block_stop")
            if part.kind != "thinking":
                return stop
            delta = {"type": "signature_delta", "signature": blocks[number]["signature"]}
            signed = {"type": "content_block_delta", "index": number, "delta": delta}
            return sse(encode(signed), "content_block_delta") + stop

        opening, events, closing = lay_out(
            answer, begin, lambda n, part: (_before(n, part.kind), b"}}\n\n"), end
        )
        opening = sse(encode({"type": "message_start", "message": message}), "message_start") + opening
        finish = b""
        if answer.finish:
            delta = {"stop_reason": answer.finished(_FINISH), "stop_sequence": answer.stop_sequence}
            last: dict[str, Any] = {"type": "message_delta", "delta": delta}
            if answer.usage:
                last["usage"] = _usage(answer.usage)
            finish = closing + sse(encode(last), "message_delta")
        broken = _before(0, "text") + b'"\n\n'
        return Script(opening, events, finish, sse(b'{"type":"message_stop"}', "message_stop"), broken)

    def error(self, problem: Problem, uid: str) -> Reply:
        reply = plain(problem)
        if reply is not None:
            return reply
        status, kind, message = _ERRORS[problem.preset]
        body = {
            "type": "error",
            "error": {"type": kind, "message": problem.message or message.format(m=problem.model)},
            "request_id": f"req_{uid}",
        }
        again = "true" if status in (408, 409, 429, 529) else "false"
        headers = {"request-id": f"req_{uid}", "x-should-retry": again, **retry_headers(problem)}
        return Reply(status, encode(body), "application/json", headers)

    def error_event(self, problem: Problem, uid: str) -> bytes:
        preset: Preset = "overloaded" if problem.preset in ("bad_gateway", "unavailable") else problem.preset
        _, kind, message = _ERRORS[preset]
        fields = {"details": None, "type": kind, "message": message.format(m=problem.model)}
        return sse(encode({"type": "error", "error": fields, "request_id": f"req_{uid}"}), "error")

    def models(self, names: tuple[str, ...]) -> bytes:
        rows = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
            for name in names
        ]
        first, last = (names[0], names[-1]) if names else (None, None)
        return encode({"data": rows, "has_more": False, "first_id": first, "last_id": last})
