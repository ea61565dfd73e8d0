"""A collector of traces inside the test: OTLP over gRPC on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.support.address import fresh_address


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it was exported. `kind`: 1 internal, 2 server, 3 client; `failed`: its status is ERROR; times in
    seconds since the epoch."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: float
    end: float
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span, and everything that came as bytes, to look for what must not be there."""

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Takes what exporters send."""
        self.raw.append(request.SerializeToString())
        for resource in request.resource_spans:
            about = {item.key: _value(item.value) for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        str(about.get("service.name", "")),
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        int(span.kind),
                        span.start_time_unix_nano / 1e9,
                        span.end_time_unix_nano / 1e9,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        {item.key: _value(item.value) for item in span.attributes},
                    )
                    for span in scope.spans
                ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace by their beginning."""
        return sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda span: span.start)

    async def wait_for(
        self, trace_id: str, enough: Callable[[list[Span]], bool], timeout: float = 15.0
    ) -> list[Span]:
        """The spans of a trace as soon as there are enough; after `timeout` seconds whatever there is."""
        try:
            async with asyncio.timeout(timeout):
                while not enough(self.trace(trace_id)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass
        return self.trace(trace_id)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """A collector that services may export to at `endpoint`."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(fresh_address())
    await server.start()
    collector.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        await server.stop(0)
