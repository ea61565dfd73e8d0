"""Signs of life on streams that have nothing to say yet, so that nobody between the router and its caller takes a
model that thinks, or a queue, for a dead connection and cuts it.

They say nothing about the answer: they may come before it is known who gives it, and commit to nobody. None is sent
while anything else is on its way: the consumer of `between` asks for the next event when it has sent the one before,
so the silence is counted from then on, and no event is handed on while a sign of life is being written. A caller that
reads nothing gets one that waits, and no second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from libs.answer import Event


class Heartbeats:
    """Sends a sign of life where nothing has been sent for `interval` seconds; 0: never."""

    def __init__(self, interval: float) -> None:
        if interval < 0:
            raise ValueError("the interval of heartbeats must not be negative")
        self._interval = interval

    async def between(
        self, events: AsyncGenerator[Event, None], send: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[Event, None]:
        """Yields the events, and calls `send` in the silences between them. Raises what `send` raises. Closing it
        closes `events`."""
        if not self._interval:
            async with aclosing(events):
                async for event in events:
                    yield event
            return
        silence = _Silence(self._interval, send)
        try:
            async with aclosing(events):
                async for event in events:
                    silence.over()
                    if silence.sending is not None:
                        await silence.sent()
                    yield event
                    silence.begin()
        finally:
            await silence.close()


class _Silence:
    """The time since anything was sent. One timer serves a stream: it looks how long the silence is, and is set anew
    for the rest of the interval, so an event costs no more than the clock's reading."""

    __slots__ = ("_interval", "_loop", "_send", "_since", "_timer", "sending")

    def __init__(self, interval: float, send: Callable[[], Awaitable[None]]) -> None:
        self._interval = interval
        self._send = send
        self._loop = asyncio.get_running_loop()
        #: None: an event is being sent.
        self._since: float | None = self._loop.time()
        self._timer = self._loop.call_later(interval, self._look)
        #: The sign of life that is being sent, or was and is not looked at yet.
        self.sending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._since = self._loop.time()

    def over(self) -> None:
        self._since = None

    async def sent(self) -> None:
        """Returns when the sign of life is on its way. Raises what sending it raised."""
        sending, self.sending = self.sending, None
        if sending is not None:
            await sending

    async def close(self) -> None:
        self._timer.cancel()
        sending, self.sending = self.sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.wait({sending})
            if not sending.cancelled():
                sending.exception()  # retrieved: whoever closes knows already that nobody listens

    def _look(self) -> None:
        now = self._loop.time()
        rest = self._interval
        if self._since is not None:
            rest = self._since + self._interval - now
            if rest <= 0:
                if self.sending is None or (self.sending.done() and not self.sending.exception()):
                    self.sending = self._loop.create_task(self._sign())
                self._since, rest = now, self._interval
        self._timer = self._loop.call_later(rest, self._look)

    async def _sign(self) -> None:
        await self._send()
