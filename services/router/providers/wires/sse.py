"""Framing of streamed answers: server-sent events and lines of JSON. Incremental; chunk borders mean nothing.

Events follow https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end in LF, CRLF or CR; a blank
line ends an event; comment lines and unknown fields are ignored. Bytes stay bytes, so UTF-8 may be split anywhere.
An event that the stream's end cuts off is kept by `flush`, where the standard drops it: providers end their last
event with a single newline now and then, and its JSON shows whether it is whole.
"""

from __future__ import annotations

from typing import NamedTuple

from services.router.providers.wires.fields import Undecodable, decode

#: The most bytes of one unfinished event. The largest real ones repeat a whole answer and the tools, some hundred
#: KiB; decoded, a hostile one takes thirty times its bytes.
MAX_EVENT_BYTES = 4 * 1024 * 1024
#: Bytes that each line of it counts for beside its own: what a `bytes` object and its place in a list take.
LINE_BYTES = 48

#: Bytes that may stand before the first event: white space, and a byte order mark.
_BLANK = b" \t\r\n\xef\xbb\xbf"


class FramingError(ValueError):
    """The bytes are not framed as they should be, or one event exceeds MAX_EVENT_BYTES."""


class Event(NamedTuple):
    """One event. `name` is empty where the stream gave none."""

    name: str
    data: bytes


class _Lines:
    """Splits chunks into lines without their endings."""

    __slots__ = ("_pieces", "_size", "_skip_lf")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._skip_lf = False

    def feed(self, chunk: bytes) -> list[bytes]:
        if self._skip_lf and chunk:
            # The CR that ended the previous chunk has ended its line already; this LF is its second half.
            self._skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk:
            return []
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > MAX_EVENT_BYTES:
                raise FramingError(f"a line of more than {MAX_EVENT_BYTES} bytes")
        return lines

    def flush(self) -> bytes:
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return rest


class SseParser:
    """Parses bytes into server-sent events.

    A body that begins with a brace or bracket is no event stream: some servers answer a stream request with bare
    JSON (an error, a whole answer, an array, lines). It is handed on whole at its end, for the decoder to read.
    """

    __slots__ = ("_bare", "_begun", "_data", "_lines", "_name", "_size")

    def __init__(self) -> None:
        self._lines = _Lines()
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._begun = False
        self._bare: bytearray | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Returns the events completed by this chunk. Raises FramingError."""
        if not self._begun:
            # A byte order mark comes with the first bytes; alone it is not a beginning.
            start = chunk.lstrip(_BLANK)
            if start:
                self._begun = True
                if start.startswith((b"{", b"[")):
                    self._bare = bytearray()
            chunk = start
        events: list[Event] = []
        if self._bare is not None:
            self._bare += chunk
            if len(self._bare) > MAX_EVENT_BYTES:
                raise FramingError(f"an answer of more than {MAX_EVENT_BYTES} bytes")
            return events
        for line in self._lines.feed(chunk):
            self._read_line(line, events)
        if self._size > MAX_EVENT_BYTES:
            raise FramingError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def flush(self) -> list[Event]:
        """Returns the rest that the stream's end cut off, as events."""
        if self._bare is not None:
            whole = bytes(self._bare)
            try:
                decode(whole)
            except Undecodable:
                return [Event("", line) for line in whole.splitlines() if line.strip()]
            return [Event("", whole)]
        events: list[Event] = []
        rest = self._lines.flush()
        if rest:
            self._read_line(rest, events)
        self._read_line(b"", events)
        return events

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        # Comments and empty lines count as well: a provider may send nothing else, without end.
        self._size += len(line) + LINE_BYTES
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(Event(self._name, data))
                self._data = []
                self._size = 0
            self._name = ""
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode("utf-8", "replace")
        elif line == b"data":
            self._read_line(b"data:", events)


class JsonLinesParser:
    """Parses lines of JSON (Ollama's own API, Cohere v1)."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, chunk: bytes) -> list[Event]:
        """Returns the lines completed by this chunk. Raises FramingError."""
        return [Event("", line) for line in self._lines.feed(chunk) if line.strip()]

    def flush(self) -> list[Event]:
        """Returns the last line where it has no ending."""
        rest = self._lines.flush()
        return [Event("", rest)] if rest.strip() else []
