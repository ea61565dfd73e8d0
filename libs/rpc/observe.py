"""A server span and the RPC metrics of every call, by OpenTelemetry's RPC conventions."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from dataclasses import dataclass

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Histogram

from libs.clock import Clock
from libs.telemetry import ERROR_TYPE, RPC_METHOD, RPC_STATUS, RPC_SYSTEM, Metrics, tracer

_propagator = TraceContextTextMapPropagator()
_tracer = tracer("rpc")


@dataclass(slots=True)
class CallObservation:
    """What is known of a running call."""

    method: str
    started: float
    span: trace.Span
    token: Token[otel_context.Context] | None
    done: bool = False


class Observer:
    """Begins and ends observations."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._duration = metrics.histogram(
            "rpc_server_call_duration_seconds",
            "Duration of inbound calls",
            (RPC_METHOD.replace(".", "_"), RPC_STATUS.replace(".", "_")),
        )
        self._children: dict[tuple[str, grpc.StatusCode], Histogram] = {}
        self._attributes: dict[str, dict[str, str]] = {}

    def begin(self, method: str, metadata: Mapping[str, str | bytes]) -> CallObservation:
        """Starts the span, a child of the caller's where `traceparent` says so."""
        traceparent = metadata.get("traceparent")
        parent = (
            _propagator.extract(
                {"traceparent": str(traceparent), "tracestate": str(metadata.get("tracestate", ""))}
            )
            if traceparent
            else None
        )
        name = method[1:]
        attributes = self._attributes.get(name)
        if attributes is None:
            attributes = self._attributes[name] = {RPC_SYSTEM: "grpc", RPC_METHOD: name}
        span = _tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes)
        otel_context.attach(trace.set_span_in_context(span))
        return CallObservation(method, self._clock.monotonic(), span, None)

    def end(
        self, observation: CallObservation | None, code: grpc.StatusCode, error_type: str | None = None
    ) -> None:
        """Ends it once; later ends are the same call unwinding."""
        if observation is None or observation.done:
            return
        observation.done = True
        key = (observation.method, code)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._duration.labels(observation.method[1:], code.name)
        child.observe(self._clock.monotonic() - observation.started)
        span = observation.span
        span.set_attribute(RPC_STATUS, code.name)
        if error_type is not None:
            span.set_attribute(ERROR_TYPE, error_type)
            span.set_status(trace.StatusCode.ERROR)
        span.end()
