"""A small HTTP server on TLS or without, with the certificates of this folder, and places where nobody answers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

CERTIFICATES = Path(__file__).parent / "certificates"
#: The ends of `good.pem` and `expired.pem`, epoch seconds.
GOOD_ENDS, EXPIRED_ENDS = 2_398_377_600.0, 1_735_689_600.0


def trust() -> ssl.SSLContext:
    """Trusts the signer of this folder's certificates alone."""
    return ssl.create_default_context(cafile=str(CERTIFICATES / "trust.pem"))


@asynccontextmanager
async def serving(
    certificate: Path | None = None, key: Path | None = None, body: bytes = b'{"data":[]}'
) -> AsyncIterator[int]:
    """Answers every request with the body; yields the port. `certificate` None: without TLS."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """Yields a port on which nothing listens, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@contextmanager
def black_hole() -> Iterator[int]:
    """Yields a port where connections are neither taken nor refused: its queue is full and nobody accepts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        place = held.getsockname()
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(place)
            waiting.append(one)
        try:
            yield int(place[1])
        finally:
            for one in waiting:
                one.close()


@contextmanager
def mute_port() -> Iterator[int]:
    """Yields a port where connections are taken, and nothing is ever said."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(64)
        yield int(held.getsockname()[1])
