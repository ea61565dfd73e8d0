"""Hands each request that has ended to the spool: what its caller saw, and what was decided, for the ledger."""

from __future__ import annotations

from asyncio import CancelledError

from libs.answer import Result
from libs.clock import Clock
from libs.errors import Cancelled, PointsmanError
from libs.ids import TimeOrderedIds
from services.router.generate.in_flight import InFlight
from services.router.generate.next_step import SHORTEST_ATTEMPT
from services.router.ledger.request_record import ConsideredModel, RequestRecord
from services.router.ledger.spool import UsageSpool
from services.router.ledger.usage_record import Outcome
from services.router.planning.candidate import Candidate

#: Candidates of one request that are kept at most, and characters of the reason for which one was passed over.
MOST_CANDIDATES, MOST_REASON = 100, 256


class RequestLog:
    """Records requests once each. One per process, which shares its `ids`."""

    def __init__(self, spool: UsageSpool, clock: Clock, ids: TimeOrderedIds) -> None:
        self._spool = spool
        self._clock = clock
        self._ids = ids

    def record_answer(self, request: InFlight, result: Result) -> None:
        """Records a request that got an answer."""
        self._record(request, Outcome.SUCCESS, "", result.latency, result.cost_micro_usd, result)

    def record_error(self, request: InFlight, error: BaseException) -> None:
        """Records a request that ended with an error, or whose caller went away; nothing where it had its answer
        before."""
        if request.recorded:
            return
        now = self._clock.monotonic()
        outcome, reason = Outcome.FAILURE, "INTERNAL"
        if isinstance(error, PointsmanError):
            reason = error.reason
            if isinstance(error, Cancelled):
                outcome = Outcome.CANCELLED
        elif isinstance(error, CancelledError | GeneratorExit):
            # A caller's deadline cancels its call.
            if now + SHORTEST_ATTEMPT >= request.envelope.deadline:
                reason = "DEADLINE_EXCEEDED"
            else:
                outcome, reason = Outcome.CANCELLED, ""
        cost = sum([record.cost_micro_usd for record in request.records])
        self._record(request, outcome, reason, now - request.started, cost, None)

    def _record(
        self,
        request: InFlight,
        outcome: Outcome,
        reason: str,
        latency: float,
        cost: int,
        result: Result | None,
    ) -> None:
        request.recorded = True
        generation, plan, now = request.generation, request.plan, self._clock.now()
        candidates = [
            _considered(candidate, candidate.excluded) for candidate in plan.candidates[:MOST_CANDIDATES]
        ]
        if plan.excluded or request.refused:
            candidates = _with_passed_over(request, candidates)
        answer = None if result is None else result.selection
        first = plan.candidates[0] if plan.candidates else None
        self._spool.add_request(
            RequestRecord(
                self._ids.make(now),
                generation.request_id,
                generation.tenant,
                generation.campaign,
                generation.content_type,
                generation.labels,
                now - latency,
                latency,
                request.first_token,
                outcome,
                reason,
                len(request.records),
                result is not None and bool(request.failed) and not result.cached,
                request.degradation,
                generation.strategy,
                plan.policy.name,
                request.catalog_version,
                0 if first is None else first.input_tokens,
                generation.prompt.max_output_tokens,
                plan.capabilities,
                candidates,
                "" if answer is None else answer.provider,
                "" if answer is None else answer.model,
                None if first is None else plan.probability,
                request.queued,
                request.paused,
                cost,
                request.stream,
                result is not None and result.cached,
                request.span.trace_id,
            )
        )


def _considered(candidate: Candidate, passed_over: str) -> ConsideredModel:
    return ConsideredModel(
        candidate.model.id,
        passed_over,
        candidate.entry.tier,
        candidate.scores,
        candidate.estimated_micro_usd,
    )


def _with_passed_over(request: InFlight, candidates: list[ConsideredModel]) -> list[ConsideredModel]:
    """Returns the candidates, with the reason at those that limits or breakers kept from being called, and those that
    the plan has passed over."""
    plan, refused = request.plan, request.refused
    if refused:
        candidates = []
        for candidate in plan.candidates:
            violations = refused.get(candidate.target)
            reason = ""
            if violations is not None:
                reason = (
                    violations[0].description if violations else "its circuit or a budget let no call pass"
                )
            candidates.append(_considered(candidate, reason[:MOST_REASON]))
    others = [_considered(candidate, candidate.excluded[:MOST_REASON]) for candidate in plan.excluded]
    return [*candidates, *others][:MOST_CANDIDATES]
