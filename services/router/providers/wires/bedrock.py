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

from msgspec.structs import replace

from libs.clock import Clock
from libs.conversation import Citation, Reasoning, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.bedrock_body import bedrock_body, bedrock_ignored
from services.router.providers.wires.block_stream import BlockDecoder
from services.router.providers.wires.citations import BlockCitations, read_bedrock_citation
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.eventstream import EXCEPTION, EventStreamParser
from services.router.providers.wires.fields import as_count, as_dict, as_list, as_str, encode, first_count
from services.router.providers.wires.request_parts import json_headers
from services.router.providers.wires.sigv4 import Credentials, sign
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.validity.inverse import Inverse
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import bedrock_rules
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
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
}
_REGION = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.")


class BedrockWire:
    """Converse and ConverseStream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        operation = "converse-stream" if stream else "converse"
        rules = bedrock_rules(endpoint.model)
        valid = make_valid(prompt, rules, endpoint.max_output_tokens, prefill=endpoint.prefill)
        body = bedrock_body(valid.prompt, endpoint)
        request = bedrock_request(
            endpoint, operation, body, valid.inverse, stream=stream, now=self._clock.now()
        )
        return replace(request, ignored=bedrock_ignored(prompt, body) if valid.has_options else ())

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        return read_converse(decode_answer(body))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return ConverseDecoder(EventStreamParser(), may_be_empty=may_be_empty)


def bedrock_request(
    endpoint: Endpoint, operation: str, body: dict[str, Any], inverse: Inverse, *, stream: bool, now: float
) -> HttpRequest:
    """Returns a request for an operation on the endpoint's model, with its token or signed at `now`."""
    # A colon stays as it is: HTTP clients decode %3A, and the signature covers the path as it is sent.
    url = f"{endpoint.base_url.rstrip('/')}/model/{quote(endpoint.model, safe=':')}/{operation}"
    headers, content = json_headers(stream=False), encode(body)
    if stream:
        headers["accept"] = "application/vnd.amazon.eventstream"
    access, colon, rest = endpoint.api_key.partition(":")
    if not colon:
        headers["authorization"] = f"Bearer {endpoint.api_key}"
        return HttpRequest("POST", url, headers, content, inverse)
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
        now=now,
    )
    return HttpRequest("POST", url, signed, content, inverse)


class ConverseDecoder(BlockDecoder):
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
            thought = as_dict(delta.get("reasoningContent"))
            if thought:
                self._add_reasoning(index, _thought(thought), out)
            self._citations.add(read_bedrock_citation(delta.get("citation")))
            tool = as_dict(delta.get("toolUse"))
            if tool:
                self._add_tool_call(index, "", "", _tool_input(tool.get("input")), out)
        elif name == "contentBlockStart":
            tool = as_dict(as_dict(data.get("start")).get("toolUse"))
            if tool:
                self._add_tool_call(index, as_str(tool.get("toolUseId")), as_str(tool.get("name")), "", out)
        elif name == "contentBlockStop":
            out.extend(self._citations.end_block(self.length))
        elif name == "messageStop":
            out.extend(self._citations.end_block(self.length))
            self._set_finish(as_str(data.get("stopReason")), FINISH_REASONS)
        elif name == "metadata":
            self._tell(read_usage(data.get("usage")))
            # Metadata before the stop is not the end.
            self.done = self.finish is not None or self._broken_off is not None


def read_converse(data: Mapping[str, Any]) -> Completion:
    """Reads a whole Converse answer. Raises ProviderFailure."""
    usage = read_usage(data.get("usage"))
    message = as_dict(as_dict(data.get("output")).get("message"))
    if not message:
        is_failure = "__type" in data or "message" in data or data.get("error")
        raise classify_inside(data) if is_failure else malformed("the answer holds no message", usage)
    texts: list[str] = []
    calls: list[ToolCall] = []
    citations: list[Citation] = []
    of_block, length = BlockCitations(), 0
    thoughts = WholeThoughts()
    for block in map(as_dict, as_list(message.get("content"))):
        cited = as_dict(block.get("citationsContent"))
        pieces = [block, *map(as_dict, as_list(cited.get("content")))]
        if text := "".join(as_str(piece.get("text")) for piece in pieces):
            thoughts.end_at_text()
            texts.append(text)
        for citation in as_list(cited.get("citations")):
            of_block.add(read_bedrock_citation(citation))
        length += len(text)
        citations += of_block.end_block(length)
        if tool := as_dict(block.get("toolUse")):
            call_id = as_str(tool.get("toolUseId"))
            thoughts.end_at_call(call_id)
            calls.append(ToolCall(call_id, as_str(tool.get("name")), _tool_input(tool.get("input"))))
        thought = as_dict(block.get("reasoningContent"))
        thoughts.add(_thought(as_dict(thought.get("reasoningText")) or thought))
    finish = read_finish(as_str(data.get("stopReason")), FINISH_REASONS, usage)
    return complete(
        "".join(texts), finish, usage, tuple(calls), reasoning=thoughts.whole(), citations=tuple(citations)
    )


def _thought(thought: Mapping[str, Any]) -> Reasoning:
    """Returns the thoughts of a block, or a piece of them; empty ones where it holds none."""
    if redacted := as_str(thought.get("redactedContent")):
        return Reasoning(opaque=redacted, redacted=True)
    return Reasoning(as_str(thought.get("text")), as_str(thought.get("signature")))


def read_usage(value: Any) -> Usage | None:
    """Reads usage; None where no count is given. `inputTokens` leaves out what was read from and written to the
    cache."""
    usage = as_dict(value)
    fresh, output = as_count(usage.get("inputTokens")), as_count(usage.get("outputTokens"))
    read, written = (
        first_count(usage.get(f"cache{what}InputTokens"), usage.get(f"cache{what}InputTokenCount"))
        for what in ("Read", "Write")
    )
    inputs = None if fresh is None else fresh + read + written
    return told_usage(inputs, output, read, written)


def _tool_input(value: Any) -> str:
    return value if isinstance(value, str) else encode(value if value is not None else {}).decode()
