"""The HTTP application: routes, identity, and errors in OpenAI's shape. No decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from libs.clock import Clock
from libs.errors import PointsmanError
from libs.http.observe import Handler
from libs.rpc.identity import bearer_key
from libs.telemetry import get_logger
from services.gateway.domain.account import result_headers
from services.gateway.domain.chat import ChatExchange
from services.gateway.domain.errors import ApiError, from_failure, key_required, unknown_model
from services.gateway.domain.exchange import Exchange
from services.gateway.domain.models import entries, find
from services.gateway.domain.responses import ResponsesExchange
from services.gateway.ports import Call, Router
from services.gateway.relay import Relay

Read = Callable[[bytes, Mapping[str, str]], Exchange]
REQUEST_ID = web.RequestKey("request_id", str)
JSON = "application/json"
#: The longest id of a request that the router takes.
MAX_ID = 128
log = get_logger(__name__)


class Gateway:
    """The handlers. `new_id` makes the ids of requests that bring none."""

    def __init__(self, router: Router, clock: Clock, new_id: Callable[[], str]) -> None:
        self._router = router
        self._clock = clock
        self._new_id = new_id

    def application(self, max_body: int) -> web.Application:
        """The routes. `max_body` is in bytes."""

        @web.middleware
        async def shaped(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._shaped(request, handler)

        app = web.Application(middlewares=[shaped], client_max_size=max_body)
        app.router.add_post("/v1/chat/completions", self.chat_completions)
        app.router.add_post("/v1/responses", self.responses)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{model:.+}", self.model)
        return app

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        return await self._generate(request, ChatExchange)

    async def responses(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""
        return await self._generate(request, ResponsesExchange)

    async def models(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models."""
        data = await self._entries(request)
        return _json({"object": "list", "data": data})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models/{model}."""
        name = request.match_info["model"]
        found = find(name, await self._entries(request))
        if found is None:
            raise unknown_model(name)
        return _json(found)

    async def _entries(self, request: web.Request) -> list[dict[str, Any]]:
        key = _key(request)
        try:
            return entries(await self._router.models(key))
        except PointsmanError as error:
            raise from_failure(error, {}) from None

    async def _generate(self, request: web.Request, read: Read) -> web.StreamResponse:
        key = _key(request)
        if (request.content_length or 0) > request.client_max_size:
            raise _too_large(request)
        exchange = read(await request.read(), request.headers)
        ask, request_id = exchange.ask, request[REQUEST_ID]
        ask.options["request_id"] = request_id
        call = Call(key, ask.messages, ask.options, ask.timeout)
        created = int(self._clock.now())
        try:
            if ask.stream:
                encoder = exchange.stream(request_id, created)
                relay = Relay(request, encoder, {"x-request-id": request_id}, ask.names, ask.on_restart)
                return await relay.run(self._router.stream(call))
            result = await self._router.generate(call)
        except PointsmanError as error:
            raise from_failure(error, ask.names) from None
        return web.Response(
            body=exchange.whole(result, created), content_type=JSON, headers=result_headers(result)
        )

    async def _shaped(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Gives every response its id, and every error OpenAI's shape."""
        given = request.headers.get("x-request-id", "")
        usable = 0 < len(given) <= MAX_ID and given.isascii() and given.isprintable()
        request[REQUEST_ID] = request_id = given if usable else self._new_id()
        try:
            response = await handler(request)
        except ApiError as error:
            response = _error(error)
        except web.HTTPException as error:
            response = _error(_http_error(request, error))
        except web.RequestPayloadError:
            response = _error(ApiError(400, "The request body could not be read.", code="invalid_body"))
        except ConnectionError:
            raise  # the client went away
        except Exception as error:
            log.error("unexpected_error", route=str(request.match_info.route), exc_info=error)
            if request.writer.output_size:
                raise  # in the middle of a stream: the connection is cut
            response = _error(ApiError(500, "The server had an error while processing your request."))
        if not response.prepared:
            response.headers["x-request-id"] = request_id
        return response


def _key(request: web.Request) -> str:
    try:
        key = bearer_key(request.headers.get("authorization"))
    except PointsmanError as error:
        raise from_failure(error, {}) from None
    if key is None:
        raise key_required()
    return key


def _json(data: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), content_type=JSON)


def _error(error: ApiError) -> web.Response:
    return web.Response(status=error.status, body=error.body(), content_type=JSON, headers=error.headers)


def _too_large(request: web.Request) -> ApiError:
    limit = request.client_max_size
    return ApiError(413, f"The request body is larger than {limit} bytes.", code="request_too_large")


def _http_error(request: web.Request, error: web.HTTPException) -> ApiError:
    match error:
        case web.HTTPRequestEntityTooLarge():
            return _too_large(request)
        case web.HTTPNotFound():
            text = f"Unknown request URL: {request.method} {request.path}."
            return ApiError(404, text, code="unknown_url")
        case web.HTTPMethodNotAllowed():
            headers = {"allow": error.headers.get("allow", "")}
            text = f"Not allowed method for this URL: {request.method} {request.path}."
            return ApiError(405, text, code="method_not_supported", headers=headers)
        case _:
            return ApiError(error.status, error.reason)
