"""The life of a Generate: plan, admit, attempt, and again until an answer or nothing more can be done.

The loop is `Generate.whole`, and `Generate.stream` with events. `next_step` decides what comes next, a candidate
passes limits in `begin` and is called in `call`; `relay` decides what a stream's caller is sent, and `attempt`
accounts for each attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from random import Random

from msgspec import structs
from opentelemetry.trace import SpanKind

from libs.answer import Completed, Delta, Event, Head, Result, Selected
from libs.catalog.catalog import Catalog
from libs.catalog.model import Tenant
from libs.clock import Clock
from libs.errors import AlreadyExists, PointsmanError, ResourceExhausted, Unavailable
from libs.resilience.retry_budget import RetryBudget
from libs.selection import Degradation
from libs.tracing import Span
from libs.types import FinishReason
from services.router.budgets.budgets import Budgets
from services.router.generate import spans
from services.router.generate.answers import KeptAnswer, RecentAnswers
from services.router.generate.attempt import RunningAttempt
from services.router.generate.begin import Gate
from services.router.generate.call import AttemptAnswer, Calls
from services.router.generate.degradation import QUEUE, STALE, Degradable, DegradationStep, next_degradation
from services.router.generate.failure import why_given_up
from services.router.generate.in_flight import InFlight
from services.router.generate.next_step import (
    DEFAULT_MAX_RETRY_AFTER,
    NO_FAULTS,
    SHORTEST_ATTEMPT,
    Envelope,
    GiveUp,
    Outlook,
    Try,
    Wait,
    next_step,
)
from services.router.generate.relay import Relay
from services.router.generate.request_log import RequestLog
from services.router.health.target_health import Availability
from services.router.planning.plan import Plan
from services.router.planning.planner import Planner
from services.router.planning.recent_calls import RecentCalls
from services.router.request.generation import Completion, Generation, ProviderFailure


class Generate:
    """The use case."""

    def __init__(
        self,
        planner: Planner,
        gate: Gate,
        calls: Calls,
        budgets: Budgets,
        retries: RetryBudget,
        recent: RecentCalls,
        answers: RecentAnswers,
        requests: RequestLog,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._planner = planner
        self._gate = gate
        self._calls = calls
        self._budgets = budgets
        self._retries = retries
        self._recent = recent
        self._answers = answers
        self._requests = requests
        self._clock = clock
        self._rng = rng
        self._running: set[tuple[str, str]] = set()

    async def whole(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None = None
    ) -> Result:
        """Returns the answer in one piece. Raises libs.errors. `span`: the caller's, the parent of all attempts'."""
        key = self._take_request_id(generation)
        request: InFlight | None = None
        try:
            request = self._start(catalog, tenant, generation, span, stream=False)
            while True:
                begun = await self._begin(request, catalog, tenant)
                if isinstance(begun, KeptAnswer):
                    return self._kept_result(request, begun)
                try:
                    return self._complete(request, await self._calls.whole(request, begun)).result
                except ProviderFailure:
                    self._record_failure(request)
        except BaseException as error:
            if request is not None:
                self._requests.record_error(request, error)
            raise
        finally:
            self._running.discard(key)

    async def stream(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, span: Span | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yields the answer as events; the last is Completed. Raises libs.errors. Closing it cancels the provider."""
        key = self._take_request_id(generation)
        request: InFlight | None = None
        try:
            request = self._start(catalog, tenant, generation, span, stream=True)
            relay = request.relay = Relay(generation.request_id)
            while True:
                begun = await self._begin(request, catalog, tenant)
                if isinstance(begun, KeptAnswer):
                    if not request.records:
                        yield Selected(generation.request_id, begun.candidate.selection)
                    elif request.failed:
                        why = request.failed[-1].error_class
                        for change in relay.begin(begun.candidate, why, prefilled=False):
                            yield change
                    yield self._add_head(request, Delta(begun.text), cached=True)
                    yield Completed(self._kept_result(request, begun))
                    return
                try:
                    async with aclosing(self._calls.stream(request, relay, begun)) as events:
                        async for event in events:
                            if not request.begun and isinstance(event, Delta):
                                yield self._add_head(request, event)
                            else:
                                yield (
                                    self._complete(request, event)
                                    if isinstance(event, AttemptAnswer)
                                    else event
                                )
                    return
                except ProviderFailure:
                    self._record_failure(request)
        except BaseException as error:
            if request is not None:
                self._requests.record_error(request, error)
            raise
        finally:
            self._running.discard(key)

    def _take_request_id(self, generation: Generation) -> tuple[str, str]:
        """Keeps a request id from being paid for twice at the same time: taken here, given back at the end. Raises
        AlreadyExists."""
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
        spans.describe_request(span, generation, stream=stream)
        plan = self._planner.plan(catalog, tenant, generation, stream=stream)
        self._retries.record_request(started, generation.tenant)
        envelope = _envelope(generation, plan)
        request = InFlight(generation, plan, envelope, stream, started, span, plan.budget_verdict)
        request.catalog_version = catalog.version
        if plan.chosen_by_budget:
            request.degradation = Degradation.CHEAPER_MODEL
        return request

    async def _begin(
        self, request: InFlight, catalog: Catalog, tenant: Tenant
    ) -> RunningAttempt | KeptAnswer:
        """Returns the next attempt, begun; where there is none, the answer that the policy's ladder of degradation
        ends in. Raises libs.errors where it ends in none."""
        begun = await self._next(request)
        waited = False
        while isinstance(begun, GiveUp):
            ladder, kept = request.plan.policy.degradation, self._find_kept(request)
            degradable = self._degradable(request, begun, waited=waited, answer_kept=kept is not None)
            match next_degradation(ladder, degradable):
                case DegradationStep.CHEAPER_MODELS:
                    if self._make_cheaper(request, catalog, tenant):
                        begun, waited = await self._next(request), False
                case DegradationStep.WAIT:
                    before = self._clock.monotonic()
                    try:
                        attempt = await self._gate.wait(request, only_paced=QUEUE not in ladder)
                    finally:
                        request.queued += self._clock.monotonic() - before
                    if attempt is None:
                        begun, waited = GiveUp("NO_CANDIDATE"), True
                    else:
                        request.degradation = Degradation.QUEUED
                        begun = attempt
                case DegradationStep.KEPT_ANSWER:
                    assert kept is not None
                    return kept
                case DegradationStep.GIVE_UP:
                    raise self._error(request, begun.why)
        return begun

    def _degradable(
        self, request: InFlight, give_up: GiveUp, *, waited: bool, answer_kept: bool
    ) -> Degradable:
        return Degradable(
            lesser_is_better=isinstance(self._error(request, give_up.why), _DEGRADABLE),
            attempted=bool(request.failed),
            limited=bool(request.limited),
            paced=any(limited.paced for limited in request.limited),
            answer_kept=answer_kept,
            committed=request.committed,
            made_cheaper=request.made_cheaper,
            waited=waited,
        )

    def _make_cheaper(self, request: InFlight, catalog: Catalog, tenant: Tenant) -> bool:
        """Plans with cheaper models than the policy names. Returns True if there are any to try."""
        request.made_cheaper = True
        plan = self._planner.plan_cheaper(
            catalog, tenant, request.generation, request.plan, stream=request.stream
        )
        if not plan.candidates:
            return False
        request.plan = plan
        request.degradation = Degradation.CHEAPER_MODEL
        return True

    def _find_kept(self, request: InFlight) -> KeptAnswer | None:
        if STALE not in request.plan.policy.degradation:
            return None
        return self._answers.find(request.generation, self._clock.monotonic())

    def _kept_result(self, request: InFlight, answer: KeptAnswer) -> Result:
        """Returns an answer that was given before, with its account."""
        request.degradation = Degradation.STALE_CACHE
        completion = Completion("" if request.stream else answer.text, FinishReason.STOP, None)
        limits = self._budgets.limits(request.generation.tenant)
        result = request.result(answer.candidate, completion, self._clock.monotonic(), limits, cached=True)
        self._requests.record_kept_answer(request, result)
        return result

    def _add_head(self, request: InFlight, delta: Delta, *, cached: bool = False) -> Delta:
        """Returns the first piece of an answer with the account so far."""
        request.begun = True
        limits = self._budgets.limits(request.generation.tenant)
        # The record of the attempt that answers is written at its end.
        attempts = len(request.records) + (not cached)
        return structs.replace(delta, head=Head(attempts, cached, limits, request.ignored))

    def _complete(self, request: InFlight, answered: AttemptAnswer) -> Completed:
        """Returns the last event, after all that must happen before it leaves: nothing runs after it for sure."""
        now = self._clock.monotonic()
        self._retries.record_answer(now)
        self._refund(request)
        finish = answered.completion.finish_reason
        if finish is FinishReason.STOP and STALE in request.plan.policy.degradation:
            self._answers.keep(request.generation, KeptAnswer(answered.text, answered.candidate, now))
        limits = self._budgets.limits(request.generation.tenant)
        result = request.result(answered.candidate, answered.completion, now, limits)
        spans.describe_answer(request.span, result)
        return Completed(result)

    def _record_failure(self, request: InFlight) -> None:
        """Records at the retry budget that an attempt failed."""
        if request.failed[-1].of_request:
            # Somebody answers, if not this.
            self._retries.record_answer_begun()
            self._refund(request)
        elif request.spent_retry:
            self._retries.record_wasted(request.generation.tenant)

    def _refund(self, request: InFlight) -> None:
        if request.spent_retry:
            self._retries.refund(self._clock.monotonic(), request.generation.tenant)

    async def _next(self, request: InFlight) -> RunningAttempt | GiveUp:
        """Returns the next attempt, begun."""
        while True:
            now = self._clock.monotonic()
            jitter = self._rng.random()
            step = next_step(
                request.plan,
                request.failed,
                request.envelope,
                now,
                refused=request.refused,
                jitter=jitter,
                outlook=self._outlook(request, now) if request.failed else NO_FAULTS,
            )
            if isinstance(step, GiveUp):
                return step
            if not self._spend_retry(request, step, now):
                return GiveUp("RETRY_BUDGET_EXHAUSTED")
            attempt = None
            try:
                if isinstance(step, Wait):
                    request.paused += step.seconds
                    await asyncio.sleep(step.seconds)
                request.allow_prefill = step.prefill
                attempt = await self._gate.begin(request, step.candidate)
            finally:
                # Not begun, or no longer wanted.
                if attempt is None:
                    self._refund(request)
            if attempt is not None:
                return attempt

    def _spend_retry(self, request: InFlight, step: Try | Wait, now: float) -> bool:
        """Takes an extra attempt from the retry budget. Returns False if it needs room and there is none."""
        tenant = request.generation.tenant
        request.spent_retry = False
        if isinstance(step, Wait) or step.spends_retry:
            request.spent_retry = self._retries.try_spend(now, tenant)
            return request.spent_retry
        if request.failed and not request.failed[-1].of_request:
            self._retries.spend(now, tenant)
            request.spent_retry = True
        return True

    def _outlook(self, request: InFlight, now: float) -> Outlook:
        """Returns what recent calls say of the plan's candidates."""
        recent, tenant, candidates = self._recent, request.generation.tenant, request.plan.candidates
        works = (Availability.HEALTHY, Availability.DEGRADED)
        return Outlook(
            # A fallback is not raced, so what may be silent comes after the others.
            frozenset(
                c.target
                for c in candidates
                if c.health.availability is Availability.PROBING
                or recent.is_doubted(c.model, tenant, now)
                or recent.avoids(c.model, tenant, now)
            ),
            frozenset(
                c.target
                for c in candidates
                if c.health.availability not in works or recent.repeats(c.model, now)
            ),
            self._retries.may_spend(now, tenant),
        )

    def _error(self, request: InFlight, why: str) -> PointsmanError:
        """Returns the error for a `GiveUp.why`. Made anew where it is raised: no frame may hold what it raises."""
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


#: Errors that a lesser answer is better than; a bad or refused request is not made better by it.
_DEGRADABLE = (Unavailable, ResourceExhausted)


def _envelope(generation: Generation, plan: Plan) -> Envelope:
    wait = plan.policy.max_retry_after
    return Envelope(
        generation.deadline,
        generation.max_attempts,
        generation.max_cost_micro_usd,
        DEFAULT_MAX_RETRY_AFTER if wait is None else wait,
        wait is not None,
    )
