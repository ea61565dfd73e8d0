"""The base of all stream decoders: framing, holding back failures, the end of the answer.

Two promises keep the events of a stream independent of its cuts into chunks: a failure is raised only when no event
of the same call is left to return (else by the next call), and bytes behind the end are ignored.

A chunk of the stream that cannot be decoded fails the stream as MALFORMED. Skipping it would hide a hole in the
answer; failing lets the router go on elsewhere from the text that is known to be whole.

An answer is whole when it has a finish reason: a server writes the terminator after any end, and some reasons are
names of failures (`error_rules.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol

from msgspec.structs import replace

from libs.conversation import Reasoning, ReasoningDelta, ToolCallDelta
from libs.types import FinishReason, Usage
from services.router.providers.wires.errors import cut_off, failure_of_reason, malformed
from services.router.providers.wires.fields import MAX_ITEMS, Undecodable, decode_event
from services.router.providers.wires.halves import half_lost, join_half
from services.router.providers.wires.sse import Event, FramingError, SseParser
from services.router.providers.wires.tool_calls import ToolCalls
from services.router.request.generation import (
    ProviderFailure,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from services.router.request.usage import as_estimate, merge_usage


class Parser(Protocol):
    """Parses bytes into framed events."""

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """Returns the events completed by this chunk. Raises FramingError."""
        ...

    def flush(self) -> Iterable[Event]:
        """Returns the rest that the stream's end cut off."""
        ...


