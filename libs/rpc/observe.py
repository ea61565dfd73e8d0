"""A server span and the RPC metrics of every call, by OpenTelemetry's RPC conventions."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from msgspec import Struct
from opentelemetry.trace import SpanKind

from libs.clock import Clock
from libs.instruments import Distribution
from libs.telemetry import RPC_METHOD, RPC_STATUS, RPC_SYSTEM, Metrics
from libs.tracing import Span, current, parent_of


def current_span() -> Span:
    """Returns the server span of the call that this task serves. Raises LookupError outside of a call."""
    span = current.get()
    if span is None:
        raise LookupError("no call is being served")
    return span


class CallObservation(Struct):
    """The observation of a running call."""

    method: str
    started: float
    span: Span
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
        self._children: dict[tuple[str, str], Distribution] = {}
        self._attributes: dict[str, dict[str, str]] = {}

    def begin(self, method: str, metadata: Mapping[str, str | bytes]) -> CallObservation:
        """Starts the span, a child of the caller's where `traceparent` says so."""
        traceparent = metadata.get("traceparent")
        parent = parent_of(str(traceparent), str(metadata.get("tracestate", ""))) if traceparent else None
        name = method[1:]
        attributes = self._attributes.get(name)
        if attributes is None:
            attributes = self._attributes[name] = {RPC_SYSTEM: "grpc", RPC_METHOD: name}
        span = Span(name, SpanKind.SERVER, parent, attributes)
        # Calls made and lines logged while serving belong to this trace.
        current.set(span)
        return CallObservation(method, self._clock.monotonic(), span)

    def end(self, observation: CallObservation, code: grpc.StatusCode, error_type: str | None = None) -> None:
        """Ends it once; later ends are the same call unwinding."""
        if observation.done:
            return
        observation.done = True
        self._observe(observation.method, code, self._clock.monotonic() - observation.started)
        if observation.span.recording:
            observation.span.attributes[RPC_STATUS] = "OK" if code is grpc.StatusCode.OK else code.name
            observation.span.end(error_type)

    def count(self, method: str, code: grpc.StatusCode) -> None:
        """Counts a call that was refused before anything was done for it: no span, and no duration to speak of."""
        self._observe(method, code, 0.0)

    def _observe(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        status = "OK" if code is grpc.StatusCode.OK else code.name
        key = (method, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._duration.labels(method[1:], status)
        child.observe(seconds)
