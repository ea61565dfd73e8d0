"""Ollama's own chat API: lines of JSON instead of events. Its OpenAI-compatible one is kind `ollama`.

`base_url` is the server (`http://127.0.0.1:11434`). https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Message, ReasoningEffort, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.anthropic import arguments
from services.router.providers.wires.chat_format import chat_tools, json_headers, schema
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_json_text,
    as_list,
    as_str,
    decode,
    drop_unset,
    encode,
)
from services.router.providers.wires.sse import JsonLinesParser
from services.router.providers.wires.stream import Decoder, needs_content
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent

_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class OllamaWire:
    """Ollama's /api/chat."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        options: dict[str, Any] = drop_unset(
            num_predict=prompt.max_output_tokens,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            seed=prompt.seed,
            presence_penalty=prompt.presence_penalty,
            frequency_penalty=prompt.frequency_penalty,
        )
        if prompt.stop_sequences:
            options["stop"] = list(prompt.stop_sequences)
        messages = [_message(message) for message in prompt.messages]
        if prompt.prefill:
            messages.append({"role": "assistant", "content": prompt.prefill})
        body: dict[str, Any] = {
            "model": endpoint.model,
            "messages": messages,
            "stream": stream,
            "options": options,
        }
        wanted = prompt.response_format
        if wanted is not None:
            body["format"] = schema(wanted.schema_json) if wanted.schema_json else "json"
        if prompt.tools:
            body["tools"] = chat_tools(prompt.tools)
        if prompt.reasoning_effort is not None:
            body["think"] = prompt.reasoning_effort is not ReasoningEffort.NONE
        headers = json_headers(stream=False)
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        return HttpRequest("POST", endpoint.base_url.rstrip("/") + "/api/chat", headers, encode(body))

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        if data.get("error"):
            raise classify_inside(data)
        usage = _usage(data)
        if data.get("done") is not True:
            raise malformed("the answer is not complete", usage)
        message = as_dict(data.get("message"))
        text = as_str(message.get("content")) or as_str(data.get("response"))
        calls = tuple(_calls(message))
        finish = _with_calls(read_finish(_reason(data), _FINISH_REASONS, usage), calls=bool(calls))
        if not text and not calls and needs_content(finish):
            raise malformed("the answer is empty", usage)
        return Completion(text, finish, usage, calls, as_str(data.get("model")))

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
            raise classify_inside(data, usage=self.usage)
        self.model = self.model or as_str(data.get("model"))
        message = as_dict(data.get("message"))
        self._add_text(as_str(message.get("content")) or as_str(data.get("response")), out)
        for call in _calls(message, self._tools.count):
            self._add_tool_call(None, call.id, call.name, call.arguments_json, out)
        if data.get("done") is True:
            self.usage = _usage(data)
            self._set_finish(_reason(data), _FINISH_REASONS)
            if self.finish is not None:
                self.finish = _with_calls(self.finish, calls=self._tools.count > 0)
            self.done = True


def _message(message: Message) -> dict[str, Any]:
    item: dict[str, Any] = {"role": message.role.value, "content": message.text}
    if message.tool_calls:
        item["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments(call)}} for call in message.tool_calls
        ]
    if message.tool_call_id:
        item["tool_call_id"] = message.tool_call_id
    return item


def _calls(message: Mapping[str, Any], first: int = 0) -> list[ToolCall]:
    return [
        ToolCall(
            as_str(call.get("id")) or f"call_{first + index}",
            as_str(function.get("name")),
            as_json_text(function.get("arguments")),
        )
        for index, call in enumerate(map(as_dict, as_list(message.get("tool_calls"))))
        if (function := as_dict(call.get("function")))
    ]


def _reason(data: Mapping[str, Any]) -> str:
    # Old servers give no reason, only that the answer is done.
    return as_str(data.get("done_reason")) or "stop"


def _with_calls(finish: FinishReason, *, calls: bool) -> FinishReason:
    # There is no reason of its own for tool calls.
    return FinishReason.TOOL_CALLS if calls and finish is FinishReason.STOP else finish


def _usage(data: Mapping[str, Any]) -> Usage | None:
    prompt, output = as_count(data.get("prompt_eval_count")), as_count(data.get("eval_count"))
    return None if prompt is None and output is None else Usage(prompt or 0, output or 0)
