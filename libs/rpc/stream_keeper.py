"""Keeps one long-lived call to another service open, for as long as the process lives.

A session is one call, from its opening to its end. However it ends, the next one is opened after a wait with full
jitter, which doubles with every session in which the peer answered nothing and starts again once it has answered: a
peer that accepts calls and ends them at once is as broken as one that refuses them. A session holds only what is its
own: which messages it sends, what it makes of the answers, and how long it may wait for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Generic, Protocol, TypeVar

import grpc
from prometheus_client import Gauge

from libs.clock import Clock
from libs.resilience.backoff import Backoff
from libs.rpc.status import from_rpc_error
from libs.telemetry import get_logger
from libs.throttle import Throttle

log = get_logger(__name__)


class StreamEnded(Exception):
    """The peer ended the stream in order, as a server does that drains. Raised by a session."""

    def __init__(self) -> None:
        super().__init__("the peer ended the stream")


class StreamCall(Protocol):
    """A call as the keeper needs it."""

    def cancel(self) -> bool:
        """Ends the call; False where it has ended already."""
        ...


CallT = TypeVar("CallT", bound=StreamCall)


class StreamKeeper(Generic[CallT]):
    """One stream to one service. `run` opens sessions until one returns."""

    def __init__(
        self,
        name: str,
        open_call: Callable[[], CallT],
        backoff: Backoff,
        clock: Clock,
        rng: Random,
        gauge: Gauge | None = None,
    ) -> None:
        """`name`: as what a broken session is logged, `<name>_broken`, at most once every ten seconds. `gauge`: set
        to 1 while the peer answers, else to 0."""
        self._event = f"{name}_broken"
        self._open_call = open_call
        self._backoff = backoff
        self._rng = rng
        self._gauge = gauge
        self._broken = Throttle(clock)
        #: Sessions since the peer answered last.
        self._in_vain = 0
        #: True from the peer's first answer in a session to the session's end.
        self.connected = False
        #: Set once the peer has answered, for good.
        self.known = asyncio.Event()

    def answered(self) -> None:
        """Counts an answer of the peer. The session calls it for each, before it acts on it."""
        self._in_vain = 0
        if not self.connected:
            self.connected = True
            self.known.set()
            if self._gauge is not None:
                self._gauge.set(1)

    async def run(self, session: Callable[[CallT], Awaitable[None]]) -> None:
        """Opens a call and hands it to `session`, again and again, until `session` returns.

        A session that fails with a status, takes too long (TimeoutError) or finds the stream ended (StreamEnded) is
        logged and followed by another; any other exception ends this, with the call cancelled.
        """
        while True:
            call = self._open_call()
            try:
                await session(call)
                return
            # InvalidStateError is what grpc.aio raises for a write to a call that has ended.
            except (grpc.aio.AioRpcError, TimeoutError, StreamEnded, asyncio.InvalidStateError) as error:
                self._log(error)
            finally:
                call.cancel()
                self.connected = False
                if self._gauge is not None:
                    self._gauge.set(0)
            await asyncio.sleep(self._backoff.delay(self._in_vain, self._rng) or 0.0)
            self._in_vain += 1

    def _log(self, error: Exception) -> None:
        if times := self._broken.due():
            known = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else error
            log.warning(self._event, error=str(known) or type(error).__name__, times=times)
