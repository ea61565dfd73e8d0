"""Bounds on the size of an answer, for providers that ignore what they were asked for.

Limits are far above what a sound answer needs, so that only one that clearly exceeds what was asked, and with it what
was reserved and budgeted, meets them. A stream is ended there, with what came so far, as one that reached its length;
of a whole answer no more is read, and the attempt has failed. The connection is closed, which stops the provider.

A token is four bytes on average; the longest common ones, runs of spaces, are sixteen. On the wire each stands in
JSON of its own: a few hundred bytes with most, more where a server repeats the answer so far with every piece.
Thoughts are content; their signatures and encrypted forms, which a token limit says nothing about, have a bound of
their own besides.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from libs.conversation import Citation, ReasoningDelta, ToolCallDelta
from libs.types import ErrorClass, FinishReason
from services.router.providers.wires.wire import StreamDecoder
from services.router.request.generation import (
    Prompt,
    ProviderFailure,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from services.router.request.usage import as_estimate

#: Of a whole answer, bytes: a quarter of what a message between services may hold, so that whatever is read can also
#: be handed on (characters that are not UTF-8 take three times their bytes).
MAX_WHOLE_BYTES = 8 * 1024 * 1024
_WHOLE_BYTES = 256 * 1024
#: Of all that only the provider can read, in one answer.
_OPAQUE_BYTES = 1024 * 1024
_WHOLE_BYTES_PER_TOKEN = 64
#: Of a stream's content, bytes.
_CONTENT_BYTES = 16 * 1024
_CONTENT_BYTES_PER_TOKEN = 16
#: Of a stream as it comes, bytes.
_STREAM_BYTES = 1024 * 1024
_STREAM_BYTES_PER_TOKEN = 16 * 1024
#: Some servers repeat parts of the request, at the beginning and the end of their stream.
_REPEATED = 4


def whole_bytes(prompt: Prompt, request_body: bytes, *, reasons: bool) -> int:
    """Returns how many bytes of a whole answer to `prompt` are read at most. `reasons`: the model thinks before it
    answers, and may encrypt that."""
    of_tokens = _WHOLE_BYTES_PER_TOKEN * prompt.max_output_tokens
    opaque = _OPAQUE_BYTES if reasons else 0
    return min(MAX_WHOLE_BYTES, _WHOLE_BYTES + opaque + len(request_body) + of_tokens)


def too_long(prompt: Prompt, limit: int) -> ProviderFailure:
    """Returns the failure of a whole answer of more than `limit` bytes."""
    message = f"the answer has more than {limit} bytes for {prompt.max_output_tokens} tokens"
    return ProviderFailure(ErrorClass.MALFORMED, message, http_status=200)


class StreamLimit:
    """The sizes of one stream, counted against their bounds."""

    __slots__ = ("_bytes", "_content", "_most_bytes", "_most_content", "_most_opaque", "_opaque")

    def __init__(self, prompt: Prompt, request_body: bytes) -> None:
        tokens = prompt.max_output_tokens
        self._most_content = _CONTENT_BYTES + _CONTENT_BYTES_PER_TOKEN * tokens
        self._most_bytes = _STREAM_BYTES + _REPEATED * len(request_body) + _STREAM_BYTES_PER_TOKEN * tokens
        self._most_opaque = max(_OPAQUE_BYTES, self._most_content)
        self._content = 0
        self._opaque = 0
        self._bytes = 0

    def count_bytes(self, size: int) -> None:
        """Counts bytes of the stream as they come from the network."""
        self._bytes += size

    def count_events(self, events: Sequence[StreamEvent]) -> bool:
        """Counts the content of events. Returns True if with them the stream is longer than it may be."""
        for event in events:
            self._content += _content_size(event)
            if type(event) is ReasoningDelta:
                self._opaque += _size(event.piece.opaque)
        too_opaque = self._opaque > self._most_opaque
        return too_opaque or self._content > self._most_content or self._bytes > self._most_bytes

    def cut(self, events: Sequence[StreamEvent], decoder: StreamDecoder) -> list[StreamEvent]:
        """Returns the events that exceeded the limit, cut where they did, and the stream's end."""
        # A character is a byte at least, so as many characters as bytes are cut.
        over = max(0, self._content - self._most_content)
        kept = [event for event in events if type(event) is not StreamEnd]
        while over and kept:
            last = kept.pop()
            size = _content_size(last)
            if type(last) is TextDelta and size > over:
                kept.append(TextDelta(last.text[:-over]))
            elif type(last) is ToolCallDelta and _size(last.arguments_json) > over:
                kept.append(structs.replace(last, arguments_json=last.arguments_json[:-over]))
            over = max(0, over - size)
        if self._opaque > self._most_opaque:
            # A part of it would be refused.
            kept = [event for event in kept if type(event) is not ReasoningDelta]
        return [*kept, StreamEnd(FinishReason.LENGTH, as_estimate(decoder.usage), decoder.model)]

    def stop(self, events: Sequence[StreamEvent], decoder: StreamDecoder) -> list[StreamEvent]:
        """Returns the events up to a stop sequence that the router found, and the stream's end: the rest is not
        waited for."""
        return [*events, StreamEnd(FinishReason.STOP, as_estimate(decoder.usage), decoder.model)]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _content_size(event: StreamEvent) -> int:
    """Returns the bytes of content in an event; 0 for the end."""
    match event:
        case TextDelta() | RefusalDelta():
            return _size(event.text)
        case ToolCallDelta():
            return _size(event.id) + _size(event.name) + _size(event.arguments_json)
        case ReasoningDelta():
            return _size(event.piece.text)
        case Citation():
            return _size(event.url) + _size(event.title) + _size(event.quote)
        case _:
            return 0
