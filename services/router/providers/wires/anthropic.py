"""Anthropic's messages API. https://docs.anthropic.com/en/api/messages

Options: `anthropic_version` (default 2023-06-01), `thinking` = "adaptive" for models that take an effort instead of
a budget, `prompt_cache` = "off" to send no cache hints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Message, ReasoningEffort, Role, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.chat_format import (
    CACHEABLE_CHARACTERS,
    json_headers,
    schema,
    tool_fields,
)
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_list,
    as_str,
    decode,
    encode,
)
from services.router.providers.wires.stream import Decoder, Parser, needs_content
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent

FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
    # A pause of tools that run at the provider; the turn may be continued.
    "pause_turn": FinishReason.OTHER,
}
#: Tokens of thought by effort; at least 1024, and at most half of what may be written.
_BUDGETS = {ReasoningEffort.LOW: 1024, ReasoningEffort.MEDIUM: 4096, ReasoningEffort.HIGH: 16_384}
_MIN_BUDGET = 1024
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens_details",
)
_JSON_ONLY = "Answer with a single JSON object and nothing else."


class AnthropicWire:
    """The messages API at Anthropic."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        body = messages_body(prompt, endpoint.options)
        body["model"] = endpoint.model
        if stream:
            body["stream"] = True
        headers = json_headers(stream=stream)
        headers["x-api-key"] = endpoint.api_key
        headers["anthropic-version"] = endpoint.options.get("anthropic_version") or "2023-06-01"
        base = endpoint.base_url.rstrip("/").removesuffix("/v1")
        return HttpRequest("POST", f"{base}/v1/messages", headers, encode(body))

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        return read_message(data)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return AnthropicDecoder(may_be_empty=may_be_empty)


class AnthropicDecoder(Decoder):
    """Decodes message and content_block events. The terminator is message_stop."""

    __slots__ = ("_counts",)

    def __init__(self, parser: Parser | None = None, *, may_be_empty: bool = False) -> None:
        super().__init__(parser, may_be_empty=may_be_empty)
        self._counts: dict[str, Any] = {}

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        kind = as_str(data.get("type")) or name
        if kind == "content_block_delta":
            delta = as_dict(data.get("delta"))
            part = delta.get("type")
            if part == "text_delta":
                self._add_text(as_str(delta.get("text")), out)
            elif part == "input_json_delta":
                self._add_tool_call(
                    as_count(data.get("index")), "", "", as_str(delta.get("partial_json")), out
                )
        elif kind == "content_block_start":
            self._block(as_count(data.get("index")), as_dict(data.get("content_block")), out)
        elif kind == "message_start":
            message = as_dict(data.get("message"))
            self.model = as_str(message.get("model"))
            self._merge(message.get("usage"))
        elif kind == "message_delta":
            reason = as_dict(data.get("delta")).get("stop_reason")
            if reason:
                self._set_finish(as_str(reason), FINISH_REASONS)
            self._merge(data.get("usage"))
        elif kind == "message_stop":
            self.done = True
        elif kind == "error" or (data.get("error") and "type" not in data):
            raise classify_inside(data, usage=self.usage)

    def _block(self, index: int | None, block: Mapping[str, Any], out: list[StreamEvent]) -> None:
        kind = block.get("type")
        if kind == "text":
            self._add_text(as_str(block.get("text")), out)
        elif kind == "tool_use":
            given = as_dict(block.get("input"))
            arguments = encode(given).decode() if given else ""
            self._add_tool_call(index, as_str(block.get("id")), as_str(block.get("name")), arguments, out)

    def _merge(self, usage: Any) -> None:
        # message_delta repeats totals, and leaves out or nulls what has not changed since message_start.
        counts = as_dict(usage)
        self._counts.update((name, counts[name]) for name in _COUNTS if counts.get(name) is not None)
        self.usage = read_usage(self._counts) or self.usage


