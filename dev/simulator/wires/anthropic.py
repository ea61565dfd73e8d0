"""Anthropic messages. Source: docs.anthropic.com/en/api/messages, …/messages-streaming, …/errors, …/rate-limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from time import time
from typing import Any, ClassVar

from dev.simulator.behaviour import Preset
from dev.simulator.wires.base import (
    Answer,
    Ask,
    BadRequest,
    Problem,
    Quota,
    Reply,
    Script,
    Tool,
    Usage,
    arguments_of,
    bearer,
    choose_tool,
    encode,
    mapping,
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


def _read_tool(body: dict[str, Any]) -> Tool | None:
    choice = mapping(body.get("tool_choice"))
    name = {"any": "", "tool": choice.get("name")}.get(choice.get("type", ""))
    tools = [mapping(tool) for tool in body.get("tools") or ()]
    return choose_tool(
        [Tool(str(tool.get("name")), mapping(tool.get("input_schema"))) for tool in tools], name
    )


def _read_format(body: dict[str, Any]) -> Mapping[str, Any] | None:
    wanted = mapping(mapping(body.get("output_config")).get("format") or body.get("output_format"))
    return mapping(wanted.get("schema")) if wanted.get("type") == "json_schema" else None


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
        prompt, characters, prefill = read_turns(_read_turns(body))
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(body["max_tokens"], "max_tokens"),
            tool=_read_tool(body),
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
        block: dict[str, Any] = {"type": "text", "text": answer.text}
        if answer.tool:
            arguments = arguments_of(answer)
            block = {"type": "tool_use", "id": f"toolu_{uid}", "name": answer.tool, "input": arguments}
        body: dict[str, Any] = {
            "id": f"msg_{uid}",
            "type": "message",
            "role": "assistant",
            "model": ask.model,
            "content": [block] if answer.pieces else [],
            "stop_reason": _FINISH.get(answer.finish or ""),
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
        block: dict[str, Any] = {"type": "text", "text": ""}
        field = b'"text_delta","text":'
        if answer.tool:
            block = {"type": "tool_use", "id": f"toolu_{uid}", "name": answer.tool, "input": {}}
            field = b'"input_json_delta","partial_json":'
        start = {"type": "content_block_start", "index": 0, "content_block": block}
        opening = sse(encode({"type": "message_start", "message": message}), "message_start")
        opening += sse(encode(start), "content_block_start") + sse(b'{"type": "ping"}', "ping")
        prefix = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":'
            + field
        )
        finish = b""
        if answer.finish:
            delta = {"stop_reason": _FINISH[answer.finish], "stop_sequence": answer.stop_sequence}
            last: dict[str, Any] = {"type": "message_delta", "delta": delta}
            if answer.usage:
                last["usage"] = _usage(answer.usage)
            finish = sse(b'{"type":"content_block_stop","index":0}', "content_block_stop")
            finish += sse(encode(last), "message_delta")
        return Script(
            opening,
            [prefix + token + b"}}\n\n" for token in answer.quoted],
            finish,
            sse(b'{"type":"message_stop"}', "message_stop"),
            prefix + b'"\n\n',
        )

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
