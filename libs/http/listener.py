"""The end of a listening socket, without a connection lost.

The kernel resets what waits to be accepted as the socket closes, with the requests that were sent on it already. So
new callers are kept out first, by a filter that drops their SYN; those whose connection is made are accepted; then
the socket closes. A caller whose SYN was dropped tries again, a second later as TCP does, and is refused: it has sent
nothing. Where there are no such filters (Linux has them), the instant between the last accept and the close is left.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
from contextlib import suppress

#: Seconds in which a handshake that has begun ends.
SETTLE = 0.05
#: SO_ATTACH_FILTER of Linux, https://www.kernel.org/doc/html/latest/networking/filter.html
_ATTACH_FILTER = 26
#: Classic BPF on the TCP header: load the flags (byte 13); SYN among them: keep nothing; else keep it all.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *step)
    for step in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)


def keep_new_out(listener: asyncio.Server) -> None:
    """Makes no more connections on it; it goes on accepting those that are made, or nearly so."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    request = struct.pack("HL", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):  # the kernel has no such filters, or no descriptors are left
        for queue in _queues(listener):
            with queue:
                queue.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, request)


def close_listener(listener: asyncio.Server) -> list[socket.socket]:
    """Closes it, and returns the connections that waited to be accepted."""
    queues: list[socket.socket] = []
    accepted: list[socket.socket] = []
    with suppress(OSError):  # no descriptors are left: those who wait are reset
        queues = _queues(listener)
    listener.close()
    for queue in queues:
        with queue, suppress(OSError):  # there are no more
            queue.setblocking(False)
            while True:
                accepted.append(queue.accept()[0])
    for connection in accepted:
        connection.setblocking(False)
    return accepted


def _queues(listener: asyncio.Server) -> list[socket.socket]:
    return [socket.socket(fileno=os.dup(known.fileno())) for known in listener.sockets]
