"""The layers around each call of a server.

A call passes them in this order: identity, observe (span, metrics), deadline, receive (bounds, decoding), then the
servicer. Whatever is raised becomes a google.rpc status here and nowhere else.

A failed call leaves nothing behind. An error keeps the frames that it passed through, and a frame its variables: the
request among them, and the error itself. Such a circle lives until the garbage collector comes, hundreds of calls
later. So errors lose their tracebacks here once they have been logged. The error that `abort` raises, which the
runtime keeps with the call, is caught and loses its own; the runtime raises it again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_SERVICE

from libs.errors import DeadlineExceeded, PointsmanError, Unavailable
from libs.intake import UnknownCallers
from libs.rpc.elements import shape_of
from libs.rpc.health import HEALTH_SERVICE
from libs.rpc.identity import Authenticator, bearer_key, set_caller
from libs.rpc.observe import CallObservation, Observer
from libs.rpc.receive import Context, Decode, MessageBounds, Receiver, Requests, decoder
from libs.rpc.status import code_of, trailers_of
from libs.telemetry import get_logger

#: Services whose methods anyone may call without a key.
PUBLIC_SERVICES = (HEALTH_SERVICE, REFLECTION_SERVICE)

#: The most errors of a chain that are followed: more than any code of ours chains, and an end where a chain has none.
MOST_IN_CHAIN = 32

log = get_logger(__name__)


@dataclass(slots=True)
class Streams:
    """Streams that must be ended by hand, and how many calls of known callers have begun."""

    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    draining: bool = False
    begun: int = 0


@dataclass(frozen=True, slots=True)
class _Method:
    """A method and how it is served. `decode` is for its requests; `ends`: it never ends by itself."""

    name: str
    behavior: Callable[[Any, Context], Any]
    decode: Decode
    public: bool
    ends: bool
    request_streaming: bool


class Layers:
    """Stands for the server while servicers are added, and puts the layers around their methods: once, where an
    interceptor of gRPC's would run anew for every call."""

    def __init__(
        self,
        server: grpc.aio.Server,
        observer: Observer,
        authenticator: Authenticator,
        unknown_callers: UnknownCallers,
        receiver: Receiver,
        streams: Streams,
        bounds: Mapping[str, MessageBounds],
        long_lived: frozenset[str],
    ) -> None:
        """`bounds` are by service; `long_lived` names methods."""
        self._server = server
        self._observer = observer
        self._authenticator = authenticator
        self._unknown_callers = unknown_callers
        self._receiver = receiver
        self._streams = streams
        self._bounds = bounds
        self._long_lived = long_lived

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Does nothing: generated code gives every method to `add_registered_method_handlers` too."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Adds methods, as the server's method of this name does."""
        wrapped = {name: self._wrap(service, name, handler) for name, handler in handlers.items()}
        # For each registered method the runtime keeps a task that waits for its next call, and at every call it asks
        # all of them. So only one is: who asks whether we live must not wait behind those who call.
        alone = {name: wrapped.pop(name) for name in ("Check",) if service == HEALTH_SERVICE}
        if alone:
            self._server.add_registered_method_handlers(service, alone)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def _wrap(
        self, service: str, name: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns the method with its layers, as one that reads its messages by itself: so that it may refuse to."""
        full_name = f"/{service}/{name}"
        shape = shape_of(_input_of(service, name))
        assert handler.request_deserializer is not None
        behavior: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        method = _Method(
            full_name,
            behavior,
            decoder(handler.request_deserializer, shape, self._bounds.get(service, MessageBounds())),
            service in PUBLIC_SERVICES,
            full_name in self._long_lived,
            handler.request_streaming,
        )
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method), None, handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(self._unary(method), None, handler.response_serializer)

    def _unary(self, method: _Method) -> Any:
        async def handle(_: object, context: Context) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            caller, refusal = self._identify(method, metadata, context)
            if refusal is not None:
                await self._refuse(method, metadata, context, refusal)
                return None
            observation = self._observer.begin(method.name, metadata)
            size = 0
            try:
                _check_deadline(context)
                request, size = await self._receiver.receive(
                    context, caller, method.decode, public=method.public
                )
                response = await method.behavior(request, context)
                self._observer.end(observation, grpc.StatusCode.OK)
                return response
            except BaseException as error:
                failure = self._failure(observation, context, error)
                if failure is None:
                    raise
            finally:
                self._receiver.give_back(caller, size)
            await _abort(context, failure)
            return None

        return handle

    def _stream(self, method: _Method) -> Any:
        async def handle(_: object, context: Context) -> None:
            metadata = dict(context.invocation_metadata() or ())
            caller, refusal = self._identify(method, metadata, context)
            if refusal is not None:
                await self._refuse(method, metadata, context, refusal)
                return
            observation = self._observer.begin(method.name, metadata)
            if method.ends:
                self._end_at_drain()
            try:
                _check_deadline(context)
                if method.request_streaming:
                    await self._converse(method, context, caller)
                else:
                    await self._respond(method, context, caller)
                self._observer.end(observation, grpc.StatusCode.OK)
                return
            except BaseException as error:
                if method.ends and self._streams.draining and isinstance(error, asyncio.CancelledError):
                    error = Unavailable("The server is draining", reason="DRAINING", retry_after=0.0)
                failure = self._failure(observation, context, error)
                if failure is None:
                    raise
            await _abort(context, failure)

        return handle

    async def _respond(self, method: _Method, context: Context, caller: str) -> None:
        """Serves one request with many responses."""
        request, size = await self._receiver.receive(context, caller, method.decode, public=method.public)
        try:
            await _write_all(method.behavior(request, context), context)
        finally:
            self._receiver.give_back(caller, size)

    async def _converse(self, method: _Method, context: Context, caller: str) -> None:
        """Serves many requests with many responses. Where anyone may call, the whole of it takes one turn."""
        requests = Requests(self._receiver, context, caller, method.decode, public=method.public)
        turns = self._receiver.open_streams
        turn = await turns.take(caller) if method.public else None
        try:
            await _write_all(method.behavior(requests, context), context)
        except asyncio.CancelledError:
            if turn is None or not turn.over:
                raise
        else:
            return
        finally:
            requests.close()
            if turn is not None:
                turns.give_back(turn)
        raise turns.too_long(turn)

    def _end_at_drain(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._streams.tasks.add(task)
            task.add_done_callback(self._streams.tasks.discard)

    def _identify(
        self, method: _Method, metadata: Mapping[str, str | bytes], context: Context
    ) -> tuple[str, PointsmanError | None]:
        """Finds out who calls, from metadata alone: nothing of the request has been received yet. Returns the name,
        or why there is none."""
        if method.public:
            # "ipv4:127.0.0.1:41234": no tenant's name, and the same for all connections from there.
            return context.peer().rpartition(":")[0], None
        try:
            caller = self._authenticator.authenticate(bearer_key(metadata.get("authorization")))
        except PointsmanError as error:
            _forget_frames(error)
            return "", error
        set_caller(caller)
        self._streams.begun += 1
        return caller, None

    async def _refuse(
        self,
        method: _Method,
        metadata: Mapping[str, str | bytes],
        context: Context,
        refusal: PointsmanError,
    ) -> None:
        """Ends the call of an unknown caller; one of too many leaves a count and nothing else."""
        error = self._unknown_callers.answer(refusal)
        if error is refusal:
            observation = self._observer.begin(method.name, metadata)
            self._observer.end(observation, code_of(error), error.reason)
        else:
            self._observer.count(method.name, code_of(error))
        await _abort(context, error)

    def _failure(
        self, observation: CallObservation, context: Context, error: BaseException
    ) -> PointsmanError | None:
        """Returns the error that the caller gets; None for what gRPC must see itself: cancellation."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            code = grpc.StatusCode.DEADLINE_EXCEEDED if _is_late(context) else grpc.StatusCode.CANCELLED
            self._observer.end(observation, code, code.name)
            return None
        if isinstance(error, PointsmanError):
            failure = error
            self._observer.end(observation, code_of(error), error.reason)
            if code_of(error) is grpc.StatusCode.INTERNAL:
                log.error(
                    "internal_error", method=observation.method, reason=error.reason, error=error.message
                )
        else:
            failure = PointsmanError("Internal error", reason="INTERNAL")
            self._observer.end(observation, grpc.StatusCode.INTERNAL, type(error).__name__)
            log.error(
                "unexpected_error",
                method=observation.method,
                error_type=type(error).__name__,
                exc_info=error,
            )
        _forget_frames(error)
        return failure


async def _write_all(responses: Any, context: Context) -> None:
    try:
        async for response in responses:
            await context.write(response)
    finally:
        if hasattr(responses, "aclose"):
            await responses.aclose()


async def _abort(context: Context, error: PointsmanError) -> None:
    """Sends the status. The runtime ends the call when its handler returns."""
    message, trailers = trailers_of(error)
    try:
        await context.abort(code_of(error), message, trailing_metadata=trailers)
    except grpc.aio.AbortError as aborted:
        _forget_frames(aborted)


def _forget_frames(error: BaseException | None) -> None:
    """Removes the tracebacks of an error and of those that led to it."""
    for _ in range(MOST_IN_CHAIN):
        if error is None:
            return
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _check_deadline(context: Context) -> None:
    """Raises DeadlineExceeded where nobody waits for the call any more."""
    if _is_late(context):
        raise DeadlineExceeded("The deadline had passed before the call began")


def _is_late(context: Context) -> bool:
    """Returns True if the caller's deadline has passed."""
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


def _input_of(service: str, method: str) -> Descriptor:
    """Returns the type of a method's requests. Raises KeyError for an unknown method."""
    found: Descriptor = Default().FindServiceByName(service).methods_by_name[method].input_type
    return found
