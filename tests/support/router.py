"""A router on a real socket, in this process, that does what the test says."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc
from pointsman.types.v1 import types_pb2

from libs.errors import Unauthenticated
from libs.rpc.convert import duration_to_proto
from libs.rpc.server import GrpcServer, Registration
from tests.support.address import fresh_address
from tests.support.server import grpc_server

NAME = "pointsman.router.v1.Router"
KEY = "test-key"

Answer = Callable[[pb.Generation], Awaitable[pb.Result]]
Stream = Callable[[pb.Generation], AsyncIterator[pb.StreamGenerateResponse]]


def selection(provider: str = "alpha", model: str = "small") -> pb.Selection:
    """A choice made for its price."""
    return pb.Selection(
        provider=provider,
        model=model,
        reason=pb.SELECTION_REASON_COST,
        explanation="cheapest of 2",
        estimated_cost=types_pb2.Money(micro_usd=40),
        estimated_latency=duration_to_proto(0.5),
        confidence=0.75,
        scores=pb.Scores(cost=1.0, performance=0.5, reliability=1.0, suitability=0.5, total=0.8),
    )


def result(request_id: str, text: str, failed: tuple[str, ...] = ()) -> pb.Result:
    """A success after one failed attempt on each of `failed`; 10 + 20 tokens and 50 micro-USD."""
    attempts = [
        pb.Attempt(
            attempt_id=f"{request_id}-{number}",
            provider=provider,
            model="small",
            error_class=types_pb2.ERROR_CLASS_SERVER_ERROR,
            message="internal error",
            http_status=500,
            latency=duration_to_proto(0.01),
        )
        for number, provider in enumerate(failed, 1)
    ]
    usage = types_pb2.Usage(input_tokens=10, output_tokens=20, accuracy=types_pb2.USAGE_ACCURACY_EXACT)
    attempts.append(
        pb.Attempt(
            attempt_id=f"{request_id}-{len(failed) + 1}",
            provider="alpha",
            model="small",
            http_status=200,
            latency=duration_to_proto(0.2),
            usage=usage,
            cost=types_pb2.Money(micro_usd=50),
        )
    )
    return pb.Result(
        request_id=request_id,
        text=text,
        finish_reason=types_pb2.FINISH_REASON_STOP,
        selection=selection(),
        attempts=attempts,
        usage=usage,
        cost=types_pb2.Money(micro_usd=50),
        latency=duration_to_proto(0.25),
    )


async def _echo(generation: pb.Generation) -> pb.Result:
    return result(generation.request_id or "r-1", f"About: {generation.messages[-1].text}")


async def _echo_stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
    request_id = generation.request_id or "r-1"
    yield pb.StreamGenerateResponse(selected=pb.Selected(request_id=request_id, selection=selection()))
    for word in ("About: ", generation.messages[-1].text):
        yield pb.StreamGenerateResponse(delta=pb.Delta(text=word))
    yield pb.StreamGenerateResponse(completed=pb.Completed(result=result(request_id, "")))


@dataclass(slots=True)
class FakeRouter(router_pb2_grpc.RouterServicer):
    """Answers by `answer` and `stream`, which may raise libs.errors; remembers what it was asked."""

    answer: Answer = _echo
    stream: Stream = _echo_stream
    requests: list[pb.Generation] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    time_remaining: list[float | None] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    address: str = ""
    health: Any = None

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition: Callable[[FakeRouter], bool]) -> None:
        """Waits until it holds; looked at after every request's begin and end."""
        async with self.changed:
            await self.changed.wait_for(lambda: condition(self))

    async def _begin(self, generation: pb.Generation, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.requests.append(generation)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.time_remaining.append(context.time_remaining())
        await self._tell()

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GenerateResponse:
        await self._begin(request.generation, context)
        try:
            answer = await self.answer(request.generation)
        except asyncio.CancelledError:
            self.cancelled.append(request.generation.request_id)
            raise
        else:
            self.finished.append(request.generation.request_id)
            return pb.GenerateResponse(result=answer)
        finally:
            await asyncio.shield(self._tell())

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        await self._begin(request.generation, context)
        try:
            async for event in self.stream(request.generation):
                yield event
            self.finished.append(request.generation.request_id)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.generation.request_id)
            raise
        finally:
            await asyncio.shield(self._tell())

    async def SelectProvider(
        self, request: pb.SelectProviderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SelectProviderResponse:
        await self._begin(request.generation, context)
        return pb.SelectProviderResponse(
            selection=selection(),
            alternatives=[
                pb.Candidate(selection=selection("beta", "large")),
                pb.Candidate(selection=selection("gamma"), excluded_because="circuit open"),
            ],
        )

    async def EstimateCost(
        self, request: pb.EstimateCostRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EstimateCostResponse:
        await self._begin(request.generation, context)
        return pb.EstimateCostResponse(
            estimates=[
                pb.CostEstimate(
                    provider="alpha",
                    model="small",
                    usage=types_pb2.Usage(input_tokens=10, output_tokens=100),
                    expected=types_pb2.Money(micro_usd=30),
                    maximum=types_pb2.Money(micro_usd=90),
                )
            ]
        )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=[
                pb.ListedModel(provider=provider, model=model, context_window=1000, max_output_tokens=100)
                for provider, model in (("alpha", "small"), ("beta", "large"), ("beta", "small"))
            ],
            content_types=["general", "seo_meta"],
        )


class OneKey:
    """Knows one tenant, and those whose name its key is followed by: `<key>+<tenant>`."""

    def __init__(self, key: str) -> None:
        self._key = key

    def authenticate(self, key: str | None) -> str:
        """ "acme", or the tenant. Raises Unauthenticated for any other key, and for none."""
        if key is None:
            raise Unauthenticated("No key", reason="KEY_REQUIRED")
        own, _, tenant = key.partition("+")
        if not hmac.compare_digest(own, self._key):
            raise Unauthenticated("Unknown key", reason="KEY_UNKNOWN")
        return tenant or "acme"


@asynccontextmanager
async def serve(
    *registrations: Registration,
    key: str = KEY,
    listen: str = "",
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[GrpcServer]:
    """A server with the project's own layers (errors, identity, health)."""
    server = grpc_server(registrations, OneKey(key))
    await server.start(listen or fresh_address(), credentials)
    server.begin_serving()
    try:
        yield server
    finally:
        await server.drain(0)


@asynccontextmanager
async def fake_router(
    router: FakeRouter | None = None,
    *,
    listen: str = "",
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[FakeRouter]:
    """The fake, serving at its `address`."""
    router = router or FakeRouter()  # type: ignore[abstract]  # nobody calls the other methods
    registration = Registration(router_pb2_grpc.add_RouterServicer_to_server, router, NAME)
    async with serve(registration, listen=listen, credentials=credentials) as server:
        router.address = f"127.0.0.1:{server.port}"
        router.health = server.health
        yield router
