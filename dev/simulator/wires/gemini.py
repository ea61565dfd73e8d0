"""Gemini generateContent, as Google AI Studio and Vertex AI speak it.

Source: ai.google.dev/api/generate-content; errors: cloud.google.com/apis/design/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from dev.simulator.behaviour import Preset
from dev.simulator.signatures import sign
from dev.simulator.wires.answer import Answer, Script, Usage, call_id
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
    "stop": "STOP",
    "stop_sequence": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}

_ERRORS: dict[Preset, tuple[int, str, str]] = {
    "invalid_request": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "context_length": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1250019) exceeds the maximum number of tokens allowed (1048576).",
    ),
    # Said of a prompt as a 200 without candidates; this is for the middle of a stream.
    "content_filter": (400, "INVALID_ARGUMENT", "The response was blocked by the safety filters."),
    "authentication": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "permission": (403, "PERMISSION_DENIED", "The caller does not have permission"),
    "model_not_found": (
        404,
        "NOT_FOUND",
        "models/{m} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to"
        " see the list of available models and their supported methods.",
    ),
    "timeout": (504, "DEADLINE_EXCEEDED", "The request timed out. Please try again."),
    "too_large": (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    "rate_limited": (
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "quota": (
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric:"
        " generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0",
    ),
    "server_error": (
        500,
        "INTERNAL",
        "An internal error has occurred. Please retry or report in"
        " https://developers.generativeai.google/guide/troubleshooting",
    ),
    "unavailable": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "prefill": (400, "INVALID_ARGUMENT", "Please ensure that multiturn requests ends with a user role."),
}
_PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
_PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


def _usage(usage: Usage) -> dict[str, Any]:
    """Input includes cached; thinking is counted apart from the candidates."""
    fields: dict[str, Any] = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output,
        "totalTokenCount": usage.input + usage.output + usage.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    }
    if usage.reasoning:
        fields["thoughtsTokenCount"] = usage.reasoning
    if usage.cache_read:
        fields["cachedContentTokenCount"] = usage.cache_read
    return fields


def _read_turns(body: dict[str, Any]) -> list[tuple[str, str]]:
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise BadRequest("* GenerateContentRequest.contents: contents is not specified")
    turns = []
    system = mapping(body.get("systemInstruction") or body.get("system_instruction"))
    if system:
        turns.append(("system", text_of(system.get("parts"))))
    for index, content in enumerate(contents):
        role = mapping(content).get("role", "user")
        if role not in ("user", "model", "function"):
            raise BadRequest("Please use a valid role: user, model.")
        parts = mapping(content).get("parts")
        if not isinstance(parts, list) or not parts:
            raise BadRequest(
                f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty."
            )
        turns.append(("assistant" if role == "model" else role, text_of(parts)))
    return turns


def _read_calls(body: dict[str, Any], turns: list[tuple[str, str]]) -> tuple[Tool, ...]:
    config = mapping(mapping(body.get("toolConfig")).get("functionCallingConfig"))
    mode = config.get("mode")
    tools = []
    for group in body.get("tools") or ():
        for function in mapping(group).get("functionDeclarations") or ():
            schema = function.get("parametersJsonSchema") or function.get("parameters")
            description = str(function.get("description", ""))
            tools.append(Tool(str(function.get("name")), mapping(schema), description))
    allowed = strings(config.get("allowedFunctionNames"))
    forced = (allowed[0] if allowed else "") if mode == "ANY" else None
    return choose_calls(tools, forced, turns, free=mode != "NONE")


def _parts(ask: Ask, answer: Answer) -> list[dict[str, Any]]:
    """Returns the parts, whole: the first call carries the signature of the thoughts before it."""
    parts: list[dict[str, Any]] = []
    calls = 0
    for part in answer.parts:
        if part.kind == "thinking":
            if part.pieces:
                parts.append({"text": part.text, "thought": True})
        elif part.kind == "text":
            parts.append({"text": part.text})
        else:
            call: dict[str, Any] = {"name": part.name, "args": part.arguments}
            if answer.odd.ids in ("empty", "repeated", "long", "dotted"):
                call["id"] = call_id(answer, "", calls, "")
            parts.append({"functionCall": call})
            if ask.keeps_thoughts and not calls:
                parts[-1]["thoughtSignature"] = sign("gemini", answer.thought or "")
            calls += 1
    return parts


class Gemini:
    """POST …/models/<model>:generateContent and :streamGenerateContent."""

    name: ClassVar[str] = "gemini"
    stream_content_type: ClassVar[str] = "text/event-stream"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model, _, verb = model.partition(":")
        config = mapping(body.get("generationConfig") or body.get("generation_config"))
        turns = _read_turns(body)
        prompt, characters, prefill = read_turns(turns)
        thinking = mapping(config.get("thinkingConfig"))
        shows = thinking.get("includeThoughts") is True
        keeps = bool(thinking) and thinking.get("thinkingBudget") != 0
        schema: Mapping[str, Any] | None = None
        if config.get("responseMimeType") == "application/json":
            schema = mapping(config.get("responseJsonSchema") or config.get("responseSchema"))
        return Ask(
            model,
            prompt,
            characters,
            stream=verb == "streamGenerateContent",
            prefill=prefill,
            max_tokens=positive(config.get("maxOutputTokens"), "max_output_tokens"),
            calls=_read_calls(body, turns),
            thinks=shows,
            shows_thoughts=shows,
            keeps_thoughts=keeps or model.startswith("gemini-3"),
            media=media_of(body.get("contents"), "parts"),
            json_schema=schema,
            stop=strings(config.get("stopSequences")),
            seed=config.get("seed"),
            array=query.get("alt") != "sse",
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        return headers.get("x-goog-api-key") or query.get("key") or bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return [
            ("server-timing", "gfet4t7; dur=7"),
            ("server", "scaffolding on HTTPServer2"),
            ("x-frame-options", "SAMEORIGIN"),
        ]

    def _body(self, ask: Ask, answer: Answer, uid: str) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0}
        parts = _parts(ask, answer)
        if answer.count or answer.calls:
            candidate["content"] = {"parts": parts, "role": "model"}
        if answer.finish:
            candidate["finishReason"] = answer.finished(_FINISH)
        body: dict[str, Any] = {"candidates": [candidate], "modelVersion": ask.model, "responseId": uid}
        if answer.usage:
            body["usageMetadata"] = _usage(answer.usage)
        return body

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        return encode(self._body(ask, answer, uid))

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        tail = b'"modelVersion":%b,"responseId":%b}' % (encode(ask.model), encode(uid))
        if answer.usage:
            count = answer.usage.input
            fields = encode({"promptTokenCount": count, "totalTokenCount": count})
            tail = b'"usageMetadata":%b,%b' % (fields, tail)
        prefix = b'{"candidates":[{"content":{"parts":[{"text":'
        role = b'],"role":"model"},"index":0}],' + tail
        marks = {"text": b"}" + role, "thinking": b',"thought":true}' + role}
        events = [
            prefix + token + marks[part.kind]
            for part in answer.parts
            if part.kind != "call"
            for token in part.quoted
        ]
        # Function calls come whole, with the finish reason.
        calls = tuple(part for part in answer.parts if part.kind == "call")
        last = self._body(ask, replace(answer, parts=calls), uid)
        end = encode(last) if answer.finish or calls else b""
        if not ask.array:
            return Script(
                b"",
                [sse(event) for event in events],
                sse(end) if end else b"",
                b"",
                b"data: " + prefix + b'"\n\n',
            )
        separated = [event if index == 0 else b",\r\n" + event for index, event in enumerate(events)]
        finish = (b",\r\n" if events else b"") + end if end else b""
        return Script(b"[", separated, finish, b"]", b",\r\n" + prefix + b'"')

    def error(self, problem: Problem, uid: str) -> Reply:
        if problem.preset == "bad_gateway":
            reply = plain(problem)
            assert reply is not None
            return reply
        if problem.preset == "content_filter":
            blocked: dict[str, Any] = {
                "promptFeedback": {"blockReason": "SAFETY"},
                "modelVersion": problem.model,
                "responseId": uid,
            }
            blocked["usageMetadata"] = {"promptTokenCount": 8, "totalTokenCount": 8}
            if problem.stream:
                return Reply(200, sse(encode(blocked)), self.stream_content_type)
            return Reply(200, encode(blocked), "application/json; charset=UTF-8")
        status, body = self._error(problem)
        style = problem.retry_after_as
        headers = {} if style == "native" else retry_headers(problem)
        return Reply(status, encode(body), "application/json; charset=UTF-8", headers)

    def _error(self, problem: Problem) -> tuple[int, dict[str, Any]]:
        preset: Preset = "unavailable" if problem.preset == "bad_gateway" else problem.preset
        status, name, message = _ERRORS[preset]
        details: list[dict[str, Any]] = []
        google = "type.googleapis.com/google.rpc."
        if preset == "authentication":
            info = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            details.append({"@type": google + "ErrorInfo", **info})
        if preset in ("rate_limited", "quota"):
            metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
            violation = {"quotaMetric": metric, "quotaId": _PER_DAY if preset == "quota" else _PER_MINUTE}
            details.append({"@type": google + "QuotaFailure", "violations": [violation]})
        if problem.retry_after is not None and problem.retry_after_as in ("native", "body"):
            message += f"\nPlease retry in {problem.retry_after:g}s."
            details.append({"@type": google + "RetryInfo", "retryDelay": f"{problem.retry_after:g}s"})
        text = problem.message or message.format(m=problem.model)
        error: dict[str, Any] = {"code": status, "message": text, "status": name}
        if details:
            error["details"] = details
        return status, {"error": error}

    def error_event(self, problem: Problem, uid: str) -> bytes:
        return sse(encode(self._error(problem)[1]))

    def models(self, names: tuple[str, ...]) -> bytes:
        methods = ["generateContent", "countTokens"]
        rows = [
            {
                "name": f"models/{name}",
                "version": "001",
                "displayName": name,
                "supportedGenerationMethods": methods,
            }
            for name in names
        ]
        return encode({"models": rows})
