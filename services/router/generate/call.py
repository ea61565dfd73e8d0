"""Calling a provider for an attempt, whole or streamed, alone or in a race with a hedge. Every attempt that begins
here is accounted for here, however it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TypeVar

from msgspec import Struct

from libs.answer import Event
from libs.clock import Clock
from libs.resilience.retry_budget import RetryBudget
from libs.types import ErrorClass
from services.router.generate.attempt import RunningAttempt
from services.router.generate.begin import Gate
from services.router.generate.hedge import Runner, race
from services.router.generate.in_flight import InFlight
from services.router.generate.relay import Relay
from services.router.health.view import HealthView
from services.router.planning.candidate import Candidate
from services.router.planning.recent_calls import RecentCalls
from services.router.providers.providers import Providers
from services.router.providers.timeouts import AttemptTimeouts
from services.router.request.generation import (
    ANSWER_EVENTS,
    Completion,
    Prompt,
    ProviderFailure,
    StreamEnd,
    StreamEvent,
)
from services.router.request.tokens import estimate_text_tokens

T = TypeVar("T")
Batch = Sequence[StreamEvent]

#: Seconds after which a model whose times are not known yet is hedged.
HEDGE_UNKNOWN = 2.0
#: The most that a hedge may cost where the request names no maximum, in times of what the first attempt may: beside
#: what is free only what is free.
HEDGE_COST = 2


async def _chain(head: Sequence[Batch], rest: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    for batch in head:
        yield batch
    async for batch in rest:
        yield batch


def _hedges(request: InFlight, first: Candidate) -> Iterator[Candidate]:
    """Yields the candidates that may run beside the first attempt, as far as the envelope allows."""
    envelope = request.envelope
    if envelope.max_attempts < 2:
        return
    most = HEDGE_COST * first.estimated_micro_usd
    if envelope.max_cost_micro_usd is not None:
        most = envelope.max_cost_micro_usd - first.estimated_micro_usd
    for other in request.plan.candidates:
        if other is not first and other.target not in request.refused and other.estimated_micro_usd <= most:
            yield other


class AttemptAnswer(Struct, frozen=True):
    """The answer of an attempt. `text`: all of it as the caller has it, where it is text alone."""

    candidate: Candidate
    completion: Completion
    text: str


class Calls:
    """Runs attempts."""

    def __init__(
        self,
        providers: Providers,
        gate: Gate,
        health: HealthView,
        retries: RetryBudget,
        recent: RecentCalls,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._gate = gate
        self._health = health
        self._retries = retries
        self._recent = recent
        self._clock = clock

    async def whole(self, request: InFlight, attempt: RunningAttempt) -> AttemptAnswer:
        """Returns the answer in one piece. Raises ProviderFailure, already accounted for."""
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
                request.fail(attempt, failure, "", self._clock.monotonic())
                raise
            except BaseException:
                request.records.append(attempt.abandon(""))
                raise
        request.records.append(
            attempt.succeed(
                completion.usage, completion.generated, completion.finish_reason, completion.response_model
            )
        )
        kept = "" if completion.tool_calls else completion.text
        return AttemptAnswer(attempt.candidate, completion, kept)

    def _complete(self, request: InFlight, attempt: RunningAttempt) -> Awaitable[Completion]:
        candidate, prompt = attempt.candidate, request.generation.prompt
        timeouts = self._begin(request, attempt, prompt)
        return self._providers.complete(candidate.provider, candidate.model, prompt, timeouts)

    def _begin(self, request: InFlight, attempt: RunningAttempt, prompt: Prompt) -> AttemptTimeouts:
        """Records the call as one in flight, and returns its timeouts."""
        candidate, tenant, now = attempt.candidate, request.generation.tenant, self._clock.monotonic()
        learned = self._providers.learned_times(candidate.model, prompt, tenant)
        timeouts = request.timeouts(candidate, learned, now)
        record = attempt.record
        extra = record.hedge or record.attempt_number > 1
        self._recent.begin(record.attempt_id, candidate.model, tenant, now, timeouts.fair, extra=extra)
        return timeouts

    def _whole_entry(self, request: InFlight, attempt: RunningAttempt) -> Runner[Completion]:
        async def nothing() -> None: ...

        return Runner(attempt, self._complete(request, attempt), nothing)

    async def _race(
        self,
        request: InFlight,
        first: Runner[T],
        enter: Callable[[InFlight, RunningAttempt], Runner[T]],
    ) -> tuple[Runner[T], T]:
        """Lets a second candidate try when the first shows nothing by its learned 95th percentile. Both count
        against the envelope's attempts and money and the fleet's retry budget, to which a hedge that gives the answer
        is given back."""
        model, tenant = first.attempt.candidate.model, request.generation.tenant

        async def second() -> Runner[T] | None:
            for other in _hedges(request, first.attempt.candidate):
                if not self._retries.try_spend(self._clock.monotonic(), tenant):
                    return None
                attempt = None
                try:
                    attempt = await self._gate.begin(request, other, hedge=True)
                finally:
                    # Not begun, or no longer wanted.
                    if attempt is None:
                        self._retries.refund(self._clock.monotonic(), tenant)
                if attempt is not None:
                    request.spent_retry = True
                    return enter(request, attempt)
            return None

        delay = self._health.hedge_after(model, stream=request.stream)
        winner, shown = await race(
            first,
            HEDGE_UNKNOWN if delay is None else delay,
            second,
            lambda attempt, failure: request.fail(attempt, failure, "", self._clock.monotonic()),
            lambda attempt: request.records.append(attempt.abandon("")),
        )
        request.spent_retry = winner is not first
        return winner, shown

    def _open(
        self, request: InFlight, attempt: RunningAttempt, prompt: Prompt
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        candidate = attempt.candidate
        timeouts = self._begin(request, attempt, prompt)
        return self._providers.stream(candidate.provider, candidate.model, prompt, timeouts, attempt.told)

    def _record_content(self, attempt: RunningAttempt) -> None:
        """Records the first sign of an answer."""
        attempt.record_content()
        self._recent.shown(attempt.record.attempt_id, self._clock.monotonic())
        self._retries.record_answer_begun()

    async def stream(
        self, request: InFlight, relay: Relay, attempt: RunningAttempt
    ) -> AsyncGenerator[Event | AttemptAnswer, None]:
        """Yields the caller's events as they come, last the answer. Raises ProviderFailure, already accounted
        for."""
        prompt = request.generation.prompt
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
                streams: dict[RunningAttempt, AsyncGenerator[Batch, None]] = {}

                def enter(request: InFlight, attempt: RunningAttempt) -> Runner[Batch]:
                    opened = streams[attempt] = self._open(request, attempt, prompt)
                    return Runner(attempt, anext(opened), opened.aclose)

                entry, shown = await self._race(request, enter(request, attempt), enter)
                accounted = False
                batches, head = streams[entry.attempt], (shown,)
                if entry.attempt is not attempt:
                    attempt = entry.attempt
                    for event in relay.begin(attempt.candidate, None, prefilled=False):
                        yield event
            else:
                tokens = estimate_text_tokens(prefill)
                batches = self._open(
                    request, attempt, prompt.continued(prefill, tokens) if prefill else prompt
                )
            async with aclosing(batches):
                async for batch in _chain(head, batches):
                    if attempt.first_token is None and any(type(e) in ANSWER_EVENTS for e in batch):
                        self._record_content(attempt)
                    passed = relay.feed(batch)
                    if request.first_token is None and relay.committed:
                        request.first_token = self._clock.monotonic() - request.started
                    for event in passed:
                        yield event
                    if isinstance(batch[-1], StreamEnd):
                        end = batch[-1]
            if end is None:
                raise ProviderFailure(ErrorClass.MALFORMED, "the stream ended without saying how")
        except ProviderFailure as failure:
            if not accounted:
                accounted = True
                request.fail(
                    attempt, failure, relay.generated(), self._clock.monotonic(), prefilled=bool(prefill)
                )
            raise
        finally:
            if end is not None:
                request.records.append(
                    attempt.succeed(end.usage, relay.generated(), end.finish_reason, end.response_model)
                )
            elif not accounted:
                request.records.append(attempt.abandon(relay.generated()))
        completion = Completion("", end.finish_reason, end.usage, (), end.response_model)
        yield AttemptAnswer(attempt.candidate, completion, relay.sent())
