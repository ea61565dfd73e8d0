"""Amazon Bedrock's Converse API. https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html

The key is a Bedrock API key, or `access-key:secret-key` or `access-key:secret-key:session-token` to sign with.
Options: `region` (else read from the address), `prompt_cache` = "on" to mark the instructions for caching (only
some models allow it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from libs.clock import Clock
from libs.conversation import Message, ReasoningEffort, Role, Tool, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.anthropic import arguments
from services.router.providers.wires.chat_format import CACHEABLE_CHARACTERS, json_headers, schema
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.eventstream import EXCEPTION, EventStreamParser
from services.router.providers.wires.fields import (
    Undecodable,
    as_count,
    as_dict,
    as_list,
    as_str,
    decode,
    drop_unset,
    encode,
)
from services.router.providers.wires.sigv4 import Credentials, sign
from services.router.providers.wires.stream import Decoder, needs_content
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent

FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
}
_BUDGETS = {ReasoningEffort.LOW: 1024, ReasoningEffort.MEDIUM: 4096, ReasoningEffort.HIGH: 16_384}
_REGION = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.")


class BedrockWire:
    """Converse and ConverseStream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        return self._send(
            endpoint, "converse-stream" if stream else "converse", _body(prompt, endpoint), stream
        )

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        return read_converse(data)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return ConverseDecoder(EventStreamParser(), may_be_empty=may_be_empty)

    def _send(self, endpoint: Endpoint, operation: str, body: dict[str, Any], stream: bool) -> HttpRequest:
        # A colon stays as it is: HTTP clients decode %3A, and the signature covers the path as it is sent.
        url = f"{endpoint.base_url.rstrip('/')}/model/{quote(endpoint.model, safe=':')}/{operation}"
        headers, content = json_headers(stream=False), encode(body)
        if stream:
            headers["accept"] = "application/vnd.amazon.eventstream"
        access, colon, rest = endpoint.api_key.partition(":")
        if not colon:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
            return HttpRequest("POST", url, headers, content)
        secret, _, token = rest.partition(":")
        found = _REGION.search(endpoint.base_url)
        region = endpoint.options.get("region") or (found.group(1) if found else "us-east-1")
        signed = sign(
            "POST",
            url,
            headers,
            content,
            credentials=Credentials(access, secret, token),
            region=region,
            service="bedrock",
            now=self._clock.now(),
        )
        return HttpRequest("POST", url, signed, content)


class ConverseDecoder(Decoder):
    """Decodes ConverseStream events. The terminator is the metadata that follows messageStop."""

    __slots__ = ()

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        if name.startswith(EXCEPTION):
            raise classify_inside({"type": name.removeprefix(EXCEPTION), **data}, usage=self.usage)
        self._converse(name, data, out)

    def _converse(self, name: str, data: Mapping[str, Any], out: list[StreamEvent]) -> None:
        index = as_count(data.get("contentBlockIndex"))
        if name == "contentBlockDelta":
            delta = as_dict(data.get("delta"))
            self._add_text(as_str(delta.get("text")), out)
            tool = as_dict(delta.get("toolUse"))
            if tool:
                self._add_tool_call(index, "", "", _tool_input(tool.get("input")), out)
        elif name == "contentBlockStart":
            tool = as_dict(as_dict(data.get("start")).get("toolUse"))
            if tool:
                self._add_tool_call(index, as_str(tool.get("toolUseId")), as_str(tool.get("name")), "", out)
        elif name == "messageStop":
            self._set_finish(as_str(data.get("stopReason")), FINISH_REASONS)
        elif name == "metadata":
            self.usage = read_usage(data.get("usage")) or self.usage
            # Metadata before the stop is not the end.
            self.done = self.finish is not None or self._broken_off is not None


def read_converse(data: Mapping[str, Any]) -> Completion:
    """Reads a whole Converse answer. Raises ProviderFailure."""
    usage = read_usage(data.get("usage"))
    message = as_dict(as_dict(data.get("output")).get("message"))
    if not message:
        is_failure = "__type" in data or "message" in data or data.get("error")
        raise classify_inside(data) if is_failure else malformed("the answer holds no message", usage)
    blocks = [as_dict(block) for block in as_list(message.get("content"))]
    text = "".join(as_str(block.get("text")) for block in blocks)
    calls = tuple(
        ToolCall(as_str(tool.get("toolUseId")), as_str(tool.get("name")), _tool_input(tool.get("input")))
        for block in blocks
        if (tool := as_dict(block.get("toolUse")))
    )
    finish = read_finish(as_str(data.get("stopReason")), FINISH_REASONS, usage)
    if not text and not calls and needs_content(finish):
        raise malformed("the answer is empty", usage)
    return Completion(text, finish, usage, calls)


