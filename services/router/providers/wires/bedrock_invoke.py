"""Amazon Bedrock's InvokeModel: the model vendor's own JSON inside Bedrock's addresses and framing.

Use Converse (`bedrock`) where it can; this one is for models and fields that Converse does not carry. Requests are
made for Anthropic models; answers of every vendor's shape are understood.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from libs.clock import Clock
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.providers.wires.anthropic import AnthropicDecoder, read_message
from services.router.providers.wires.anthropic_body import anthropic_body, anthropic_ignored
from services.router.providers.wires.bedrock import ConverseDecoder, bedrock_request, read_converse
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.eventstream import EXCEPTION, EventStreamParser
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_list,
    as_number,
    as_str,
    decode,
)
from services.router.providers.wires.openai_chat_answer import read_completion
from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.sse import Event
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import ANTHROPIC
from services.router.providers.wires.whole_answer import complete, decode_answer
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent
from services.router.request.usage import told_usage

_FINISH_REASONS = {
    "finish": FinishReason.STOP,
    "finished": FinishReason.STOP,
    "complete": FinishReason.STOP,
    "stop": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "stop_criteria_met": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "error_toxic": FinishReason.CONTENT_FILTER,
}
_METRICS = "amazon-bedrock-invocationMetrics"
_GUARDRAIL = "amazon-bedrock-guardrailAction"
_DIALECT = Dialect()
#: Converse's events, in the order in which one chunk may hold several.
_CONVERSE = (
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "contentBlockStop",
    "messageStop",
    "metadata",
)


class BedrockInvokeWire:
    """InvokeModel and InvokeModelWithResponseStream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request. Raises ProviderFailure(INVALID_REQUEST) for models of other vendors."""
        if "anthropic." not in endpoint.model:
            raise ProviderFailure(ErrorClass.INVALID_REQUEST, "only Anthropic models; use kind bedrock")
        valid = make_valid(prompt, ANTHROPIC, endpoint.max_output_tokens, prefill=endpoint.prefill)
        body = anthropic_body(valid.prompt, endpoint.model, endpoint.options)
        body["anthropic_version"] = "bedrock-2023-05-31"
        operation = "invoke-with-response-stream" if stream else "invoke"
        request = bedrock_request(
            endpoint, operation, body, valid.inverse, stream=stream, now=self._clock.now()
        )
        return replace(request, ignored=anthropic_ignored(prompt, body) if valid.has_options else ())

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        data = decode_answer(body)
        if data.get("type") in ("message", "error"):
            return read_message(data)
        if "output" in data:
            return read_converse(data)
        if "choices" in data:
            return read_completion(data, _DIALECT)
        text, reason = _text_and_reason(data)
        usage = _usage_of(
            *(headers.get(f"x-amzn-bedrock-{side}-token-count") for side in ("input", "output"))
        )
        usage = usage or _usage_inside(data)
        if text is None:
            raise classify_inside(data) if "message" in data else malformed("no text in the answer", usage)
        finish = read_finish(_finish_word(data, reason), _FINISH_REASONS, usage)
        return complete(text, finish, usage)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return BedrockInvokeDecoder(EventStreamParser(), may_be_empty=may_be_empty)


class BedrockInvokeDecoder(AnthropicDecoder, ConverseDecoder):
    """Decodes chunks: base64 of one event of the vendor's own stream."""

    __slots__ = ()

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if event.name.startswith(EXCEPTION):
            error = {"type": event.name.removeprefix(EXCEPTION)}
            with suppress(Undecodable):
                error |= as_dict(decode(event.data))
            raise classify_inside(error, usage=self.usage)
        super()._event(event, out)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        wrapped = as_dict(data).get("bytes")
        if wrapped is not None:
            try:
                data = self._decode(b64decode(as_str(wrapped), validate=True))
            except (Base64Error, Undecodable, ValueError):
                raise malformed("a chunk of the stream is not base64 of JSON", self.usage) from None
        data = as_dict(data)
        metrics = as_dict(data.get(_METRICS))
        if "type" in data:
            super()._read(name, data, out)
        elif any(kind in data for kind in _CONVERSE[:-1]):
            for kind in _CONVERSE:
                if kind in data:
                    self._converse(kind, as_dict(data[kind]), out)
        elif "metadata" in data:
            self._converse("metadata", as_dict(data["metadata"]), out)
        else:
            text, reason = _text_and_reason(data)
            self._add_text(text or "", out)
            if reason or data.get(_GUARDRAIL) == "INTERVENED" or data.get("is_finished"):
                self._set_finish(_finish_word(data, reason), _FINISH_REASONS)
                self._tell(_usage_inside(data))
        if metrics and (self.usage is None or self.usage.accuracy is not UsageAccuracy.EXACT):
            self._tell(_usage_of(metrics.get("inputTokenCount"), metrics.get("outputTokenCount")))


def _text_and_reason(data: Mapping[str, Any]) -> tuple[str | None, str]:
    """Returns text (None: there is none) and finish reason of Titan, Llama, Cohere, Mistral and old Claude answers
    and chunks."""
    for name in ("results", "generations", "outputs"):
        items = as_list(data.get(name))
        if items:
            return _text_and_reason(as_dict(items[0]))
    reason = next(
        (
            as_str(data[name])
            for name in ("completionReason", "stop_reason", "finish_reason")
            if data.get(name)
        ),
        "",
    )
    for name in ("outputText", "generation", "completion", "text"):
        if isinstance(data.get(name), str):
            return data[name], reason
    return None, reason


def _finish_word(data: Mapping[str, Any], reason: str) -> str:
    return "content_filtered" if data.get(_GUARDRAIL) == "INTERVENED" else reason.lower()


def _usage_inside(data: Mapping[str, Any]) -> Usage | None:
    """Returns the usage that Titan and Llama count in the answer itself."""
    written = as_dict(next(iter(as_list(data.get("results"))), None)).get("tokenCount")
    return _usage_of(
        data.get("inputTextTokenCount", data.get("prompt_token_count")),
        data.get("totalOutputTextTokenCount", data.get("generation_token_count", written)),
    )


def _usage_of(inputs: Any, output: Any) -> Usage | None:
    inputs, output = (as_count(as_number(v) if isinstance(v, str) else v) for v in (inputs, output))
    return told_usage(inputs, output)
