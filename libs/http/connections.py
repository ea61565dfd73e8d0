"""The connections of an HTTP server: counts them, and ends those that take too long.

A connection waits for the head of a request, or it is served. Of those that wait for their first one, and of those
whose reader does not read, the oldest are checked at intervals: a timer for each request would cost more. Idle ones
between two requests are aiohttp's to end. Where there are too many, of a holder or in all, one that has waited long
makes room; only where all of them are being served the new one is sent away for a while (`holders`).
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from aiohttp import StreamReader, web

from libs.clock import Clock
from libs.http.bounds import Bounds
from libs.http.holders import Holder, Holders

#: Checks of connections within the shortest time that one may take, and the least seconds between two checks.
CHECKS, LEAST_PAUSE = 4, 0.05
#: Seconds for which the first request of a new connection is awaited while the server drains (who connects has one to
#: send), and between two checks for one that is still awaited.
FIRST_REQUEST, CHECK_AGAIN = 1.0, 0.01

#: Of what came at once (up to 256 KiB), a piece with more lines than this is parsed so many bytes at a time, with a
#: round of the loop between: a chunk takes the parser about 20 µs, and six bytes of its sender.
MOST_LINES, SLICE = 1000, 8 * 1024

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
        self._unread: dict[Connection, float] = {}
        self._holders: Holders[Connection] = Holders(bounds.max_connections)
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

    async def end_waiting(self, seconds: float) -> float:
        """For a server that listens no more: ends the connections that wait for a request, idle ones as soon as none
        has arrived, new ones after FIRST_REQUEST or `seconds` too. Returns how long that took."""
        began = self._clock.monotonic()
        most = min(FIRST_REQUEST, seconds)
        over = False
        while not over and (waiting := self._holders.waiting()):
            over = self._clock.monotonic() - began >= most
            for connection in waiting:
                if (over or connection not in self._new) and not connection.is_sending():
                    connection.force_close()
            # Those that end are forgotten, and what has arrived is read.
            await asyncio.sleep(CHECK_AGAIN)
        return self._clock.monotonic() - began

    def admit(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Takes a new connection in; returns False where it was sent away instead."""
        peer = transport.get_extra_info("peername") or (
            "",
        )  # none: it has gone already, or is no socket of IP
        if not self._find_room(connection, Holder(address=str(peer[0]))):
            transport.write(self._crowded())
            transport.close()
            return False
        self._holders.mark_waiting(connection)
        self._new[connection] = self._clock.monotonic()
        return True

    def identify(self, connection: Connection, tenant: str) -> bool:
        """Counts a connection to its caller from here on; returns False where that has its share of them, all being
        served."""
        holder = self._holders.holder_of(connection)
        return holder is None or holder.tenant == tenant or self._find_room(connection, Holder(tenant))

    def _find_room(self, connection: Connection, holder: Holder) -> bool:
        none, waiting = self._holders.in_the_way(connection, holder)
        if none and waiting is None:
            return False
        if waiting is not None:
            waiting.abort()
        self._holders.give(connection, holder)
        return True

    def mark_busy(self, connection: Connection) -> None:
        """Notes that the head of a request has come."""
        self._new.pop(connection, None)
        self._holders.mark_busy(connection)

    def mark_idle(self, connection: Connection) -> None:
        """Notes that its request has been answered."""
        self._holders.mark_waiting(connection)

    def mark_unread(self, connection: Connection) -> None:
        """Notes that its buffers are full."""
        self._unread[connection] = self._clock.monotonic()

    def mark_read(self, connection: Connection) -> None:
        """Notes that its buffers have room again."""
        self._unread.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Forgets a connection that is gone."""
        self._new.pop(connection, None)
        self._unread.pop(connection, None)
        self._holders.forget(connection)


class Connection(web.RequestHandler):
    """aiohttp's connection, which reports to `Connections` what happens to it."""

    __slots__ = ("_admitted", "_registry", "_rest", "_unwanted", "reading")

    def __init__(self, registry: Connections, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._registry = registry
        self._admitted = False
        #: Bytes that may still come to be thrown away; None: they are wanted.
        self._unwanted: int | None = None
        #: The bytes that have come and are not parsed yet.
        self._rest = b""
        #: The body that somebody waits for.
        self.reading: StreamReader | None = None

    def abort(self) -> None:
        """Ends it now, whatever waits to be sent."""
        transport = self.transport
        self._registry.forget(self)
        self.force_close()
        if transport is not None:
            transport.abort()

    def is_sending(self) -> bool:
        """Returns True if bytes have arrived that are not read yet, or are still thrown away."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return self._unwanted is not None or bool(poll.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's over TLS is no subclass of it.
        self._admitted = self._registry.admit(self, cast(asyncio.Transport, transport))
        if self._admitted:
            super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._rest:
            self._rest += data
            if not data:
                self._parse(data)  # aiohttp goes on with what it has put aside
        elif data.count(b"\n") > MOST_LINES:
            self._rest = data
            self._parse_rest()
        else:
            self._parse(data)

    def _parse_rest(self) -> None:
        """Parses a slice of what has come; no more is read meanwhile."""
        if not self._reading_paused:
            data, self._rest = self._rest[:SLICE], self._rest[SLICE:]
            self._parse(data)
        if self.transport is None:
            self._rest = b""
        elif self._rest:
            self._pause_transport_reading()
            # Where the body's reader has enough for now there is no hurry.
            pause = LEAST_PAUSE if self._reading_paused else 0.0
            asyncio.get_running_loop().call_later(pause, self._parse_rest)
        elif not self._reading_paused:
            self._resume_transport_reading()

    def _parse(self, data: bytes) -> None:
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
