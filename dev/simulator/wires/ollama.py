"""Ollama's own chat API: lines of JSON. Source: github.com/ollama/ollama, docs/api.md and the server's errors.

No tool can be demanded on this wire, calls have no ids, and nothing filters content; a finish for either reads as
"stop".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dev.simulator.behaviour import Preset
from dev.simulator.pictures import describe
from dev.simulator.wires.answer import Answer, Script
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
    positive,
    read_turns,
    strings,
)
from dev.simulator.wires.openai_chat import read_messages, read_tools
from dev.simulator.wires.openai_errors import plain, retry_headers

_CREATED = "2026-01-01T00:00:00.000000Z"
_ERRORS: dict[Preset, tuple[int, str]] = {
    "invalid_request": (400, "invalid options: num_predict"),
    "context_length": (400, "the input length exceeds the context length"),
    "content_filter": (400, "this prompt was stopped by a content filter"),
    "authentication": (401, "unauthorized"),
    "permission": (403, "this model is not included in your subscription"),
    "model_not_found": (404, "model '{m}' not found"),
    "timeout": (504, "timed out waiting for llama runner to start"),
    "too_large": (413, "http: request body too large"),
    "rate_limited": (429, "too many concurrent requests"),
    "quota": (402, "payment required: you have used your monthly credits"),
    "server_error": (500, "llama runner process has terminated: exit status 2"),
    "overloaded": (503, "server busy, please try again.  maximum pending requests exceeded"),
    "prefill": (400, "the last message must not be the assistant's"),
}


class Ollama:
    """POST …/api/chat."""

    name: ClassVar[str] = "ollama"
    stream_content_type: ClassVar[str] = "application/x-ndjson"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model = body.get("model") or ""
        if not isinstance(model, str) or not model:
            raise BadRequest("model is required")
        turns = read_messages(body.get("messages"))
        prompt, characters, prefill = read_turns(turns)
        thinks = body.get("think") not in (None, False)
        images = [image for message in body["messages"] for image in message.get("images") or ()]
        options, wanted = mapping(body.get("options")), body.get("format")
        limit = options.get("num_predict")
        return Ask(
            model,
            prompt,
            characters,
            # A stream unless the request names another; a negative limit is none.
            stream=body.get("stream") is not False,
            prefill=prefill,
            max_tokens=None if isinstance(limit, int) and limit < 0 else positive(limit, "num_predict"),
            calls=choose_calls(read_tools(body.get("tools")), None, turns),
            thinks=thinks,
            shows_thoughts=thinks,
            media=tuple(describe(image, "image") for image in images if isinstance(image, str)),
            json_schema=mapping(wanted) if wanted else None,
            stop=strings(options.get("stop")),
            seed=options.get("seed"),
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        return bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return []

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        return encode(_last(ask, answer, answer.text, answer.thought))

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        start = b'{"model":%b,"created_at":"%b","message":{"role":"assistant",' % (
            encode(ask.model),
            _CREATED.encode(),
        )
        before = {"text": start + b'"content":', "thinking": start + b'"content":"","thinking":'}
        # Calls come whole, with the end.
        events = [
            before[part.kind] + token + b'},"done":false}\n'
            for part in answer.parts
            if part.kind != "call"
            for token in part.quoted
        ]
        finish = encode(_last(ask, answer, "", None)) + b"\n" if answer.finish else b""
        return Script(b"", events, finish, b"", before["text"] + b'"\n')

    def error(self, problem: Problem, uid: str) -> Reply:
        reply = plain(problem)
        if reply is not None:
            return reply
        status, message = _ERRORS[problem.preset]
        text = problem.message or message.format(m=problem.model)
        return Reply(status, encode({"error": text}), "application/json", retry_headers(problem))

    def error_event(self, problem: Problem, uid: str) -> bytes:
        preset: Preset = "overloaded" if problem.preset in ("bad_gateway", "unavailable") else problem.preset
        return encode({"error": _ERRORS[preset][1].format(m=problem.model)}) + b"\n"

    def models(self, names: tuple[str, ...]) -> bytes:
        rows = [{"name": name, "model": name, "modified_at": _CREATED, "size": 1} for name in names]
        return encode({"models": rows})


def _last(ask: Ask, answer: Answer, text: str, thought: str | None) -> dict[str, Any]:
    """The object that says the answer is done, if it is."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thought is not None:
        message["thinking"] = thought
    if answer.calls:
        message["tool_calls"] = [
            {"function": {"name": part.name, "arguments": part.arguments}} for part in answer.calls
        ]
    fields: dict[str, Any] = {
        "model": ask.model,
        "created_at": _CREATED,
        "message": message,
        "done": answer.finish is not None,
    }
    if answer.finish:
        fields["done_reason"] = "length" if answer.finish == "length" else "stop"
        fields |= {"total_duration": 7_000_000, "load_duration": 1_000_000}
        if answer.usage:
            fields["prompt_eval_count"] = answer.usage.input
            fields["eval_count"] = answer.usage.output + answer.usage.reasoning
    return fields