class Decoder:
    """Base of the stream decoders. A subclass implements `_read` for one decoded event and sets `finish`, `model` and
    `done` as it learns them, `finish` by `_set_finish`; usage it tells to `_tell`."""

    #: True: the terminator is an end even without a finish reason.
    reasonless = False

    __slots__ = (
        "_any_event",
        "_broken_off",
        "_failure",
        "_halves",
        "_is_all_told",
        "_may_be_empty",
        "_no_bytes",
        "_parser",
        "_telling",
        "_tells_output",
        "_thoughts",
        "_told",
        "_tools",
        "_unfollowed",
        "done",
        "ended",
        "finish",
        "has_content",
        "length",
        "model",
    )

    def __init__(self, parser: Parser | None = None, *, may_be_empty: bool = False) -> None:
        self._parser: Parser = parser or SseParser()
        self._may_be_empty = may_be_empty
        self._failure: ProviderFailure | None = None
        #: The failure that the finish reason stands for; usage may still follow.
        self._broken_off: ProviderFailure | None = None
        self._tools = ToolCalls()
        #: Halves of characters that wait for the other, by the event that they belong to, without its text. None:
        #: none came.
        self._halves: dict[StreamEvent, str] | None = None
        #: The wire's name of a thought → its number, and the numbers of those that nothing has followed yet.
        self._thoughts: dict[Hashable, int] = {}
        self._unfollowed: list[int] = []
        self._no_bytes = True
        self._any_event = False
        #: The finish reason, once it came.
        self.finish: FinishReason | None = None
        self._told: Usage | None = None
        #: The event that is read tells usage, and the output's among it; usage was told after all that was generated.
        self._telling = self._tells_output = self._is_all_told = False
        self.model = ""
        #: The terminator came.
        self.done = False
        #: The end was returned.
        self.ended = False
        #: Any text, tool call or refusal came.
        self.has_content = False
        #: Characters of the answer's text so far.
        self.length = 0

    @property
    def usage(self) -> Usage | None:
        """See StreamDecoder.usage."""
        # An event that tells usage and fails the answer is its end too.
        ended = self._telling or self.finish is not None or self._broken_off is not None
        return self._told if ended and self._is_all_told else as_estimate(self._told)

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """See StreamDecoder.feed."""
        if self._failure is not None:
            raise self._failure
        out: list[StreamEvent] = []
        if self.ended:
            return out
        if chunk:
            self._no_bytes = False
        try:
            for event in self._parser.feed(chunk):
                self._event(event, out)
                if self.done:
                    self._end(out)
                    break
        except ProviderFailure as failure:
            self._fail(failure, out)
        except FramingError as error:
            self._fail(malformed(str(error), self.usage), out)
        return out

    def close(self) -> list[StreamEvent]:
        """See StreamDecoder.close."""
        if self._failure is not None:
            raise self._failure
        out: list[StreamEvent] = []
        if self.ended:
            return out
        try:
            try:
                for event in self._parser.flush():
                    self._event(event, out)
            except FramingError as error:
                raise malformed(str(error), self.usage) from None
            except ProviderFailure as failure:
                # Half an event at the end is a cut, not a malformed chunk, and does no harm once the answer is whole.
                if self.finish is None and not isinstance(failure.__cause__, Undecodable):
                    raise
            if not self.done and self.finish is None and self._broken_off is None:
                # Bytes but not one event is a page of HTML, say. No bytes at all is a cut connection.
                whole = self._any_event or self._no_bytes
                raise cut_off(self.usage) if whole else malformed("the answer is not a stream")
            self._end(out)
        except ProviderFailure as failure:
            # Nobody calls again, so it cannot wait; the rest before the cut is not worth returning.
            self._failure = failure
            raise
        return out

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if not event.data.strip():
            return
        self._any_event = True
        try:
            data = self._decode(event.data)
        except Undecodable as error:
            raise malformed("a chunk of the stream is not JSON", self.usage) from error
        # Google sends errors, and answers that were not asked for as events, as an array.
        if type(data) is list and len(data) > MAX_ITEMS:
            raise malformed("a chunk of the stream holds too many values", self.usage)
        for item in data if type(data) is list else (data,):
            before = len(out)
            self._read(event.name, item, out)
            if self._telling:
                self._telling = False
                if self._tells_output:
                    # Before anything was generated a provider knows its prompt, and has begun to count the rest.
                    self._is_all_told = (
                        self.has_content or self.finish is not None or self._broken_off is not None
                    )
                elif len(out) > before:
                    self._is_all_told = False
            elif len(out) > before:
                self._is_all_told = False

    def _tell(self, usage: Usage | None, *, restated: bool = False, output: bool = True) -> None:
        """Takes in usage that the provider tells, `restated` where it corrects what it told before; None: it tells
        none. `output` False: the output's is that of an earlier event. A zero after more was told stands for left
        out."""
        if usage is None:
            return
        before, self._telling = self._told, True
        self._told = merge_usage(before, usage, restated=restated)
        self._tells_output = output and (
            usage.output_tokens > 0 or before is None or not before.output_tokens
        )
        self._is_all_told = self._is_all_told or self._tells_output

    def _decode(self, data: bytes | str) -> Any:
        """Decodes the JSON of an event. Raises Undecodable."""
        value, halves = decode_event(data)
        if halves and self._halves is None:
            self._halves = {}
        return value

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        raise NotImplementedError

    def _fail(self, failure: ProviderFailure, out: list[StreamEvent]) -> None:
        if self.finish is not None:
            # The model has finished: a fault now (half a usage chunk, say) cannot unmake its answer.
            try:
                self._end(out)
            except ProviderFailure as hollow:
                failure = hollow
            else:
                return
        self._failure = failure
        if not out:
            raise failure

    def _add_text(self, text: str, out: list[StreamEvent]) -> None:
        if not text:
            return
        self.has_content = True
        if self._halves is not None:
            text = join_half(self._halves, TextDelta(""), text)
        if text:
            self._unfollowed.clear()
            self.length += len(text)
            out.append(TextDelta(text))

    def _add_refusal(self, text: str, out: list[StreamEvent]) -> None:
        if not text:
            return
        self.has_content = True
        if self._halves is not None:
            text = join_half(self._halves, RefusalDelta(""), text)
        if text:
            out.append(RefusalDelta(text))

    def _add_reasoning(self, key: Hashable, piece: Reasoning, out: list[StreamEvent]) -> None:
        """Adds a piece of the thoughts that have the name `key` on this wire."""
        if not (piece.text or piece.opaque):
            return
        number = self._thoughts.get(key)
        if number is None:
            number = self._thoughts[key] = len(self._thoughts)
            self._unfollowed.append(number)
        if self._halves is not None and piece.text:
            piece = replace(
                piece, text=join_half(self._halves, ReasoningDelta(number, Reasoning()), piece.text)
            )
        out.append(ReasoningDelta(number, piece))

    def _add_tool_call(
        self, key: int | None, call_id: str, name: str, arguments: str, out: list[StreamEvent]
    ) -> None:
        piece = self._tools.piece(key, call_id, name, arguments)
        if piece is not None:
            self.has_content = True
            if self._halves is not None:
                joined = join_half(self._halves, ToolCallDelta(piece.index), piece.arguments_json)
                piece = ToolCallDelta(piece.index, piece.id, piece.name, joined)
            if self._unfollowed and piece.id:
                # Vendors want thoughts back where they stood.
                belongs = Reasoning(tool_call_id=piece.id)
                out.extend(ReasoningDelta(number, belongs) for number in self._unfollowed)
                self._unfollowed.clear()
            out.append(piece)

    def _add_whole_call(self, call_id: str, name: str, arguments: str, out: list[StreamEvent]) -> None:
        """Adds a call that comes in one piece and without an index; its id may be that of another, or missing."""
        self._add_tool_call(-1 - self._tools.count, call_id, name, arguments, out)

    def _set_finish(self, reason: str, known: Mapping[str, FinishReason], explanation: str = "") -> None:
        """Sets `finish` for the reason given; `explanation`: the provider's own words. A reason that is not `known`
        may be the name of a failure, or new."""
        self.finish = known.get(reason)
        if self.finish is None:
            self._broken_off = failure_of_reason(reason, explanation=explanation)
            self.finish = None if self._broken_off else FinishReason.OTHER

    def _end(self, out: list[StreamEvent]) -> None:
        finish = self.finish
        if finish is None:
            if self._broken_off is not None:
                self._broken_off.usage = self.usage
                raise self._broken_off
            if not self.reasonless:
                raise cut_off(self.usage)
            finish = FinishReason.TOOL_CALLS if self._tools.count else FinishReason.OTHER
        if finish is FinishReason.STOP and self._tools.count:
            finish = FinishReason.TOOL_CALLS
        self.finish = finish
        out.extend(map(half_lost, self._halves or ()))
        out.extend(self._tools.without_arguments())
        if not self.has_content and not self._may_be_empty and needs_content(finish):
            raise malformed("the answer is empty", self.usage)
        self.ended = True
        out.append(StreamEnd(finish, self.usage, self.model))


def needs_content(finish: FinishReason) -> bool:
    """Returns True if an answer without text and tool calls that finished like this is no answer: a length limit or a
    content filter explain an empty answer, nothing else does."""
    return finish not in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)
