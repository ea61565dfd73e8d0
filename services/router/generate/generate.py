"""The life of a Generate: plan, admit, attempt, and again until an answer or nothing more can be done.

The loop is `Generate.whole`, and `Generate.stream` with events. What to do next is `domain.next_step`, a candidate
passes limits in `admit`, is called in `call`, what a stream's caller is told is `domain.relay`, an attempt's account
is `attempt.Attempt`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from random import Random

from opentelemetry.trace import SpanKind

from libs.catalog.catalog import Catalog
from libs.catalog.model import Tenant
from libs.errors import AlreadyExists, PointsmanError, ResourceExhausted, Unavailable
from libs.resilience.retry_budget import RetryBudget
from libs.selection import Degradation
from libs.tracing import Span
from libs.types import FinishReason
from services.router.admission.admission import Admission
from services.router.budgets.budgets import Budgets
from services.router.generate import spans
from services.router.generate.answers import Answer, RecentAnswers
from services.router.generate.attempt import Attempt, Books
from services.router.generate.begin import Gate
from services.router.generate.call import Answered, Calls
from services.router.generate.events import Completed, Delta, Event, Head, Result, Selected
from services.router.generate.failure import why_given_up
from services.router.generate.in_flight import InFlight
from services.router.generate.next_step import SHORTEST_ATTEMPT, Envelope, GiveUp, Try, Wait, next_step
from services.router.generate.relay import Relay
from services.router.planning.plan import Plan
from services.router.planning.planner import Planner
from services.router.providers.providers import Providers
from services.router.request.generation import Completion, Generation, ProviderFailure


class Generate:
    """The use case. `attempt_prefix` makes attempt ids unique over all processes and restarts."""

    def __init__(
        self,
        planner: Planner,
        providers: Providers,
        admission: Admission,
        budgets: Budgets,
        books: Books,
        budget: RetryBudget,
        rng: Random,
        attempt_prefix: str,
    ) -> None:
        self._planner = planner
        self._budgets = budgets
        self._clock = books.clock
        self._gate = Gate(admission, budgets, books, attempt_prefix)
        self._calls = Calls(providers, self._gate, books.health, budget, books.clock)
        self._budget = budget
        self._rng = rng
        self._answers = RecentAnswers()
        self._running: set[tuple[str, str]] = set()

    async def whole(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None = None
    ) -> Result:
        """The answer in one piece. Raises libs.errors. `span`: the caller's, to which attempts become children."""
        key = self._once(generation)
        try:
            request = self._start(catalog, tenant, generation, span, stream=False)
            while True:
                attempt = await self._attempt(request, catalog, tenant)
                if isinstance(attempt, Answer):
                    return self._old(request, attempt)
                try:
                    return self._completed(request, await self._calls.whole(request, attempt)).result
                except ProviderFailure:
                    self._in_vain(request)
        finally:
            self._running.discard(key)

    async def stream(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None = None
    ) -> AsyncGenerator[Event, None]:
        """The answer as events; the last is Completed. Raises libs.errors. Closing it cancels the provider."""
        key = self._once(generation)
        try:
            request = self._start(catalog, tenant, generation, span, stream=True)
            relay = request.relay = Relay(generation.request_id)
            while True:
                attempt = await self._attempt(request, catalog, tenant)
                if isinstance(attempt, Answer):
                    if not request.records:
                        yield Selected(generation.request_id, attempt.candidate)
                    yield self._headed(request, Delta(attempt.text), cached=True)
                    yield Completed(self._old(request, attempt))
                    return
                try:
                    async with aclosing(self._calls.stream(request, relay, attempt)) as told:
                        async for event in told:
                            if not request.begun and isinstance(event, Delta):
                                yield self._headed(request, event)
                            else:
                                yield (
                                    self._completed(request, event) if isinstance(event, Answered) else event
                                )
                    return
                except ProviderFailure:
                    self._in_vain(request)
        finally:
            self._running.discard(key)

    def _once(self, generation: Generation) -> tuple[str, str]:
        """Keeps a request id from being paid for twice at the same time: taken here, given back at the end."""
        key = (generation.tenant, generation.request_id)
        if key in self._running:
            raise AlreadyExists(
                f"request {generation.request_id!r} is still running", reason="REQUEST_ID_IN_USE"
            )
        self._running.add(key)
        return key

    def _start(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None, *, stream: bool
    ) -> InFlight:
        started = self._clock.monotonic()
        span = span or Span("generate", SpanKind.INTERNAL, None)
        spans.asked(span, generation, stream=stream)
        plan = self._planner.plan(catalog, tenant, generation, stream=stream)
        self._budget.record_request(started, generation.tenant)
        envelope = _envelope(generation, plan)
        request = InFlight(generation, plan, envelope, stream, started, span, plan.stance)
        if plan.thrifty:
            request.degradation = Degradation.CHEAPER_MODEL
        return request

    async def _attempt(self, request: InFlight, catalog: Catalog, tenant: Tenant) -> Attempt | Answer:
        """The next attempt, begun; where there is none, what the policy's ladder has: cheaper models, waiting, an
        old answer. Raises libs.errors at its end."""
        while True:
            try:
                return await self._next(request)
            except PointsmanError as error:
                ladder = request.plan.policy.degradation
                patient = "queue" not in ladder or _before("queue", "cheaper_model", ladder)
                if not patient and self._cheaper(request, catalog, tenant, error):
                    continue
                waited = await self._queued(request, error)
                if isinstance(waited, Attempt):
                    return waited
                if patient and self._cheaper(request, catalog, tenant, waited):
                    continue
                return self._stale(request, waited)

    def _cheaper(self, request: InFlight, catalog: Catalog, tenant: Tenant, error: PointsmanError) -> bool:
        """The ladder's step to cheaper models than the policy names. Whether there are any to try."""
        ladder = request.plan.policy.degradation
        if not isinstance(error, _DEGRADABLE) or request.stepped_down or "cheaper_model" not in ladder:
            return False
        request.stepped_down = True
        plan = self._planner.cheaper(catalog, tenant, request.generation, request.plan, stream=request.stream)
        if not plan.candidates:
            return False
        request.plan = plan
        request.degradation = Degradation.CHEAPER_MODEL
        return True

    async def _queued(self, request: InFlight, error: PointsmanError) -> Attempt | PointsmanError:
        """The ladder's step to wait for capacity, unless an old answer comes before it; else the final error. Paced
        limits are waited for even where the ladder has no such step, before it is gone down."""
        ladder = request.plan.policy.degradation
        only_paced = "queue" not in ladder
        if request.failed or not any(short.paced or not only_paced for short in request.short):
            return error
        old_first = _before("stale_cache", "queue", ladder)
        if old_first and self._answers.find(request.generation, self._clock.monotonic()) is not None:
            return error
        attempt = await self._gate.wait(request, only_paced=only_paced)
        if attempt is None:
            return self._error(request, "NO_CANDIDATE")
        request.degradation = Degradation.QUEUED
        return attempt

    def _stale(self, request: InFlight, error: PointsmanError) -> Answer:
        """The ladder's step to an old answer. Raises `error` where the policy or the memory has none."""
        answer = None
        if isinstance(error, _DEGRADABLE) and "stale_cache" in request.plan.policy.degradation:
            answer = self._answers.find(request.generation, self._clock.monotonic())
        if answer is None or request.committed:
            raise error
        return answer

    def _old(self, request: InFlight, answer: Answer) -> Result:
        """The account of an answer that was given before."""
        request.degradation = Degradation.STALE_CACHE
        completion = Completion("" if request.stream else answer.text, FinishReason.STOP, None)
        limits = self._budgets.limits(request.generation.tenant)
        return request.result(answer.candidate, completion, self._clock.monotonic(), limits, cached=True)

    def _headed(self, request: InFlight, delta: Delta, *, cached: bool = False) -> Delta:
        """The first of an answer, with what is known of it by then."""
        request.begun = True
        limits = self._budgets.limits(request.generation.tenant)
        # The record of the attempt that answers is written at its end.
        attempts = len(request.records) + (not cached)
        return Delta(delta.text, delta.tool_calls, Head(attempts, cached, limits))

    def _completed(self, request: InFlight, answered: Answered) -> Completed:
        """The last event, with all that must happen before it leaves: nothing runs after it for sure."""
        now = self._clock.monotonic()
        self._budget.record_answer(now)
        self._refund(request)
        finish = answered.completion.finish_reason
        if finish is FinishReason.STOP and "stale_cache" in request.plan.policy.degradation:
            self._answers.keep(request.generation, Answer(answered.text, answered.candidate, now))
        limits = self._budgets.limits(request.generation.tenant)
        result = request.result(answered.candidate, answered.completion, now, limits)
        spans.answered(request.span, result)
        return Completed(result)

    def _in_vain(self, request: InFlight) -> None:
        """An attempt failed."""
        if request.failed[-1].of_request:
            # Somebody answers, if not this.
            self._budget.record_answer_begun()
            self._refund(request)
        elif request.spent_retry:
            self._budget.record_wasted(request.generation.tenant)

    def _refund(self, request: InFlight) -> None:
        if request.spent_retry:
            self._budget.refund(self._clock.monotonic(), request.generation.tenant)

    async def _next(self, request: InFlight) -> Attempt:
        """The next attempt, begun. Raises libs.errors when there is none: the answer is a failure then."""
        while True:
            now = self._clock.monotonic()
            jitter = self._rng.random()
            step = next_step(
                request.plan, request.failed, request.envelope, now, refused=request.refused, jitter=jitter
            )
            if isinstance(step, GiveUp):
                raise self._error(request, step.why)
            request.spent_retry = isinstance(step, Wait) or step.spends_retry
            if request.spent_retry and not self._budget.try_spend(now, request.generation.tenant):
                raise self._error(request, "RETRY_BUDGET_EXHAUSTED")
            attempt = None
            try:
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                request.allow_prefill = isinstance(step, Try) and step.prefill
                attempt = await self._gate.begin(request, step.candidate)
            finally:
                # Not begun, or no longer wanted.
                if attempt is None:
                    self._refund(request)
            if attempt is not None:
                return attempt

    def _error(self, request: InFlight, why: str) -> PointsmanError:
        now = self._clock.monotonic()
        if now + SHORTEST_ATTEMPT >= request.envelope.deadline:
            # Whoever noticed, it is the caller's time that is over.
            why = "DEADLINE_EXCEEDED"
        return why_given_up(
            why,
            request.plan,
            request.failed,
            request.refused,
            request.quota_retry_after,
            now,
        )


#: What a lesser answer is better than; a bad or refused request is not made better by it.
_DEGRADABLE = (Unavailable, ResourceExhausted)


def _before(step: str, other: str, ladder: Sequence[str]) -> bool:
    """Whether both are steps of the ladder, in this order."""
    return step in ladder and other in ladder[ladder.index(step) :]


def _envelope(generation: Generation, plan: Plan) -> Envelope:
    return Envelope(
        generation.deadline,
        generation.max_attempts,
        generation.max_cost_micro_usd,
        plan.policy.max_retry_after,
    )
