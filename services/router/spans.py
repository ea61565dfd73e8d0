"""The spans of a request: one for the generation, one child for each provider attempt, by the GenAI conventions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from libs import telemetry
from services.router.domain.events import Result, UsageRecord
from services.router.domain.generation import Generation

_tracer = telemetry.tracer("router")


@contextmanager
def generation(request: Generation, *, stream: bool) -> Iterator[trace.Span]:
    """The whole request. Not made current: a generator's caller would inherit it."""
    span = _tracer.start_span(
        "chat",
        attributes={
            telemetry.GEN_AI_OPERATION: "chat",
            telemetry.TENANT: request.tenant,
            telemetry.REQUEST_ID: request.request_id,
            "gen_ai.request.stream": stream,
        },
    )
    try:
        yield span
    finally:
        span.end()


def failed(span: trace.Span, reason: str) -> None:
    """The request got no answer."""
    span.set_attribute(telemetry.ERROR_TYPE, reason)
    span.set_status(trace.StatusCode.ERROR)


def answered(span: trace.Span, result: Result) -> None:
    """The request got its answer."""
    if span.is_recording():
        span.set_attributes(
            {
                telemetry.GEN_AI_PROVIDER: result.candidate.model.provider,
                telemetry.GEN_AI_REQUEST_MODEL: result.candidate.model.name,
                telemetry.GEN_AI_FINISH_REASONS: (str(result.finish_reason),),
                telemetry.GEN_AI_INPUT_TOKENS: result.usage.input_tokens,
                telemetry.GEN_AI_OUTPUT_TOKENS: result.usage.output_tokens,
                telemetry.COST_MICRO_USD: result.cost_micro_usd,
            }
        )


@contextmanager
def attempt(record: UsageRecord, parent: trace.Span) -> Iterator[trace.Span]:
    """One call to one provider."""
    span = _tracer.start_span(
        f"chat {record.model}",
        trace.set_span_in_context(parent),
        trace.SpanKind.CLIENT,
        {
            telemetry.GEN_AI_OPERATION: "chat",
            telemetry.GEN_AI_PROVIDER: record.provider,
            telemetry.GEN_AI_REQUEST_MODEL: record.model,
            telemetry.ATTEMPT_NUMBER: record.attempt_number,
        },
    )
    try:
        yield span
    finally:
        span.end()


def attempt_ended(span: trace.Span, record: UsageRecord) -> None:
    """How the call ended."""
    if not span.is_recording():
        return
    if record.error_class is not None:
        span.set_attribute(telemetry.ERROR_TYPE, str(record.error_class))
        span.set_status(trace.StatusCode.ERROR)
    if record.usage is not None:
        span.set_attributes(
            {
                telemetry.GEN_AI_INPUT_TOKENS: record.usage.input_tokens,
                telemetry.GEN_AI_OUTPUT_TOKENS: record.usage.output_tokens,
                telemetry.COST_MICRO_USD: record.cost_micro_usd,
            }
        )


def trace_id(span: trace.Span) -> str:
    """32 hex digits; empty where nothing is traced."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
