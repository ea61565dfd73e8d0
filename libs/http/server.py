"""The HTTP server of an edge, with the life of a gRPC server: bind, serve, drain.

A request passes the layers in this order: observe (span, metrics), route, identity, then the handler, which may read
the body. Whatever is raised becomes an answer here and nowhere else: of a caller that is not known nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from libs.bounds import MAX_ID
from libs.clock import Clock
from libs.drain import wait_until_quiet
from libs.errors import InvalidArgument, PointsmanError, ResourceExhausted, Unauthenticated
from libs.http.bounds import Bounds
from libs.http.call import HttpCall
from libs.http.connections import FIRST_REQUEST, Connection, Connections
from libs.http.errors import ErrorShape, HttpError
from libs.http.listener import SETTLE, close_listener, keep_new_out
from libs.http.observe import CLIENT_CLOSED_REQUEST, HttpObserver
from libs.http.routes import Handler, Route, Routes
from libs.intake import RETRY_AFTER, BytesInFlight, UnknownCallers
from libs.rpc.identity import Authenticator, bearer_key
from libs.settings import parse_address, why_unbound
from libs.telemetry import get_logger

#: Seconds that a request which is cut gets to clean up.
CUT = 0.02
#: Connections that wait to be taken while the loop is busy.
BACKLOG = 1024
#: The longest id of a request that a caller may choose, in characters.
REQUEST_ID = "x-request-id"
#: The `server` header, in place of the software's versions, which aiohttp would send.
SERVER = "pointsman"
log = get_logger(__name__)
#: aiohttp's log of bad requests quotes their headers, of which one is a key.
_quiet = logging.getLogger("pointsman.http")
_quiet.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Door:
    """The parts that the HTTP server shares with the process and its other door."""

    clock: Clock
    observer: HttpObserver
    authenticator: Authenticator
    unknown_callers: UnknownCallers
    bytes_in_flight: BytesInFlight
    #: Makes the ids of requests that bring none.
    new_id: Callable[[], str]


def certificate(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Returns the TLS context of PEM files; None where there are none. Raises ValueError for one without the other,
    OSError where they cannot be read."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ValueError("a certificate and its key must be set together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


class _Server(web.Server):
    """aiohttp's server, with connections that are counted."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        registry: Connections,
        bounds: Bounds,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._registry = registry
        self._options = {
            "loop": asyncio.get_running_loop(),
            "keepalive_timeout": bounds.idle_seconds,
            "access_log": None,
            "logger": _quiet,
            # `Connection.linger` throws away what aiohttp would go on to read, count and unpack.
            "lingering_time": 0,
            "auto_decompress": False,
        }

    def __call__(self) -> web.RequestHandler:
        return Connection(self._registry, self, **self._options)


