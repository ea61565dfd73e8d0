"""The HTTP server of an edge, with the life of a gRPC server: bind, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from libs.http.observe import Handler, HttpObserver
from libs.settings import parse_address, why_unbound

#: Connections that wait to be taken while the loop is busy.
BACKLOG = 1024
#: aiohttp's log of bad requests quotes their headers, of which one is a key.
_quiet = logging.getLogger("pointsman.http")
_quiet.setLevel(logging.CRITICAL)


def certificate(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS from PEM files; None where there are none. Raises ValueError for one without the other, OSError where they
    cannot be read."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ValueError("a certificate and its key must be set together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


class HttpServer:
    """Serves an application, and beside it `GET /healthz` (200 while the process answers at all) and `GET /readyz`
    (200 while it serves, is not draining, and `ready` says that what it depends on is there; else 503).

    A request whose caller goes away is cancelled. `start`, `serving`, `drain` are called by the lifecycle in that
    order.
    """

    def __init__(
        self,
        app: web.Application,
        observer: HttpObserver,
        ready: Callable[[], Awaitable[bool]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._ready = ready
        self._tls = tls
        self._serving = False
        self._running = 0
        self._idle = asyncio.Event()

        @web.middleware
        async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._running += 1
            try:
                return await observer.observe(request, handler)
            finally:
                self._running -= 1
                if self._running == 0:
                    self._idle.set()

        app.middlewares.insert(0, observed)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_quiet,
            handler_cancellation=True,
            # How long `cleanup` waits; `drain` has done the waiting by then.
            shutdown_timeout=0.02,
        )
        self.port = 0

    async def start(self, listen: str) -> None:
        """Binds and answers, not ready yet. Raises OSError where the address cannot be had."""
        host, port = parse_address(listen)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._tls, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(why_unbound(listen)) from error
        self.port = int(self._runner.addresses[0][1])

    def serving(self) -> None:
        """Tells everyone who asks that requests may come."""
        self._serving = True

    async def drain(self, seconds: float) -> None:
        """Not ready; no new connections; idle ones end; running requests get `seconds` to finish, then are cut."""
        self._serving = False
        for site in list(self._runner.sites):
            await site.stop()
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()
        self._idle.clear()
        if self._running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
            # The last answer's end is on its way out.
            await asyncio.sleep(0)
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._serving and await self._ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready\n")
