"""HTTP/2 by hand, as little as a test needs to send what a gRPC client would refuse to send.

RFC 9113 frames and RFC 7541 headers: literals without Huffman codes out, whatever gRPC's server sends in (it uses no
Huffman codes either). One call per connection.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from google.rpc import error_details_pb2, status_pb2

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
#: A setting, and its value until a peer has said another; also the connection's window.
_INITIAL_WINDOW, _FIRST_WINDOW = 4, 65_535
#: gRPC's own setting: binary headers may come as they are, without base64.
_TRUE_BINARY = 0xFE03
#: RFC 7541, appendix A, where gRPC's answers refer to it.
_STATIC = {8: (b":status", b"200"), 14: (b":status", b"500"), 31: (b"content-type", b"")} | {
    13: (b":status", b"404"),
    12: (b":status", b"400"),
    16: (b"accept-encoding", b"gzip, deflate"),
}
_STATIC_SIZE = 61


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a call: headers and trailers together, the message bytes, and the code of a RST_STREAM (None: it
    ended by itself) or of a GOAWAY."""

    headers: dict[str, bytes]
    body: bytes
    reset: int | None = None
    goaway: int | None = None

    @property
    def code(self) -> int | None:
        """The gRPC status."""
        value = self.headers.get("grpc-status")
        return int(value) if value is not None else None

    @property
    def reason(self) -> str:
        """The reason in ErrorInfo; empty where there is none."""
        status = status_pb2.Status.FromString(self.headers.get("grpc-status-details-bin", b"").lstrip(b"\0"))
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
        return ""


async def call(
    address: str,
    path: str,
    message: bytes,
    headers: Sequence[tuple[bytes, bytes]] = (),
    timeout: float = 10.0,
) -> Answer:
    """One unary call with exactly these bytes. Raises TimeoutError, ConnectionError."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            settings = struct.pack(">HI", _TRUE_BINARY, 1)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, settings))
            block = _request_headers(address, path, headers)
            writer.write(_frame(_HEADERS, _END_HEADERS, 1, block))
            body = b"\0" + struct.pack(">I", len(message)) + message
            writer.write(_frame(_DATA, _END_STREAM, 1, body))
            return await _answer(reader, writer)
        finally:
            writer.close()


class HalfSent:
    """One connection whose calls announce a message of `size` bytes and send all of it but the last, as far as the
    server's windows let them. The calls stay open until the server ends them."""

    def __init__(
        self, address: str, path: str, size: int, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self._address = address
        self._path = path
        self._size = size
        self._headers = headers
        self._windows = {0: _FIRST_WINDOW}
        self._first_window = _FIRST_WINDOW
        self._sent: dict[int, int] = {}
        #: Calls that the server has ended.
        self.ended = 0

    async def hold(self, calls: int) -> None:
        """Returns when every call has been ended, or the connection."""
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
            block = _request_headers(self._address, self._path, self._headers)
            for stream in range(1, 2 * calls, 2):
                writer.write(_frame(_HEADERS, _END_HEADERS, stream, block))
                self._windows[stream], self._sent[stream] = self._first_window, 0
            while self._sent:
                self._send(writer)
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(writer, head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _send(self, writer: asyncio.StreamWriter) -> None:
        for stream, sent in self._sent.items():
            while (room := min(self._windows[0], self._windows[stream], self._size + 4 - sent, 16_384)) > 0:
                prefix = b"" if sent else b"\0" + struct.pack(">I", self._size)
                if room < len(prefix):
                    break
                writer.write(_frame(_DATA, 0, stream, prefix + bytes(room - len(prefix))))
                sent = self._sent[stream] = sent + room
                self._windows[0] -= room
                self._windows[stream] -= room

    def _take(self, writer: asyncio.StreamWriter, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and stream in self._windows:
            self._windows[stream] += int.from_bytes(payload, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                if name == _INITIAL_WINDOW:
                    for one in self._sent:
                        self._windows[one] += value - self._first_window
                    self._first_window = value
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _RST or (kind == _HEADERS and flags & _END_STREAM):
            self.ended += self._sent.pop(stream, None) is not None


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    hpack, body, block = _Hpack(), b"", b""
    headers: dict[str, bytes] = {}
    while True:
        head = await reader.readexactly(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        payload = await reader.readexactly(size)
        ended = kind in (_DATA, _HEADERS) and flags & _END_STREAM
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            body += payload
        elif kind in (_HEADERS, _CONTINUATION):
            block += payload
            if flags & _END_HEADERS:
                headers |= hpack.decode(block)
                block = b""
        elif kind == _RST:
            return Answer(headers, body, reset=int.from_bytes(payload, "big"))
        elif kind == _GOAWAY:
            return Answer(headers, body, goaway=int.from_bytes(payload[4:8], "big"))
        if ended:
            return Answer(headers, body)


def _request_headers(address: str, path: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(
        _literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", address.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *headers,
        )
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field that is not to be indexed."""
    return b"\0" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7) + text


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out, value = bytearray((most,)), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


class _Hpack:
    """The decoder's side of one connection."""

    def __init__(self) -> None:
        self._dynamic: list[tuple[bytes, bytes]] = []
        self._data = b""
        self._at = 0

    def decode(self, block: bytes) -> dict[str, bytes]:
        """The header fields of one block."""
        self._data, self._at = block, 0
        found: dict[str, bytes] = {}
        while self._at < len(self._data):
            first = self._data[self._at]
            if first & 0x80:
                name, value = self._entry(self._number(7))
            elif first & 0xE0 == 0x20:
                self._number(5)  # the table's size
                continue
            else:
                index = self._number(6 if first & 0x40 else 4)
                name = self._entry(index)[0] if index else self._text()
                value = self._text()
                if first & 0x40:
                    self._dynamic.insert(0, (name, value))
            found[name.decode()] = value
        return found

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if index > _STATIC_SIZE:
            return self._dynamic[index - _STATIC_SIZE - 1]
        return _STATIC[index]

    def _number(self, bits: int) -> int:
        most = (1 << bits) - 1
        value = self._data[self._at] & most
        self._at += 1
        if value < most:
            return value
        shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def _text(self) -> bytes:
        if self._data[self._at] & 0x80:
            raise NotImplementedError("a Huffman code")
        size = self._number(7)
        text = self._data[self._at : self._at + size]
        self._at += size
        return text
