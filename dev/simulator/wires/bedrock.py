"""Amazon Bedrock Converse. Source: docs.aws.amazon.com/bedrock/latest/APIReference (Converse, ConverseStream); its
frames (vnd.amazon.eventstream): docs.aws.amazon.com/transcribe/latest/dg/event-stream.html.

Signatures are not verified; the access key id is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, ClassVar
from zlib import crc32

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
    strings,
    text_of,
)
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


def _header(name: str, value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(raw)) + raw


def frame(headers: bytes, payload: bytes) -> bytes:
    """One event-stream message: prelude, its CRC, headers, payload, the CRC of all."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def event_headers(name: str) -> bytes:
    """The headers of an event of that type."""
    kind = _header(":event-type", name) + _header(":content-type", "application/json")
    return kind + _header(":message-type", "event")


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
        choice = mapping(tools.get("toolChoice"))
        name = "" if "any" in choice else mapping(choice.get("tool")).get("name")
        specs = [mapping(mapping(tool).get("toolSpec")) for tool in tools.get("tools") or ()]
        offered = [
            Tool(str(s.get("name")), mapping(mapping(s.get("inputSchema")).get("json"))) for s in specs
        ]
        prompt, characters, prefill = read_turns(turns)
        return Ask(
            model,
            prompt,
            characters,
            stream=verb == "converse-stream",
            prefill=prefill,
            max_tokens=positive(config.get("maxTokens"), "maxTokens"),
            tool=choose_tool(offered, name),
            stop=strings(config.get("stopSequences")),
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        signed = _CREDENTIAL.match(headers.get("authorization", ""))
        return signed.group(1) if signed else bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return [("x-amzn-requestid", f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}")]

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        block: dict[str, Any] = {"text": answer.text}
        if answer.tool:
            use = {"toolUseId": f"tooluse_{uid}", "name": answer.tool, "input": arguments_of(answer)}
            block = {"toolUse": use}
        body: dict[str, Any] = {
            "output": {"message": {"role": "assistant", "content": [block]}},
            "stopReason": _FINISH.get(answer.finish or ""),
            "metrics": {"latencyMs": 7},
        }
        if answer.usage:
            body["usage"] = _usage(answer.usage)
        return encode(body)

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        opening = _event("messageStart", b'{"role":"assistant"}')
        prefix, suffix = b'{"contentBlockIndex":0,"delta":{"text":', b"}}"
        if answer.tool:
            start = {"toolUse": {"toolUseId": f"tooluse_{uid}", "name": answer.tool}}
            opening += _event("contentBlockStart", encode({"contentBlockIndex": 0, "start": start}))
            prefix, suffix = b'{"contentBlockIndex":0,"delta":{"toolUse":{"input":', b"}}}"
        finish = terminator = b""
        if answer.finish:
            finish = _event("contentBlockStop", b'{"contentBlockIndex":0}')
            finish += _event("messageStop", encode({"stopReason": _FINISH[answer.finish]}))
        if answer.usage:
            fields = {"usage": _usage(answer.usage), "metrics": {"latencyMs": 7}}
            terminator = _event("metadata", encode(fields))
        broken = bytearray(_event("contentBlockDelta", prefix + b'"?"' + suffix))
        broken[-1] ^= 0xFF
        return Script(
            opening,
            [_event("contentBlockDelta", prefix + token + suffix) for token in answer.quoted],
            finish,
            terminator,
            bytes(broken),
        )

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
        headers = _header(":exception-type", name) + _header(":content-type", "application/json")
        headers += _header(":message-type", "exception")
        return frame(headers, encode({"message": message.format(m=problem.model)}))

    def models(self, names: tuple[str, ...]) -> bytes:
        rows = [{"modelId": name, "modelName": name, "responseStreamingSupported": True} for name in names]
        return encode({"modelSummaries": rows})
