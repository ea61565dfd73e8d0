"""OpenAI's responses API, also spoken by Azure, xAI, OpenRouter, DeepSeek and Bedrock.

It has no stop sequences, seed, penalties or prefill: they are left out, and the catalog must not promise them.
https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libs.types import FinishReason, Usage
from services.router.adapters.providers.azure_openai import azure_headers, azure_resource
from services.router.adapters.providers.chat_format import (
    cache_key,
    is_strict,
    json_headers,
    schema,
    tool_fields,
)
from services.router.adapters.providers.errors import classify, classify_inside, malformed
from services.router.adapters.providers.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_json_text,
    as_list,
    as_str,
    decode,
    encode,
    given,
)
from services.router.adapters.providers.sse import Event
from services.router.adapters.providers.stream import Decoder, is_hollow
from services.router.adapters.providers.wire import Endpoint, HttpRequest
from services.router.domain.generation import (
    Completion,
    Message,
    Prompt,
    ProviderFailure,
    Role,
    StreamEvent,
    ToolCall,
)


class OpenAIResponsesWire:
    """The responses API."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        body: dict[str, Any] = {
            "model": endpoint.model,
            "input": _input(prompt.messages),
            "max_output_tokens": prompt.max_output_tokens,
            # Nothing is left with the provider.
            "store": False,
        }
        if stream:
            body["stream"] = True
        body |= given(temperature=prompt.temperature, top_p=prompt.top_p)
        if prompt.reasoning_effort is not None:
            body["reasoning"] = {"effort": prompt.reasoning_effort.value}
        wanted = prompt.response_format
        if wanted is not None and wanted.schema_json:
            shape = schema(wanted.schema_json)
            named = {
                "type": "json_schema",
                "name": wanted.schema_name,
                "schema": shape,
                "strict": is_strict(shape),
            }
            body["text"] = {"format": named}
        elif wanted is not None:
            body["text"] = {"format": {"type": "json_object"}}
        if prompt.tools:
            body["tools"] = [
                {"type": "function", "strict": False, **tool_fields(tool)} for tool in prompt.tools
            ]
            choice = prompt.tool_choice
            if choice:
                plain = choice in ("auto", "none", "required")
                body["tool_choice"] = choice if plain else {"type": "function", "name": choice}
        if key := cache_key(prompt):
            body["prompt_cache_key"] = key
        return HttpRequest("POST", self._url(endpoint), self._headers(endpoint, stream=stream), encode(body))

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        if data.get("error") and data.get("status") != "completed":
            raise classify_inside(data, usage=_usage(data))
        usage, output = _usage(data), as_list(data.get("output"))
        text, refusal, calls = _read_output(output)
        finish = _finish(data, calls=bool(calls), refused=bool(refusal and not text))
        text = text or refusal
        if not text and not calls and is_hollow(finish):
            raise malformed(
                "the answer is empty" if "output" in data else "the answer holds no output", usage
            )
        return Completion(text, finish, usage, calls, as_str(data.get("model")))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return ResponsesDecoder(may_be_empty=may_be_empty)

    def _url(self, endpoint: Endpoint) -> str:
        return endpoint.base_url.rstrip("/") + "/responses"

    def _headers(self, endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
        headers = json_headers(stream=stream)
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        return headers


class AzureResponsesWire(OpenAIResponsesWire):
    """The same on Azure; see azure_openai for addresses and keys."""

    def _url(self, endpoint: Endpoint) -> str:
        return f"{azure_resource(endpoint)}/openai/v1/responses"

    def _headers(self, endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
        return azure_headers(endpoint, stream=stream)


class ResponsesDecoder(Decoder):
    """Decodes response.* events. The terminator is response.completed or response.incomplete."""

    __slots__ = ("_argued", "_refused")

    def __init__(self, *, may_be_empty: bool = False) -> None:
        super().__init__(may_be_empty=may_be_empty)
        self._refused = False
        #: Output items whose arguments came as deltas.
        self._argued: set[int] = set()

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if event.data.strip() == b"[DONE]":
            return
        super()._event(event, out)

    def _take(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        kind = as_str(data.get("type")) or name
        if kind == "response.output_text.delta":
            self._text(as_str(data.get("delta")), out)
        elif kind == "response.function_call_arguments.delta":
            index = as_count(data.get("output_index")) or 0
            self._argued.add(index)
            self._tool(index, "", "", as_str(data.get("delta")), out)
        elif kind == "response.output_item.added":
            self._call(data, out, arguments=False)
        elif kind == "response.output_item.done":
            self._call(data, out, arguments=True)
        elif kind == "response.refusal.delta":
            self._refused = True
            self._text(as_str(data.get("delta")), out)
        elif kind in ("response.completed", "response.incomplete", "response.done"):
            response = as_dict(data.get("response"))
            self.model = as_str(response.get("model")) or self.model
            self.usage = _usage(response) or self.usage
            self.finish = _finish(response, calls=self._tools.count > 0, refused=self._refused)
            self.done = True
        elif kind == "response.failed":
            response = as_dict(data.get("response"))
            raise classify_inside(response, usage=_usage(response) or self.usage)
        elif kind == "error" or (data.get("error") and not kind.startswith("response.")):
            raise classify_inside(data, usage=self.usage)

    def _call(self, data: Mapping[str, Any], out: list[StreamEvent], *, arguments: bool) -> None:
        item = as_dict(data.get("item"))
        if item.get("type") != "function_call":
            return
        index = as_count(data.get("output_index")) or 0
        # Some servers (xAI) send the arguments whole, with the item and no deltas.
        text = as_json_text(item.get("arguments")) if arguments and index not in self._argued else ""
        self._tool(
            index, as_str(item.get("call_id")) or as_str(item.get("id")), as_str(item.get("name")), text, out
        )


def _input(messages: Sequence[Message]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.TOOL:
            items.append(
                {"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}
            )
            continue
        if message.text:
            items.append({"role": message.role.value, "content": message.text})
        items.extend(
            {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments_json or "{}",
            }
            for call in message.tool_calls
        )
    return items


def _read_output(output: Sequence[Any]) -> tuple[str, str, tuple[ToolCall, ...]]:
    text: list[str] = []
    refusal: list[str] = []
    calls: list[ToolCall] = []
    for item in map(as_dict, output):
        kind = item.get("type")
        if kind == "message":
            for part in map(as_dict, as_list(item.get("content"))):
                text.append(as_str(part.get("text")) if part.get("type") == "output_text" else "")
                refusal.append(as_str(part.get("refusal")))
        elif kind == "function_call":
            call_id = as_str(item.get("call_id")) or as_str(item.get("id"))
            calls.append(ToolCall(call_id, as_str(item.get("name")), as_json_text(item.get("arguments"))))
    return "".join(text), "".join(refusal), tuple(calls)


def _finish(response: Mapping[str, Any], *, calls: bool, refused: bool) -> FinishReason:
    if refused:
        return FinishReason.CONTENT_FILTER
    if response.get("status") == "incomplete":
        reason = as_dict(response.get("incomplete_details")).get("reason")
        if reason in ("max_output_tokens", "max_tokens"):
            return FinishReason.LENGTH
        return FinishReason.CONTENT_FILTER if reason == "content_filter" else FinishReason.OTHER
    if response.get("status") not in ("completed", None):
        return FinishReason.OTHER
    # The wire has no finish reason for tool calls.
    return FinishReason.TOOL_CALLS if calls else FinishReason.STOP


def _usage(response: Mapping[str, Any]) -> Usage | None:
    usage = as_dict(response.get("usage"))
    inputs, output = as_count(usage.get("input_tokens")), as_count(usage.get("output_tokens"))
    if inputs is None and output is None:
        return None
    details = as_dict(usage.get("input_tokens_details"))
    return Usage(
        inputs or 0,
        output or 0,
        as_count(details.get("cached_tokens")) or 0,
        as_count(details.get("cache_write_tokens")) or 0,
        as_count(as_dict(usage.get("output_tokens_details")).get("reasoning_tokens")) or 0,
    )
