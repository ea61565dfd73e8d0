"""AWS's binary framing of streams, `application/vnd.amazon.eventstream`.

A message is: total length, headers length, CRC-32 of these two (4 bytes each, big-endian), headers, payload, CRC-32
of everything before. https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from services.router.providers.wires.fields import encode
from services.router.providers.wires.sse import MAX_EVENT_BYTES, Event, FramingError

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_OVERHEAD = _PRELUDE.size + _CRC.size
#: Bytes of a header's value by its type; those of strings (7) and bytes (6) have a length of their own.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}

#: Prefix of the name of an event that reports an exception.
EXCEPTION = "exception:"


class EventStreamParser:
    """Parses bytes into events: the name is the event's type, or `exception:` and the exception's."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yields the events completed by this chunk. Raises FramingError on a wrong checksum or an impossible
        length."""
        buffer = self._buffer
        buffer += chunk
        while len(buffer) >= _PRELUDE.size:
            total, headers_length, crc = _PRELUDE.unpack_from(buffer)
            if zlib.crc32(buffer[:8]) != crc:
                raise FramingError("not an AWS event stream: wrong prelude checksum")
            if total > MAX_EVENT_BYTES or total < _OVERHEAD + headers_length:
                raise FramingError("not an AWS event stream: impossible length")
            if len(buffer) < total:
                return
            message = bytes(buffer[:total])
            del buffer[:total]
            if zlib.crc32(message[:-4]) != _CRC.unpack_from(message, total - 4)[0]:
                raise FramingError("a message of the AWS event stream has a wrong checksum")
            end = _PRELUDE.size + headers_length
            yield _event(_headers(message[_PRELUDE.size : end]), message[end:-4])

    def flush(self) -> list[Event]:
        """Drops half a message, which says nothing."""
        self._buffer.clear()
        return []


def _event(headers: dict[str, str], payload: bytes) -> Event:
    kind = headers.get(":message-type")
    if kind == "exception":
        return Event(EXCEPTION + headers.get(":exception-type", ""), payload)
    if kind == "error":
        error = {"message": headers.get(":error-message", "")}
        return Event(EXCEPTION + headers.get(":error-code", ""), encode(error))
    return Event(headers.get(":event-type", ""), payload)


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            length = data[at]
            name = data[at + 1 : at + 1 + length].decode("utf-8", "replace")
            at += 1 + length
            kind = data[at]
            at += 1
            if kind in (6, 7):
                (size,) = struct.unpack_from(">H", data, at)
                at += 2
                headers[name] = data[at : at + size].decode("utf-8", "replace")
            else:
                size = _FIXED[kind]
            at += size
    except (IndexError, KeyError, struct.error):
        raise FramingError("a header of the AWS event stream is broken") from None
    return headers
