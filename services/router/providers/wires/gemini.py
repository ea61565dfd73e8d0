"""Gemini's generateContent. https://ai.google.dev/api/generate-content

Options: `thinking` = "level" for models that take a thinking level instead of a budget of tokens (set for
Gemini 3 by itself).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from libs.clock import Clock
from libs.conversation import Citation, Reasoning, ToolCall
from libs.types import ErrorClass, FinishReason, Usage
from services.router.providers.wires.citations import read_gemini_citations
from services.router.providers.wires.errors import classify, classify_inside, malformed, read_finish
from services.router.providers.wires.fields import as_count, as_dict, as_list, as_str, encode, join_halves
from services.router.providers.wires.gemini_body import gemini_body
from services.router.providers.wires.request_parts import json_headers, left_out
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import gemini_rules
from services.router.providers.wires.whole_answer import (
    WholeThoughts,
    complete,
    decode_answer,
    finish_with_calls,
)
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent
from services.router.request.usage import told_usage

_REFUSED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR")
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(_REFUSED, FinishReason.CONTENT_FILTER),
}
#: Events of a stream that name sources, of which the last count.
_MOST_SOURCES = 8
#: Vertex AI's numbers, for servers that send enums as integers. 0 is "unspecified", 5 "other".
_NUMBERED = {
    1: "STOP",
    2: "MAX_TOKENS",
    3: "SAFETY",
    4: "RECITATION",
    6: "BLOCKLIST",
    7: "PROHIBITED_CONTENT",
    8: "SPII",
    9: "MALFORMED_FUNCTION_CALL",
    10: "MODEL_ARMOR",
    11: "IMAGE_SAFETY",
    15: "UNEXPECTED_TOOL_CALL",
}


def gemini_address(endpoint: Endpoint) -> str:
    """Returns the address above the models at the Gemini API."""
    base = endpoint.base_url.rstrip("/")
    return base if base.endswith(("/v1beta", "/v1", "/v1alpha")) else f"{base}/v1beta"


def gemini_key(endpoint: Endpoint) -> dict[str, str]:
    """Returns the header with an API key."""
    return {"x-goog-api-key": endpoint.api_key}


class GeminiWire:
    """generateContent, at the Gemini API unless another address and another header for the key are given."""

    def __init__(
        self,
        clock: Clock,
        address: Callable[[Endpoint], str] = gemini_address,
        key_header: Callable[[Endpoint], dict[str, str]] = gemini_key,
    ) -> None:
        """`clock` tells when Google's day ends, where an answer has no date."""
        self._clock = clock
        self._address = address
        self._key_header = key_header

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        rules = gemini_rules(endpoint.model)
        valid = make_valid(prompt, rules, endpoint.max_output_tokens, prefill=endpoint.prefill)
        call = "streamGenerateContent?alt=sse" if stream else "generateContent"
        url = f"{self._address(endpoint)}/models/{quote(endpoint.model, safe='')}:{call}"
        headers = {**json_headers(stream=stream), **self._key_header(endpoint)}
        body = gemini_body(valid.prompt, endpoint)
        thinking = body["generationConfig"].get("thinkingConfig", {})
        ignored = (
            left_out(prompt, reasoning_effort=thinking, reasoning_summary=thinking.get("includeThoughts"))
            if valid.has_options
            else ()
        )
        return HttpRequest("POST", url, headers, encode(body), valid.inverse, ignored)

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        data = decode_answer(body)
        usage = _usage(data.get("usageMetadata"))
        if data.get("error"):
            raise classify_inside(data, usage)
        candidate = _candidate(data, usage)
        if candidate is None:
            raise malformed("the answer holds no candidate", usage)
        #: Of every part; empty for what is no answer.
        texts: list[str] = []
        calls: list[ToolCall] = []
        thoughts = WholeThoughts()
        for part in map(as_dict, as_list(as_dict(candidate.get("content")).get("parts"))):
            # Signatures stand at thoughts, and at the calls and texts that were thought of.
            thoughts.add(_thought(part))
            texts.append("")
            if call := as_dict(part.get("functionCall")):
                call_id = as_str(call.get("id")) or f"call_{len(calls)}"
                thoughts.end_at_call(call_id)
                calls.append(ToolCall(call_id, as_str(call.get("name")), _arguments(call)))
            elif not part.get("thought"):
                thoughts.end_at_text()
                texts[-1] = as_str(part.get("text"))
        finish = finish_with_calls(
            read_finish(_reason(candidate), _FINISH_REASONS, usage, as_str(candidate.get("finishMessage"))),
            calls=bool(calls),
        )
        return complete(
            "".join(texts),
            finish,
            usage,
            tuple(calls),
            as_str(data.get("modelVersion")),
            reasoning=thoughts.whole(),
            citations=tuple(read_gemini_citations(candidate, texts)),
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body, now=self._clock.now())

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return GeminiDecoder(may_be_empty=may_be_empty)


