"""A gRPC channel to a servicer in the same process, for virtual time: messages are written and read as on the wire,
and nothing waits for a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc.aio import Metadata


class LocalChannel:
    """Stands for a `grpc.aio.Channel` to one servicer. `down`: set, calls fail and streams end."""

    def __init__(self, servicer: object, delay: float = 0.001) -> None:
        self._servicer = servicer
        self._delay = delay
        self.down = asyncio.Event()

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any, **_: object) -> Any:
        """Calls the method; `delay` seconds there and back."""
        method = self._method(path)

        async def call(request: Any, **_: object) -> Any:
            await asyncio.sleep(self._delay)
            self._fail_if_down()
            return response_deserializer((await method(copied(request), None)).SerializeToString())

        return call

    def unary_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Any:
        """A stream of answers."""
        method = self._method(path)
        return lambda request, **_: Stream(self, method(copied(request), None))

    def stream_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any, **_: object
    ) -> Any:
        """A stream both ways."""
        method = self._method(path)

        def call(**_: object) -> Stream:
            requests: asyncio.Queue[Any] = asyncio.Queue()

            async def sent() -> AsyncIterator[Any]:
                while True:
                    yield await requests.get()

            return Stream(self, method(sent(), None), requests)

        return call

    def _method(self, path: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self._servicer, path.rpartition("/")[2])
        return found

    def _fail_if_down(self) -> None:
        if self.down.is_set():
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "down")


class Stream:
    """The client's side of a stream."""

    def __init__(
        self, channel: LocalChannel, answers: AsyncIterator[Any], requests: asyncio.Queue[Any] | None = None
    ) -> None:
        self._channel = channel
        self._answers = answers
        self._requests = requests

    async def write(self, request: Any) -> None:
        self._channel._fail_if_down()
        assert self._requests is not None
        await self._requests.put(copied(request))

    async def read(self) -> Any:
        """Returns the next answer; fails when the servicer goes down."""
        self._channel._fail_if_down()
        answer = asyncio.ensure_future(anext(self._answers))
        down = asyncio.ensure_future(self._channel.down.wait())
        try:
            await asyncio.wait((answer, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            down.cancel()
            if not answer.done():
                answer.cancel()
        self._channel._fail_if_down()
        return copied(await answer)

    def cancel(self) -> bool:
        return True


def copied(message: Any) -> Any:
    """Returns what the other side reads."""
    return type(message).FromString(message.SerializeToString())
