"""The gRPC server every service runs: methods in their layers, health, reflection, and an end that does not hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from libs.clock import Clock
from libs.drain import wait_until_quiet
from libs.intake import BytesInFlight, UnknownCallers
from libs.rpc.channel import MAX_MESSAGE_BYTES
from libs.rpc.health import HEALTH_SERVICE, HealthServicer, add_health
from libs.rpc.identity import Authenticator
from libs.rpc.layers import PUBLIC_SERVICES, Layers, Streams
from libs.rpc.observe import Observer
from libs.rpc.receive import MessageBounds, Receiver
from libs.rpc.reflection import ReflectionServicer
from libs.settings import why_unbound

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Of a message that nobody has asked for yet, a connection takes no more than HTTP/2's first window of 64 KiB: the
    # runtime would let it grow with the bandwidth, to megabytes for each call.
    ("grpc.http2.bdp_probe", 0),
    # Beyond its own 1,000 calls that wait to be begun the runtime drops some by lot, whose they are: an innocent
    # caller's among them. One that waits takes about 5 KiB.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    # So no connection alone can fill that; what is more waits at the caller.
    ("grpc.max_concurrent_streams", 2_000),
    # A connection that never speaks HTTP/2 is closed after this, not after two minutes.
    ("grpc.server_handshake_timeout_ms", 10_000),
)
#: Bytes beyond the bound of a message up to which it is received, to be answered with the reason MESSAGE_TOO_LARGE. A
#: longer one the runtime ends itself, before anything of ours can add details: its status is RESOURCE_EXHAUSTED.
TOLD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer to serve. `long_lived` names the methods whose streams never end by themselves: at drain
    they are ended, where other calls are waited for. `bounds` are those of each of its requests."""

    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object
    name: str
    long_lived: frozenset[str] = frozenset()
    bounds: MessageBounds = field(default_factory=MessageBounds)


class GrpcServer:
    """A server with its layers. `start`, `begin_serving`, `drain` are called by the lifecycle in that order."""

    def __init__(
        self,
        registrations: Sequence[Registration],
        observer: Observer,
        authenticator: Authenticator,
        *,
        bytes_in_flight: BytesInFlight,
        unknown_callers: UnknownCallers,
        clock: Clock,
    ) -> None:
        """`bytes_in_flight` and `unknown_callers` are those of the process, which all its servers share."""
        self._names = [registration.name for registration in registrations]
        self._streams = Streams()
        self.health = HealthServicer()
        long_lived = {f"/{r.name}/{method}" for r in registrations for method in r.long_lived}
        long_lived.add(f"/{HEALTH_SERVICE}/Watch")
        most = max((r.bounds.message_bytes for r in registrations), default=MAX_MESSAGE_BYTES) + TOLD
        self._server = grpc.aio.server(options=(*OPTIONS, ("grpc.max_receive_message_length", most)))
        layers: Any = Layers(
            self._server,
            observer,
            authenticator,
            unknown_callers,
            Receiver(clock, bytes_in_flight),
            self._streams,
            {r.name: r.bounds for r in registrations},
            frozenset(long_lived),
        )
        for registration in registrations:
            registration.add(registration.servicer, layers)
        add_health(self.health, layers)
        # Not by `enable_server_reflection`, which takes a server that is not grpc.aio's own for one of threads.
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]  # the library's
            ReflectionServicer([*self._names, *PUBLIC_SERVICES]), layers
        )
        self.port = 0

    async def start(self, listen: str, credentials: grpc.ServerCredentials | None = None) -> None:
        """Binds and answers, NOT_SERVING yet. Raises OSError where the address cannot be had."""
        try:
            self.port = (
                self._server.add_secure_port(listen, credentials)
                if credentials is not None
                else self._server.add_insecure_port(listen)
            )
        except RuntimeError as error:
            raise OSError(why_unbound(listen)) from error
        await self._server.start()

    def begin_serving(self) -> None:
        """Tells everyone who asks or watches that calls may come."""
        for name in ("", *self._names):
            self.health.set(name, serving=True)

    async def drain(self, seconds: float) -> None:
        """NOT_SERVING; calls are taken until callers have turned away; then long-lived streams end, and running calls
        get what is left of `seconds` to finish."""
        for name in ("", *self._names):
            self.health.set(name, serving=False)
        self._streams.draining = True
        # Watchers see NOT_SERVING before their stream ends.
        await asyncio.sleep(0)
        lingered = await wait_until_quiet(lambda: self._streams.begun, seconds)
        stopping = asyncio.ensure_future(self._server.stop(seconds - lingered))
        await asyncio.sleep(0.05)
        for task in list(self._streams.tasks):
            task.cancel()
        await stopping
