"""Calling a provider for an attempt, whole or streamed, alone or in a race with a hedge. Every attempt that begins
here is accounted for here, however it ends.

A race is run where the caller asks for it, and where a target that was silent is tried again: by a probe, or by a
call within a minute of the silence. Its caller then waits no longer than the target's answers usually take before the
next candidate is called beside it. Where that one answers first, the other call goes on without its request, only to
show whether the target is back: cancelled, it would leave the question to the next caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from msgspec import Struct

from libs.answer import Event
from libs.clock import Clock
from libs.resilience.retry_budget import RetryBudget
from libs.types import ErrorClass
from services.router.generate.attempt import RunningAttempt
from services.router.generate.attempt_end import NO_EVIDENCE, FailureEvidence, evidence_of
from services.router.generate.begin import Gate
from services.router.generate.hedge import Runner, candidates_beside, race
from services.router.generate.in_flight import InFlight
from services.router.generate.relay import Relay
from services.router.generate.request_log import RequestLog
from services.router.health.target_health import Availability
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


async def _chain(head: Sequence[Batch], rest: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    for batch in head:
        yield batch
    async for batch in rest:
        yield batch


async def _await_verdict(loser: Runner[T]) -> None:
    """Waits until a call shows something that goes on without its request, or is cut by its timeouts."""
    evidence: FailureEvidence | None = NO_EVIDENCE
    try:
        await loser.task
        evidence = None
    except ProviderFailure as failure:
        evidence = evidence_of(failure, prefilled=False)
    finally:
        await loser.drop()
        loser.attempt.give_verdict(evidence)


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
        retries: RetryBudget,
        recent: RecentCalls,
        requests: RequestLog,
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._providers = providers
        self._gate = gate
        self._retries = retries
        self._recent = recent
        self._clock = clock
        #: Calls that go on without their request.
        self._outlasting: set[asyncio.Task[None]] = set()

    async def whole(self, request: InFlight, attempt: RunningAttempt) -> AttemptAnswer:
        """Returns the answer in one piece. Raises ProviderFailure, already accounted for."""
        if self._is_raced(request, attempt):
            entry, completion = await self._race(
                request, self._whole_entry(request, attempt), self._whole_entry
            )
            attempt = entry.attempt
        else:
            try:
                # When the caller leaves, this task is cancelled and the provider's call with it.
                completion = await self._complete(request, attempt)[0]
            except ProviderFailure as failure:
                request.fail(attempt, failure, "", self._clock.monotonic())
                raise
            except BaseException:
                request.records.append(attempt.abandon(""))
                raise
        request.records.append(
            attempt.succeed(
                completion.usage,
                completion.generated,
                completion.finish_reason,
                completion.response_model,
                partial(self._requests.encode_answered, request),
            )
        )
        kept = "" if completion.tool_calls else completion.text
        return AttemptAnswer(attempt.candidate, completion, kept)

    def _complete(
        self, request: InFlight, attempt: RunningAttempt
    ) -> tuple[Awaitable[Completion], AttemptTimeouts]:
        candidate, prompt = attempt.candidate, request.generation.prompt
        timeouts = self._begin(request, attempt, prompt)
        return self._providers.complete(attempt.provider, candidate.model, prompt, timeouts), timeouts

    def _begin(self, request: InFlight, attempt: RunningAttempt, prompt: Prompt) -> AttemptTimeouts:
        """Records the call as one in flight, and returns its timeouts."""
        attempt.called = True
        candidate, tenant, now = attempt.candidate, request.generation.tenant, self._clock.monotonic()
        learned = self._providers.learned_times(candidate.model, prompt, tenant)
        timeouts = request.timeouts(candidate, learned, now)
        record = attempt.record
        extra = record.hedge or record.attempt_number > 1
        self._recent.begin(
            record.attempt_id, candidate.model, tenant, now, timeouts.fair, extra=extra, usual=timeouts.usual
        )
        return timeouts

    def _whole_entry(self, request: InFlight, attempt: RunningAttempt) -> Runner[Completion]:
        async def nothing() -> None: ...

        completion, timeouts = self._complete(request, attempt)
        return Runner(attempt, completion, nothing, timeouts.usual)

    async def _race(
        self,
        request: InFlight,
        first: Runner[T],
        enter: Callable[[InFlight, RunningAttempt], Runner[T]],
    ) -> tuple[Runner[T], T]:
        """Lets a second candidate try when the first shows nothing by its learned 95th percentile. Both count
        against the envelope's attempts and money and the fleet's retry budget, to which a hedge that gives the answer
        is given back."""
        tenant, doubted = request.generation.tenant, self._is_doubted(first.attempt)

        async def second() -> Runner[T] | None:
            now = self._clock.monotonic()
            # What has failed itself is no help while another is left.
            others = sorted(
                candidates_beside(request, first.attempt.candidate, doubted=doubted),
                key=lambda other: (
                    other.health.availability is Availability.PROBING
                    or self._recent.repeats(other.model, now)
                ),
            )
            for other in others:
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

        def outlast(loser: Runner[T]) -> None:
            request.records.append(loser.attempt.lose())
            task = asyncio.create_task(_await_verdict(loser))
            self._outlasting.add(task)
            task.add_done_callback(self._outlasting.discard)

        winner, shown = await race(
            first,
            HEDGE_UNKNOWN if first.usual is None else first.usual,
            second,
            lambda attempt, failure: request.fail(attempt, failure, "", self._clock.monotonic()),
            lambda attempt: request.records.append(attempt.abandon("")),
            outlast if doubted else None,
        )
        request.spent_retry = winner is not first
        return winner, shown

    def _is_raced(self, request: InFlight, attempt: RunningAttempt) -> bool:
        """Returns True if another candidate may be called beside the attempt."""
        return not request.failed and (request.generation.hedge or self._is_doubted(attempt))

    def _is_doubted(self, attempt: RunningAttempt) -> bool:
        """Returns True if the attempt tries a target again that has failed."""
        model, tenant = attempt.candidate.model, attempt.record.tenant
        return attempt.is_probe or self._recent.is_doubted(model, tenant, self._clock.monotonic())

    def _open(
        self, request: InFlight, attempt: RunningAttempt, prompt: Prompt
    ) -> tuple[AsyncGenerator[Batch, None], AttemptTimeouts]:
        candidate = attempt.candidate
        timeouts = self._begin(request, attempt, prompt)
        batches = self._providers.stream(attempt.provider, candidate.model, prompt, timeouts, attempt.told)
        return batches, timeouts

    async def _race_streams(
        self, request: InFlight, attempt: RunningAttempt, prompt: Prompt
    ) -> tuple[RunningAttempt, AsyncGenerator[Batch, None], Batch]:
        """Returns the winner of a race with the attempt, its stream and what it has shown first."""
        streams: dict[RunningAttempt, AsyncGenerator[Batch, None]] = {}

        def enter(request: InFlight, attempt: RunningAttempt) -> Runner[Batch]:
            streams[attempt], timeouts = self._open(request, attempt, prompt)
            return Runner(attempt, anext(streams[attempt]), streams[attempt].aclose, timeouts.usual)

        entry, shown = await self._race(request, enter(request, attempt), enter)
        return entry.attempt, streams[entry.attempt], shown

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
            switched: list[Event] = []
            if self._is_raced(request, attempt):
                accounted = True  # by the race, until it has a winner
                winner, batches, shown = await self._race_streams(request, attempt, prompt)
                accounted, head = False, (shown,)
                if winner is not attempt:
                    attempt = winner
                    switched = relay.begin(attempt.candidate, None, prefilled=False)
            else:
                tokens = estimate_text_tokens(prefill)
                batches, _ = self._open(
                    request, attempt, prompt.continued(prefill, tokens) if prefill else prompt
                )
            async with aclosing(batches):
                async for batch in _chain(head, batches):
                    if attempt.first_token is None and any(type(e) in ANSWER_EVENTS for e in batch):
                        self._record_content(attempt)
                    request.ignored = attempt.told.ignored
                    passed = [*switched, *relay.feed(batch)] if switched else relay.feed(batch)
                    switched = []
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
                    attempt.succeed(
                        end.usage,
                        relay.generated(),
                        end.finish_reason,
                        end.response_model,
                        partial(self._requests.encode_answered, request),
                    )
                )
            elif not accounted:
                request.records.append(attempt.abandon(relay.generated()))
        completion = Completion(
            "", end.finish_reason, end.usage, (), end.response_model, ignored=attempt.told.ignored
        )
        yield AttemptAnswer(attempt.candidate, completion, relay.sent())
