"""Records each request at its end for the ledger: what its caller saw, and what was decided.

The record of a request that an attempt answers goes into the spool with the end of that attempt, as one frame:
neither is there without the other, and it costs no frame of its own. Others are added by themselves.
"""

from __future__ import annotations

from asyncio import CancelledError

from libs.answer import Result
from libs.clock import Clock
from libs.errors import Cancelled, PointsmanError
from libs.ids import TimeOrderedIds
from libs.request_record import ConsideredModel, RequestOutcome, RequestRecord, encode_request
from services.router.generate.in_flight import InFlight
from services.router.generate.next_step import SHORTEST_ATTEMPT
from services.router.ledger.spool import UsageSpool
from services.router.ledger.usage_record import UsageRecord
from services.router.planning.candidate import Candidate

#: Candidates of one request that are kept at most, and characters of the reason for which one was passed over.
MOST_CANDIDATES, MOST_REASON = 100, 256


class RequestLog:
    """Records requests once each. One per process, which shares its `ids`."""

    def __init__(self, spool: UsageSpool, clock: Clock, ids: TimeOrderedIds) -> None:
        self._spool = spool
        self._clock = clock
        self._ids = ids

    def encode_answered(self, request: InFlight, last: UsageRecord) -> bytes:
        """Returns the record of a request that its attempt `last` answers, which carries it into the spool."""
        latency, cost = self._clock.monotonic() - request.started, last.cost_micro_usd
        if request.records:
            cost += sum([record.cost_micro_usd for record in request.records])
        attempts = len(request.records) + 1
        record = self._describe(request, last.attempt_id, latency, cost, attempts, last.provider, last.model)
        if request.failed and not all(attempt.switched for attempt in (*request.records[1:], last)):
            record.failed_over = True
        return encode_request(record)

    def record_kept_answer(self, request: InFlight, result: Result) -> None:
        """Records a request that got an answer given before."""
        record = self._describe_alone(request, result.latency)
        record.provider, record.model = result.selection.provider, result.selection.model
        record.cached = True
        self._spool.add_request(record)

    def record_error(self, request: InFlight, error: BaseException) -> None:
        """Records a request that ended with an error, or whose caller went away; nothing where it had its answer
        before."""
        if request.recorded:
            return
        now = self._clock.monotonic()
        outcome: RequestOutcome = "failure"
        reason = "INTERNAL"
        if isinstance(error, PointsmanError):
            reason = error.reason
            if isinstance(error, Cancelled):
                outcome = "cancelled"
        elif isinstance(error, CancelledError | GeneratorExit):
            # A caller's deadline cancels its call.
            if now + SHORTEST_ATTEMPT >= request.envelope.deadline:
                reason = "DEADLINE_EXCEEDED"
            else:
                outcome, reason = "cancelled", ""
        record = self._describe_alone(request, now - request.started)
        record.outcome, record.error_reason = outcome, reason
        self._spool.add_request(record)

    def _describe_alone(self, request: InFlight, latency: float) -> RequestRecord:
        """Returns the record of a request that no attempt has answered."""
        cost = sum([record.cost_micro_usd for record in request.records])
        record_id = self._ids.make(self._clock.now())
        return self._describe(request, record_id, latency, cost, len(request.records))

    def _describe(
        self,
        request: InFlight,
        record_id: str,
        latency: float,
        cost: int,
        attempts: int,
        provider: str = "",
        model: str = "",
    ) -> RequestRecord:
        """Returns the record of a request that has ended well and without failover. `provider` and `model`: of its
        answer."""
        request.recorded = True
        generation, plan = request.generation, request.plan
        candidates = [_considered(candidate, "") for candidate in plan.candidates[:MOST_CANDIDATES]]
        if plan.excluded or request.refused:
            candidates = _with_passed_over(request, candidates)
        first = plan.candidates[0] if plan.candidates else None
        return RequestRecord(
            record_id,
            generation.request_id,
            generation.tenant,
            generation.campaign,
            generation.content_type,
            generation.labels,
            self._clock.now() - latency,
            latency,
            request.first_token,
            "success",
            "",
            attempts,
            False,
            request.degradation,
            generation.strategy,
            plan.policy.name,
            request.catalog_version,
            0 if first is None else first.input_tokens,
            generation.prompt.max_output_tokens,
            plan.capabilities,
            candidates,
            provider,
            model,
            None if first is None else plan.probability,
            request.queued,
            request.paused,
            cost,
            request.stream,
            False,
            request.span.trace_id,
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
