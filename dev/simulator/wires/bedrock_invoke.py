"""Amazon Bedrock's InvokeModel with Anthropic's models: their JSON, in Bedrock's addresses, frames and errors.

Sources: docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html and
docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, ClassVar

from dev.simulator.wires.answer import Answer, Script, Usage
from dev.simulator.wires.anthropic import Anthropic
from dev.simulator.wires.base import Ask, BadRequest, encode
from dev.simulator.wires.bedrock import Bedrock
from dev.simulator.wires.frames import event_headers, frame

_VERSION = "bedrock-2023-05-31"
_CHUNK = event_headers("chunk")
_MESSAGES = Anthropic()


def _chunk(data: bytes) -> bytes:
    return frame(_CHUNK, b'{"bytes":"%b","p":"abcdefgh"}' % b64encode(data))


def _chunks(events: bytes) -> bytes:
    """The vendor's server-sent events, each as a frame."""
    return b"".join(
        _chunk(line.removeprefix(b"data: ")) for line in events.split(b"\n") if line.startswith(b"data: ")
    )


def _stop(usage: Usage | None) -> bytes:
    fields: dict[str, Any] = {"type": "message_stop"}
    if usage:
        fields["amazon-bedrock-invocationMetrics"] = {
            "inputTokenCount": usage.input - usage.cache_read - usage.cache_write,
            "outputTokenCount": usage.output + usage.reasoning,
            "invocationLatency": 7,
            "firstByteLatency": 3,
        }
    return _chunk(encode(fields))


class BedrockInvoke(Bedrock):
    """POST …/model/<id>/invoke and …/invoke-with-response-stream."""

    name: ClassVar[str] = "bedrock_invoke"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model, _, verb = model.rpartition("/")
        if body.get("anthropic_version") != _VERSION:
            raise BadRequest("anthropic_version: Field required")
        if "model" in body or "stream" in body:
            raise BadRequest("Malformed input request: extraneous key is not permitted, please try again.")
        fields = {**body, "model": model, "stream": verb != "invoke"}
        return _MESSAGES.parse(fields, model, query, {"anthropic-version": _VERSION})

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        return _MESSAGES.unary(ask, answer, uid)

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        plain = _MESSAGES.script(ask, answer, uid)
        broken = bytearray(_chunk(b"{}"))
        broken[-1] ^= 0xFF
        return Script(
            _chunks(plain.opening),
            [_chunks(piece) for piece in plain.pieces],
            _chunks(plain.finish),
            _stop(answer.usage),
            bytes(broken),
        )
