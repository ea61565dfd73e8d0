"""A request in flight: its bounds, and all that has happened to it so far."""

from __future__ import annotations

from msgspec import Struct

from libs.answer import Attempt, BudgetNotice, LimitState, Result
from libs.errors import QuotaViolation
from libs.selection import Degradation
from libs.tracing import Span
from libs.types import Usage, UsageAccuracy
from services.router.budgets.budget import Budget, BudgetVerdict, Notice
from services.router.generate.attempt import RunningAttempt
from services.router.generate.next_step import Envelope, Failed
from services.router.generate.relay import Relay
from services.router.ledger.usage_record import UsageRecord
from services.router.planning.candidate import Candidate
from services.router.planning.plan import Plan
from services.router.providers.timeouts import AttemptTimeouts, LearnedTimes, attempt_timeouts
from services.router.request.generation import Completion, Generation, ProviderFailure


class LimitedCandidate(Struct, frozen=True):
    """A candidate that limits alone kept from being called. `seconds`: after which there may be room. `paced`: all of
    them are to be waited for rather than refused."""

    seconds: float
    candidate: Candidate
    paced: bool


_NOTHING = Usage(accuracy=UsageAccuracy.EXACT)


class InFlight(Struct):
    """A request in flight. `envelope` bounds it; `started` and `first_token` are monotonic seconds and seconds."""

    generation: Generation
    plan: Plan
    envelope: Envelope
    stream: bool
    started: float
    span: Span
    #: The budgets' verdict as the plan was made; None: an attempt has begun since.
    budget_verdict: BudgetVerdict | None
    #: The events of a streamed answer; None: it is not streamed.
    relay: Relay | None = None
    failed: list[Failed] = []
    #: Targets that limits or breakers kept from being called.
    refused: dict[str, tuple[QuotaViolation, ...]] = {}
    limited: list[LimitedCandidate] = []
    quota_retry_after: float | None = None
    records: list[UsageRecord] = []
    first_token: float | None = None
    allow_prefill: bool = True
    #: The attempt that runs, or ended last, was paid from the retry budget.
    spent_retry: bool = False
    degradation: Degradation | None = None
    #: The version of the catalog that it was planned with.
    catalog_version: str = ""
    #: Seconds spent in the queue for limits, and waiting for providers to come back.
    queued: float = 0.0
    paused: float = 0.0
    #: The spool has its record.
    recorded: bool = False
    #: The answer has begun to come.
    begun: bool = False
    #: The ladder's step to cheaper models was taken.
    made_cheaper: bool = False
    #: Budgets that attempts met, used up to a threshold.
    notices: dict[Budget, Notice] = {}
    #: Options of the prompt that the provider that answers could not be told.
    ignored: tuple[str, ...] = ()

    @property
    def committed(self) -> bool:
        """Returns True if content has reached the caller."""
        return self.relay is not None and self.relay.committed

    def fail(
        self,
        attempt: RunningAttempt,
        failure: ProviderFailure,
        text: str,
        now: float,
        *,
        prefilled: bool = False,
    ) -> None:
        """Ends an attempt that failed after `text` had been received; `now`: monotonic seconds."""
        record = attempt.fail(failure, text, prefilled=prefilled)
        routes = [attempt.provider.route, *[f.route for f in self.failed]] if failure.spare_parts else ()
        taken = {name for route in routes if route is not None for name in (route.key, route.endpoint)}
        self.records.append(record)
        self.failed.append(
            Failed(
                attempt.candidate,
                failure.error_class,
                failure.message,
                now,
                failure.retry_after,
                failure.retry_same,
                record.cost_micro_usd,
                attempt.first_token is not None,
                prefilled,
                failure.least_window,
                attempt.provider.route,
                failure.next_route,
                bool(failure.spare_parts - taken),
                failure.unexplained,
            )
        )

    def timeouts(self, candidate: Candidate, learned: LearnedTimes, now: float) -> AttemptTimeouts:
        """Returns the timeouts of an attempt; `now`: monotonic seconds."""
        return attempt_timeouts(
            learned,
            candidate.provider.timeouts,
            self.envelope.deadline - now,
            needs=self._needs(candidate),
            stream=self.stream,
            reasons="reasoning" in candidate.model.capabilities,
            input_tokens=candidate.input_tokens,
            output_tokens=candidate.output_tokens,
            tenant=self.generation.tenant,
        )

    def _needs(self, candidate: Candidate) -> list[float | None]:
        """Returns the seconds that each candidate usually takes that the envelope lets answer instead; None: not
        known."""
        left = self.envelope.max_attempts - len(self.failed) - 1
        if left <= 0 or len(self.plan.candidates) == 1:
            return []
        out = {candidate.target, *self.refused}
        if self.failed:
            out.update([f.candidate.target for f in self.failed])
        others = [other.health for other in self.plan.candidates if other.target not in out][:left]
        return [health.time_to_first_token if self.stream else health.latency for health in others]

    def result(
        self,
        candidate: Candidate,
        completion: Completion,
        now: float,
        limits: tuple[LimitState, ...],
        *,
        cached: bool = False,
    ) -> Result:
        """Returns the answer with its account over all attempts."""
        records = self.records
        usage, cost = None, 0
        for record in records:
            cost += record.cost_micro_usd
            if record.usage is not None:
                usage = record.usage if usage is None else usage + record.usage
        return Result(
            request_id=self.generation.request_id,
            text=completion.text,
            tool_calls=completion.tool_calls,
            finish_reason=completion.finish_reason,
            selection=candidate.selection,
            attempts=tuple([_attempt(record) for record in records]),
            usage=usage or _NOTHING,
            cost_micro_usd=cost,
            latency=now - self.started,
            time_to_first_token=self.first_token,
            degradation=self.degradation,
            budgets=tuple([_budget_notice(notice) for notice in self.notices.values()]),
            cached=cached,
            limits=limits,
            reasoning=completion.reasoning,
            refusal=completion.refusal,
            citations=completion.citations,
            ignored=completion.ignored,
        )


def _attempt(record: UsageRecord) -> Attempt:
    """Returns an attempt as its caller sees it."""
    return Attempt(
        record.attempt_id,
        record.provider,
        record.model,
        record.error_class,
        record.message,
        record.http_status,
        record.started,
        record.latency,
        record.time_to_first_token,
        record.usage,
        record.cost_micro_usd,
        record.hedge,
        record.switched,
    )


def _budget_notice(notice: Notice) -> BudgetNotice:
    """Returns a notice as the caller sees it."""
    spec, threshold = notice.budget.spec, notice.threshold
    return BudgetNotice(
        str(notice.budget.scope), spec.period, threshold.percent, threshold.action, shadow=spec.shadow
    )
