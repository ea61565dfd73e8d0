"""What all stream decoders share: framing, holding back failures, the end of the answer.

Two promises keep the events of a stream independent of how it was cut into chunks: a failure is raised only when
no event of the same call is left to hand out (else by the next call), and what follows the end is not looked at.

A chunk of the stream that cannot be decoded fails the stream as MALFORMED. Skipping it would hide a hole in the
answer; failing lets the router go on elsewhere from the text that is known to be whole.

An answer is whole when the model said why it stopped: a terminator alone is what a server writes after any end, and
some reasons say that there was no end at all (`error_rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from libs.types import FinishReason, Usage
from services.router.adapters.providers.errors import broken_off, cut_off, malformed
from services.router.adapters.providers.fields import Undecodable, decode
from services.router.adapters.providers.sse import Event, FramingError, SseParser
from services.router.domain.generation import (
    ProviderFailure,
    StreamEnd,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)


class Parser(Protocol):
    """Bytes in, framed events out."""

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """Events completed by this chunk. Raises FramingError."""
        ...

    def flush(self) -> Iterable[Event]:
        """What the stream's end cut off."""
        ...


class Decoder:
    """Base of the stream decoders. A subclass implements `_take` for one decoded event and sets `finish`, `usage`,
    `model` and `done` as it learns them, `finish` by `_stopped`."""

    #: Whether the terminator is an end even where no reason was given.
    reasonless = False

    __slots__ = (
        "_broken",
        "_failure",
        "_heard",
        "_may_be_empty",
        "_parser",
        "_silent",
        "_tools",
        "done",
        "ended",
        "finish",
        "model",
        "spoke",
        "usage",
    )

    def __init__(self, parser: Parser | None = None, *, may_be_empty: bool = False) -> None:
        self._parser: Parser = parser or SseParser()
        self._may_be_empty = may_be_empty
        self._failure: ProviderFailure | None = None
        #: The reason given was no end of an answer; usage may still follow.
        self._broken: ProviderFailure | None = None
        self._tools = ToolCalls()
        self._silent = True
        self._heard = False
        #: Why the model stopped, once it said so.
        self.finish: FinishReason | None = None
        self.usage: Usage | None = None
        self.model = ""
        #: The terminator came.
        self.done = False
        #: The end was handed out.
        self.ended = False
        #: Any text or tool call came.
        self.spoke = False

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """See StreamDecoder.feed."""
        if self._failure is not None:
            raise self._failure
        out: list[StreamEvent] = []
        if self.ended:
            return out
        if chunk:
            self._silent = False
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
                # Half an event at the end is a cut, not a malformed chunk, and no harm once the answer is whole.
                if self.finish is None and not isinstance(failure.__cause__, Undecodable):
                    raise
            if not self.done and self.finish is None and self._broken is None:
                # Bytes but not one event is a page of HTML, say. No bytes at all is a cut connection.
                whole = self._heard or self._silent
                raise cut_off(self.usage) if whole else malformed("the answer is not a stream")
            self._end(out)
        except ProviderFailure as failure:
            # Nobody calls again, so it cannot wait; what the cut left behind is not worth handing out.
            self._failure = failure
            raise
        return out

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if not event.data.strip():
            return
        self._heard = True
        try:
            data = decode(event.data)
        except Undecodable as error:
            raise malformed("a chunk of the stream is not JSON", self.usage) from error
        # Google sends errors, and what was not asked for as events, as an array.
        for item in data if type(data) is list else (data,):
            self._take(event.name, item, out)

    def _take(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        raise NotImplementedError

    def _fail(self, failure: ProviderFailure, out: list[StreamEvent]) -> None:
        if self.finish is not None:
            # The model has finished: what goes wrong now (half a usage chunk, say) cannot unmake its answer.
            try:
                self._end(out)
            except ProviderFailure as hollow:
                failure = hollow
            else:
                return
        self._failure = failure
        if not out:
            raise failure

    def _text(self, text: str, out: list[StreamEvent]) -> None:
        if text:
            self.spoke = True
            out.append(TextDelta(text))

    def _tool(self, key: int | None, call_id: str, name: str, arguments: str, out: list[StreamEvent]) -> None:
        piece = self._tools.piece(key, call_id, name, arguments)
        if piece is not None:
            self.spoke = True
            out.append(piece)

    def _stopped(self, reason: str, known: Mapping[str, FinishReason], said: str = "") -> None:
        """The model stopped for this reason; `said`: in the provider's own words. What is not known may be the name
        of a failure, or new."""
        self.finish = known.get(reason)
        if self.finish is None:
            self._broken = broken_off(reason, said=said)
            self.finish = None if self._broken else FinishReason.OTHER

    def _end(self, out: list[StreamEvent]) -> None:
        finish = self.finish
        if finish is None:
            if self._broken is not None:
                self._broken.usage = self.usage
                raise self._broken
            if not self.reasonless:
                raise cut_off(self.usage)
            finish = FinishReason.TOOL_CALLS if self._tools.count else FinishReason.OTHER
        if not self.spoke and not self._may_be_empty and is_hollow(finish):
            raise malformed("the answer is empty", self.usage)
        self.ended = True
        out.append(StreamEnd(finish, self.usage, self.model))


def is_hollow(finish: FinishReason) -> bool:
    """Whether an answer without text and tool calls that finished like this is no answer: a length limit or a
    content filter explain an empty answer, nothing else does."""
    return finish not in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)


