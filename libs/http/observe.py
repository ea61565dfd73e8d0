"""A server span and the duration of every HTTP request, by OpenTelemetry's HTTP conventions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from opentelemetry.trace import SpanKind

from libs.clock import Clock
from libs.telemetry import ERROR_TYPE, Metrics
from libs.tracing import Span, current, parent_of

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
#: What a request that the caller gave up is counted as; nginx's number.
CLIENT_CLOSED_REQUEST = 499

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpObserver:
    """Measures requests from their head to the last byte of the answer."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._duration = metrics.histogram(
            "http_server_request_duration_seconds",
            "Duration of inbound requests",
            tuple(name.replace(".", "_") for name in (HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS)),
        )

    async def observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Runs the handler inside a span that is a child of the caller's where `traceparent` says so."""
        method = request.method if request.method in hdrs.METH_ALL else "_OTHER"
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        traceparent = request.headers.get("traceparent")
        parent = parent_of(traceparent, request.headers.get("tracestate", "")) if traceparent else None
        span = Span(f"{method} {route}", SpanKind.SERVER, parent, {HTTP_METHOD: method, HTTP_ROUTE: route})
        # So that calls made and lines logged while serving belong to this trace.
        token = current.set(span)
        started = self._clock.monotonic()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as answer:
            status = answer.status
            raise
        except (asyncio.CancelledError, ConnectionError):
            status = CLIENT_CLOSED_REQUEST
            raise
        finally:
            current.reset(token)
            self._duration.labels(method, route, str(status)).observe(self._clock.monotonic() - started)
            span.attributes[HTTP_STATUS] = status
            if status >= 500:
                span.attributes[ERROR_TYPE] = str(status)
            span.end(str(status) if status >= 500 else None)
