"""Cohere v2 chat. Source: docs.cohere.com/reference/chat and …/docs/streaming."""

from __future__ import annotations

from collections.abc import Mapping
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
    Usage,
    bearer,
    choose_tool,
    encode,
    mapping,
    positive,
    read_turns,
    sse,
    strings,
)
from dev.simulator.wires.openai_chat import read_messages, read_tools
from dev.simulator.wires.openai_errors import plain, retry_headers

_FINISH = {
    "stop": "COMPLETE",
    "stop_sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    # As in v1; the v2 reference names no reason of its own for it.
    "content_filter": "ERROR_TOXIC",
}

_ERRORS: dict[Preset, tuple[int, str]] = {
    "invalid_request": (400, "invalid request: message must be at least 1 token long."),
    "context_length": (400, "too many tokens: total number of tokens in the prompt cannot exceed 128000"),
    "content_filter": (400, "this request was blocked by our content filter"),
    "authentication": (401, "invalid api token"),
    "permission": (403, "this API key does not have access to this resource"),
    "model_not_found": (404, "model '{m}' not found, make sure the correct model ID was used"),
    "timeout": (504, "request timed out"),
    "too_large": (413, "request entity too large"),
    "rate_limited": (
        429,
        "You are using a Trial key, which is limited to 40 API calls / minute. You can continue to use the Trial key"
        " for free or upgrade to a Production key with higher rate limits.",
    ),
    "quota": (402, "Please add or update your payment method at https://dashboard.cohere.com/billing"),
    "server_error": (500, "internal server error, this has been reported to our developers"),
    "overloaded": (503, "the service is currently overloaded, please try again later"),
    "prefill": (400, "invalid request: the last message must not be from the assistant"),
}


def _usage(usage: Usage) -> dict[str, Any]:
    output = usage.output + usage.reasoning
    return {
        "billed_units": {"input_tokens": usage.input - usage.cache_read, "output_tokens": output},
        "tokens": {"input_tokens": usage.input, "output_tokens": output},
        "cached_tokens": usage.cache_read,
    }


def _uuid(uid: str) -> str:
    return f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}"


class Cohere:
    """POST …/v2/chat."""

    name: ClassVar[str] = "cohere"
    stream_content_type: ClassVar[str] = "text/event-stream"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model = body.get("model") or ""
        if not isinstance(model, str) or not model:
            raise BadRequest("invalid request: model is required")
        prompt, characters, prefill = read_turns(read_messages(body.get("messages")))
        wanted = mapping(body.get("response_format"))
        schema = mapping(wanted.get("json_schema") or wanted.get("schema"))
        required = "" if body.get("tool_choice") == "REQUIRED" else None
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(body.get("max_tokens"), "max_tokens"),
            tool=choose_tool(read_tools(body.get("tools")), required),
            json_schema=schema if wanted.get("type") == "json_object" else None,
            stop=strings(body.get("stop_sequences")),
            seed=body.get("seed"),
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        return bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return [
            ("x-debug-trace-id", uid.ljust(32, "0")[:32]),
            ("x-endpoint-monthly-call-limit", "1000"),
            ("x-trial-endpoint-call-limit", str(quota.request_limit)),
            ("x-trial-endpoint-call-remaining", str(quota.requests_left)),
        ]

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        message: dict[str, Any] = {"role": "assistant"}
        if answer.tool:
            function = {"name": answer.tool, "arguments": answer.text}
            message["tool_plan"] = f"I will call {answer.tool}."
            message["tool_calls"] = [{"id": f"{answer.tool}_{uid}", "type": "function", "function": function}]
        else:
            message["content"] = [{"type": "text", "text": answer.text}]
        body: dict[str, Any] = {"id": _uuid(uid), "message": message}
        if answer.finish:
            body["finish_reason"] = _FINISH[answer.finish]
        if answer.usage:
            body["usage"] = _usage(answer.usage)
        return encode(body)

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        begun = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        opening = sse(
            encode({"id": _uuid(uid), "type": "message-start", "delta": {"message": begun}}), "message-start"
        )
        if answer.tool:
            name = "tool-call"
            call = {
                "id": f"{answer.tool}_{uid}",
                "type": "function",
                "function": {"name": answer.tool, "arguments": ""},
            }
            start: dict[str, Any] = {"tool_calls": call}
            field, close = b'"tool_calls":{"function":{"arguments":', b"}}}}}\n\n"
        else:
            name = "content"
            start = {"content": {"type": "text", "text": ""}}
            field, close = b'"content":{"text":', b"}}}}\n\n"
        kind = f"{name}-start"
        opening += sse(encode({"type": kind, "index": 0, "delta": {"message": start}}), kind)
        prefix = b'event: %b-delta\ndata: {"type":"%b-delta","index":0,"delta":{"message":{%b' % (
            name.encode(),
            name.encode(),
            field,
        )
        finish = b""
        if answer.finish:
            delta: dict[str, Any] = {"finish_reason": _FINISH[answer.finish]}
            if answer.usage:
                delta["usage"] = _usage(answer.usage)
            finish = sse(encode({"type": f"{name}-end", "index": 0}), f"{name}-end")
            finish += sse(encode({"type": "message-end", "delta": delta}), "message-end")
        return Script(
            opening,
            [prefix + token + close for token in answer.quoted],
            finish,
            b"data: [DONE]\n\n",
            prefix + b'"\n\n',
        )

    def error(self, problem: Problem, uid: str) -> Reply:
        reply = plain(problem)
        if reply is not None:
            return reply
        status, message = _ERRORS[problem.preset]
        body = {"id": _uuid(uid), "message": problem.message or message.format(m=problem.model)}
        return Reply(status, encode(body), "application/json", retry_headers(problem))

    def error_event(self, problem: Problem, uid: str) -> bytes:
        preset: Preset = "overloaded" if problem.preset in ("bad_gateway", "unavailable") else problem.preset
        delta = {"error": _ERRORS[preset][1].format(m=problem.model), "finish_reason": "ERROR"}
        return sse(encode({"type": "message-end", "delta": delta}), "message-end")

    def models(self, names: tuple[str, ...]) -> bytes:
        rows = [{"name": name, "endpoints": ["chat"], "context_length": 128_000} for name in names]
        return encode({"models": rows, "next_page_token": ""})
