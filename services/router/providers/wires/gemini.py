"""Gemini's generateContent. https://ai.google.dev/api/generate-content

Options: `thinking` = "level" for models that take a thinking level instead of a budget of tokens (set for
Gemini 3 by itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from libs.clock import Clock
from libs.conversation import Message, ReasoningEffort, Role, ToolCall
from libs.types import ErrorClass, FinishReason, Usage
from services.router.providers.wires.anthropic import arguments
from services.router.providers.wires.chat_format import json_headers, schema, tool_fields
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_list,
    as_str,
    decode,
    drop_unset,
    encode,
)
from services.router.providers.wires.stream import Decoder, needs_content
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent

_REFUSED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR")
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(_REFUSED, FinishReason.CONTENT_FILTER),
}
#: Vertex AI's numbers, for servers that send enums as integers. 0 is "unspecified", 5 "other".
_NUMBERED = {
    1: "STOP",
    2: "MAX_TOKENS",
    3: "SAFETY",
    4: "RECITATION",
    6: "BLOCKLIST",
    7: "PROHIBITED_CONTENT",
    8: "SPII",
    9: "MALFORMED_FUNCTION_CALL",
    10: "MODEL_ARMOR",
    11: "IMAGE_SAFETY",
    15: "UNEXPECTED_TOOL_CALL",
}
#: Tokens of thought by effort (Google's own mapping in its OpenAI-compatible endpoint), and the levels of Gemini 3.
_BUDGETS = {
    ReasoningEffort.NONE: 0,
    ReasoningEffort.LOW: 1024,
    ReasoningEffort.MEDIUM: 8192,
    ReasoningEffort.HIGH: 24_576,
}
#: The least that every model with a budget takes but none (2.5 Flash-Lite).
_MIN_BUDGET = 512
_LEVELS = {
    ReasoningEffort.NONE: "minimal",
    ReasoningEffort.LOW: "low",
    ReasoningEffort.MEDIUM: "medium",
    ReasoningEffort.HIGH: "high",
}
#: Gemini 3 wants its thoughts' signature back with a tool call; this value says there is none to give.
#: https://ai.google.dev/gemini-api/docs/thought-signatures
_NO_SIGNATURE = "skip_thought_signature_validator"


class GeminiWire:
    """The Gemini API with an API key."""

    def __init__(self, clock: Clock) -> None:
        """`clock` tells when Google's day ends, where an answer has no date."""
        self._clock = clock

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        call = "streamGenerateContent?alt=sse" if stream else "generateContent"
        url = f"{self._models(endpoint)}/models/{quote(endpoint.model, safe='')}:{call}"
        headers = {**json_headers(stream=stream), **self._key(endpoint)}
        return HttpRequest("POST", url, headers, encode(_body(prompt, endpoint)))

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        if data.get("error"):
            raise classify_inside(data)
        usage = _usage(data.get("usageMetadata"))
        candidate = _candidate(data, usage)
        if candidate is None:
            raise malformed("the answer holds no candidate", usage)
        parts = as_list(as_dict(candidate.get("content")).get("parts"))
        text = "".join(map(_text, parts))
        called = [call for part in parts if (call := as_dict(as_dict(part).get("functionCall")))]
        calls = tuple(
            ToolCall(as_str(call.get("id")) or f"call_{index}", as_str(call.get("name")), _arguments(call))
            for index, call in enumerate(called)
        )
        finish = _with_calls(
            read_finish(_reason(candidate), _FINISH_REASONS, usage, as_str(candidate.get("finishMessage"))),
            calls=bool(calls),
        )
        if not text and not calls and needs_content(finish):
            raise malformed("the answer is empty", usage)
        return Completion(text, finish, usage, calls, as_str(data.get("modelVersion")))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body, now=self._clock.now())

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return GeminiDecoder(may_be_empty=may_be_empty)

    def _models(self, endpoint: Endpoint) -> str:
        base = endpoint.base_url.rstrip("/")
        return base if base.endswith(("/v1beta", "/v1", "/v1alpha")) else f"{base}/v1beta"

    def _key(self, endpoint: Endpoint) -> dict[str, str]:
        return {"x-goog-api-key": endpoint.api_key}


class GeminiDecoder(Decoder):
    """Decodes streamed GenerateContentResponse objects. There is no terminator but the end of the connection."""

    __slots__ = ()

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        if data.get("error"):
            raise classify_inside(data, usage=self.usage)
        self.model = as_str(data.get("modelVersion")) or self.model
        self.usage = _usage(data.get("usageMetadata")) or self.usage
        candidate = _candidate(data, self.usage)
        if candidate is None:
            return
        for part in as_list(as_dict(candidate.get("content")).get("parts")):
            self._add_text(_text(part), out)
            call = as_dict(as_dict(part).get("functionCall"))
            if call:
                call_id = as_str(call.get("id")) or f"call_{self._tools.count}"
                self._add_tool_call(None, call_id, as_str(call.get("name")), _arguments(call), out)
        if candidate.get("finishReason"):
            self._set_finish(_reason(candidate), _FINISH_REASONS, as_str(candidate.get("finishMessage")))
            if self.finish is not None:
                self.finish = _with_calls(self.finish, calls=self._tools.count > 0)


