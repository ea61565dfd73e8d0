"""A request in a trace: the call's own span carries the generation, a child each provider attempt, by
the GenAI conventions."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from libs import telemetry
from libs.answer import Result
from libs.tracing import Span
from services.router.ledger.usage_record import UsageRecord
from services.router.request.generation import Generation


def describe_request(span: Span, request: Generation, *, stream: bool) -> None:
    """Writes the tenant and the request to the call's span."""
    if span.recording:
        span.attributes |= {
            telemetry.GEN_AI_OPERATION: "chat",
            telemetry.TENANT: request.tenant,
            telemetry.REQUEST_ID: request.request_id,
            "gen_ai.request.stream": stream,
        }


def describe_answer(span: Span, result: Result) -> None:
    """Writes the answer's model, usage and cost to the call's span."""
    if span.recording:
        span.attributes |= {
            telemetry.GEN_AI_PROVIDER: result.selection.provider,
            telemetry.GEN_AI_REQUEST_MODEL: result.selection.model,
            telemetry.GEN_AI_FINISH_REASONS: (str(result.finish_reason),),
            telemetry.GEN_AI_INPUT_TOKENS: result.usage.input_tokens,
            telemetry.GEN_AI_OUTPUT_TOKENS: result.usage.output_tokens,
            telemetry.COST_MICRO_USD: result.cost_micro_usd,
        }


def begin_attempt(record: UsageRecord, parent: Span) -> Span | None:
    """Begins the span of one call to one provider. None: nobody will see it."""
    return Span(f"chat {record.model}", SpanKind.CLIENT, parent.context) if parent.recording else None


def end_attempt(span: Span, record: UsageRecord) -> None:
    """Ends the span of a call that ended as `record` says."""
    span.attributes |= {
        telemetry.GEN_AI_OPERATION: "chat",
        telemetry.GEN_AI_PROVIDER: record.provider,
        telemetry.GEN_AI_REQUEST_MODEL: record.model,
        telemetry.ATTEMPT_NUMBER: record.attempt_number,
        telemetry.COST_MICRO_USD: record.cost_micro_usd,
    }
    if record.usage is not None:
        span.attributes[telemetry.GEN_AI_INPUT_TOKENS] = record.usage.input_tokens
        span.attributes[telemetry.GEN_AI_OUTPUT_TOKENS] = record.usage.output_tokens
    span.end(None if record.error_class is None else str(record.error_class))
