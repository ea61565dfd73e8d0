"""The chat-completions wire that OpenAI began and most providers speak. Differences are a `Dialect`, not a branch.

Reference: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import ResponseFormat, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.chat_format import (
    cache_key,
    chat_messages,
    chat_tools,
    is_strict,
    json_headers,
    schema,
)
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_json_text,
    as_list,
    as_str,
    decode,
    encode,
    first_count,
    text_of,
)
from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.sse import Event
from services.router.providers.wires.stream import Decoder, needs_content
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
}


class OpenAIChatWire:
    """Chat completions in one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        return HttpRequest(
            "POST",
            self._url(prompt, endpoint),
            self._headers(endpoint, stream=stream),
            encode(self._body(prompt, endpoint, stream=stream)),
        )

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        return read_completion(data, self._dialect)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return OpenAIChatDecoder(self._dialect, may_be_empty=may_be_empty)

    def _url(self, prompt: Prompt, endpoint: Endpoint) -> str:
        return endpoint.base_url.rstrip("/") + self._dialect.path

    def _headers(self, endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
        headers = json_headers(stream=stream)
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        return headers

    def _body(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> dict[str, Any]:
        dialect = self._dialect
        body: dict[str, Any] = {"model": endpoint.model, "messages": chat_messages(prompt.messages)}
        body[endpoint.options.get("max_tokens_field") or dialect.max_tokens] = prompt.max_output_tokens
        if stream:
            body["stream"] = True
            if dialect.stream_options:
                body["stream_options"] = {"include_usage": True}
        if prompt.prefill:
            prefill = {"role": "assistant", "content": prompt.prefill}
            body["messages"].append({**prefill, **(dialect.prefill_fields or {})})
            body.update(dialect.prefill_body or {})
        if prompt.temperature is not None:
            body["temperature"] = prompt.temperature
        if prompt.top_p is not None:
            body["top_p"] = prompt.top_p
        if dialect.penalties and prompt.presence_penalty is not None:
            body["presence_penalty"] = prompt.presence_penalty
        if dialect.penalties and prompt.frequency_penalty is not None:
            body["frequency_penalty"] = prompt.frequency_penalty
        if prompt.seed is not None and dialect.seed:
            body[dialect.seed] = prompt.seed
        if prompt.stop_sequences:
            body["stop"] = list(prompt.stop_sequences)
        if prompt.response_format is not None:
            body["response_format"] = _response_format(prompt.response_format, dialect)
        if prompt.tools:
            body["tools"] = chat_tools(prompt.tools)
            if prompt.tool_choice:
                body["tool_choice"] = _tool_choice(prompt.tool_choice, dialect)
        if prompt.reasoning_effort is not None:
            effort = prompt.reasoning_effort.value
            if dialect.reasoning == "effort":
                body["reasoning_effort"] = effort
            elif dialect.reasoning == "object":
                body["reasoning"] = {"effort": effort}
        if dialect.cache_key and (key := cache_key(prompt)):
            body["prompt_cache_key"] = key
        body.update(dialect.extra or {})
        return body


class OpenAIChatDecoder(Decoder):
    """Decodes `chat.completion.chunk` events."""

    __slots__ = ("_dialect", "_refused", "reasonless")

    def __init__(self, dialect: Dialect, *, may_be_empty: bool = False) -> None:
        super().__init__(may_be_empty=may_be_empty)
        self._dialect = dialect
        self._refused = False
        self.reasonless = dialect.reasonless

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if event.data == b"[DONE]" or event.data.strip() == b"[DONE]":
            self.done = True
            return
        super()._event(event, out)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        groq = as_dict(data.get("x_groq"))
        if is_error(data) or groq.get("error") or name == "error":
            raise classify_inside(groq if groq.get("error") else data, self.usage)
        if not self.model:
            self.model = as_str(data.get("model"))
        usage = data.get("usage") or groq.get("usage")
        if usage:
            self.usage = read_usage(usage, self._dialect) or self.usage
        for choice in map(as_dict, as_list(data.get("choices"))):
            if choice.get("index"):
                # Only the first of several answers was asked for.
                continue
            delta, reason = as_dict(choice.get("delta")), choice.get("finish_reason")
            if not delta and not self.has_content and (reason or "delta" not in choice):
                # A server that does not stream sends one whole message. Perplexity repeats all of it with each delta.
                delta = as_dict(choice.get("message"))
            content = delta.get("content") if delta else choice.get("text")
            if content:
                self._add_text(content if type(content) is str else text_of(content), out)
            if delta.get("refusal"):
                self._refused = True
                self._add_text(as_str(delta["refusal"]), out)
            for call in as_list(delta.get("tool_calls")):
                self._call(as_dict(call), out)
            if legacy := as_dict(delta.get("function_call")):
                self._call({"index": 0, "function": legacy}, out)
            if reason == "error" or choice.get("error"):
                raise classify_inside(choice, self.usage)
            if reason:
                self._set_finish(reason_of(choice), FINISH_REASONS)
                if self._refused and self.finish is not None:
                    self.finish = FinishReason.CONTENT_FILTER

    def _call(self, call: Mapping[str, Any], out: list[StreamEvent]) -> None:
        function = as_dict(call.get("function"))
        self._add_tool_call(
            as_count(call.get("index")),
            as_str(call.get("id")),
            as_str(function.get("name")),
            as_json_text(function.get("arguments")),
            out,
        )


def reason_of(choice: Mapping[str, Any]) -> str:
    """Returns why a choice ended: a word, or an object with the word as its type (SGLang's native answers)."""
    reason = choice.get("finish_reason")
    return as_str(as_dict(reason).get("type")) if type(reason) is dict else as_str(reason)


def is_error(data: Mapping[str, Any]) -> bool:
    """Returns True if a 200's JSON is an error after all."""
    return (
        bool(data.get("error"))
        or data.get("object") == "error"
        or ("detail" in data and "choices" not in data)
    )


def read_completion(data: Mapping[str, Any], dialect: Dialect) -> Completion:
    """Reads a whole chat completion. Raises ProviderFailure."""
    if is_error(data):
        raise classify_inside(data)
    usage = read_usage(data.get("usage"), dialect)
    choices = as_list(data.get("choices"))
    choice = as_dict(choices[0]) if choices else {}
    if not choice:
        raise malformed("the answer holds no choice", usage)
    message = as_dict(choice.get("message"))
    text = text_of(message.get("content")) or as_str(choice.get("text"))
    calls = _tool_calls(message)
    reason = reason_of(choice)
    if reason == "error" or choice.get("error"):
        raise classify_inside(choice, usage)
    finish = read_finish(reason, FINISH_REASONS, usage)
    if not reason and calls:
        finish = FinishReason.TOOL_CALLS
    refusal = as_str(message.get("refusal"))
    if refusal and not text:
        text, finish = refusal, FinishReason.CONTENT_FILTER
    if not text and not calls and needs_content(finish):
        raise malformed("the answer is empty", usage)
    return Completion(text, finish, usage, calls, as_str(data.get("model")))


def read_usage(value: Any, dialect: Dialect) -> Usage | None:
    """Reads usage; None where no count is given."""
    usage = as_dict(value)
    prompt, output = as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens"))
    if prompt is None and output is None:
        return None
    prompt, output = prompt or 0, output or 0
    inputs = as_dict(usage.get("prompt_tokens_details"))
    outputs = as_dict(usage.get("completion_tokens_details"))
    cached = first_count(
        inputs.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens")
    )
    written = first_count(inputs.get("cache_write_tokens"))
    reasoning = first_count(outputs.get("reasoning_tokens"), usage.get("reasoning_tokens"))
    if dialect.reasoning_apart:
        output += reasoning
    for name in dialect.output_apart:
        output += first_count(usage.get(name))
    if cached > prompt:
        # Azure AI's Grok counts cached tokens beside the prompt's.
        prompt += cached
    return Usage(prompt, output, cached, written, reasoning)


def _tool_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    if not message.get("tool_calls") and not message.get("function_call"):
        return ()
    calls = [
        ToolCall(
            as_str(call.get("id")), as_str(function.get("name")), as_json_text(function.get("arguments"))
        )
        for call in map(as_dict, as_list(message.get("tool_calls")))
        if (function := as_dict(call.get("function")))
    ]
    legacy = as_dict(message.get("function_call"))
    if not calls and as_str(legacy.get("name")):
        calls.append(ToolCall("", as_str(legacy["name"]), as_json_text(legacy.get("arguments"))))
    return tuple(calls)


def _response_format(wanted: ResponseFormat, dialect: Dialect) -> dict[str, Any]:
    if not wanted.schema_json or not dialect.json_schema:
        return {"type": "json_object"}
    wanted_schema = schema(wanted.schema_json)
    named = {"name": wanted.schema_name, "schema": wanted_schema, "strict": is_strict(wanted_schema)}
    return {"type": "json_schema", "json_schema": named}


def _tool_choice(choice: str, dialect: Dialect) -> Any:
    if choice in ("auto", "none"):
        return choice
    if choice == "required" or not dialect.named_tool:
        return dialect.required
    return {"type": "function", "function": {"name": choice}}
