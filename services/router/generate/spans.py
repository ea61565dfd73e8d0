"""What a trace shows of a request: the call's own span carries the generation, a child each provider attempt, by
the GenAI conventions."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from libs import telemetry
from libs.tracing import Span
from services.router.generate.events import Result
from services.router.ledger.usage_record import UsageRecord
from services.router.request.generation import Generation


def asked(span: Span, request: Generation, *, stream: bool) -> None:
    """What is to be generated, for whom."""
    if span.recording:
        span.attributes |= {
            telemetry.GEN_AI_OPERATION: "chat",
            telemetry.TENANT: request.tenant,
            telemetry.REQUEST_ID: request.request_id,
            "gen_ai.request.stream": stream,
        }


def answered(span: Span, result: Result) -> None:
    """The request got its answer."""
    if span.recording:
        span.attributes |= {
            telemetry.GEN_AI_PROVIDER: result.candidate.model.provider,
            telemetry.GEN_AI_REQUEST_MODEL: result.candidate.model.name,
            telemetry.GEN_AI_FINISH_REASONS: (str(result.finish_reason),),
            telemetry.GEN_AI_INPUT_TOKENS: result.usage.input_tokens,
            telemetry.GEN_AI_OUTPUT_TOKENS: result.usage.output_tokens,
            telemetry.COST_MICRO_USD: result.cost_micro_usd,
        }


def attempt(record: UsageRecord, parent: Span) -> Span | None:
    """One call to one provider begins. None: nobody will see it."""
    return Span(f"chat {record.model}", SpanKind.CLIENT, parent.context) if parent.recording else None


def attempt_ended(span: Span | None, record: UsageRecord) -> None:
    """It ended, as `record` says."""
    if span is not None:
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