class HttpServer:
    """Serves routes, and beside them `GET /healthz` (200 while the process answers at all) and `GET /readyz` (200
    while it serves and is not draining; else 503).

    A request whose caller goes away is cancelled. `start`, `begin_serving`, `drain` are called by the lifecycle in
    that order.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        shape: ErrorShape,
        door: Door,
        bounds: Bounds | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._shape = shape
        self._door = door
        self._bounds = bounds or Bounds()
        self._tls = tls
        own = (
            Route("GET", "/healthz", self._healthz, public=True),
            Route("GET", "/readyz", self._readyz, public=True),
        )
        self._routes = Routes((*routes, *own))
        self._registry = Connections(self._bounds, door.clock, self._unreadable, self._crowded)
        self._server: _Server | None = None
        self._listener: asyncio.Server | None = None
        self._serving = False
        self._running = 0
        self._begun = 0
        self._idle = asyncio.Event()
        self.port = 0

    async def start(self, listen: str) -> None:
        """Binds and answers, not ready yet. Raises OSError where the address cannot be had."""
        host, port = parse_address(listen)
        self._server = _Server(self._serve, self._registry, self._bounds)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._server,
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=self._bounds.head_seconds if self._tls else None,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise OSError(why_unbound(listen)) from error
        self._registry.watch()
        self.port = int(self._listener.sockets[0].getsockname()[1])

    def begin_serving(self) -> None:
        """Tells everyone who asks that requests may come."""
        self._serving = True

    async def drain(self, seconds: float) -> None:
        """Reports itself not ready; requests are taken until callers have turned away, and their connections end with
        the answer; then no new connections, idle ones end, running requests get what is left of `seconds`, and are
        cut. A request on a connection that was made by then is still served: its caller cannot know that it may be
        sent again."""
        self._serving = False
        seconds -= await wait_until_quiet(lambda: self._begun, seconds)
        assert self._server is not None
        assert self._listener is not None
        keep_new_out(self._listener)
        settle = min(SETTLE, max(0.0, seconds))
        await asyncio.sleep(settle)
        seconds -= settle
        for waiting in close_listener(self._listener):
            await self._take(waiting)
        seconds -= await self._registry.end_waiting(seconds)
        self._idle.clear()
        if self._running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
            # The last answer's end is on its way out.
            await asyncio.sleep(0)
        self._registry.stop()
        await self._server.shutdown(CUT)

    async def _take(self, accepted: socket.socket) -> None:
        """Serves a connection that was accepted for it."""
        assert self._server is not None
        with contextlib.suppress(OSError):  # the caller has gone, or knows no TLS
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=FIRST_REQUEST if self._tls else None,
            )

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        self._registry.mark_busy(connection)
        self._running += 1
        self._begun += 1
        try:
            response = await self._answer(request)
        finally:
            self._registry.mark_idle(connection)
            self._running -= 1
            if self._running == 0:
                self._idle.set()
        if not request.content.is_eof():
            await connection.linger()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Passes a request through the layers and sends the answer."""
        route = self._routes.find(request.method, request.path)
        observer = self._door.observer
        observation = observer.begin(request, "none" if isinstance(route, HttpError) else route.path)
        call = HttpCall(request, self._id_of(request), self._door.bytes_in_flight, self._bounds)
        status, traced = 500, True
        response: web.StreamResponse
        try:
            if isinstance(route, HttpError):
                response = self._error(route)
            elif route.public or (refusal := self._identify(call)) is None:
                response = await self._handled(call, route.handler)
            else:
                response = self._error(self._shape.translate(refusal))
                response.force_close()
                # Beyond their rate unknown callers must not fill the traces either.
                traced = isinstance(refusal, Unauthenticated)
            if not response.prepared:
                response.headers[REQUEST_ID] = call.id
                response.headers["server"] = SERVER
                if not self._serving or not request.content.is_eof():
                    response.force_close()
            await response.prepare(request)
            await response.write_eof()
            status = response.status
            return response
        except (asyncio.CancelledError, ConnectionError):
            status = CLIENT_CLOSED_REQUEST
            raise
        finally:
            call.close()
            observer.end(observation, status, traced=traced)

    def _id_of(self, request: web.BaseRequest) -> str:
        given = request.headers.get(REQUEST_ID, "")
        usable = 0 < len(given) <= MAX_ID and given.isascii() and given.isprintable()
        return given if usable else self._door.new_id()

    def _identify(self, call: HttpCall) -> PointsmanError | None:
        """Finds out who calls, from the head alone. Returns the error for an unknown caller, and for one with too
        many connections."""
        try:
            key = bearer_key(call.request.headers.get("authorization"))
            call.caller = self._door.authenticator.authenticate(key)
        except Unauthenticated as error:
            return self._door.unknown_callers.answer(error)
        except InvalidArgument as error:
            return self._door.unknown_callers.answer(Unauthenticated(error.message, reason="KEY_MALFORMED"))
        connection = call.request.protocol
        assert isinstance(connection, Connection)
        if self._registry.identify(connection, call.caller):
            return None
        return ResourceExhausted(
            "This caller's requests being served take as many connections as it may have",
            reason="TOO_MANY_CONNECTIONS",
            retry_after=RETRY_AFTER,
        )

    async def _handled(self, call: HttpCall, handler: Handler) -> web.StreamResponse:
        """Returns the handler's answer, or the error it raised as one."""
        try:
            if call.caller:
                call.begin()
            return await handler(call)
        except ConnectionError:
            raise  # the caller went away
        except HttpError as error:
            return self._error(error)
        except PointsmanError as error:
            return self._error(self._shape.translate(error))
        except web.RequestPayloadError:
            return self._error(HttpError(400, "The request body could not be read.", code="invalid_body"))
        except Exception as error:
            log.error("unexpected_error", path=call.request.path, exc_info=error)
            if call.request.writer.output_size:
                raise  # in the middle of a stream: the connection is cut
            return self._error(_bug())

    def _error(self, error: HttpError) -> web.Response:
        return web.Response(
            status=error.status,
            body=self._shape.body(error),
            content_type=self._shape.content_type,
            headers=error.headers,
        )

    def _unreadable(self, status: int, cause: BaseException | None) -> web.Response:
        """Answers what never became a request. Its words are not repeated: one of them may be a key."""
        if status >= 500:
            error = _bug()
        elif isinstance(cause, LineTooLong):
            error = HttpError(431, "A line of the request's head is too long.", code="headers_too_large")
        else:
            error = HttpError(status, "The request is not valid HTTP.", code="invalid_http")
        self._door.observer.count_unreadable(error.status)
        response = self._error(error)
        response.headers.update({REQUEST_ID: self._door.new_id(), "server": SERVER})
        response.force_close()
        return response

    def _crowded(self) -> bytes:
        """Returns the bytes for one connection too many, of which no request is read."""
        self._door.observer.count_unreadable(503)
        body = self._shape.body(HttpError(503, "Too many connections.", code="too_many_connections"))
        head = [
            "HTTP/1.1 503 Service Unavailable",
            f"content-type: {self._shape.content_type}",
            f"content-length: {len(body)}",
            f"server: {SERVER}",
            f"{REQUEST_ID}: {self._door.new_id()}",
            "retry-after: 1",
            "connection: close",
        ]
        return "\r\n".join([*head, "", ""]).encode() + body

    async def _healthz(self, call: HttpCall) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, call: HttpCall) -> web.StreamResponse:
        if self._serving:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready\n")


def _bug() -> HttpError:
    return HttpError(500, "The server had an error while processing your request.", code="internal")
