"""One provider attempt: written to the spool before the provider is called, and ended once by one `AttemptEnd`.

Exactly one of `succeed`, `fail`, `abandon` and `lose` ends it, whatever happens in between. Then its permit is
settled with what was really used, so that what comes next may use the rest, and every observer learns of the end, in
their order. After `lose`, those that learn do so from `give_verdict`.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field, structs

from libs.catalog.model import Provider
from libs.catalog.prices import Pricer, price_version
from libs.catalog.routes import ProviderRoute
from libs.clock import Clock
from libs.ids import TimeOrderedIds
from libs.limits import Amounts
from libs.tracing import Span
from libs.types import ErrorClass, FinishReason, RoutePart, Usage
from services.router.admission.admission import Permit
from services.router.generate import spans
from services.router.generate.accounting import Ending, account, ending_of, reserved_usage
from services.router.generate.attempt_end import (
    NO_EVIDENCE,
    AttemptEnd,
    FailureEvidence,
    Observers,
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
        observers: Observers,
        price: Pricer,
        clock: Clock,
        ids: TimeOrderedIds,
    ) -> None:
        self._spool = spool
        self._observers = observers
        self._price = price
        self._clock = clock
        self._ids = ids

    def begin(
        self,
        generation: Generation,
        candidate: Candidate,
        provider: Provider,
        *,
        number: int,
        reserved: Amounts,
        permit: Permit,
        ticket: CallTicket,
        streamed: bool,
        hedge: bool,
        parent: Span,
        before: ProviderRoute | None = None,
    ) -> RunningAttempt:
        """Returns a running attempt that the spool holds, so that a crash does not lose it. `provider`: the
        candidate's, or one of its routes; `before`: the route by which the attempt before failed at this provider;
        `reserved`: what its permit was given for; `parent`: the span of the request."""
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
            usage=reserved_usage(reserved.input_tokens, reserved.output_tokens),
            cost_micro_usd=reserved.micro_usd,
            finish_reason=None,
            streamed=streamed,
            hedge=hedge,
            labels=generation.labels,
            trace_id=parent.trace_id,
        )
        route = provider.route
        if route is not None:
            record.key, record.endpoint = route.key, route.endpoint
            record.switched = _switched(before, route)
        span = spans.begin_attempt(record, parent)
        attempt = RunningAttempt(
            self._observers,
            self._price,
            self._clock,
            began,
            generation,
            candidate,
            provider,
            record,
            permit,
            ticket,
            span,
        )
        self._spool.begin(record)
        return attempt


def _switched(before: ProviderRoute | None, route: ProviderRoute) -> RoutePart | None:
    """Returns the part of the route before that this one replaces."""
    if before is None or before == route:
        return None
    return RoutePart.ENDPOINT if before.key == route.key else RoutePart.KEY


class RunningAttempt(Struct, eq=False):
    """A running attempt. `record` is what the ledger will hold."""

    _observers: Observers
    _price: Pricer
    _clock: Clock
    _began: float
    _generation: Generation
    candidate: Candidate
    #: The candidate's provider as it is called: by one of its routes, where it has several.
    provider: Provider
    record: UsageRecord
    _permit: Permit
    _ticket: CallTicket
    _span: Span | None
    first_token: float | None = None
    #: Its provider was called, or is about to be.
    called: bool = False
    #: Filled by the provider's call.
    told: ToldUsage = field(default_factory=ToldUsage)

    def record_content(self) -> None:
        """Records that content is coming; the first time counts."""
        if self.first_token is None:
            self.first_token = self._clock.monotonic() - self._began

    def succeed(
        self,
        usage: Usage | None,
        text: str,
        finish: FinishReason,
        response_model: str,
        encode: Callable[[UsageRecord], bytes],
    ) -> UsageRecord:
        """Ends it with the answer: `text` is all of it, tool calls included; `usage` as it tells it. `encode` returns
        the record of the request that ends with it."""
        self.record.finish_reason = finish
        return self._end(Outcome.SUCCESS, Ending.ANSWERED, usage, text, None, response_model, encode)

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
        ending = Ending.BROKEN_OFF if self.called else Ending.REFUSED
        return self._end(Outcome.CANCELLED, ending, self.told.usage, text, NO_EVIDENCE)

    @property
    def is_probe(self) -> bool:
        """Returns True if it tries a half-open target."""
        return bool(self._ticket.permit)

    def lose(self) -> UsageRecord:
        """Ends it for its request, which another attempt answers, while its call goes on for what it shows of the
        target: `give_verdict` follows."""
        self.record.error_class = ErrorClass.CANCELLED
        return self._end(Outcome.CANCELLED, Ending.BROKEN_OFF, self.told.usage, "", NO_EVIDENCE, learn=False)

    def give_verdict(self, evidence: FailureEvidence | None) -> None:
        """Tells those that learn what it has shown since it lost; None: an answer was beginning to come."""
        latency = self._clock.monotonic() - self._began
        record = structs.replace(
            self.record,
            error_class=None if evidence is None else evidence.error_class,
            latency=latency,
            time_to_first_token=latency if self.record.streamed and evidence is None else None,
        )
        end = AttemptEnd(self._generation, self.candidate, record, self._ticket, None, evidence)
        for observer in self._observers.learners:
            observer.attempt_ended(end)

    def _end(
        self,
        outcome: Outcome,
        ending: Ending,
        told: Usage | None,
        text: str,
        evidence: FailureEvidence | None,
        response_model: str = "",
        encode: Callable[[UsageRecord], bytes] | None = None,
        *,
        learn: bool = True,
    ) -> UsageRecord:
        candidate, record = self.candidate, self.record
        reserved = record.usage
        assert reserved is not None
        usage, cost = account(ending, told, text, reserved), 0
        if usage.input_tokens or usage.output_tokens:
            provider, model = candidate.provider, candidate.model
            cost = self._price(provider, model, usage, record.started, response_model)
            record.price_version = price_version(provider, model, response_model)
            if usage.cache_read_tokens:
                fresh = structs.replace(usage, cache_read_tokens=0)
                whole = self._price(provider, model, fresh, record.started, response_model)
                record.cache_saving_micro_usd = max(0, whole - cost)
        record.latency = self._clock.monotonic() - self._began
        record.time_to_first_token = self.first_token
        record.outcome = outcome
        record.usage = usage
        record.cost_micro_usd = cost
        if encode is not None:
            record.request = encode(record)
        self._permit.settle(Amounts(1, usage.input_tokens, usage.output_tokens, cost))
        end = AttemptEnd(self._generation, candidate, record, self._ticket, self._span, evidence)
        for observer in self._observers.accounts:
            observer.attempt_ended(end)
        if learn:
            for observer in self._observers.learners:
                observer.attempt_ended(end)
        return record
