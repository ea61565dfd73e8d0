"""One request being served: its caller, its id, and its body, which is read within bounds or not at all."""

from __future__ import annotations

import asyncio

from aiohttp import web

from libs.http.bounds import Bounds
from libs.http.connections import Connection
from libs.http.errors import HttpError
from libs.intake import CALL_BYTES, BytesInFlight

#: The answer to `expect: 100-continue`, https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpCall:
    """The request that a handler gets. `caller`: empty where the route is open to all."""

    __slots__ = ("_bounds", "_bytes", "_held", "_received", "caller", "id", "request")

    def __init__(
        self, request: web.BaseRequest, request_id: str, held: BytesInFlight, bounds: Bounds
    ) -> None:
        self.request = request
        self.id = request_id
        self.caller = ""
        self._bytes = held
        self._held = 0
        self._received = 0
        self._bounds = bounds

    def begin(self) -> None:
        """Counts as in flight until `close`, before a byte of the body has come. Raises ResourceExhausted where the
        caller has too much in flight."""
        self._bytes.take(self.caller, CALL_BYTES)
        self._held = CALL_BYTES

    async def body(self) -> bytes:
        """Returns the whole body. It counts as in flight, each piece from when it is here until `close`.

        Raises HttpError for one that is compressed, too large or too slow, ResourceExhausted beyond the bytes in
        flight; nothing more is read then.
        """
        request, content = self.request, self.request.content
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise HttpError(415, "Compressed request bodies are not accepted.", code="unsupported_encoding")
        if (request.content_length or 0) > self._bounds.max_body:
            raise self._too_large()
        if content.is_eof():
            # It came with its head.
            data = content.read_nowait(-1)
            self._take(data)
            return data
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(CONTINUE)
            # It is no part of the answer.
            request.writer.output_size = 0
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.reading = content
        chunks: list[bytes] = []
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._bounds.body_seconds) as limit:
                while chunk := await content.readany():
                    self._take(chunk)
                    chunks.append(chunk)
                    limit.reschedule(
                        began + self._bounds.body_seconds + self._received / self._bounds.body_rate
                    )
        except TimeoutError:
            raise HttpError(408, "The request body came too slowly.", code="request_timeout") from None
        finally:
            connection.reading = None
        return b"".join(chunks)

    def close(self) -> None:
        """Gives the bytes back."""
        if self._held:
            self._bytes.give_back(self.caller, self._held)
            self._held = 0

    def _take(self, data: bytes) -> None:
        if self._received + len(data) > self._bounds.max_body:
            raise self._too_large()
        self._bytes.take(self.caller, len(data))
        self._received += len(data)
        self._held += len(data)

    def _too_large(self) -> HttpError:
        text = f"The request body is larger than {self._bounds.max_body} bytes."
        return HttpError(413, text, code="request_too_large")
