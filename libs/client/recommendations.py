"""A client for recommendations and the state of optimisation, as typed results. `key` is the service token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.client.connection import ServiceClient
from libs.client.forecasts import AmountBand, ForecastLimit
from libs.rpc.convert import timestamp_from_proto, timestamp_to_proto


class AdviceVerdict(StrEnum):
    """A decision about a recommendation."""

    ACCEPT = "accept"
    REJECT = "reject"
    SNOOZE = "snooze"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class AdviceChange:
    """A change to make: `policies` of the catalog, "provider/model" to put first, a limit and its new value, or
    input tokens of a request to come down to (0: not that)."""

    policies: tuple[str, ...]
    new_model: str
    limit: ForecastLimit | None
    new_limit: int
    tokens_per_request: int


@dataclass(frozen=True, slots=True)
class AdviceDecision:
    """The last decision. Instants are epoch seconds; `snoozed_until` None: no snooze."""

    verdict: str
    by: str
    at: float
    note: str
    snoozed_until: float | None


@dataclass(frozen=True, slots=True)
class AdviceMeasured:
    """Saved since the acceptance, over so many requests changed and left as they were, on so many days."""

    saving: AmountBand
    changed: int
    left: int
    days: int


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation, in the words of the proto. `saving`: over the next 30 days, in `unit`; `evidence`: figures by
    name; `measured` None: it is not accepted, or there is nothing to compare yet."""

    id: str
    kind: str
    tenant: str
    content_type: str
    provider: str
    model: str
    change: AdviceChange
    saving: AmountBand
    unit: str
    days: int
    evidence: dict[str, float]
    risks: tuple[str, ...]
    risk: str
    standing: str
    version: int
    found: float
    seen: float
    decision: AdviceDecision | None
    measured: AdviceMeasured | None


@dataclass(frozen=True, slots=True)
class AdviceList:
    """Recommendations as of the last look (epoch seconds). `skipped`: kinds that need a catalog, where there is
    none."""

    recommendations: tuple[Advice, ...]
    as_of: float
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContentUse:
    """Calls, cost (micro-USD) and mean tokens of a call for a content type."""

    content_type: str
    calls: int
    cost: int
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class OptimizationState:
    """Money in micro-USD for 30 days. `strategies`: requests by strategy, most used first; `last_optimized`: epoch
    seconds, None: nothing is accepted; `days`: looked at, of `days_needed` for a recommendation."""

    strategy: str
    strategies: dict[str, int]
    spend: int
    current_saving: int
    measured_saving: int
    potential_saving: int
    recommendations: tuple[Advice, ...]
    patterns: tuple[ContentUse, ...]
    busiest_hour: int | None
    last_optimized: float | None
    days: int
    days_needed: int
    as_of: float
    skipped: tuple[str, ...]


