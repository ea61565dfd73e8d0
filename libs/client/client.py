"""The client of the router: one call in, one generated text out.

async with Client("127.0.0.1:7700", key="…") as client:
    result = await client.generate("Describe a blue mug.", content_type="product_description")
    print(result.text)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Unpack

import grpc
from pointsman.router.v1 import router_pb2, router_pb2_grpc

from libs.answer import Completed, Event, Result
from libs.client.connection import ServiceClient
from libs.client.model import CostEstimate, Listing, SelectResult
from libs.client.request import Options, Prompt
from libs.client.wire import (
    estimate_from_proto,
    event_from_proto,
    generation_to_proto,
    listing_from_proto,
    result_from_proto,
    select_from_proto,
)
from libs.errors import PointsmanError, Unavailable


class Client(ServiceClient):
    """Calls the router. The constructor's arguments are those of `ServiceClient`; `key` is the tenant's.

    Every method raises `libs.errors` exceptions with the server's details: InvalidArgument (`violations` by field),
    Unauthenticated, ResourceExhausted (`violations` by limit and `retry_after` seconds; None: it must not be
    retried as it is, reason REQUEST_ABOVE_LIMIT), FailedPrecondition (no provider can serve it, or reason
    CONTENT_REFUSED), Unavailable (all providers failed, or reason LIMITER_UNAVAILABLE, `retry_after`; or, with
    reason TRANSPORT_UNAVAILABLE, no router answered), DeadlineExceeded, AlreadyExists. Nothing is retried
    here: a Generate that was sent may have been paid for, and the router has already tried every way it may.
    `timeout` is the call's deadline in seconds; None means the client's.
    """

    service = "pointsman.router.v1.Router"
    _stub: router_pb2_grpc.RouterAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = router_pb2_grpc.RouterStub(channel)

    async def generate(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[Options]
    ) -> Result:
        """Generates one answer and returns it whole."""
        self._open()
        request = router_pb2.GenerateRequest(generation=generation_to_proto(prompt, options))
        response = await self._unary(self._stub.Generate, request, timeout)
        return result_from_proto(response.result)

    async def stream(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """Generates one answer as events: Selected, Deltas, exactly one Completed. Between them a Restarted
        discards every Delta before it and a SwitchedProvider keeps them; `TextAssembler` does the bookkeeping.

        Closing the generator cancels the call, which stops the provider; who leaves the loop early on purpose
        closes it with `contextlib.aclosing`. Raises Unavailable with reason STREAM_INCOMPLETE where the stream
        ends without a Completed, so that a cut answer never passes for a whole one.
        """
        self._open()
        request = router_pb2.StreamGenerateRequest(generation=generation_to_proto(prompt, options))
        completed = False
        async with aclosing(self._stream(self._stub.StreamGenerate, request, timeout)) as responses:
            # Read to the stream's own end: leaving at Completed would reach the server as a cancellation.
            try:
                async for response in responses:
                    event = event_from_proto(response)
                    completed = completed or isinstance(event, Completed)
                    if event is not None:
                        yield event
            except PointsmanError:
                if not completed:
                    raise
        if not completed:
            raise Unavailable("the stream ended before it was complete", reason="STREAM_INCOMPLETE")

    async def select(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[Options]
    ) -> SelectResult:
        """Returns what `generate` would choose and why, without calling a provider or consuming a limit."""
        self._open()
        request = router_pb2.SelectProviderRequest(generation=generation_to_proto(prompt, options))
        return select_from_proto(await self._unary(self._stub.SelectProvider, request, timeout))

    async def estimate(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[Options]
    ) -> tuple[CostEstimate, ...]:
        """Returns tokens and cost on each candidate model, cheapest first."""
        self._open()
        request = router_pb2.EstimateCostRequest(generation=generation_to_proto(prompt, options))
        response = await self._unary(self._stub.EstimateCost, request, timeout)
        return tuple(estimate_from_proto(item) for item in response.estimates)

    async def list_models(self, *, timeout: float | None = None) -> Listing:
        """Returns the models and content types that this key may name."""
        self._open()
        return listing_from_proto(
            await self._unary(self._stub.ListModels, router_pb2.ListModelsRequest(), timeout)
        )
