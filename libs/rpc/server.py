"""The gRPC server every service runs: layers around each call, health, reflection, and an end that does not hang.

A call passes the layers in this order: observe (span, metrics), deadline, identity, then the servicer. Whatever the
servicer raises becomes a google.rpc status here and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection

from libs.errors import DeadlineExceeded, FieldViolation, InvalidArgument, PointsmanError, Unavailable
from libs.rpc.channel import MAX_MESSAGE_BYTES
from libs.rpc.health import HEALTH_SERVICE, HealthServicer, add_health
from libs.rpc.identity import Authenticator, bearer_key, set_caller
from libs.rpc.observe import CallObservation, Observer
from libs.rpc.status import DETAILS_KEY, code_of, to_status
from libs.settings import why_unbound
from libs.telemetry import get_logger

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
)
#: A draining server takes calls until none has begun for QUIET seconds, but no longer than LINGER: callers that watch
#: its health need a moment to turn away, and what they send meanwhile would be lost.
QUIET = 0.1
LINGER = 2.0
_PUBLIC_SERVICES = (HEALTH_SERVICE, reflection.SERVICE_NAME)

_Metadata = Mapping[str, str | bytes]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer to serve. `long_lived` names the methods whose streams never end by themselves: at drain
    they are ended, where other calls are waited for."""

    add: Callable[[Any, grpc.aio.Server], None]
    servicer: object
    name: str
    long_lived: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands for a request that is not a message of its type. Left to itself, the runtime answers UNKNOWN without
    details, and before any layer."""

    why: str


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    def decode(data: bytes) -> Any:
        assert deserialize is not None
        try:
            return deserialize(data)
        except DecodeError as error:
            # "Error parsing message with type '…': String field had bad UTF-8": the cause, never the content.
            return _Undecodable(str(error).rpartition(": ")[2])

    return decode if deserialize is not None else None


@dataclass(slots=True)
class _Streams:
    """Streams that must be ended by hand, and how many calls have begun that are not for everyone."""

    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    draining: bool = False
    begun: int = 0


class _Generic(grpc.GenericRpcHandler):
    """Handlers that are found by asking, with the layers around them."""

    def __init__(self, layered: _Layered, inner: grpc.GenericRpcHandler) -> None:
        self._layered = layered
        self._inner = inner
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = self._inner.service(handler_call_details)
            if handler is None:
                return None  # unknown method: the runtime answers UNIMPLEMENTED
            wrapped = self._wrapped[method] = self._layered.wrap(method, handler)
        return wrapped


class _Layered:
    """Stands for the server while servicers are added, and puts the layers around their methods: once, where an
    interceptor of gRPC's would run anew for every call."""

    def __init__(
        self,
        server: grpc.aio.Server,
        observer: Observer,
        authenticator: Authenticator,
        long_lived: frozenset[str],
        streams: _Streams,
    ) -> None:
        self._server = server
        self._observer = observer
        self._authenticator = authenticator
        self._long_lived = long_lived
        self._streams = streams

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """As the server's."""
        self._server.add_generic_rpc_handlers([_Generic(self, handler) for handler in handlers])

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """As the server's."""
        wrapped = {name: self.wrap(f"/{service}/{name}", handler) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)

    def wrap(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The method with its layers."""
        public = method.startswith(tuple(f"/{name}/" for name in _PUBLIC_SERVICES))
        ends = method in self._long_lived
        deserialize = handler.request_deserializer
        codecs = {
            "request_deserializer": deserialize if handler.request_streaming else _tolerant(deserialize),
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            stream = self._stream(method, handler.unary_stream or handler.stream_stream, public, ends)
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(stream, **codecs)
            return grpc.unary_stream_rpc_method_handler(stream, **codecs)
        unary = self._unary(method, handler.unary_unary or handler.stream_unary, public)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(unary, **codecs)
        return grpc.unary_unary_rpc_method_handler(unary, **codecs)

    def _enter(
        self, public: bool, request: Any, context: grpc.aio.ServicerContext[Any, Any], metadata: _Metadata
    ) -> None:
        """Refuses calls that nobody waits for any more, finds out who calls, and refuses what is no message. Raises
        PointsmanError."""
        if not public:
            self._streams.begun += 1
            remaining = context.time_remaining()
            if remaining is not None and remaining <= 0:
                raise DeadlineExceeded(
                    "The deadline had passed before the call began", reason="DEADLINE_IN_THE_PAST"
                )
            set_caller(self._authenticator.authenticate(bearer_key(metadata.get("authorization"))))
        if isinstance(request, _Undecodable):
            violation = FieldViolation("request", f"is not a valid message: {request.why}")
            raise InvalidArgument([violation], reason="BAD_MESSAGE")

    def _unary(self, method: str, behavior: Any, public: bool) -> Any:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            observation = self._observer.begin(method, metadata)
            try:
                self._enter(public, request, context, metadata)
                response = await behavior(request, context)
            except BaseException as error:
                await self._fail(observation, context, error)
                raise
            self._observer.end(observation, grpc.StatusCode.OK)
            return response

        return handle

    def _stream(self, method: str, behavior: Any, public: bool, ends: bool) -> Any:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            metadata = dict(context.invocation_metadata() or ())
            observation = self._observer.begin(method, metadata)
            task = asyncio.current_task()
            if ends and task is not None:
                self._streams.tasks.add(task)
                task.add_done_callback(self._streams.tasks.discard)
            responses = None
            try:
                self._enter(public, request, context, metadata)
                responses = behavior(request, context)
                async for response in responses:
                    yield response
            except BaseException as error:
                if ends and self._streams.draining and isinstance(error, asyncio.CancelledError):
                    error = Unavailable("The server is draining", reason="DRAINING", retry_after=0.0)
                await self._fail(observation, context, error)
                raise
            finally:
                if responses is not None and hasattr(responses, "aclose"):
                    await responses.aclose()
            self._observer.end(observation, grpc.StatusCode.OK)

        return handle

    async def _fail(
        self,
        observation: CallObservation,
        context: grpc.aio.ServicerContext[Any, Any],
        error: BaseException,
    ) -> None:
        """Ends the call with the error's status. Returns only for what gRPC must see itself: cancellation."""
        if isinstance(error, PointsmanError):
            code = code_of(error)
            if code is grpc.StatusCode.INTERNAL:
                log.error(
                    "internal_error", method=observation.method, reason=error.reason, error=error.message
                )
            self._observer.end(observation, code, error.reason)
            await context.abort(
                code,
                error.message[:1000],
                trailing_metadata=((DETAILS_KEY, to_status(error).SerializeToString()),),
            )
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._observer.end(observation, grpc.StatusCode.CANCELLED, "CANCELLED")
            return
        if isinstance(error, grpc.aio.AbortError):
            self._observer.end(observation, grpc.StatusCode.UNKNOWN, "ABORTED_BY_SERVICER")
            return
        log.error(
            "unexpected_error", method=observation.method, error_type=type(error).__name__, exc_info=error
        )
        hidden = PointsmanError("Internal error", reason="INTERNAL")
        self._observer.end(observation, grpc.StatusCode.INTERNAL, type(error).__name__)
        await context.abort(
            grpc.StatusCode.INTERNAL,
            hidden.message,
            trailing_metadata=((DETAILS_KEY, to_status(hidden).SerializeToString()),),
        )


class GrpcServer:
    """A server with its layers. `start`, `serving`, `drain` are called by the lifecycle in that order."""

    def __init__(
        self,
        registrations: Sequence[Registration],
        observer: Observer,
        authenticator: Authenticator,
    ) -> None:
        self._names = [registration.name for registration in registrations]
        self._streams = _Streams()
        self.health = HealthServicer()
        long_lived = {f"/{r.name}/{method}" for r in registrations for method in r.long_lived}
        long_lived.add(f"/{HEALTH_SERVICE}/Watch")
        self._server = grpc.aio.server(options=OPTIONS)
        layered: Any = _Layered(self._server, observer, authenticator, frozenset(long_lived), self._streams)
        for registration in registrations:
            registration.add(registration.servicer, layered)
        add_health(self.health, layered)
        reflection.enable_server_reflection([*self._names, *_PUBLIC_SERVICES], layered)
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

    def serving(self) -> None:
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
        lingered = await self._linger(min(LINGER, seconds / 2))
        stopping = asyncio.ensure_future(self._server.stop(seconds - lingered))
        await asyncio.sleep(0.05)
        for task in list(self._streams.tasks):
            task.cancel()
        await stopping

    async def _linger(self, most: float) -> float:
        """Returns once no call comes any more, at the latest after `most` seconds, with how long that took."""
        lingered, begun = 0.0, -1
        while self._streams.begun != begun and lingered + QUIET <= most:
            begun = self._streams.begun
            await asyncio.sleep(QUIET)
            lingered += QUIET
        return lingered
