"""Cohere v2 chat. Source: docs.cohere.com/reference/chat and …/docs/streaming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dev.simulator.behaviour import Preset
from dev.simulator.wires.answer import Answer, Part, Script, Usage, call_id, lay_out
from dev.simulator.wires.base import (
    Ask,
    BadRequest,
    Problem,
    Quota,
    Reply,
    bearer,
    choose_calls,
    encode,
    mapping,
    media_of,
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


def _plan(answer: Answer) -> str:
    return f"I will call {' and '.join(part.name for part in answer.calls)}."


def _call(answer: Answer, uid: str, number: int) -> dict[str, Any]:
    """Returns the fields of a call that come first."""
    identifier = call_id(answer, uid, number, f"{answer.calls[number].name}_")
    call = {"id": identifier, "type": "function"}
    return {name: value for name, value in call.items() if value is not None}


def _event(kind: str, index: int, message: dict[str, Any] | None) -> bytes:
    fields: dict[str, Any] = {"type": kind, "index": index}
    if message is not None:
        fields["delta"] = {"message": message}
    return sse(encode(fields), kind)


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
        turns = read_messages(body.get("messages"))
        prompt, characters, prefill = read_turns(turns)
        thinks = mapping(body.get("thinking")).get("type") == "enabled"
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
            calls=choose_calls(
                read_tools(body.get("tools")), required, turns, free=body.get("tool_choice") != "NONE"
            ),
            thinks=thinks,
            shows_thoughts=thinks,
            media=media_of(body.get("messages")),
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
        content: list[dict[str, Any]] = []
        if answer.thought is not None:
            content.append({"type": "thinking", "thinking": answer.thought})
        if answer.calls:
            message["tool_plan"] = _plan(answer)
            message["tool_calls"] = [
                {**_call(answer, uid, number), "function": {"name": part.name, "arguments": part.text}}
                for number, part in enumerate(answer.calls)
            ]
        else:
            content.append({"type": "text", "text": answer.text})
        if content:
            message["content"] = content
        body: dict[str, Any] = {"id": _uuid(uid), "message": message}
        if answer.finish:
            body["finish_reason"] = answer.finished(_FINISH)
        if answer.usage:
            body["usage"] = _usage(answer.usage)
        return encode(body)

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        first_call = len(answer.parts) - len(answer.calls)

        def begin(number: int, part: Part) -> bytes:
            if part.kind == "call":
                call = _call(answer, uid, number - first_call)
                call["function"] = {"name": part.name, "arguments": ""}
                return _event("tool-call-start", number - first_call, {"tool_calls": call})
            block = {"type": part.kind, part.kind: ""}
            return _event("content-start", number, {"content": block})

        def token(number: int, part: Part) -> tuple[bytes, bytes]:
            field, close = b'"content":{"%b":' % part.kind.encode(), b"}}}}\n\n"
            name = b"content"
            if part.kind == "call":
                name, number = b"tool-call", number - first_call
                field, close = b'"tool_calls":{"function":{"arguments":', b"}}}}}\n\n"
            head = b'event: %b-delta\ndata: {"type":"%b-delta","index":%d,"delta":{"message":{%b'
            return head % (name, name, number, field), close

        def end(number: int, part: Part) -> bytes:
            if part.kind == "call":
                return _event("tool-call-end", number - first_call, None)
            return _event("content-end", number, None)

        begun = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        start = {"id": _uuid(uid), "type": "message-start", "delta": {"message": begun}}
        opening, events, closing = lay_out(answer, begin, token, end)
        opening = sse(encode(start), "message-start") + opening
        finish = b""
        if answer.finish:
            delta: dict[str, Any] = {"finish_reason": answer.finished(_FINISH)}
            if answer.usage:
                delta["usage"] = _usage(answer.usage)
            finish = closing + sse(encode({"type": "message-end", "delta": delta}), "message-end")
        broken = b'event: content-delta\ndata: {"type":"content-delta","index":0,"delta":{"message":{"\n\n'
        return Script(opening, events, finish, b"data: [DONE]\n\n", broken)

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
