"""Anthropic's messages API. https://docs.anthropic.com/en/api/messages

Options: `anthropic_version` (default 2023-06-01), `thinking` = "adaptive" for models that take an effort instead of
a budget and "budget" for others, where the model's name does not tell it; `prompt_cache` = "off" to send no cache
hints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Citation, Reasoning, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.anthropic_body import anthropic_body, anthropic_ignored
from services.router.providers.wires.block_stream import BlockDecoder
from services.router.providers.wires.citations import BlockCitations, read_anthropic_citation
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import as_count, as_dict, as_list, as_str, encode
from services.router.providers.wires.request_parts import json_headers
from services.router.providers.wires.stream import Decoder, Parser
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import ANTHROPIC
from services.router.providers.wires.whole_answer import WholeThoughts, complete, decode_answer
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent
from services.router.request.usage import told_usage

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
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens_details",
)


class AnthropicWire:
    """The messages API at Anthropic."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        valid = make_valid(prompt, ANTHROPIC, endpoint.max_output_tokens, prefill=endpoint.prefill)
        body = anthropic_body(valid.prompt, endpoint.model, endpoint.options)
        body["model"] = endpoint.model
        if stream:
            body["stream"] = True
        headers = json_headers(stream=stream)
        headers["x-api-key"] = endpoint.api_key
        headers["anthropic-version"] = endpoint.options.get("anthropic_version") or "2023-06-01"
        base = endpoint.base_url.rstrip("/").removesuffix("/v1")
        ignored = anthropic_ignored(prompt, body) if valid.has_options else ()
        return HttpRequest("POST", f"{base}/v1/messages", headers, encode(body), valid.inverse, ignored)

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        return read_message(decode_answer(body))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return AnthropicDecoder(may_be_empty=may_be_empty)


class AnthropicDecoder(BlockDecoder):
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
            index = as_count(data.get("index"))
            if part == "text_delta":
                self._add_text(as_str(delta.get("text")), out)
            elif part == "input_json_delta":
                self._add_tool_call(index, "", "", as_str(delta.get("partial_json")), out)
            elif part == "thinking_delta":
                self._add_reasoning(index, Reasoning(as_str(delta.get("thinking"))), out)
            elif part == "signature_delta":
                self._add_reasoning(index, Reasoning(opaque=as_str(delta.get("signature"))), out)
            elif part == "citations_delta":
                self._citations.add(read_anthropic_citation(delta.get("citation")))
        elif kind == "content_block_stop":
            out.extend(self._citations.end_block(self.length))
        elif kind == "content_block_start":
            out.extend(self._citations.end_block(self.length))
            self._block(as_count(data.get("index")), as_dict(data.get("content_block")), out)
        elif kind == "message_start":
            message = as_dict(data.get("message"))
            self.model = as_str(message.get("model"))
            self._merge(message.get("usage"))
        elif kind == "message_delta":
            out.extend(self._citations.end_block(self.length))
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
        else:
            self._add_reasoning(index, _thought(block), out)

    def _merge(self, usage: Any) -> None:
        # message_delta repeats totals, and leaves out, nulls or zeros what has not changed since message_start.
        counts = as_dict(usage)
        told = {name: counts[name] for name in _COUNTS if counts.get(name) is not None}
        if told:
            output = as_count(told.get("output_tokens"))
            is_told = output is not None and (output > 0 or not self._counts.get("output_tokens"))
            self._counts |= {name: count for name, count in told.items() if count or name not in self._counts}
            self._tell(read_usage(self._counts), output=is_told)


def read_message(data: Mapping[str, Any]) -> Completion:
    """Reads a whole message. Raises ProviderFailure."""
    if data.get("type") == "error" or data.get("error"):
        raise classify_inside(data, read_usage(data.get("usage")))
    usage = read_usage(data.get("usage"))
    if "content" not in data:
        raise malformed("the answer holds no content", usage)
    texts: list[str] = []
    calls: list[ToolCall] = []
    citations: list[Citation] = []
    cited, length = BlockCitations(), 0
    thoughts = WholeThoughts()
    for block in map(as_dict, as_list(data.get("content"))):
        kind = block.get("type")
        if kind == "text":
            thoughts.end_at_text()
            texts.append(as_str(block.get("text")))
            for citation in as_list(block.get("citations")):
                cited.add(read_anthropic_citation(citation))
            length += len(texts[-1])
            citations += cited.end_block(length)
        elif kind == "tool_use":
            call_id, given = as_str(block.get("id")), encode(as_dict(block.get("input"))).decode()
            thoughts.end_at_call(call_id)
            calls.append(ToolCall(call_id, as_str(block.get("name")), given))
        else:
            thoughts.add(_thought(block))
    finish = read_finish(as_str(data.get("stop_reason")), FINISH_REASONS, usage)
    return complete(
        "".join(texts),
        finish,
        usage,
        tuple(calls),
        as_str(data.get("model")),
        reasoning=thoughts.whole(),
        citations=tuple(citations),
    )


def _thought(block: Mapping[str, Any]) -> Reasoning:
    """Returns the thoughts of a block; empty ones where it holds none."""
    if block.get("type") == "thinking":
        return Reasoning(as_str(block.get("thinking")), as_str(block.get("signature")))
    if block.get("type") == "redacted_thinking":
        return Reasoning(opaque=as_str(block.get("data")), redacted=True)
    return Reasoning()


def read_usage(value: Any) -> Usage | None:
    """Reads usage; None where no count is given. `input_tokens` on the wire leaves out what was read from and written
    to the cache."""
    usage = as_dict(value)
    fresh, output = as_count(usage.get("input_tokens")), as_count(usage.get("output_tokens"))
    read = as_count(usage.get("cache_read_input_tokens")) or 0
    written = as_count(usage.get("cache_creation_input_tokens")) or 0
    thinking = as_count(as_dict(usage.get("output_tokens_details")).get("thinking_tokens")) or 0
    inputs = None if fresh is None else fresh + read + written
    return told_usage(inputs, output, read, written, thinking)
