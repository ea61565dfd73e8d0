"""Ollama's own chat API: lines of JSON instead of events. Its OpenAI-compatible one is kind `ollama`.

`base_url` is the server (`http://127.0.0.1:11434`). https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Reasoning
from libs.types import FinishReason, Usage
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import as_count, as_dict, as_str, encode
from services.router.providers.wires.ollama_body import ollama_body
from services.router.providers.wires.request_parts import bearer_headers, left_out
from services.router.providers.wires.sse import JsonLinesParser
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import OLLAMA
from services.router.providers.wires.whole_answer import (
    WholeThoughts,
    complete,
    decode_answer,
    finish_with_calls,
    read_calls,
)
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent
from services.router.request.usage import told_usage

_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class OllamaWire:
    """Ollama's /api/chat."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        valid = make_valid(prompt, OLLAMA, endpoint.max_output_tokens, prefill=endpoint.prefill)
        body = ollama_body(valid.prompt, endpoint.model, stream=stream)
        headers = bearer_headers(endpoint, stream=False)
        url = endpoint.base_url.rstrip("/") + "/api/chat"
        ignored = (
            left_out(prompt, reasoning_summary=False, tool_choice=prompt.tool_choice in ("auto", "none"))
            if valid.has_options
            else ()
        )
        return HttpRequest("POST", url, headers, encode(body), valid.inverse, ignored)

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        data = decode_answer(body)
        usage = _usage(data)
        if data.get("error"):
            raise classify_inside(data, usage)
        if data.get("done") is not True:
            raise malformed("the answer is not complete", usage)
        message = as_dict(data.get("message"))
        text = as_str(message.get("content")) or as_str(data.get("response"))
        calls = read_calls(message)
        finish = finish_with_calls(read_finish(_reason(data), _FINISH_REASONS, usage), calls=bool(calls))
        thoughts = WholeThoughts()
        thoughts.add(Reasoning(as_str(message.get("thinking"))))
        return complete(text, finish, usage, calls, as_str(data.get("model")), reasoning=thoughts.whole())

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return OllamaDecoder(may_be_empty=may_be_empty)


class OllamaDecoder(Decoder):
    """Decodes lines; the terminator is the line with `done`."""

    __slots__ = ()

    def __init__(self, *, may_be_empty: bool = False) -> None:
        super().__init__(JsonLinesParser(), may_be_empty=may_be_empty)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        if data.get("error"):
            self._tell(_usage(data))
            raise classify_inside(data, usage=self.usage)
        self.model = self.model or as_str(data.get("model"))
        message = as_dict(data.get("message"))
        self._add_reasoning(0, Reasoning(as_str(message.get("thinking"))), out)
        self._add_text(as_str(message.get("content")) or as_str(data.get("response")), out)
        for call in read_calls(message):
            self._add_whole_call(call.id, call.name, call.arguments_json, out)
        if data.get("done") is True:
            self._tell(_usage(data))
            self._set_finish(_reason(data), _FINISH_REASONS)
            if self.finish is not None:
                self.finish = finish_with_calls(self.finish, calls=self._tools.count > 0)
            self.done = True


def _reason(data: Mapping[str, Any]) -> str:
    # Old servers give no reason, only that the answer is done.
    return as_str(data.get("done_reason")) or "stop"


def _usage(data: Mapping[str, Any]) -> Usage | None:
    return told_usage(as_count(data.get("prompt_eval_count")), as_count(data.get("eval_count")))
