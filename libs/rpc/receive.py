"""Receives the request of a call: in turn, within the bounds, decoded once.

Everything here happens after the caller is known, for the runtime would otherwise receive and decode a message of
30 MiB before anybody asks whose it is. All methods are therefore served by handlers that read their messages
themselves, the unary ones too.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from libs.clock import Clock
from libs.errors import Cancelled, FieldViolation, InvalidArgument
from libs.heavy import LARGE, HeavyWork
from libs.intake import CALL_BYTES, BytesInFlight
from libs.rpc.elements import Shape, bad_message, check_elements
from libs.rpc.turns import Turns

#: A caller of a public method has no name but its address, and nothing to say that is longer.
MOST_BYTES_OF_ANYONE = 4096

Context = grpc.aio.ServicerContext[Any, Any]
Decode = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class MessageBounds:
    """The bounds of one message of a service: its bytes, and its fields and entries. Raises ValueError unless above
    0."""

    #: Services of the fleet send each other batches.
    message_bytes: int = 32 * 1024 * 1024
    elements: int = 200_000

    def __post_init__(self) -> None:
        if self.message_bytes <= 0 or self.elements <= 0:
            raise ValueError("bounds must be above 0")


def decoder(deserialize: Decode, shape: Shape | None, bounds: MessageBounds) -> Decode:
    """Returns a function that decodes a method's messages within the bounds; `shape` None: of an unknown type. It
    raises InvalidArgument for what is too large, holds too much or is no message."""

    def decode(message: bytes) -> Any:
        if len(message) > bounds.message_bytes:
            violation = FieldViolation(
                "request", f"is {len(message)} bytes; at most {bounds.message_bytes} are accepted"
            )
            raise InvalidArgument([violation], reason="MESSAGE_TOO_LARGE")
        if shape is not None:
            check_elements(message, shape, bounds.elements)
        try:
            return deserialize(message)
        except DecodeError as error:
            # "Error parsing message with type '…': String field had bad UTF-8": the cause, never the content.
            why = str(error).rpartition(": ")[2]
        raise bad_message(why)

    return decode


class Receiver:
    """Receives the requests of a server."""

    def __init__(self, clock: Clock, bytes_in_flight: BytesInFlight) -> None:
        self._bytes_in_flight = bytes_in_flight
        self._heavy_work = HeavyWork()
        # With a router's messages, of at most 10 MiB, all turns fit beside everything else into a pod of 512 MiB.
        self._known = Turns(clock, most=12, most_of_one=6, most_waiting=512)
        # Callers of public methods, by address: apart, so that they take no turns from those with a key. What they
        # send fits into one packet.
        self._anyone = Turns(clock, most=4, most_of_one=2, most_waiting=128, allowed=2.0, pressed=0.1)
        #: The turns of streams that anyone may open: a turn is the whole of a stream.
        self.open_streams = Turns(clock, most=4, most_of_one=2, most_waiting=32)

    async def receive(
        self, context: Context, caller: str, decode: Decode, *, public: bool
    ) -> tuple[Any, int]:
        """Returns the call's one request and how many bytes are to be given back when the call ends.
        Raises PointsmanError where there is none, or none within the bounds."""
        turns = self._anyone if public else self._known
        turn = await turns.take(caller)
        try:
            message = await context.read()
        except CancelledError:
            if not turn.over:
                raise
            message = None
        finally:
            turns.give_back(turn)
        if message is None:
            raise turns.too_long(turn)
        if message is grpc.aio.EOF:
            # The caller has left, sent nothing, or the runtime has refused what was too long for it.
            raise Cancelled("The call ended before its request had come")
        if len(message) < LARGE:
            return self.open(message, caller, decode, public=public)
        async with self._heavy_work:
            return self.open(message, caller, decode, public=public)

    def open(self, message: bytes, caller: str, decode: Decode, *, public: bool) -> tuple[Any, int]:
        """Decodes a message that has come; returns it and the bytes that are in flight for it from here on."""
        if public and len(message) > MOST_BYTES_OF_ANYONE:
            violation = FieldViolation("request", f"is longer than {MOST_BYTES_OF_ANYONE} bytes")
            raise InvalidArgument([violation], reason="MESSAGE_TOO_LARGE")
        size = CALL_BYTES + len(message)
        self._bytes_in_flight.take(caller, size)
        try:
            return decode(message), size
        except BaseException:
            self.give_back(caller, size)
            raise

    def give_back(self, caller: str, size: int) -> None:
        """Ends what `receive` or `open` began."""
        if size:
            self._bytes_in_flight.give_back(caller, size)


class Requests:
    """The requests of a stream, one in flight at a time: the next is read when the last has been dealt with."""

    def __init__(
        self, receiver: Receiver, context: Context, caller: str, decode: Decode, *, public: bool
    ) -> None:
        self._receiver = receiver
        self._context = context
        self._caller = caller
        self._decode = decode
        self._public = public
        self._held = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """Returns the next request. Raises PointsmanError for one that is not within the bounds."""
        self.close()
        message = await self._context.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        request, self._held = self._receiver.open(message, self._caller, self._decode, public=self._public)
        return request

    def close(self) -> None:
        """Gives back what the last request holds."""
        held, self._held = self._held, 0
        self._receiver.give_back(self._caller, held)
