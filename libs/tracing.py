"""Spans at the price of a few attributes: ids when a span begins, the record when it ends.

OpenTelemetry's SDK builds, locks and cleans a span object step by step, which costs more than the rest of this
project's work on a call. Here a running span is a small object of our own; what the exporter gets at its end is the
SDK's own `ReadableSpan`. Propagation, sampling by parent and trace-id ratio, batching and export are the SDK's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from random import getrandbits

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

Value = str | bool | int | float | tuple[str, ...]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_SCOPE = InstrumentationScope("pointsman")
#: https://www.w3.org/TR/trace-context/#traceparent-header, of the only version there is.
_PLAIN = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class _Exporting:
    """The receiver of ended spans; nothing is recorded while there is no processor."""

    processor: SpanProcessor | None = None
    resource: Resource = Resource.get_empty()
    bound: int = TraceIdRatioBased.get_bound_for_rate(1.0)


def export_to(processor: SpanProcessor | None, resource: Resource, ratio: float) -> None:
    """Sends the spans that end from now on to `processor` (None: nowhere). `ratio`: share of traces without a
    parent that are sampled, 0 to 1."""
    _Exporting.processor = processor
    _Exporting.resource = resource
    _Exporting.bound = TraceIdRatioBased.get_bound_for_rate(ratio)


class Span:
    """A running span. `recording`: somebody will see it; else nothing but its trace's id costs anything.
    `attributes` may be written until `end`."""

    __slots__ = (
        "_context",
        "_kind",
        "_parent",
        "_sampled",
        "_started",
        "_trace_id",
        "attributes",
        "name",
        "recording",
    )

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        attributes: Mapping[str, Value] | None = None,
    ) -> None:
        self.name = name
        self._kind = kind
        self._parent = parent
        self._context: SpanContext | None = None
        if parent is not None:
            self._trace_id = parent.trace_id
            self._sampled = parent.trace_flags.sampled
        else:
            self._trace_id = trace_id = getrandbits(128) or 1
            self._sampled = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < _Exporting.bound
        self.recording = self._sampled and _Exporting.processor is not None
        self.attributes: dict[str, Value] = dict(attributes) if attributes and self.recording else {}
        self._started = time.time_ns() if self.recording else 0

    @property
    def context(self) -> SpanContext:
        """Returns the ids that name the span to others."""
        if self._context is None:
            flags = _SAMPLED if self._sampled else _NOT_SAMPLED
            state = None if self._parent is None else self._parent.trace_state
            self._context = SpanContext(self._trace_id, getrandbits(64) or 1, False, flags, state)
        return self._context

    @property
    def trace_id(self) -> str:
        """Returns the trace id as 32 hex digits."""
        return f"{self._trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """Returns the W3C header that makes a call's span a child of this one."""
        context = self.context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, error_type: str | None = None) -> None:
        """Hands the record to the exporter. `error_type`: what went wrong, a name from a closed set."""
        processor = _Exporting.processor
        if processor is None or not self.recording:
            return
        if error_type is not None:
            self.attributes["error.type"] = error_type
        processor.on_end(
            ReadableSpan(
                self.name,
                self.context,
                self._parent,
                _Exporting.resource,
                self.attributes,
                kind=self._kind,
                status=Status(StatusCode.UNSET if error_type is None else StatusCode.ERROR),
                start_time=self._started,
                end_time=time.time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )


current: ContextVar[Span | None] = ContextVar("pointsman_span", default=None)


def propagation() -> list[tuple[str, str]]:
    """Returns W3C Trace Context headers for a call made now: of the span of the call being served, else of whatever
    OpenTelemetry has as current in this task. Empty: no trace."""
    span = current.get()
    context = span.context if span is not None else trace.get_current_span().get_span_context()
    if not context.is_valid:
        return []
    flags = context.trace_flags
    headers = [("traceparent", f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}")]
    if context.trace_state:
        headers.append(("tracestate", context.trace_state.to_header()))
    return headers


def parent_of(traceparent: str, tracestate: str = "") -> SpanContext | None:
    """Returns the caller's span as W3C Trace Context names it; None where the header is no such thing."""
    plain = _PLAIN.fullmatch(traceparent) if not tracestate else None
    if plain is not None:
        # Nearly every caller sends this form; OpenTelemetry's parser takes twenty times as long for it.
        trace_id, span_id, flags = (int(part, 16) for part in plain.groups())
        context = SpanContext(trace_id, span_id, True, TraceFlags(flags))
        return context if context.is_valid else None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": traceparent, "tracestate": tracestate}
    context = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return context if context.is_valid else None
