"""The life of a Generate: plan, admit, attempt, and again until an answer or nothing more can be done.

The loop is `Generate._once`; what to do next is `domain.next_step`, what a stream's caller is told is
`domain.relay`, an attempt's account is `attempt.Attempt`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from opentelemetry.trace import SpanKind

from libs.catalog.model import Catalog, Tenant
from libs.errors import AlreadyExists, PointsmanError, QuotaViolation, ResourceExhausted, Unavailable
from libs.resilience.retry_budget import RetryBudget
from libs.tracing import Span
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router import spans
from services.router.attempt import Attempt, Books
from services.router.domain.amounts import AdmissionDenied, Amounts
from services.router.domain.answers import Answer, RecentAnswers
from services.router.domain.events import (
    Completed,
    Degradation,
    Delta,
    Event,
    Result,
    Selected,
    UsageRecord,
)
from services.router.domain.failure import why_given_up
from services.router.domain.generation import (
    Completion,
    Generation,
    Prompt,
    ProviderFailure,
    StreamEnd,
    StreamEvent,
    ToolCall,
)
from services.router.domain.next_step import Envelope, Failed, GiveUp, Try, Wait, next_step
from services.router.domain.plan import Candidate, Plan
from services.router.domain.relay import Relay
from services.router.hedge import Entry, race
from services.router.ports import Admission, HealthView, Permit, Providers
from services.router.select import Planner

T = TypeVar("T")
Batch = Sequence[StreamEvent]

#: When to hedge a model whose times are not known yet, seconds.
HEDGE_UNKNOWN = 2.0


async def _chain(head: Sequence[Batch], rest: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    for batch in head:
        yield batch
    async for batch in rest:
        yield batch


@dataclass(slots=True)
class _Request:
    """A request in flight."""

    generation: Generation
    plan: Plan
    envelope: Envelope
    stream: bool
    started: float
    span: Span
    relay: Relay
    failed: list[Failed] = field(default_factory=list)
    #: Targets that limits or breakers kept from being called.
    refused: dict[str, tuple[QuotaViolation, ...]] = field(default_factory=dict)
    quota_retry_after: float | None = None
    records: list[UsageRecord] = field(default_factory=list)
    first_token: float | None = None
    allow_prefill: bool = True
    degradation: Degradation | None = None
    #: Streams of hedged attempts.
    open: dict[Attempt, AsyncGenerator[Batch, None]] = field(default_factory=dict)


class Generate:
    """The use case. `attempt_prefix` makes attempt ids unique over all processes and restarts."""

    def __init__(
        self,
        planner: Planner,
        providers: Providers,
        admission: Admission,
        books: Books,
        budget: RetryBudget,
        rng: Random,
        attempt_prefix: str,
        answers: RecentAnswers | None = None,
    ) -> None:
        self._planner = planner
        self._providers = providers
        self._health: HealthView = books.health
        self._admission = admission
        self._books = books
        self._clock = books.clock
        self._budget = budget
        self._rng = rng
        self._prefix = attempt_prefix
        self._answers = answers or RecentAnswers()
        self._numbers = itertools.count(1)
        self._running: set[tuple[str, str]] = set()

    async def whole(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None = None
    ) -> Result:
        """The answer in one piece. Raises libs.errors. `span`: the caller's, to which attempts become children."""
        async with aclosing(self._once(catalog, tenant, generation, span, stream=False)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    return event.result
        raise AssertionError("a run ends with Completed or an error")

    def stream(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None = None
    ) -> AsyncGenerator[Event, None]:
        """The answer as events; the last is Completed. Raises libs.errors. Closing it cancels the provider."""
        return self._once(catalog, tenant, generation, span, stream=True)

    async def _once(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None, *, stream: bool
    ) -> AsyncGenerator[Event, None]:
        """Plans, then runs; keeps a request id from being paid for twice at the same time."""
        key = (generation.tenant, generation.request_id)
        if key in self._running:
            raise AlreadyExists(
                f"request {generation.request_id!r} is still running", reason="REQUEST_ID_IN_USE"
            )
        self._running.add(key)
        started = self._clock.monotonic()
        try:
            span = span or Span("generate", SpanKind.INTERNAL, None)
            spans.asked(span, generation, stream=stream)
            plan = self._planner.plan(catalog, tenant, generation, stream=stream)
            envelope = _envelope(generation, plan)
            relay = Relay(generation.request_id)
            request = _Request(generation, plan, envelope, stream, started, span, relay)
            self._budget.record_request(started)
            while True:
                try:
                    attempt = await self._next(request)
                except PointsmanError as error:
                    if self._cheaper(request, catalog, tenant, error):
                        continue
                    for event in self._stale(request, error):
                        yield event
                    return
                try:
                    if stream:
                        async with aclosing(self._stream(request, attempt)) as events:
                            async for event in events:
                                yield event
                    else:
                        yield await self._whole(request, attempt)
                except ProviderFailure:
                    continue
                return
        finally:
            self._running.discard(key)

    def _cheaper(self, request: _Request, catalog: Catalog, tenant: Tenant, error: PointsmanError) -> bool:
        """The ladder's step to cheaper models than the policy names. Whether there are any to try."""
        ladder = request.plan.policy.degradation
        if not isinstance(error, _DEGRADABLE) or request.degradation or "cheaper_model" not in ladder:
            return False
        plan = self._planner.cheaper(catalog, tenant, request.generation, request.plan, stream=request.stream)
        if not plan.candidates:
            return False
        request.plan = plan
        request.degradation = Degradation.CHEAPER_MODEL
        return True

    def _stale(self, request: _Request, error: PointsmanError) -> Iterator[Event]:
        """The ladder's step to an old answer. Raises `error` where the policy or the memory has none."""
        generation = request.generation
        answer = None
        if isinstance(error, _DEGRADABLE) and "stale_cache" in request.plan.policy.degradation:
            answer = self._answers.find(generation, self._clock.monotonic())
        if answer is None or request.relay.committed:
            raise error
        if request.stream:
            if not request.records:
                yield Selected(generation.request_id, answer.candidate)
            yield Delta(answer.text)
        text = "" if request.stream else answer.text
        completion = Completion(text, FinishReason.STOP, None)
        request.degradation = Degradation.STALE_CACHE
        yield Completed(self._result(request, answer.candidate, completion, cached=True))

    def _remember(self, request: _Request, attempt: Attempt, finish: FinishReason, text: str) -> None:
        """Keeps a whole answer for the day when nobody can give a new one."""
        if finish is FinishReason.STOP and "stale_cache" in request.plan.policy.degradation:
            answer = Answer(text, attempt.candidate, self._clock.monotonic())
            self._answers.keep(request.generation, answer)

    async def _next(self, request: _Request) -> Attempt:
        """The next attempt, begun. Raises libs.errors when there is none: the answer is a failure then."""
        while True:
            now = self._clock.monotonic()
            jitter = self._rng.random()
            step = next_step(
                request.plan, request.failed, request.envelope, now, refused=request.refused, jitter=jitter
            )
            if isinstance(step, GiveUp):
                raise self._error(request, step.why)
            if request.failed and not self._budget.try_spend(now):
                raise self._error(request, "RETRY_BUDGET_EXHAUSTED")
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            request.allow_prefill = isinstance(step, Try) and step.prefill
            attempt = await self._begin(request, step.candidate)
            if attempt is not None:
                return attempt
            if request.failed:
                self._budget.refund(self._clock.monotonic())

    async def _begin(self, request: _Request, candidate: Candidate, *, hedge: bool = False) -> Attempt | None:
        """Passes limits and breaker. None: refused, and remembered as that."""
        generation, plan = request.generation, request.plan
        permit = await self._admit(request, candidate)
        if permit is None:
            return None
        ticket = self._health.begin(candidate.model)
        if ticket is None:
            permit.cancel()
            request.refused[candidate.target] = ()
            return None
        return Attempt(
            self._books,
            generation,
            candidate,
            attempt_id=f"{self._prefix}-{next(self._numbers):x}",
            number=len(request.records) + 1 + hedge,
            input_tokens=plan.input_tokens,
            admission=permit,
            ticket=ticket,
            streamed=request.stream,
            hedge=hedge,
            parent=request.span,
        )

    async def _admit(self, request: _Request, candidate: Candidate) -> Permit | None:
        generation = request.generation
        model = candidate.model
        scopes = [
            f"tenant:{generation.tenant}",
            f"provider:{model.provider}",
            f"model:{model.id}",
            f"tenant_provider:{generation.tenant}/{model.provider}",
        ]
        if generation.campaign:
            scopes.append(f"campaign:{generation.tenant}/{generation.campaign}")
        output = min(generation.prompt.max_output_tokens, model.max_output_tokens)
        amounts = Amounts(1, request.plan.input_tokens, output, candidate.estimated_micro_usd)
        permit = self._admission.try_admit(scopes, amounts)
        if permit is not None:
            return permit
        try:
            remaining = request.envelope.deadline - self._clock.monotonic()
            return await self._admission.admit(scopes, amounts, remaining)
        except AdmissionDenied as denied:
            request.refused[candidate.target] = denied.violations
            if denied.retry_after is not None:
                known = request.quota_retry_after
                request.quota_retry_after = min(denied.retry_after, known or denied.retry_after)
            if any(
                v.subject.startswith((f"tenant:{generation.tenant} ", "campaign:")) for v in denied.violations
            ):
                # The caller's own limit: no other provider would help.
                request.refused.update((c.target, denied.violations) for c in request.plan.candidates)
            return None

    async def _whole(self, request: _Request, attempt: Attempt) -> Completed:
        if request.generation.hedge and not request.failed:
            entry, completion = await self._race(
                request, self._whole_entry(request, attempt), self._whole_entry
            )
            attempt = entry.attempt
        else:
            try:
                # When the caller leaves, this task is cancelled and the provider's call with it.
                completion = await self._complete(request, attempt)
            except ProviderFailure as failure:
                self._failed(request, attempt, failure, "", prefilled=False)
                raise
            except BaseException:
                attempt.abandon("")
                raise
        request.records.append(
            attempt.succeed(
                completion.usage, completion.text, completion.finish_reason, completion.response_model
            )
        )
        if not completion.tool_calls:
            self._remember(request, attempt, completion.finish_reason, completion.text)
        return Completed(self._result(request, attempt.candidate, completion))

    def _complete(self, request: _Request, attempt: Attempt) -> Awaitable[Completion]:
        candidate = attempt.candidate
        timeout = self._timeout(request, candidate)
        return self._providers.complete(
            candidate.provider, candidate.model, request.generation.prompt, timeout
        )

    def _whole_entry(self, request: _Request, attempt: Attempt) -> Entry[Completion]:
        async def nothing() -> None: ...

        return Entry(attempt, self._complete(request, attempt), nothing)

    def _stream_entry(self, request: _Request, attempt: Attempt) -> Entry[Batch]:
        batches = self._open(request, attempt, request.generation.prompt)
        request.open[attempt] = batches
        return Entry(attempt, anext(batches), batches.aclose)

    async def _race(
        self,
        request: _Request,
        first: Entry[T],
        enter: Callable[[_Request, Attempt], Entry[T]],
    ) -> tuple[Entry[T], T]:
        """Lets a second candidate try when the first shows nothing by its learned 95th percentile. Both count
        against the envelope's money and the fleet's retry budget, which a hedge that wins gives back."""
        model = first.attempt.candidate.model

        async def second() -> Entry[T] | None:
            others = [c for c in request.plan.candidates if c is not first.attempt.candidate]
            limit = request.envelope.max_cost_micro_usd
            for other in others:
                cost = first.attempt.candidate.estimated_micro_usd + other.estimated_micro_usd
                if other.target in request.refused or (limit is not None and cost > limit):
                    continue
                if not self._budget.try_spend(self._clock.monotonic()):
                    return None
                attempt = await self._begin(request, other, hedge=True)
                if attempt is not None:
                    return enter(request, attempt)
                self._budget.refund(self._clock.monotonic())
            return None

        delay = self._health.hedge_after(model, stream=request.stream)
        winner, shown = await race(
            first,
            HEDGE_UNKNOWN if delay is None else delay,
            second,
            lambda attempt, failure: self._failed(request, attempt, failure, "", prefilled=False),
            lambda attempt: request.records.append(attempt.abandon("")),
        )
        if winner is not first:
            self._budget.refund(self._clock.monotonic())
        return winner, shown

    def _open(
        self, request: _Request, attempt: Attempt, prompt: Prompt
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        candidate = attempt.candidate
        timeout = self._timeout(request, candidate)
        return self._providers.stream(candidate.provider, candidate.model, prompt, timeout)

    async def _stream(self, request: _Request, attempt: Attempt) -> AsyncGenerator[Event, None]:
        relay, prompt = request.relay, request.generation.prompt
        prefill = ""
        if request.allow_prefill and "prefill" in attempt.candidate.model.capabilities:
            prefill = relay.prefill()
        last = request.failed[-1].error_class if request.failed else None
        end: StreamEnd | None = None
        accounted = False
        try:
            for event in relay.begin(attempt.candidate, last, prefilled=bool(prefill)):
                yield event
            head: tuple[Batch, ...] = ()
            if request.generation.hedge and not request.failed:
                accounted = True  # by the race, until it has a winner
                entry, shown = await self._race(
                    request, self._stream_entry(request, attempt), self._stream_entry
                )
                accounted = False
                batches, head = request.open[entry.attempt], (shown,)
                if entry.attempt is not attempt:
                    attempt = entry.attempt
                    for event in relay.begin(attempt.candidate, None, prefilled=False):
                        yield event
            else:
                batches = self._open(request, attempt, prompt.continued(prefill) if prefill else prompt)
            async with aclosing(batches):
                async for batch in _chain(head, batches):
                    if attempt.first_token is None and not isinstance(batch[0], StreamEnd):
                        attempt.content_came()
                        if request.first_token is None:
                            request.first_token = self._clock.monotonic() - request.started
                    for event in relay.feed(batch):
                        yield event
                    if isinstance(batch[-1], StreamEnd):
                        end = batch[-1]
            if end is None:
                raise ProviderFailure(ErrorClass.MALFORMED, "the stream ended without saying how")
        except ProviderFailure as failure:
            if not accounted:
                accounted = True
                self._failed(request, attempt, failure, "".join(relay.received), prefilled=bool(prefill))
            raise
        finally:
            if end is not None:
                text = "".join(relay.received)
                request.records.append(
                    attempt.succeed(end.usage, text, end.finish_reason, end.response_model)
                )
            elif not accounted:
                attempt.abandon("".join(relay.received))
        self._remember(request, attempt, end.finish_reason, relay.sent())
        completion = Completion("", end.finish_reason, end.usage, (), end.response_model)
        yield Completed(self._result(request, attempt.candidate, completion))

    def _failed(
        self, request: _Request, attempt: Attempt, failure: ProviderFailure, text: str, *, prefilled: bool
    ) -> None:
        record = attempt.fail(failure, text)
        request.records.append(record)
        request.failed.append(
            Failed(
                attempt.candidate,
                failure.error_class,
                failure.message,
                self._clock.monotonic(),
                failure.retry_after,
                failure.retry_same,
                record.cost_micro_usd,
                request.relay.committed,
                prefilled,
            )
        )

    def _timeout(self, request: _Request, candidate: Candidate) -> float:
        """Seconds this attempt may take: while others could still answer, it leaves them time."""
        remaining = max(0.0, request.envelope.deadline - self._clock.monotonic())
        tried = {f.candidate.target for f in request.failed} | {candidate.target}
        others = any(
            c.target not in tried and c.target not in request.refused for c in request.plan.candidates
        )
        return min(candidate.provider.timeouts.total, remaining * 0.6 if others else remaining)

    def _result(
        self, request: _Request, candidate: Candidate, completion: Completion, *, cached: bool = False
    ) -> Result:
        """The account of an answer, made before its last event leaves: nothing runs after that for sure."""
        if request.failed and not cached:
            self._budget.refund(self._clock.monotonic())
        records = request.records
        usage = _NOTHING
        for record in records:
            usage = usage + record.usage if record.usage is not None else usage
        tool_calls: tuple[ToolCall, ...] = completion.tool_calls
        result = Result(
            request_id=request.generation.request_id,
            text=completion.text,
            tool_calls=tool_calls,
            finish_reason=completion.finish_reason,
            candidate=candidate,
            attempts=tuple(records),
            usage=usage,
            cost_micro_usd=sum(record.cost_micro_usd for record in records),
            latency=self._clock.monotonic() - request.started,
            time_to_first_token=request.first_token,
            degradation=request.degradation,
            cached=cached,
        )
        spans.answered(request.span, result)
        return result

    def _error(self, request: _Request, why: str) -> PointsmanError:
        return why_given_up(
            why,
            request.plan,
            request.failed,
            request.refused,
            request.quota_retry_after,
            self._clock.monotonic(),
        )


_NOTHING = Usage(accuracy=UsageAccuracy.EXACT)
#: What a lesser answer is better than; a bad or refused request is not made better by it.
_DEGRADABLE = (Unavailable, ResourceExhausted)


def _envelope(generation: Generation, plan: Plan) -> Envelope:
    return Envelope(
        generation.deadline,
        generation.max_attempts,
        generation.max_cost_micro_usd,
        plan.policy.max_retry_after,
    )