class RecommendationClient(ServiceClient):
    """Calls analytics for recommendations."""

    service = "pointsman.analytics.v1.Analytics"
    _stub: analytics_pb2_grpc.AnalyticsAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)

    async def list_recommendations(self, *, timeout: float | None = None) -> AdviceList:
        """Returns all recommendations, whatever was decided about them."""
        self._open()
        found = await self._unary(self._stub.ListRecommendations, pb.ListRecommendationsRequest(), timeout)
        return AdviceList(
            tuple(_advice(item) for item in found.recommendations),
            timestamp_from_proto(found.as_of),
            _kinds(found.skipped),
        )

    async def decide_recommendation(
        self,
        recommendation_id: str,
        verdict: AdviceVerdict,
        version: int,
        by: str,
        *,
        note: str = "",
        snoozed_until: float | None = None,
        timeout: float | None = None,
    ) -> Advice:
        """Decides about a recommendation as it is at `version`, and returns it. Raises NotFound, Aborted where
        somebody else has decided since, FailedPrecondition for what cannot follow its standing."""
        self._open()
        request = pb.DecideRecommendationRequest(
            id=recommendation_id,
            verdict=f"RECOMMENDATION_VERDICT_{verdict.name}",
            version=version,
            decided_by=by,
            note=note,
            snoozed_until=timestamp_to_proto(snoozed_until),
        )
        found = await self._unary(self._stub.DecideRecommendation, request, timeout)
        return _advice(found.recommendation)

    async def get_optimization(self, *, timeout: float | None = None) -> OptimizationState:
        """Returns the state of optimisation."""
        self._open()
        found = await self._unary(self._stub.GetOptimization, pb.GetOptimizationRequest(), timeout)
        return OptimizationState(
            found.strategy,
            {use.strategy: use.requests for use in found.strategies},
            found.spend.micro_usd,
            found.current_saving.micro_usd,
            found.measured_saving.micro_usd,
            found.potential_saving.micro_usd,
            tuple(_advice(item) for item in found.recommendations),
            tuple(
                ContentUse(
                    use.content_type, use.calls, use.cost.micro_usd, use.input_tokens, use.output_tokens
                )
                for use in found.patterns
            ),
            found.busiest_hour if found.HasField("busiest_hour") else None,
            timestamp_from_proto(found.last_optimized) if found.HasField("last_optimized") else None,
            found.days,
            found.days_needed,
            timestamp_from_proto(found.as_of),
            _kinds(found.skipped),
        )


def _word(names: Sequence[str], prefix: str, number: int) -> str:
    # A newer server's is shown as its number.
    return names[number].removeprefix(prefix).lower() if number < len(names) else str(number)


def _kinds(numbers: Sequence[int]) -> tuple[str, ...]:
    names = pb.RecommendationKind.keys()
    return tuple(_word(names, "RECOMMENDATION_KIND_", number) for number in numbers)


def _advice(item: pb.Recommendation) -> Advice:
    subject = item.subject
    facts, risks = pb.RecommendationFactKind.keys(), pb.RecommendationRisk.keys()
    return Advice(
        item.id,
        _kinds([item.kind])[0],
        subject.tenant,
        subject.content_type,
        subject.provider,
        subject.model,
        _change(item.proposal),
        _band(item.saving),
        _word(pb.SavedUnit.keys(), "SAVED_UNIT_", item.unit),
        item.days,
        {_word(facts, "RECOMMENDATION_FACT_KIND_", fact.kind): fact.value for fact in item.evidence},
        tuple(_word(risks, "RECOMMENDATION_RISK_", risk) for risk in item.risks),
        _word(pb.RiskLevel.keys(), "RISK_LEVEL_", item.risk),
        _word(pb.RecommendationStanding.keys(), "RECOMMENDATION_STANDING_", item.standing),
        item.version,
        timestamp_from_proto(item.found),
        timestamp_from_proto(item.seen),
        _decision(item.last_decision) if item.HasField("last_decision") else None,
        _measured(item.measured) if item.HasField("measured") else None,
    )


def _change(proposal: pb.RecommendationProposal) -> AdviceChange:
    limit = None
    if proposal.HasField("limit"):
        now = proposal.limit.limit
        limit = ForecastLimit(now.scope, now.unit, now.period, now.limit)
    return AdviceChange(
        tuple(proposal.policies),
        proposal.new_model,
        limit,
        proposal.limit.new_limit,
        proposal.tokens_per_request,
    )


def _decision(last: pb.RecommendationDecision) -> AdviceDecision:
    return AdviceDecision(
        _word(pb.RecommendationVerdict.keys(), "RECOMMENDATION_VERDICT_", last.verdict),
        last.decided_by,
        timestamp_from_proto(last.decided_at),
        last.note,
        timestamp_from_proto(last.snoozed_until) if last.HasField("snoozed_until") else None,
    )


def _measured(found: pb.MeasuredSaving) -> AdviceMeasured:
    return AdviceMeasured(_band(found.saving), found.changed, found.left, found.days)


def _band(band: pb.AmountBand) -> AmountBand:
    return AmountBand(band.p10, band.p50, band.p90)
