"""Logs, metrics and traces: the one module that knows which libraries make them.

Logs are JSON lines on stderr with trace ids. Metrics are Prometheus instruments with OpenTelemetry's names turned
to underscores; label values come from closed sets or the catalog, never from callers. Traces go out by OTLP where
an endpoint is set. None of them ever holds a key or a prompt.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TextIO, cast

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, Gauge

from libs import tracing
from libs.instruments import Counter, Histogram
from libs.settings import ServiceSettings

# OpenTelemetry semantic conventions, GenAI and RPC (stable names as of 1.43).
GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
ERROR_TYPE = "error.type"
TENANT = "pointsman.tenant"
REQUEST_ID = "pointsman.request.id"
ATTEMPT_NUMBER = "pointsman.attempt.number"
COST_MICRO_USD = "pointsman.cost.micro_usd"

#: Seconds; from a cache hit to a slow long answer.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

Logger = structlog.stdlib.BoundLogger


def get_logger(name: str) -> Logger:
    """Returns a structured logger, to be used as `log.info("event_name", key=value)`."""
    logger: Logger = structlog.get_logger(module=name)
    return logger


def _trace_ids(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    span = tracing.current.get()
    context = span.context if span is not None else trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


class LogStream:
    """Writes log lines to a file descriptor, each at once.

    One that cannot be written (a full disk, a reader that is gone) is lost and counted in `lost`: what is logged must
    not fail because its log does. Nothing is buffered, or the interpreter would fail at its end for what it could not
    write then.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.lost = 0

    def write(self, line: str) -> int:
        """Writes a line, or counts it as lost."""
        rest = line.encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.lost += 1
        return len(line)

    def flush(self) -> None:
        """Does nothing: nothing is kept back."""


def configure_logging(service: str, level: str = "info") -> LogStream:
    """Makes structlog and the standard library's loggers write JSON lines to stderr. Returns the stream they go
    to."""
    stream = LogStream(sys.stderr.fileno())
    number = logging.getLevelName(level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_ids,
    ]

    def name_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    structlog.configure(
        processors=[
            *shared,
            name_service,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, name_service],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    # These log what callers send as `traceparent` and `tracestate`, a line for each call: anybody could write there,
    # or fill the disk. The same parser drops what is malformed, and only the caller can do anything about it.
    for name in ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    return stream


class Metrics:
    """Makes instruments in one registry; a process has one of these, tests as many as they like."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._instruments: dict[str, Any] = {}

    def _get(self, kind: Callable[..., Any], name: str, description: str, *more: Any) -> Any:
        full = f"pointsman_{name}"
        if full not in self._instruments:
            instrument = self._instruments[full] = kind(full, description, *more)
            self.registry.register(instrument)
        return self._instruments[full]

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        """Returns a count that only grows; `name` without the `pointsman_` prefix and `_total` suffix."""
        instrument: Counter = self._get(Counter, name, description, labels)
        return instrument

    def gauge(self, name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        """Returns a value that goes up and down."""
        instrument: Gauge = self._get(partial(Gauge, registry=None), name, description, labels)
        return instrument

    def histogram(
        self,
        name: str,
        description: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS,
    ) -> Histogram:
        """Returns a distribution, by default of seconds."""
        instrument: Histogram = self._get(Histogram, name, description, labels, buckets)
        return instrument


class Telemetry:
    """The logs, metrics and traces of a process, from construction to `stop`."""

    def __init__(self, service: str, settings: ServiceSettings, instance: str) -> None:
        stream = configure_logging(service, settings.log_level)
        self.metrics = Metrics()
        lost = self.metrics.gauge("log_lines_lost", "Log lines that could not be written to stderr")
        lost.set_function(lambda: stream.lost)
        self._spans: BatchSpanProcessor | None = None
        if settings.otlp_endpoint:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            insecure = not settings.otlp_endpoint.startswith("https:")
            self._spans = BatchSpanProcessor(OTLPSpanExporter(settings.otlp_endpoint, insecure=insecure))
        resource = Resource.create({"service.name": f"pointsman-{service}", "service.instance.id": instance})
        tracing.export_to(self._spans, resource, settings.trace_sample_ratio)

    def stop(self) -> None:
        """Flushes traces."""
        if self._spans is not None:
            self._spans.shutdown()  # type: ignore[no-untyped-call]
