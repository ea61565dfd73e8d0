"""The one module that moves bytes to and from providers: aiohttp's client, chosen by measurement (docs/adr/0003).

It knows nothing of prompts. It raises ProviderFailure of class TRANSPORT or TIMEOUT, or AUTHENTICATION for a key that
no header can hold.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import aiohttp

from libs.types import ErrorClass
from services.router.providers.wires.error_body import redact
from services.router.providers.wires.wire import HttpRequest
from services.router.request.generation import ProviderFailure

#: Seconds to open a connection, TLS included.
CONNECT_TIMEOUT = 5.0
#: Idle connections are closed before most providers close them (60 s and more).
KEEPALIVE = 50.0
#: Bytes of an error body that are read at most.
MAX_ERROR_BYTES = 64 * 1024
#: Bytes of a stream that are handed on in one go: of the tiniest events, about 10 ms of the loop's time.
CHUNK_BYTES = 32 * 1024
#: Characters that are kept of the HTTP client's own message, which may repeat what the provider sent.
_MAX_MESSAGE = 2000
_NO_HEADERS: Mapping[str, str] = {}


class HttpResponse:
    """An answer whose body has not been read yet."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        #: Looked up without regard to case.
        self.headers: Mapping[str, str] = response.headers
        #: Bytes that have come, to be handed on by the next `chunk`.
        self._rest = b""
        #: The last chunk was a part of what had come at once.
        self._crowded = False

    @property
    def ended(self) -> bool:
        """Returns True if no more bytes will come than are here already."""
        content = self._response.content
        return content.is_eof() or content.exception() is not None

    async def chunk(self) -> bytes:
        """Returns bytes that have come, at least one and at most CHUNK_BYTES; empty at the end. Raises
        ProviderFailure."""
        if self._crowded:
            # A provider that floods must not keep the loop: the others come between two chunks.
            await asyncio.sleep(0)
        come = self._rest or await self._read_any()
        self._crowded = len(come) > CHUNK_BYTES or come is self._rest
        self._rest = come[CHUNK_BYTES:]
        return come[:CHUNK_BYTES]

    def _is_read(self) -> bool:
        """Returns True if all of it has come and is read."""
        return self._response.content.at_eof()

    async def _read_any(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error, self.status) from error

    async def read(self, limit: int) -> bytes:
        """Returns the body, cut at `limit` bytes. Raises ProviderFailure."""
        parts: list[bytes] = []
        size = 0
        while size < limit and not self._is_read():
            parts.append(await self._read_any())
            size += len(parts[-1])
        return b"".join(parts)[:limit]


class HttpExchange:
    """A request and its answer: `async with` sends the one and gives the other once its head is there; its body is to
    come. Leaving closes what was not read. Entering raises ProviderFailure."""

    __slots__ = ("_request", "_response", "_session")

    def __init__(self, session: aiohttp.ClientSession, request: HttpRequest) -> None:
        self._session = session
        self._request = request
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> HttpResponse:
        request = self._request
        try:
            response = await self._session.request(
                request.method, request.url, data=request.body, headers=request.headers, allow_redirects=False
            )
        except aiohttp.ServerTimeoutError as error:
            raise ProviderFailure(
                ErrorClass.TRANSPORT, f"no connection within {CONNECT_TIMEOUT:g} s", retry_same=False
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from error
        except ValueError:
            # Of all headers only the key is not ours. What was raised may hold it.
            raise ProviderFailure(
                ErrorClass.AUTHENTICATION, "the provider's key holds characters that no HTTP header may have"
            ) from None
        self._response = response
        return HttpResponse(response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response = self._response
        # One that came whole is closed already, and its connection back in the pool. Of another the connection cannot
        # be used again: closing it is also what stops the provider.
        if response is not None and not response.closed:
            response.close()


class HttpTransport:
    """A connection pool. Open it with `async with`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpTransport:
        # How many calls run at once is the limiter's business, not the pool's.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            headers={"accept-encoding": "identity", "user-agent": "pointsman"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def open(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpResponse]:
        """Returns the exchange, to be entered with `async with`."""
        assert self._session is not None, "open the transport first"
        return HttpExchange(self._session, request)

    async def fetch(
        self, request: HttpRequest, timeout: float, limit: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Returns status, headers and body of a whole exchange within `timeout` seconds. Of a good answer one byte
        more than `limit` is read at most, of any other MAX_ERROR_BYTES; bytes are counted after decompression. The
        body of another is empty where it breaks off or does not come. Raises ProviderFailure."""
        status, headers = 0, _NO_HEADERS
        try:
            async with asyncio.timeout(timeout), self.open(request) as response:
                status, headers = response.status, response.headers
                return status, headers, await response.read(limit + 1 if status < 300 else MAX_ERROR_BYTES)
        except TimeoutError as error:
            if status < 300:
                message = f"no answer within {timeout:.1f} s"
                raise ProviderFailure(ErrorClass.TIMEOUT, message, http_status=status) from error
        except ProviderFailure:
            if status < 300:
                raise
        # The status alone says enough.
        return status, headers, b""


def _broken(error: Exception, status: int = 0) -> ProviderFailure:
    """Returns the failure of a broken connection. `status`: of the answer that had begun, 0: none."""
    message = f"{type(error).__name__}: {_cause(error)}"[:_MAX_MESSAGE]
    failure = ProviderFailure(ErrorClass.TRANSPORT, redact(message), http_status=status, retry_same=True)
    failure.unredacted = message
    return failure


def _cause(error: Exception) -> str:
    """Returns the cause in words that name neither host nor address nor port: callers read them, and a provider may
    be in the operator's own network."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the provider's name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = getattr(error.certificate_error, "verify_message", "")
        # "Hostname mismatch, certificate is not valid for 'api.internal'."
        return f"the provider's certificate is not valid: {found.partition(',')[0]}"
    if isinstance(error, aiohttp.InvalidURL):
        return "the provider's address is not valid"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientSSLError):
        return "cannot connect"
    return str(error)
