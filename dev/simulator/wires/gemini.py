"""Gemini generateContent, as Google AI Studio and Vertex AI speak it.

Source: ai.google.dev/api/generate-content; errors: cloud.google.com/apis/design/errors.
"""

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


def _read_tool(body: dict[str, Any]) -> Tool | None:
    config = mapping(mapping(body.get("toolConfig")).get("functionCallingConfig"))
    if config.get("mode") != "ANY":
        return None
    tools = []
    for group in body.get("tools") or ():
        for function in mapping(group).get("functionDeclarations") or ():
            schema = function.get("parametersJsonSchema") or function.get("parameters")
            tools.append(Tool(str(function.get("name")), mapping(schema)))
    allowed = strings(config.get("allowedFunctionNames"))
    return choose_tool(tools, allowed[0] if allowed else "")


class Gemini:
    """POST …/models/<model>:generateContent and :streamGenerateContent."""

    name: ClassVar[str] = "gemini"
    stream_content_type: ClassVar[str] = "text/event-stream"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model, _, verb = model.partition(":")
        config = mapping(body.get("generationConfig") or body.get("generation_config"))
        prompt, characters, prefill = read_turns(_read_turns(body))
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
            tool=_read_tool(body),
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
        part: dict[str, Any] = {"text": answer.text}
        if answer.tool:
            part = {"functionCall": {"name": answer.tool, "args": arguments_of(answer)}}
        candidate: dict[str, Any] = {"index": 0}
        if answer.pieces:
            candidate["content"] = {"parts": [part], "role": "model"}
        if answer.finish:
            candidate["finishReason"] = _FINISH[answer.finish]
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
        suffix = b'}],"role":"model"},"index":0}],' + tail
        events = [prefix + token + suffix for token in answer.quoted]
        # A function call comes whole, with the finish reason.
        last = self._body(ask, answer if answer.tool else _emptied(answer), uid)
        if answer.tool:
            events = []
        end = encode(last) if answer.finish or answer.tool else b""
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


def _emptied(answer: Answer) -> Answer:
    return Answer((), answer.finish, answer.usage, None, answer.stop_sequence)
