"""The socket of one request, written to directly: a framework's response cannot reset, cut or stall on demand, and
bytes joined here cost less than its own framing. Reading and parsing requests stays with aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from time import time

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
#: l_onoff, l_linger: closing discards what is unsent and sends RST instead of FIN.
_LINGER_RESET = struct.pack("ii", 1, 0)


#: Bytes that may wait in the socket before an answer of any length goes on.
_UNSENT = 512 * 1024


class _Date:
    """The Date header, made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        now = int(time())
        if now != self._second:
            self._second, self._text = now, f"Date: {formatdate(now, usegmt=True)}\r\n"
        return self._text


_date = _Date()


class Written(web.StreamResponse):
    """Tells aiohttp that the answer is already on the socket."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._keep = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        """Returns True if another request may follow on the connection."""
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Does nothing: the answer is written."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Does nothing: the answer is written."""


_KEEP, _CLOSE = Written(True), Written(False)


class Connection:
    """Collects bytes; `flush` writes them at once. A client that is gone swallows everything."""

    __slots__ = ("_keep", "_parts", "_transport")

    def __init__(self, request: web.BaseRequest) -> None:
        self._transport = request.transport
        self._keep = request.keep_alive
        self._parts: list[bytes] = []

    def head(
        self, status: int, content_type: str, headers: Iterable[tuple[str, str]], length: int | None = None
    ) -> None:
        """Adds status line and headers; without a length the body is chunked."""
        lines = [_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n", _date()]
        lines.append(f"Content-Type: {content_type}\r\n")
        lines.append("Transfer-Encoding: chunked\r\n" if length is None else f"Content-Length: {length}\r\n")
        lines.extend(f"{name}: {value}\r\n" for name, value in headers)
        lines.append("\r\n" if self._keep else "Connection: close\r\n\r\n")
        self._parts.append("".join(lines).encode("latin-1", "replace"))

    def raw(self, data: bytes) -> None:
        """Adds bytes of a body with a known length."""
        self._parts.append(data)

    def chunk(self, data: bytes) -> None:
        """Adds one chunk of a body without one."""
        if data:
            self._parts.append(b"%x\r\n%b\r\n" % (len(data), data))

    def chunks(self, events: Iterable[bytes]) -> None:
        """Adds several chunks."""
        self._parts.extend([b"%x\r\n%b\r\n" % (len(event), event) for event in events])

    def last_chunk(self) -> None:
        """Adds the end of a chunked body."""
        self._parts.append(b"0\r\n\r\n")

    def flush(self) -> None:
        """Writes what was collected."""
        if self._parts and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts = []

    async def drained(self) -> bool:
        """Waits until little of what was written is still to be sent. Returns False where the client is gone."""
        transport = self._transport
        await asyncio.sleep(0)
        while transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size() < _UNSENT:
                return True
            await asyncio.sleep(0.002)
        return False

    def done(self) -> web.StreamResponse:
        """The answer is complete."""
        self.flush()
        return _KEEP if self._keep else _CLOSE

    def close(self) -> web.StreamResponse:
        """End the connection after what was written, whatever the answer still owes."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
        return _CLOSE

    def reset(self) -> web.StreamResponse:
        """End the connection with a TCP reset; bytes that the client has not read may be lost."""
        self.flush()
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            self._transport.abort()
        return _CLOSE