def _body(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    third = endpoint.model.rpartition("/")[2].startswith("gemini-3")
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in prompt.messages:
        if message.role is Role.SYSTEM:
            continue
        role = "model" if message.role is Role.ASSISTANT else "user"
        names.update((call.id, call.name) for call in message.tool_calls)
        parts = _parts(message, names, signed=third)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"].extend(parts)
        elif parts:
            contents.append({"role": role, "parts": parts})
    if prompt.prefill:
        contents.append({"role": "model", "parts": [{"text": prompt.prefill}]})
    body: dict[str, Any] = {"contents": contents}
    system = [{"text": m.text} for m in prompt.messages if m.role is Role.SYSTEM and m.text]
    if system:
        body["systemInstruction"] = {"parts": system}
    if prompt.tools:
        declarations = [tool_fields(tool, "parametersJsonSchema") for tool in prompt.tools]
        body["tools"] = [{"functionDeclarations": declarations}]
        if prompt.tool_choice:
            mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}.get(prompt.tool_choice)
            config = {"mode": mode} if mode else {"mode": "ANY", "allowedFunctionNames": [prompt.tool_choice]}
            body["toolConfig"] = {"functionCallingConfig": config}
    body["generationConfig"] = _generation_config(
        prompt, third or endpoint.options.get("thinking") == "level"
    )
    return body


def _generation_config(prompt: Prompt, levels: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"maxOutputTokens": prompt.max_output_tokens}
    config |= drop_unset(
        temperature=prompt.temperature,
        topP=prompt.top_p,
        seed=prompt.seed,
        presencePenalty=prompt.presence_penalty,
        frequencyPenalty=prompt.frequency_penalty,
    )
    if prompt.stop_sequences:
        config["stopSequences"] = list(prompt.stop_sequences)
    if prompt.response_format is not None:
        config["responseMimeType"] = "application/json"
        if prompt.response_format.schema_json:
            config["responseJsonSchema"] = schema(prompt.response_format.schema_json)
    if prompt.reasoning_effort is not None:
        effort = prompt.reasoning_effort
        if levels:
            config["thinkingConfig"] = {"thinkingLevel": _LEVELS[effort]}
        else:
            # Thoughts count against maxOutputTokens.
            budget = min(_BUDGETS[effort], prompt.max_output_tokens // 2)
            if effort is ReasoningEffort.NONE or budget >= _MIN_BUDGET:
                config["thinkingConfig"] = {"thinkingBudget": budget}
    return config


def _parts(message: Message, names: Mapping[str, str], *, signed: bool) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        try:
            answer = decode(message.text)
        except Undecodable:
            answer = message.text
        response = answer if type(answer) is dict else {"result": answer}
        name = names.get(message.tool_call_id, message.tool_call_id)
        return [{"functionResponse": {"name": name, "response": response}}]
    parts: list[dict[str, Any]] = [{"text": message.text}] if message.text else []
    for index, call in enumerate(message.tool_calls):
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments(call)}}
        if signed and index == 0:
            part["thoughtSignature"] = _NO_SIGNATURE
        parts.append(part)
    return parts


def _candidate(data: Mapping[str, Any], usage: Usage | None) -> Mapping[str, Any] | None:
    candidates = as_list(data.get("candidates"))
    if candidates:
        return as_dict(candidates[0])
    reason = as_str(as_dict(data.get("promptFeedback")).get("blockReason"))
    if reason:
        raise ProviderFailure(
            ErrorClass.CONTENT_REFUSED,
            f"the prompt was blocked: {reason}"[:300],
            http_status=200,
            usage=usage,
        )
    return None


def _text(part: Any) -> str:
    part = as_dict(part)
    return "" if part.get("thought") else as_str(part.get("text"))


def _arguments(call: Mapping[str, Any]) -> str:
    return encode(as_dict(call.get("args"))).decode()


def _reason(candidate: Mapping[str, Any]) -> str:
    reason = candidate.get("finishReason")
    return _NUMBERED.get(reason, "") if type(reason) is int else as_str(reason)


def _with_calls(finish: FinishReason, *, calls: bool) -> FinishReason:
    # The wire has no finish reason for tool calls.
    return FinishReason.TOOL_CALLS if calls and finish is FinishReason.STOP else finish


def _usage(value: Any) -> Usage | None:
    usage = as_dict(value)
    prompt, candidates = as_count(usage.get("promptTokenCount")), as_count(usage.get("candidatesTokenCount"))
    thoughts = as_count(usage.get("thoughtsTokenCount"))
    if prompt is None and candidates is None and thoughts is None:
        return None
    # Tokens of built-in tools' results stand beside the prompt's, thoughts beside the candidate's.
    inputs = (prompt or 0) + (as_count(usage.get("toolUsePromptTokenCount")) or 0)
    return Usage(
        inputs,
        (candidates or 0) + (thoughts or 0),
        as_count(usage.get("cachedContentTokenCount")) or 0,
        0,
        thoughts or 0,
    )
