"""Answers operators' programs: with the metrics of the process, and while its event loop turns.

`GET /metrics` for Prometheus and `GET /livez` for the orchestrator, answered by the event loop, so that a process
whose loop is blocked does not answer and is restarted. One connection carries one answer and then ends, within
`TIMEOUT` and among at most `MOST_CONNECTIONS`: nobody who connects and says nothing holds anything for long.
"""

from __future__ import annotations

import asyncio
import os
import socket
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from libs.settings import parse_address

#: Seconds that a connection may last, from its opening to the last byte of the answer.
TIMEOUT = 5.0
#: Connections at once; one more is ended at once. Prometheus and the orchestrator need one each.
MOST_CONNECTIONS = 32
#: Bytes of a request's head; longer ones are not answered.
HEAD_BYTES = 8192

_PLAIN = "text/plain; charset=utf-8"


class OperationsServer:
    """Answers from `start` to `stop`, before and while the process drains too."""

    def __init__(self, registry: CollectorRegistry, timeout: float = TIMEOUT) -> None:
        """`timeout`: seconds that a connection may last."""
        self._registry = registry
        self._timeout = timeout
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        #: The metrics being encoded, by their content type. This is the one thing here that takes time: in a thread,
        #: so that the loop turns meanwhile, and shared, so that many who ask do not make many.
        self._encoding: dict[str, asyncio.Task[bytes]] = {}
        self.port = 0

    @property
    def connections(self) -> int:
        """Returns the number of open connections."""
        return len(self._open)

    async def start(self, listen: str) -> None:
        """Listens. Raises OSError with a sentence where the address cannot be had."""
        host, port = parse_address(listen)
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=HEAD_BYTES)
        except socket.gaierror as error:
            raise OSError(f"cannot listen on {listen} for metrics: {error.strerror}") from error
        except OSError as error:
            raise OSError(
                f"cannot listen on {listen} for metrics: {os.strerror(error.errno or 0)}"
            ) from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Ends the connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, *self._encoding.values(), return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                head = await reader.readuntil(b"\r\n\r\n")
                status, content_type, body = await self._answer(head.decode("latin-1").split("\r\n"))
                writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {content_type}\r\n"
                    f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode("latin-1")
                )
                writer.write(body)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # Too slow, gone, or no HTTP: there is nobody to tell.
        finally:
            writer.transport.abort()

    async def _answer(self, head: list[str]) -> tuple[HTTPStatus, str, bytes]:
        method, _, rest = head[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path not in ("/livez", "/metrics"):
            return HTTPStatus.NOT_FOUND, _PLAIN, b"GET /metrics or /livez\n"
        if method != "GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, _PLAIN, b"GET only\n"
        if path == "/livez":
            return HTTPStatus.OK, _PLAIN, b"alive\n"
        fields = (line.partition(":") for line in head[1:])
        accept = next((value for name, _, value in fields if name.lower() == "accept"), "")
        encode, content_type = choose_encoder(accept)
        if content_type not in self._encoding:
            task = asyncio.create_task(asyncio.to_thread(encode, self._registry))
            task.add_done_callback(lambda _: self._encoding.pop(content_type))
            self._encoding[content_type] = task
        # Shielded: one who goes away does not take it from the others.
        return HTTPStatus.OK, content_type, await asyncio.shield(self._encoding[content_type])