class GeminiDecoder(Decoder):
    """Decodes streamed GenerateContentResponse objects. There is no terminator but the end of the connection."""

    __slots__ = ("_followed", "_sources", "_texts")

    def __init__(self, *, may_be_empty: bool = False) -> None:
        super().__init__(may_be_empty=may_be_empty)
        #: The texts and calls so far: thoughts with none between them are pieces of one.
        self._followed = 0
        #: The answer so far, until it has ended; and the last events that name sources, which come again with each.
        self._texts: list[str] = []
        self._sources: deque[Mapping[str, Any]] = deque(maxlen=_MOST_SOURCES)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        # Every event counts anew: recorded prompts of 165 tokens had 163 at the end.
        self._tell(_usage(data.get("usageMetadata")), restated=True)
        if data.get("error"):
            raise classify_inside(data, usage=self.usage)
        self.model = as_str(data.get("modelVersion")) or self.model
        candidate = _candidate(data, self.usage)
        if candidate is None:
            return
        for part in map(as_dict, as_list(as_dict(candidate.get("content")).get("parts"))):
            self._part(part, out)
        if "groundingMetadata" in candidate or "citationMetadata" in candidate:
            self._sources.append(candidate)
        if candidate.get("finishReason"):
            self._set_finish(_reason(candidate), _FINISH_REASONS, as_str(candidate.get("finishMessage")))
            if self.finish is not None:
                self.finish = finish_with_calls(self.finish, calls=self._tools.count > 0)
        if self.finish is not None and self._sources:
            out.extend(self._citations())

    def _citations(self) -> Iterable[Citation]:
        """Returns the sources that were named, each passage of each once, now that all text is there."""
        text = join_halves("".join(self._texts))
        named = [citation for source in self._sources for citation in read_gemini_citations(source, (text,))]
        # The answer has ended: what is named after it has no place in it.
        self._texts.clear()
        self._sources.clear()
        return dict.fromkeys(named)

    def _part(self, part: Mapping[str, Any], out: list[StreamEvent]) -> None:
        call = as_dict(part.get("functionCall"))
        shown = bool(part.get("thought")) and not call
        self._add_reasoning((self._followed, shown), _thought(part), out)
        if shown:
            return
        self._followed += 1
        if call:
            call_id = as_str(call.get("id")) or f"call_{self._tools.count}"
            self._add_whole_call(call_id, as_str(call.get("name")), _arguments(call), out)
        else:
            self._unfollowed.clear()
            text = as_str(part.get("text"))
            self._texts.append(text)
            self._add_text(text, out)


def _candidate(data: Mapping[str, Any], usage: Usage | None) -> Mapping[str, Any] | None:
    candidates = as_list(data.get("candidates"))
    if candidates:
        return as_dict(candidates[0])
    reason = as_str(as_dict(data.get("promptFeedback")).get("blockReason"))
    if reason:
        raise ProviderFailure(
            ErrorClass.CONTENT_REFUSED,
            f"the prompt was blocked: {reason}"[:300],
            http_status=200,
            usage=usage,
        )
    return None


def _thought(part: Mapping[str, Any]) -> Reasoning:
    """Returns the thoughts that a part shows, and the signature that stands at it."""
    text = as_str(part.get("text")) if part.get("thought") else ""
    return Reasoning(text, as_str(part.get("thoughtSignature")), summary=bool(text))


def _arguments(call: Mapping[str, Any]) -> str:
    return encode(as_dict(call.get("args"))).decode()


def _reason(candidate: Mapping[str, Any]) -> str:
    reason = candidate.get("finishReason")
    return _NUMBERED.get(reason, "") if type(reason) is int else as_str(reason)


def _usage(value: Any) -> Usage | None:
    usage = as_dict(value)
    prompt, candidates = as_count(usage.get("promptTokenCount")), as_count(usage.get("candidatesTokenCount"))
    thoughts = as_count(usage.get("thoughtsTokenCount"))
    total = as_count(usage.get("totalTokenCount"))
    # Tokens of built-in tools' results stand beside the prompt's, thoughts beside the candidate's.
    inputs = (prompt or 0) + (as_count(usage.get("toolUsePromptTokenCount")) or 0)
    if candidates is None and thoughts is None and total is not None:
        # Google's JSON leaves out zeros, but not the total's.
        candidates = max(0, total - inputs) if prompt is not None else 0
    output = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
    return told_usage(
        None if prompt is None else inputs,
        output,
        as_count(usage.get("cachedContentTokenCount")) or 0,
        0,
        thoughts or 0,
    )
