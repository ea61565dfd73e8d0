"""One channel to one service, with identity, deadlines, the caller's trace, and errors as exceptions."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from libs.errors import Cancelled, DeadlineExceeded, PointsmanError, Unavailable
from libs.rpc.channel import connect, metadata
from libs.rpc.identity import MAX_KEY
from libs.rpc.status import from_rpc_error

_Response = TypeVar("_Response")
#: Seconds. Long enough for a long answer after one slow failure; a caller who knows better says so.
DEFAULT_TIMEOUT = 120.0
#: A server may see a deadline pass so much earlier than its client, seconds.
CLOCKS_APART = 0.05


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption that trusts these roots: PEM bytes, or None for the system's. `certificate` and `private_key`, both
    PEM, are for servers that want to know the client too."""

    root_certificates: bytes | None = None
    private_key: bytes | None = None
    certificate: bytes | None = None


class ServiceClient:
    """The common half of every client: an async context manager around one channel.

    `target` is `host:port`, or `dns:///name:port` for all addresses of a name: calls are spread over those that
    report themselves SERVING. `timeout` is the default deadline of a call in seconds, None for none.

    Raises ValueError for an empty target, a key that cannot be put into a header, or a timeout that is not
    positive.
    """

    #: The full name of the gRPC service, also the one whose health is watched.
    service = ""

    def __init__(
        self,
        target: str,
        key: str = "",
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        key = _checked(key)
        if not target.strip():
            raise ValueError("the target is empty: expected host:port")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"the timeout must be above 0 seconds, not {timeout:g}")
        self.target = target.strip()
        self._timeout = timeout
        self._tls = tls
        self._key = key
        #: The key that calls carry themselves; over TLS the channel's credentials do it.
        self._call_key = "" if tls else key
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """Makes the channel; it connects by itself, at the latest with the first call."""
        self._channel = connect(self.target, health_service=self.service, credentials=self._credentials())
        self._bind(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancels what still runs and closes the channel."""
        if self._channel is not None:
            await self._channel.close()

    def as_caller(self, key: str) -> Self:
        """Returns this client under another key, on the same channel and for as long as that is open: for a process
        that passes on the calls of many tenants. Costs nothing to make. Raises ValueError for a key that cannot be
        put into a header, and where this client has a key of its own."""
        if self._key:
            raise ValueError("a client that calls for others must have no key of its own")
        other = copy.copy(self)
        other._call_key = _checked(key)
        return other

    async def ready(self, timeout: float) -> None:
        """Waits until a server that reports itself SERVING is connected. Raises Unavailable after `timeout`
        seconds."""
        channel = self._open()
        try:
            async with asyncio.timeout(timeout):
                while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            raise Unavailable(
                f"nothing answers at {self.target} (waited {timeout:g} s)", reason="UNREACHABLE"
            ) from None

    def _bind(self, channel: grpc.aio.Channel) -> None:
        """Makes the stub."""
        raise NotImplementedError

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the client is not open: use it in `async with`")
        return self._channel

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self._tls is None:
            return None
        channel = grpc.ssl_channel_credentials(
            self._tls.root_certificates, self._tls.private_key, self._tls.certificate
        )
        if not self._key:
            return channel
        # Call credentials refuse to travel over anything but TLS, so the key cannot leak by a later mistake.
        return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(self._key))

    def _arguments(self, timeout: float | None) -> Mapping[str, Any]:
        self._open()
        return {
            "timeout": self._timeout if timeout is None else timeout,
            "metadata": metadata(self._call_key),
        }

    def _ends(self, timeout: float | None) -> float:
        """Returns the instant at which a call that begins now is over, by the loop's clock."""
        seconds = self._timeout if timeout is None else timeout
        return math.inf if seconds is None else asyncio.get_running_loop().time() + seconds

    async def _unary(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Any, _Response], request: object, timeout: float | None
    ) -> _Response:
        arguments, ends = self._arguments(timeout), self._ends(timeout)
        try:
            return await method(request, **arguments)
        except grpc.aio.AioRpcError as error:
            raise _failure(error, ends) from None

    async def _stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Any, _Response],
        request: object,
        timeout: float | None,
    ) -> AsyncGenerator[_Response, None]:
        ends = self._ends(timeout)
        call = method(request, **self._arguments(timeout))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise _failure(error, ends) from None
        finally:
            # After a complete stream this does nothing; when the generator is closed early it stops the server.
            call.cancel()


def _checked(key: str) -> str:
    key = key.strip()
    if not key.isascii() or (key and not key.isprintable()) or " " in key or len(key) > MAX_KEY:
        raise ValueError(f"the key must be printable ASCII without spaces, at most {MAX_KEY} characters")
    return key


def _failure(error: grpc.aio.AioRpcError, ends: float) -> PointsmanError:
    """Returns the error of a failed call whose deadline is `ends`, by the loop's clock. Our own cancellation is
    `asyncio.CancelledError`, so a bare CANCELLED status was made by a server: one that saw the deadline pass a moment
    before we did, or one that was stopped in the middle, which for the caller is as gone as one that died."""
    failure = from_rpc_error(error)
    if isinstance(failure, Cancelled) and failure.reason == "TRANSPORT_CANCELLED":
        if asyncio.get_running_loop().time() + CLOCKS_APART >= ends:
            return DeadlineExceeded("the deadline passed before an answer came")
        return Unavailable("the server ended the call", reason="TRANSPORT_UNAVAILABLE")
    return failure
