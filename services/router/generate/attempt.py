"""One provider attempt: written to the spool before the provider is called, and ended once by one `AttemptEnd`.

Exactly one of `succeed`, `fail` and `abandon` ends it, whatever happens in between. Then its permit is settled with
what was really used, so that what comes next may use the rest, and every observer learns of the end, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from libs.catalog.prices import Pricer, price_version
from libs.clock import Clock
from libs.ids import TimeOrderedIds
from libs.limits import Amounts
from libs.tracing import Span
from libs.types import ErrorClass, FinishReason, Usage
from services.router.admission.admission import Permit
from services.router.generate import spans
from services.router.generate.accounting import Ending, account, ending_of, reserved_usage
from services.router.generate.attempt_end import (
    NO_EVIDENCE,
    AttemptEnd,
    AttemptObserver,
    FailureEvidence,
    evidence_of,
)
from services.router.health.view import CallTicket
from services.router.ledger.spool import UsageSpool
from services.router.ledger.usage_record import Outcome, UsageRecord
from services.router.planning.candidate import Candidate
from services.router.request.generation import Generation, ProviderFailure
from services.router.request.usage import ToldUsage, merge_usage


class Attempts:
    """Begins attempts. One per process, which shares its `ids`."""

    def __init__(
        self,
        spool: UsageSpool,
        observers: Sequence[AttemptObserver],
        price: Pricer,
        clock: Clock,
        ids: TimeOrderedIds,
    ) -> None:
        self._spool = spool
        self._observers = tuple(observers)
        self._price = price
        self._clock = clock
        self._ids = ids

    def begin(
        self,
        generation: Generation,
        candidate: Candidate,
        *,
        number: int,
        input_tokens: int,
        permit: Permit,
        ticket: CallTicket,
        streamed: bool,
        hedge: bool,
        parent: Span,
    ) -> RunningAttempt:
        """Returns a running attempt that the spool holds, so that a crash does not lose it. `parent`: the span of the
        request."""
        output = min(generation.prompt.max_output_tokens, candidate.model.max_output_tokens)
        began, started = self._clock.monotonic(), self._clock.now()
        record = UsageRecord(
            attempt_id=self._ids.make(started),
            request_id=generation.request_id,
            attempt_number=number,
            tenant=generation.tenant,
            campaign=generation.campaign,
            content_type=generation.content_type,
            provider=candidate.provider.name,
            model=candidate.model.name,
            started=started,
            latency=0.0,
            time_to_first_token=None,
            outcome=Outcome.UNKNOWN,
            error_class=None,
            http_status=0,
            usage=reserved_usage(input_tokens, output),
            cost_micro_usd=candidate.estimated_micro_usd,
            finish_reason=None,
            streamed=streamed,
            hedge=hedge,
            labels=generation.labels,
            trace_id=parent.trace_id,
        )
        span = spans.begin_attempt(record, parent)
        attempt = RunningAttempt(
            self._observers,
            self._price,
            self._clock,
            began,
            generation,
            candidate,
            record,
            permit,
            ticket,
            span,
        )
        self._spool.begin(record)
        return attempt


class RunningAttempt:
    """A running attempt. `record` is what the ledger will hold."""

    __slots__ = (
        "_began",
        "_clock",
        "_generation",
        "_observers",
        "_permit",
        "_price",
        "_span",
        "_ticket",
        "candidate",
        "first_token",
        "record",
        "told",
    )

    def __init__(
        self,
        observers: tuple[AttemptObserver, ...],
        price: Pricer,
        clock: Clock,
        began: float,
        generation: Generation,
        candidate: Candidate,
        record: UsageRecord,
        permit: Permit,
        ticket: CallTicket,
        span: Span | None,
    ) -> None:
        self._observers = observers
        self._price = price
        self._clock = clock
        self._began = began
        self._generation = generation
        self.candidate = candidate
        self.record = record
        self._permit = permit
        self._ticket = ticket
        self._span = span
        self.first_token: float | None = None
        #: Filled by the provider's call.
        self.told = ToldUsage()

    def record_content(self) -> None:
        """Records that content is coming; the first time counts."""
        if self.first_token is None:
            self.first_token = self._clock.monotonic() - self._began

    def succeed(
        self, usage: Usage | None, text: str, finish: FinishReason, response_model: str
    ) -> UsageRecord:
        """Ends it with the answer: `text` is all of it, tool calls included; `usage` as it tells it."""
        self.record.finish_reason = finish
        return self._end(Outcome.SUCCESS, Ending.ANSWERED, usage, text, None, response_model)

    def fail(self, failure: ProviderFailure, text: str, *, prefilled: bool = False) -> UsageRecord:
        """Ends it with a failure after `text` had come. `prefilled`: it was asked to go on from what was sent."""
        record = self.record
        record.error_class = failure.error_class
        record.http_status = failure.http_status
        evidence = evidence_of(failure, prefilled=prefilled)
        told = merge_usage(self.told.usage, failure.usage)
        self._end(Outcome.FAILURE, ending_of(failure), told, text, evidence)
        # A provider's words may repeat the prompt: its caller gets them, no observer does, and nothing keeps them.
        record.message = failure.message
        return record

    def abandon(self, text: str) -> UsageRecord:
        """Ends it because the caller went away or its deadline passed; says nothing about the provider."""
        self.record.error_class = ErrorClass.CANCELLED
        return self._end(Outcome.CANCELLED, Ending.BROKEN_OFF, self.told.usage, text, NO_EVIDENCE)

    def _end(
        self,
        outcome: Outcome,
        ending: Ending,
        told: Usage | None,
        text: str,
        evidence: FailureEvidence | None,
        response_model: str = "",
    ) -> UsageRecord:
        candidate, record = self.candidate, self.record
        reserved = record.usage
        assert reserved is not None
        usage, cost = account(ending, told, text, reserved), 0
        if usage.input_tokens or usage.output_tokens:
            provider, model = candidate.provider, candidate.model
            cost = self._price(provider, model, usage, record.started, response_model)
            record.price_version = price_version(provider, model, response_model)
        record.latency = self._clock.monotonic() - self._began
        record.time_to_first_token = self.first_token
        record.outcome = outcome
        record.usage = usage
        record.cost_micro_usd = cost
        self._permit.settle(Amounts(1, usage.input_tokens, usage.output_tokens, cost))
        end = AttemptEnd(self._generation, candidate, record, self._ticket, self._span, evidence)
        for observer in self._observers:
            observer.attempt_ended(end)
        return record
