"""Cohere's chat, version 2; answers of version 1 are understood too. https://docs.cohere.com/reference/chat"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Citation, Reasoning, ToolCall
from libs.types import ErrorClass, FinishReason, Usage
from services.router.providers.wires.citations import read_cohere_citation
from services.router.providers.wires.cohere_body import PLAN, cohere_body
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import (
    as_count,
    as_dict,
    as_json_text,
    as_list,
    as_str,
    encode,
    text_of,
)
from services.router.providers.wires.request_parts import bearer_headers, left_out
from services.router.providers.wires.sse import Event
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import COHERE
from services.router.providers.wires.whole_answer import WholeThoughts, complete, decode_answer, read_calls
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent
from services.router.request.usage import told_usage

_FINISH_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
}
#: Cohere's 498 is a refusal of the content; elsewhere it is a full queue.
_STATUSES = {498: ErrorClass.CONTENT_REFUSED}


class CohereWire:
    """Cohere v2 chat."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        valid = make_valid(prompt, COHERE, endpoint.max_output_tokens)
        body = cohere_body(valid.prompt, endpoint.model, stream=stream)
        base = endpoint.base_url.rstrip("/").removesuffix("/v2")
        headers = bearer_headers(endpoint, stream=stream)
        ignored = (
            left_out(
                prompt,
                presence_penalty=valid.prompt.presence_penalty,
                frequency_penalty=valid.prompt.frequency_penalty,
                # Models show what they think wherever they think.
                reasoning_summary=prompt.reasoning_effort,
            )
            if valid.has_options
            else ()
        )
        return HttpRequest("POST", f"{base}/v2/chat", headers, encode(body), valid.inverse, ignored)

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        return _read_answer(decode_answer(body))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body, _STATUSES)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return CohereDecoder(may_be_empty=may_be_empty)


class CohereDecoder(Decoder):
    """Decodes v2 events (terminator message-end) and v1 lines (terminator stream-end)."""

    __slots__ = ()

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if event.data.strip() == b"[DONE]":
            return
        super()._event(event, out)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        kind = as_str(data.get("type")) or as_str(data.get("event_type")) or name
        delta = as_dict(data.get("delta"))
        message = as_dict(delta.get("message"))
        if kind in ("content-delta", "content-start"):
            content = as_dict(message.get("content"))
            thought = Reasoning(as_str(content.get("thinking")))
            self._add_reasoning(as_count(data.get("index")), thought, out)
            self._add_text(as_str(content.get("text")), out)
        elif kind == "tool-plan-delta":
            self._add_reasoning(PLAN, Reasoning(as_str(message.get("tool_plan")), id=PLAN), out)
        elif kind == "citation-start":
            out.extend(read_cohere_citation(message.get("citations")))
        elif kind in ("tool-call-start", "tool-call-delta"):
            call = as_dict(message.get("tool_calls"))
            function = as_dict(call.get("function"))
            self._add_tool_call(
                as_count(data.get("index")),
                as_str(call.get("id")),
                as_str(function.get("name")),
                as_json_text(function.get("arguments")),
                out,
            )
        elif kind == "message-end":
            self._tell(_usage(as_dict(delta.get("usage"))))
            self._finish(as_str(delta.get("finish_reason")), delta)
        elif kind == "text-generation":
            self._add_text(as_str(data.get("text")), out)
        elif kind == "stream-end":
            response = as_dict(data.get("response"))
            self._tell(_usage(as_dict(response.get("meta"))))
            for called in _calls_v1(response):
                self._add_whole_call(called.id, called.name, called.arguments_json, out)
            self._finish(as_str(data.get("finish_reason")) or as_str(response.get("finish_reason")), data)
        elif kind == "error" or (not kind and ("message" in data or data.get("error"))):
            raise classify_inside(data, self.usage)

    def _finish(self, reason: str, data: Mapping[str, Any]) -> None:
        self.done = True
        if reason:
            self.finish = _read_finish(reason, data, self.usage)


def _read_answer(data: Mapping[str, Any]) -> Completion:
    message, reason = data.get("message"), as_str(data.get("finish_reason"))
    usage = _usage(as_dict(data.get("usage")) or as_dict(data.get("meta")))
    finish = _read_finish(reason, data, usage)
    thoughts = WholeThoughts()
    citations: tuple[Citation, ...] = ()
    if type(message) is dict:
        text, calls = text_of(message.get("content")), read_calls(message)
        for block in map(as_dict, as_list(message.get("content"))):
            thoughts.add(Reasoning(as_str(block.get("thinking"))))
        thoughts.add(Reasoning(as_str(message.get("tool_plan")), id=PLAN))
        found = as_list(message.get("citations"))
        citations = tuple(citation for item in found for citation in read_cohere_citation(item))
    elif "text" in data:
        text, calls = as_str(data["text"]), _calls_v1(data)
    else:
        # An error has a text where an answer has an object.
        raise (classify_inside(data) if message or data.get("error") else malformed("no message", usage))
    return complete(text, finish, usage, calls, reasoning=thoughts.whole(), citations=citations)


def _calls_v1(data: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall("", as_str(call.get("name")), as_json_text(call.get("parameters")))
        for call in map(as_dict, as_list(data.get("tool_calls")))
    )


def _read_finish(reason: str, data: Mapping[str, Any], usage: Usage | None) -> FinishReason:
    """Returns the reason why an answer ended. Raises ProviderFailure where it was broken off."""
    explanation = as_str(data.get("error"))
    if reason == "ERROR_LIMIT":
        raise classify_inside({"type": "context_length_exceeded", "message": explanation or reason}, usage)
    if reason == "ERROR" and explanation:
        raise classify_inside({"type": "server_error", "message": explanation}, usage)
    return read_finish(reason, _FINISH_REASONS, usage, explanation)


def _usage(value: Mapping[str, Any]) -> Usage | None:
    # The billed tokens, not those that the model read: Cohere adds hundreds of tokens of its own to every prompt and
    # bills only the caller's, and cached ones are counted among the former.
    for name in ("billed_units", "tokens"):
        counts = as_dict(value.get(name))
        inputs, output = as_count(counts.get("input_tokens")), as_count(counts.get("output_tokens"))
        if inputs is not None or output is not None:
            return told_usage(inputs, output)
    return None
