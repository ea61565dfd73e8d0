"""The connections of an HTTP server: counts them, and ends those that take too long.

A connection waits for the head of a request, or it is served. Of those that wait for their first one, and of those
whose reader does not read, the oldest are checked at intervals: a timer for each request would cost more. Idle ones
between two requests are aiohttp's to end. Where there are too many, the one that waits longest makes room; only where
all are being served a new one is sent away for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from aiohttp import StreamReader, web

from libs.clock import Clock
from libs.http.bounds import Bounds

#: Checks of connections within the shortest time that one may take, and the least seconds between two checks.
CHECKS, LEAST_PAUSE = 4, 0.05

#: Answers a request that aiohttp could not read: status and exception → the response.
Refuse = Callable[[int, BaseException | None], web.Response]


class Connections:
    """Counts connections and ends those that take too long. `crowded` returns the answer to one connection too
    many."""

    def __init__(self, bounds: Bounds, clock: Clock, refuse: Refuse, crowded: Callable[[], bytes]) -> None:
        self.bounds = bounds
        self._clock = clock
        self.refuse = refuse
        self._crowded = crowded
        #: Monotonic time since which each waits; the oldest come first.
        self._new: dict[Connection, float] = {}
        self._idle: dict[Connection, float] = {}
        self._unread: dict[Connection, float] = {}
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Ends connections that took too long, now and at intervals; to be called in the loop that serves them."""
        pause = max(LEAST_PAUSE, min(self.bounds.head_seconds, self.bounds.write_seconds) / CHECKS)
        now = self._clock.monotonic()
        for waiting, seconds in (
            (self._new, self.bounds.head_seconds),
            (self._unread, self.bounds.write_seconds),
        ):
            while waiting:
                oldest, since = next(iter(waiting.items()))
                if now - since < seconds:
                    break
                del waiting[oldest]
                oldest.abort()
        self._timer = asyncio.get_running_loop().call_later(pause, self.watch)

    def stop(self) -> None:
        """Ends the checks."""
        if self._timer is not None:
            self._timer.cancel()

    def admit(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Takes a new connection in; returns False where it was sent away instead."""
        if len(self._open) >= self.bounds.max_connections:
            for waiting in (self._idle, self._new):
                if waiting:
                    next(iter(waiting)).abort()
                    break
            else:
                transport.write(self._crowded())
                transport.close()
                return False
        self._open.add(connection)
        self._new[connection] = self._clock.monotonic()
        return True

    def mark_busy(self, connection: Connection) -> None:
        """Notes that the head of a request has come."""
        self._new.pop(connection, None)
        self._idle.pop(connection, None)

    def mark_idle(self, connection: Connection) -> None:
        """Notes that its request has been answered."""
        if connection in self._open:
            self._idle[connection] = self._clock.monotonic()

    def mark_unread(self, connection: Connection) -> None:
        """Notes that its buffers are full."""
        self._unread[connection] = self._clock.monotonic()

    def mark_read(self, connection: Connection) -> None:
        """Notes that its buffers have room again."""
        self._unread.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Forgets a connection that is gone."""
        for waiting in (self._new, self._idle, self._unread):
            waiting.pop(connection, None)
        self._open.discard(connection)


class Connection(web.RequestHandler):
    """aiohttp's connection, which reports to `Connections` what happens to it."""

    __slots__ = ("_admitted", "_registry", "_unwanted", "reading")

    def __init__(self, registry: Connections, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._registry = registry
        self._admitted = False
        #: Bytes that may still come to be thrown away; None: they are wanted.
        self._unwanted: int | None = None
        #: The body that somebody waits for.
        self.reading: StreamReader | None = None

    def abort(self) -> None:
        """Ends it now, whatever waits to be sent."""
        transport = self.transport
        self._registry.forget(self)
        self.force_close()
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's over TLS is no subclass of it.
        self._admitted = self._registry.admit(self, cast(asyncio.Transport, transport))
        if self._admitted:
            super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._unwanted is not None:
            self._unwanted -= len(data)
            if self._unwanted < 0:
                self.abort()
        elif self._admitted:
            super().data_received(data)
            # Behind half a body there can be nothing but the parser's word that the rest is none; aiohttp does not
            # tell the one who waits for it.
            if self.reading is not None and self._messages and not self.reading.is_eof():
                self.reading.set_exception(web.RequestPayloadError("the body is not what its head says"))

    async def linger(self) -> None:
        """Throws away what still comes of a request that has its answer, for a while."""
        self._unwanted = self._registry.bounds.max_body
        if self.transport is not None:
            with suppress(RuntimeError):  # it was not paused
                self.transport.resume_reading()
        await asyncio.sleep(self._registry.bounds.linger_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        self._registry.forget(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._registry.mark_unread(self)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._registry.mark_read(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what the parser, or aiohttp itself, could not make sense of; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer has been sent already")
        return self._registry.refuse(status, exc)