def read_usage(value: Any) -> Usage | None:
    """Reads usage; None where no count is given. `inputTokens` leaves out what was read from and written to the
    cache."""
    usage = as_dict(value)
    fresh, output = as_count(usage.get("inputTokens")), as_count(usage.get("outputTokens"))
    if fresh is None and output is None:
        return None
    read, written = (
        as_count(usage.get(f"cache{what}InputTokens", usage.get(f"cache{what}InputTokenCount"))) or 0
        for what in ("Read", "Write")
    )
    return Usage((fresh or 0) + read + written, output or 0, read, written)


def _tool_input(value: Any) -> str:
    return value if isinstance(value, str) else encode(value if value is not None else {}).decode()


def _body(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    for message in prompt.messages:
        blocks = _blocks(message)
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        if message.role is Role.SYSTEM or not blocks:
            continue
        # Turns must alternate, and all results of one turn's tool calls belong into one message.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    if prompt.prefill.rstrip():
        turns.append({"role": "assistant", "content": [{"text": prompt.prefill.rstrip()}]})
    body: dict[str, Any] = {"messages": turns}
    system: list[dict[str, Any]] = [
        {"text": m.text} for m in prompt.messages if m.role is Role.SYSTEM and m.text
    ]
    if system:
        long = sum(len(block["text"]) for block in system) >= CACHEABLE_CHARACTERS
        if long and endpoint.options.get("prompt_cache") == "on":
            system.append({"cachePoint": {"type": "default"}})
        body["system"] = system
    body["inferenceConfig"] = drop_unset(
        maxTokens=prompt.max_output_tokens,
        temperature=prompt.temperature,
        topP=prompt.top_p,
        stopSequences=list(prompt.stop_sequences) or None,
    )
    wanted = prompt.response_format
    if wanted is not None and wanted.schema_json:
        schema(wanted.schema_json)
        shape = {"jsonSchema": {"schema": wanted.schema_json, "name": wanted.schema_name}}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": shape}}
    elif wanted is not None:
        body.setdefault("system", []).append({"text": "Answer with a single JSON object and nothing else."})
    # There is no choice "none", but where no call was made before the tools can be left out.
    if prompt.tools and (prompt.tool_choice != "none" or any(m.tool_calls for m in prompt.messages)):
        body["toolConfig"] = {"tools": [_tool(tool) for tool in prompt.tools]}
        if prompt.tool_choice not in ("", "none"):
            plain = {"auto": "auto", "required": "any"}.get(prompt.tool_choice)
            body["toolConfig"]["toolChoice"] = (
                {plain: {}} if plain else {"tool": {"name": prompt.tool_choice}}
            )
    _reason(prompt, endpoint, body)
    return body


def _reason(prompt: Prompt, endpoint: Endpoint, body: dict[str, Any]) -> None:
    effort = prompt.reasoning_effort
    if effort is None or effort is ReasoningEffort.NONE:
        return
    if "openai." in endpoint.model:
        body["additionalModelRequestFields"] = {"reasoning_effort": effort.value}
    elif "anthropic." in endpoint.model:
        budget = min(_BUDGETS[effort], prompt.max_output_tokens // 2)
        if budget >= 1024 and not prompt.prefill and not any(m.tool_calls for m in prompt.messages):
            thinking = {"type": "enabled", "budget_tokens": budget}
            body["additionalModelRequestFields"] = {"thinking": thinking}
            # Thinking allows no sampling parameters.
            body["inferenceConfig"].pop("temperature", None)
            body["inferenceConfig"].pop("topP", None)


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        result = {"toolUseId": message.tool_call_id, "content": [{"text": message.text or " "}]}
        return [{"toolResult": result}]
    blocks: list[dict[str, Any]] = [{"text": message.text}] if message.text else []
    blocks.extend(
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments(call)}}
        for call in message.tool_calls
    )
    return blocks


def _tool(tool: Tool) -> dict[str, Any]:
    shape = schema(tool.parameters_json) if tool.parameters_json else {"type": "object", "properties": {}}
    spec = {"name": tool.name, "inputSchema": {"json": shape}}
    return {"toolSpec": {**spec, "description": tool.description} if tool.description else spec}
