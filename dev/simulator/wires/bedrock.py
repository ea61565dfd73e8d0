"""Amazon Bedrock Converse. Source: docs.aws.amazon.com/bedrock/latest/APIReference (Converse, ConverseStream).

Signatures are not verified; the access key id is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import DecodeError
from msgspec.json import decode

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
    strings,
    text_of,
)
from dev.simulator.wires.frames import event_headers, frame, header
from dev.simulator.wires.openai_errors import plain, retry_headers

_CREDENTIAL = re.compile(r"^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
_FINISH = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}

_ERRORS: dict[Preset, tuple[int, str, str]] = {
    "invalid_request": (400, "ValidationException", "The provided request is not valid."),
    "context_length": (400, "ValidationException", "Input is too long for requested model."),
    "content_filter": (400, "ValidationException", "Output blocked by content filtering policy."),
    "authentication": (
        403,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    ),
    "permission": (
        403,
        "AccessDeniedException",
        "You don't have access to the model with the specified model ID.",
    ),
    "model_not_found": (404, "ResourceNotFoundException", "Could not resolve the foundation model {m}."),
    "timeout": (
        408,
        "ModelTimeoutException",
        "Model has timed out in processing the request.",
    ),
    "too_large": (413, "RequestEntityTooLargeException", "The request entity is too large."),
    "rate_limited": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "quota": (
        400,
        "ServiceQuotaExceededException",
        "Your request exceeds the service quota for your account.",
    ),
    "server_error": (
        500,
        "InternalServerException",
        "The system encountered an unexpected error. Try again.",
    ),
    "unavailable": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    "overloaded": (
        503,
        "ServiceUnavailableException",
        "Too many connections, please wait before trying again.",
    ),
    "prefill": (
        400,
        "ValidationException",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}


_EVENTS = {
    name: event_headers(name)
    for name in (
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    )
}


def _event(name: str, payload: bytes) -> bytes:
    return frame(_EVENTS[name], payload)


def _usage(usage: Usage) -> dict[str, int]:
    """Input leaves cached tokens out."""
    output = usage.output + usage.reasoning
    return {
        "inputTokens": usage.input - usage.cache_read - usage.cache_write,
        "outputTokens": output,
        "totalTokens": usage.input + output,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write,
    }


_AROUND = {
    "text": (b'"text":', b"}}"),
    "call": (b'"toolUse":{"input":', b"}}}"),
    "thinking": (b'"reasoningContent":{"text":', b"}}}"),
}


def _around(number: int, part: Part) -> tuple[bytes, bytes]:
    """Returns what stands before and after a token in the payload of its delta."""
    before, after = _AROUND[part.kind]
    return b'{"contentBlockIndex":%d,"delta":{%b' % (number, before), after


def _read_calls(config: Mapping[str, Any], turns: list[tuple[str, str]]) -> tuple[Tool, ...]:
    choice = mapping(config.get("toolChoice"))
    forced = "" if "any" in choice else mapping(choice.get("tool")).get("name")
    specs = [mapping(mapping(tool).get("toolSpec")) for tool in config.get("tools") or ()]
    offered = [
        Tool(
            str(spec.get("name")),
            mapping(mapping(spec.get("inputSchema")).get("json")),
            str(spec.get("description", "")),
        )
        for spec in specs
    ]
    return choose_calls(offered, forced, turns)


def _read_format(body: dict[str, Any]) -> Mapping[str, Any] | None:
    wanted = mapping(mapping(body.get("outputConfig")).get("textFormat"))
    schema = mapping(mapping(wanted.get("structure")).get("jsonSchema")).get("schema")
    if wanted.get("type") != "json_schema" or not isinstance(schema, str):
        return None
    try:
        return mapping(decode(schema))
    except DecodeError:
        raise BadRequest(
            "The value at outputConfig.textFormat.structure.jsonSchema.schema is no JSON."
        ) from None


def _use(answer: Answer, uid: str, number: int, part: Part) -> dict[str, Any]:
    """Returns the fields of a call that come first."""
    use = {"toolUseId": call_id(answer, uid, number, "tooluse_"), "name": part.name}
    return {name: value for name, value in use.items() if value is not None}


class Bedrock:
    """POST …/model/<id>/converse and …/converse-stream."""

    name: ClassVar[str] = "bedrock"
    stream_content_type: ClassVar[str] = "application/vnd.amazon.eventstream"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model, _, verb = model.rpartition("/")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRequest("A conversation must start with a user message.")
        turns = [("system", text_of(body.get("system")))] if body.get("system") else []
        for message in messages:
            role, content = mapping(message).get("role"), mapping(message).get("content")
            if role not in ("user", "assistant") or not isinstance(content, list):
                raise BadRequest(
                    "The format of the value at messages is invalid. Provide a role and a content list."
                )
            turns.append((role, text_of(content)))
        config = mapping(body.get("inferenceConfig"))
        tools = mapping(body.get("toolConfig"))
        thinking = mapping(mapping(body.get("additionalModelRequestFields")).get("thinking"))
        thinks = thinking.get("type") in ("enabled", "adaptive")
        prompt, characters, prefill = read_turns(turns)
        return Ask(
            model,
            prompt,
            characters,
            stream=verb == "converse-stream",
            prefill=prefill,
            max_tokens=positive(config.get("maxTokens"), "maxTokens"),
            calls=_read_calls(tools, turns),
            thinks=thinks,
            shows_thoughts=thinks,
            media=media_of(messages),
            json_schema=_read_format(body),
            stop=strings(config.get("stopSequences")),
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        signed = _CREDENTIAL.match(headers.get("authorization", ""))
        return signed.group(1) if signed else bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return [("x-amzn-requestid", f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}")]

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        blocks: list[dict[str, Any]] = []
        calls = 0
        for part in answer.parts:
            if part.kind == "thinking":
                thought = {"text": part.text, "signature": sign("anthropic", part.text)}
                blocks.append({"reasoningContent": {"reasoningText": thought}})
            elif part.kind == "text":
                blocks.append({"text": part.text})
            else:
                blocks.append({"toolUse": {**_use(answer, uid, calls, part), "input": part.arguments}})
                calls += 1
        body: dict[str, Any] = {
            "output": {"message": {"role": "assistant", "content": blocks}},
            "stopReason": answer.finished(_FINISH),
            "metrics": {"latencyMs": 7},
        }
        if answer.usage:
            body["usage"] = _usage(answer.usage)
        return encode(body)

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        # Calls come last.
        first_call = len(answer.parts) - len(answer.calls)

        def begin(number: int, part: Part) -> bytes:
            if part.kind != "call":
                return b""
            start = {"toolUse": _use(answer, uid, number - first_call, part)}
            return _event("contentBlockStart", encode({"contentBlockIndex": number, "start": start}))

        def end(number: int, part: Part) -> bytes:
            stop = _event("contentBlockStop", encode({"contentBlockIndex": number}))
            if part.kind != "thinking":
                return stop
            delta = {"reasoningContent": {"signature": sign("anthropic", part.text)}}
            return _event("contentBlockDelta", encode({"contentBlockIndex": number, "delta": delta})) + stop

        opening, events, closing = lay_out(
            answer, begin, _around, end, lambda payload: _event("contentBlockDelta", payload)
        )
        finish = terminator = b""
        if answer.finish:
            finish = closing + _event("messageStop", encode({"stopReason": answer.finished(_FINISH)}))
        if answer.usage:
            fields = {"usage": _usage(answer.usage), "metrics": {"latencyMs": 7}}
            terminator = _event("metadata", encode(fields))
        broken = bytearray(_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"?"}}'))
        broken[-1] ^= 0xFF
        opening = _event("messageStart", b'{"role":"assistant"}') + opening
        return Script(opening, events, finish, terminator, bytes(broken))

    def error(self, problem: Problem, uid: str) -> Reply:
        if problem.preset == "bad_gateway":
            reply = plain(problem)
            assert reply is not None
            return reply
        status, kind, message = _ERRORS[problem.preset]
        headers = {
            "x-amzn-requestid": f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}",
            "x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/",
        }
        headers |= retry_headers(problem, native=())
        text = problem.message or message.format(m=problem.model)
        return Reply(status, encode({"message": text}), "application/json", headers)

    def error_event(self, problem: Problem, uid: str) -> bytes:
        preset: Preset = "unavailable" if problem.preset == "bad_gateway" else problem.preset
        _, kind, message = _ERRORS[preset]
        name = kind[0].lower() + kind[1:]
        headers = header(":exception-type", name) + header(":content-type", "application/json")
        headers += header(":message-type", "exception")
        return frame(headers, encode({"message": message.format(m=problem.model)}))

    def models(self, names: tuple[str, ...]) -> bytes:
        rows = [{"modelId": name, "modelName": name, "responseStreamingSupported": True} for name in names]
        return encode({"modelSummaries": rows})
