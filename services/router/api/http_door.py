"""OpenAI's API over HTTP, the router's second door: JSON to values and back, no decisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from libs.answer import Event, Result
from libs.catalog.model import Model
from libs.clock import Clock
from libs.errors import PointsmanError
from libs.heavy import LARGE, HeavyWork
from libs.http.call import HttpCall
from libs.http.errors import HttpError
from libs.http.routes import Route
from services.router.api.accept import Draft
from services.router.api.heartbeat import Heartbeats
from services.router.api.http_relay import HttpRelay
from services.router.api.openai.account import ignored_headers, result_headers
from services.router.api.openai.chat import ChatExchange
from services.router.api.openai.errors import error_body, from_failure, unknown_model
from services.router.api.openai.exchange import Exchange
from services.router.api.openai.models import find_entry, list_entries
from services.router.api.openai.responses import ResponsesExchange

JSON = "application/json"
MODELS = "/v1/models"
Read = Callable[[bytes, Mapping[str, str], str], Exchange]


class TenantCalls(Protocol):
    """The part of `services.router.api.entry.Entry` that the door needs."""

    async def generate(self, caller: str, draft: Draft, remaining: float | None) -> Result:
        """Returns the answer in one piece. Cancelling it stops the provider."""
        ...

    def stream(self, caller: str, draft: Draft, remaining: float | None) -> AsyncGenerator[Event, None]:
        """Yields the answer as events; the last is Completed. Closing it stops the provider."""
        ...

    def models(self, caller: str) -> tuple[Sequence[Model], Sequence[str]]:
        """Returns the models and the content types that the caller may name."""
        ...


class OpenAiErrors:
    """Satisfies `libs.http.errors.ErrorShape`."""

    content_type = JSON

    def body(self, error: HttpError) -> bytes:
        """See `ErrorShape.body`."""
        return error_body(error)

    def translate(self, error: PointsmanError) -> HttpError:
        """See `ErrorShape.translate`."""
        return from_failure(error, {})


class HttpDoor:
    """The handlers of OpenAI's API."""

    def __init__(self, entry: TenantCalls, clock: Clock, heartbeats: Heartbeats) -> None:
        self._entry = entry
        self._clock = clock
        self._heartbeats = heartbeats
        self._heavy_work = HeavyWork()

    def routes(self) -> tuple[Route, ...]:
        """Returns the routes with their handlers."""
        return (
            Route("POST", "/v1/chat/completions", self.chat_completions),
            Route("POST", "/v1/responses", self.responses),
            Route("GET", MODELS, self.models),
            Route("GET", MODELS + "/{model}", self.model),
        )

    async def chat_completions(self, call: HttpCall) -> web.StreamResponse:
        """Answers POST /v1/chat/completions."""
        return await self._generate(call, ChatExchange)

    async def responses(self, call: HttpCall) -> web.StreamResponse:
        """Answers POST /v1/responses."""
        return await self._generate(call, ResponsesExchange)

    async def models(self, call: HttpCall) -> web.StreamResponse:
        """Answers GET /v1/models."""
        return _json({"object": "list", "data": list_entries(*self._entry.models(call.caller))})

    async def model(self, call: HttpCall) -> web.StreamResponse:
        """Answers GET /v1/models/{model}. Raises ApiError where there is none of that name."""
        name = call.request.path.removeprefix(MODELS + "/")
        found = find_entry(name, list_entries(*self._entry.models(call.caller)))
        if found is None:
            raise unknown_model(name)
        return _json(found)

    async def _read(self, call: HttpCall, read: Read) -> Exchange:
        """Reads a request. The body is not kept beside the values that were read from it; a large one is read in its
        turn."""
        body = await call.body()
        if len(body) < LARGE:
            return read(body, call.request.headers, call.id)
        async with self._heavy_work:
            return read(body, call.request.headers, call.id)

    async def _generate(self, call: HttpCall, read: Read) -> web.StreamResponse:
        exchange = await self._read(call, read)
        parsed = exchange.request
        created = int(self._clock.now())
        try:
            if parsed.stream:
                encoder = exchange.stream(call.id, created)
                relay = HttpRelay(call, encoder, parsed)
                events = self._entry.stream(call.caller, parsed.draft, parsed.timeout)
                return await relay.run(self._heartbeats.between(events, relay.beat))
            result = await self._entry.generate(call.caller, parsed.draft, parsed.timeout)
        except PointsmanError as error:
            raise from_failure(error, parsed.names) from None
        headers = result_headers(result) | ignored_headers(parsed.ignored, result.ignored, parsed.names)
        return web.Response(body=exchange.whole(result, created), content_type=JSON, headers=headers)


def _json(data: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), content_type=JSON)
