"""A server span and the duration of every HTTP request, by OpenTelemetry's HTTP conventions."""

from __future__ import annotations

from aiohttp import hdrs, web
from msgspec import Struct
from opentelemetry.trace import SpanKind

from libs.clock import Clock
from libs.instruments import Distribution
from libs.telemetry import ERROR_TYPE, Metrics
from libs.tracing import Span, current, parent_of

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
#: The status that a request counts as which the caller gave up; nginx's number.
CLIENT_CLOSED_REQUEST = 499
OTHER_METHOD = "_OTHER"


class HttpObservation(Struct):
    """The observation of a running request."""

    method: str
    route: str
    started: float
    span: Span


class HttpObserver:
    """Measures requests from their head to the last byte of the answer."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._duration = metrics.histogram(
            "http_server_request_duration_seconds",
            "Duration of inbound requests",
            tuple(name.replace(".", "_") for name in (HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS)),
        )
        self._children: dict[tuple[str, str, int], Distribution] = {}

    def begin(self, request: web.BaseRequest, route: str) -> HttpObservation:
        """Starts the span, a child of the caller's where `traceparent` says so."""
        method = request.method if request.method in hdrs.METH_ALL else OTHER_METHOD
        traceparent = request.headers.get("traceparent")
        parent = parent_of(traceparent, request.headers.get("tracestate", "")) if traceparent else None
        span = Span(f"{method} {route}", SpanKind.SERVER, parent, {HTTP_METHOD: method, HTTP_ROUTE: route})
        # Calls made and lines logged while serving belong to this trace. Each request has its own task.
        current.set(span)
        return HttpObservation(method, route, self._clock.monotonic(), span)

    def end(self, observation: HttpObservation, status: int, *, traced: bool = True) -> None:
        """Counts the request and ends its span; `traced` False: without exporting it."""
        seconds = self._clock.monotonic() - observation.started
        self._count(observation.method, observation.route, status, seconds)
        if traced and observation.span.recording:
            observation.span.attributes[HTTP_STATUS] = status
            if status >= 500:
                observation.span.attributes[ERROR_TYPE] = str(status)
            observation.span.end(str(status) if status >= 500 else None)

    def count_unreadable(self, status: int) -> None:
        """Counts an answer to something that was no request."""
        self._count(OTHER_METHOD, "none", status, 0.0)

    def _count(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._duration.labels(method, route, str(status))
        child.observe(seconds)
