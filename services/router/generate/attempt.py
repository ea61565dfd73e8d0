"""One attempt's account: told to the spool before and after, settled with the limiter, reported to health.

Exactly one of `succeed`, `fail` and `abandon` ends it, whatever happens in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from libs.catalog.prices import Pricer
from libs.clock import Clock
from libs.limits import Amounts
from libs.tracing import Span
from libs.types import PROVIDER_FAULTS, ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.admission.admission import Permit
from services.router.generate import spans
from services.router.generate.meters import Meters
from services.router.health.view import CallTicket, HealthView
from services.router.ledger.spool import UsageSpool
from services.router.ledger.usage_record import Outcome, UsageRecord
from services.router.planning.candidate import Candidate
from services.router.request.generation import Generation, ProviderFailure
from services.router.request.tokens import estimate_text_tokens
from services.router.set_aside.set_aside import SettingAside

#: After these the provider may have worked and billed although no answer came.
_MAYBE_BILLED = frozenset(
    {ErrorClass.TIMEOUT, ErrorClass.STALLED, ErrorClass.MALFORMED, ErrorClass.CANCELLED}
)
#: After these a stated wait is meant for everybody; after others for the request, or for the account.
_WAITS = PROVIDER_FAULTS | {ErrorClass.RATE_LIMITED}


@dataclass(slots=True)
class Books:
    """Where an attempt is accounted for."""

    spool: UsageSpool
    health: HealthView
    price: Pricer
    clock: Clock
    meters: Meters
    set_aside: SettingAside


class Attempt:
    """A running attempt. Built when it is admitted; `record` is what the ledger will hold."""

    def __init__(
        self,
        books: Books,
        generation: Generation,
        candidate: Candidate,
        *,
        attempt_id: str,
        number: int,
        input_tokens: int,
        admission: Permit,
        ticket: CallTicket,
        streamed: bool,
        hedge: bool,
        parent: Span,
    ) -> None:
        self._books = books
        self.candidate = candidate
        self._input_tokens = input_tokens
        self._admission = admission
        self._ticket = ticket
        self._generation = generation
        self._began = books.clock.monotonic()
        self.first_token: float | None = None
        output = min(generation.prompt.max_output_tokens, candidate.model.max_output_tokens)
        self.record = UsageRecord(
            attempt_id=attempt_id,
            request_id=generation.request_id,
            attempt_number=number,
            tenant=generation.tenant,
            campaign=generation.campaign,
            content_type=generation.content_type,
            provider=candidate.provider.name,
            model=candidate.model.name,
            started=books.clock.now(),
            latency=0.0,
            time_to_first_token=None,
            outcome=Outcome.UNKNOWN,
            error_class=None,
            http_status=0,
            usage=Usage(input_tokens, output, accuracy=UsageAccuracy.UNCERTAIN),
            cost_micro_usd=candidate.estimated_micro_usd,
            finish_reason=None,
            streamed=streamed,
            hedge=hedge,
            labels=generation.labels,
            trace_id=parent.trace_id,
        )
        self._span = spans.attempt(self.record, parent)
        books.spool.begin(self.record)

    def content_came(self) -> None:
        """Content is coming; the first time counts."""
        if self.first_token is None:
            self.first_token = self._books.clock.monotonic() - self._began

    def succeed(
        self, usage: Usage | None, text: str, finish: FinishReason, response_model: str
    ) -> UsageRecord:
        """It gave the answer. `usage` None: not reported, so counted here from `text`."""
        if usage is None:
            usage = Usage(self._input_tokens, estimate_text_tokens(text), accuracy=UsageAccuracy.ESTIMATED)
        record = self._end(Outcome.SUCCESS, usage, response_model, finish_reason=finish)
        self._books.health.succeeded(
            self.candidate.model,
            self._ticket,
            record.latency,
            self.first_token,
            usage.output_tokens,
            self._generation.tenant,
        )
        # An answer that a filter ended is neither a refusal nor proof that such requests are served.
        if finish is not FinishReason.CONTENT_FILTER:
            self._books.set_aside.succeeded(
                self.candidate.provider,
                self.candidate.model,
                self._generation,
                record.started,
                stream=record.streamed,
            )
        return record

    def fail(self, failure: ProviderFailure, text: str, *, prefilled: bool = False) -> UsageRecord:
        """It failed after `text` had come. What it consumed is what the provider said, else what is known here.
        `prefilled`: it was not asked what the caller asked, so what it found wrong is not held against the caller's
        kind of request."""
        record = self._end(
            Outcome.FAILURE,
            self._consumed(failure, text),
            "",
            error_class=failure.error_class,
            http_status=failure.http_status,
            message=failure.message,
        )
        blamed = failure.error_class if failure.at_fault else ErrorClass.CANCELLED
        if blamed is ErrorClass.RATE_LIMITED and not failure.retry_same:
            # The request alone is larger than the account's rate: others are not.
            blamed = ErrorClass.CONTEXT_TOO_LONG
        wait = failure.retry_after if blamed in _WAITS and failure.explicit else None
        tenant = self._generation.tenant
        self._books.health.failed(self.candidate.model, self._ticket, blamed, wait, tenant)
        if failure.at_fault and not prefilled:
            self._books.set_aside.failed(
                self.candidate.provider,
                self.candidate.model,
                self._generation,
                record.started,
                blamed,
                explicit=failure.explicit,
                stream=record.streamed,
            )
        return record

    def abandon(self, text: str) -> UsageRecord:
        """The caller went away or its deadline passed; says nothing about the provider."""
        failure = ProviderFailure(ErrorClass.CANCELLED, "the caller went away")
        record = self._end(
            Outcome.CANCELLED, self._consumed(failure, text), "", error_class=ErrorClass.CANCELLED
        )
        self._books.health.failed(
            self.candidate.model, self._ticket, ErrorClass.CANCELLED, None, self._generation.tenant
        )
        return record

    def _consumed(self, failure: ProviderFailure, text: str) -> Usage:
        output = estimate_text_tokens(text)
        if failure.usage is not None:
            # A stream cut early has often reported its prompt, but not yet what it generated.
            if failure.usage.output_tokens >= output:
                return failure.usage
            return structs.replace(failure.usage, output_tokens=output, accuracy=UsageAccuracy.ESTIMATED)
        if text:
            return Usage(self._input_tokens, output, accuracy=UsageAccuracy.ESTIMATED)
        if failure.error_class in _MAYBE_BILLED:
            return Usage(self._input_tokens, 0, accuracy=UsageAccuracy.UNCERTAIN)
        # Refused by a status, or never reached: nothing was generated, and nobody bills for that.
        return Usage(accuracy=UsageAccuracy.ESTIMATED)

    def _end(
        self,
        outcome: Outcome,
        usage: Usage,
        response_model: str,
        *,
        error_class: ErrorClass | None = None,
        http_status: int = 0,
        finish_reason: FinishReason | None = None,
        message: str = "",
    ) -> UsageRecord:
        books = self._books
        candidate = self.candidate
        cost = 0
        if usage.input_tokens or usage.output_tokens:
            started = self.record.started
            cost = books.price(candidate.provider, candidate.model, usage, started, response_model)
        record = self.record
        record.latency = books.clock.monotonic() - self._began
        record.time_to_first_token = self.first_token
        record.outcome = outcome
        record.error_class = error_class
        record.http_status = http_status
        record.usage = usage
        record.cost_micro_usd = cost
        record.finish_reason = finish_reason
        books.spool.end(record)
        books.meters.ended(record)
        # What a provider says may repeat the prompt: its caller is told, but it is not kept.
        record.message = message
        spans.attempt_ended(self._span, record)
        self._admission.settle(Amounts(1, usage.input_tokens, usage.output_tokens, cost))
        return record