class ToolCalls:
    """Numbers the tool calls of a stream from 0 and says each call's id and name once.

    Wires disagree: an index that is missing or null, two calls with one index but different ids or none at all, the
    id and name repeated with every piece.
    """

    __slots__ = ("_arguments", "_ids", "_keys", "_names", "count")

    def __init__(self) -> None:
        self.count = 0
        self._keys: dict[int, int] = {}
        self._ids: list[str] = []
        self._names: list[str] = []
        #: Only of calls without an id: where one ends can be seen in them alone.
        self._arguments: list[str] = []

    def piece(self, key: int | None, call_id: str, name: str, arguments: str) -> ToolCallDelta | None:
        """The piece to hand on; None where it says nothing new. `key`: the wire's index, None where missing."""
        index = self._find(key, call_id, name)
        if index is None:
            if not (call_id or name):
                # Pieces of a call that never began: nobody could be called with them.
                return None
            index = self.count
            self.count += 1
            self._ids.append("")
            self._names.append("")
            self._arguments.append("")
        if key is not None:
            self._keys[key] = index
        new_id = call_id if not self._ids[index] else ""
        new_name = name if not self._names[index] else ""
        if new_id:
            self._ids[index] = new_id
        if new_name:
            self._names[index] = new_name
        if not self._ids[index]:
            self._arguments[index] += arguments
        if not (new_id or new_name or arguments):
            return None
        return ToolCallDelta(index, new_id, new_name, arguments)

    def _find(self, key: int | None, call_id: str, name: str) -> int | None:
        if key is None:
            if call_id:
                return self._ids.index(call_id) if call_id in self._ids else None
            last = self.count - 1 if self.count else None
            return last if not name or self._goes_on(last, name) else None
        index = self._keys.get(key)
        if index is None:
            return None
        if call_id and self._ids[index]:
            return index if self._ids[index] == call_id else None
        if name and self._names[index] and not self._goes_on(index, name, named=True):
            return None
        return index

    def _goes_on(self, index: int | None, name: str, *, named: bool = False) -> bool:
        """Whether a piece with this name and no id belongs to that call: it repeats the name, and the arguments so
        far are not whole. `named`: the wire's index says that it does."""
        if index is None or self._names[index] != name:
            return False
        if self._ids[index]:
            return named
        so_far = self._arguments[index].strip()
        if not so_far:
            return named
        try:
            decode(so_far)
        except Undecodable:
            return True
        return False