def messages_body(prompt: Prompt, options: Mapping[str, str]) -> dict[str, Any]:
    """Returns the request without model and stream, as Bedrock and Vertex take it too."""
    system = "\n\n".join(m.text for m in prompt.messages if m.role is Role.SYSTEM and m.text)
    wanted = prompt.response_format
    body: dict[str, Any] = {"max_tokens": prompt.max_output_tokens}
    if wanted is not None and wanted.schema_json:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema(wanted.schema_json)}}
    elif wanted is not None:
        system = f"{system}\n\n{_JSON_ONLY}" if system else _JSON_ONLY
    if system:
        block: dict[str, Any] = {"type": "text", "text": system}
        if len(system) >= CACHEABLE_CHARACTERS and options.get("prompt_cache") != "off":
            block["cache_control"] = {"type": "ephemeral"}
        body["system"] = [block]
    body["messages"] = _turns(prompt)
    if prompt.stop_sequences:
        body["stop_sequences"] = list(prompt.stop_sequences)
    if prompt.tools:
        body["tools"] = [tool_fields(tool, "input_schema") for tool in prompt.tools]
        if prompt.tool_choice:
            plain = {"auto": "auto", "none": "none", "required": "any"}.get(prompt.tool_choice)
            body["tool_choice"] = {"type": plain} if plain else {"type": "tool", "name": prompt.tool_choice}
    thinking = _thinking(prompt, options, body)
    # Thinking allows no sampling parameters, and newer models not both of them at once.
    if not thinking and prompt.temperature is not None:
        body["temperature"] = min(prompt.temperature, 1.0)
    elif not thinking and prompt.top_p is not None:
        body["top_p"] = prompt.top_p
    return body


def _thinking(prompt: Prompt, options: Mapping[str, str], body: dict[str, Any]) -> bool:
    effort = prompt.reasoning_effort
    if effort is None or effort is ReasoningEffort.NONE:
        return False
    if options.get("thinking") == "adaptive":
        body["thinking"] = {"type": "adaptive"}
        body.setdefault("output_config", {})["effort"] = effort.value
        return True
    budget = min(_BUDGETS[effort], prompt.max_output_tokens // 2)
    # Not allowed: with prefill, with a forced tool, and after a tool call whose thinking block is not at hand.
    forced = prompt.tool_choice not in ("", "auto", "none")
    if budget < _MIN_BUDGET or prompt.prefill or forced or any(m.tool_calls for m in prompt.messages):
        return False
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _turns(prompt: Prompt) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in prompt.messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        # All results of one turn's tool calls belong into one message.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    # Refused: a prefill that ends in white space.
    prefill = prompt.prefill.rstrip()
    if prefill:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": prefill}]})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text}]
    blocks: list[dict[str, Any]] = []
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    blocks.extend(
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments(call)}
        for call in message.tool_calls
    )
    return blocks


def arguments(call: ToolCall) -> Mapping[str, Any]:
    """Returns a call's arguments as an object; an empty one where the model wrote something else."""
    try:
        return as_dict(decode(call.arguments_json))
    except Undecodable:
        return {}


def read_message(data: Mapping[str, Any]) -> Completion:
    """Reads a whole message. Raises ProviderFailure."""
    if data.get("type") == "error" or data.get("error"):
        raise classify_inside(data)
    usage = read_usage(data.get("usage"))
    if "content" not in data:
        raise malformed("the answer holds no content", usage)
    blocks = [as_dict(block) for block in as_list(data.get("content"))]
    text = "".join(as_str(block.get("text")) for block in blocks if block.get("type") == "text")
    calls = tuple(
        ToolCall(
            as_str(block.get("id")), as_str(block.get("name")), encode(as_dict(block.get("input"))).decode()
        )
        for block in blocks
        if block.get("type") == "tool_use"
    )
    finish = read_finish(as_str(data.get("stop_reason")), FINISH_REASONS, usage)
    if not text and not calls and needs_content(finish):
        raise malformed("the answer is empty", usage)
    return Completion(text, finish, usage, calls, as_str(data.get("model")))


def read_usage(value: Any) -> Usage | None:
    """Reads usage; None where no count is given. `input_tokens` on the wire leaves out what was read from and written
    to the cache."""
    usage = as_dict(value)
    fresh, output = as_count(usage.get("input_tokens")), as_count(usage.get("output_tokens"))
    if fresh is None and output is None:
        return None
    read = as_count(usage.get("cache_read_input_tokens")) or 0
    written = as_count(usage.get("cache_creation_input_tokens")) or 0
    thinking = as_count(as_dict(usage.get("output_tokens_details")).get("thinking_tokens")) or 0
    return Usage((fresh or 0) + read + written, output or 0, read, written, thinking)
