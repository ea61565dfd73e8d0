"""Recommendations: proto → decisions, values → proto."""

from __future__ import annotations

from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.forecast.intervals import Band
from libs.rpc.convert import timestamp_to_proto
from services.analytics.api.proto_time import instant_from_proto
from services.analytics.recommendations.decision import Decision, Standing, Verdict
from services.analytics.recommendations.measurement import MeasuredSaving
from services.analytics.recommendations.optimization import Advice, AdvisedItem, optimization_of
from services.analytics.recommendations.recommendation import (
    FactKind,
    Proposal,
    RecommendationKind,
    RiskKind,
    RiskLevel,
    SavedUnit,
)
from services.analytics.recommendations.saving import MIN_DAYS

_KINDS = {item: f"RECOMMENDATION_KIND_{item.name}" for item in RecommendationKind}
_UNITS = {item: f"SAVED_UNIT_{item.name}" for item in SavedUnit}
_FACTS = {item: f"RECOMMENDATION_FACT_KIND_{item.name}" for item in FactKind}
_RISKS = {item: f"RECOMMENDATION_RISK_{item.name}" for item in RiskKind}
_LEVELS = {item: f"RISK_LEVEL_{item.name}" for item in RiskLevel}
_STANDINGS = {item: f"RECOMMENDATION_STANDING_{item.name}" for item in Standing}
_VERDICTS = {item: f"RECOMMENDATION_VERDICT_{item.name}" for item in Verdict}
_VERDICT_OF = {pb.RecommendationVerdict.Value(name): item for item, name in _VERDICTS.items()}
_STANDING_OF = {pb.RecommendationStanding.Value(name): item for item, name in _STANDINGS.items()}


def decision_from_proto(request: pb.DecideRecommendationRequest, now: float) -> Decision:
    """Returns the decision, made at `now`. Raises InvalidArgument naming each wrong field."""
    faults = []
    verdict = _VERDICT_OF.get(request.verdict)
    if verdict is None:
        faults.append(FieldViolation("verdict", "must be set to a known value"))
    until = instant_from_proto(request.snoozed_until) if request.HasField("snoozed_until") else None
    if request.HasField("snoozed_until") and until is None:
        faults.append(FieldViolation("snoozed_until", "must be a valid timestamp"))
    if faults or verdict is None:
        raise InvalidArgument(faults)
    return Decision(request.id, request.version, verdict, request.decided_by, now, request.note, until)


def standings_from_proto(request: pb.ListRecommendationsRequest) -> frozenset[Standing]:
    """Returns the standings to list; all where none is named. Raises InvalidArgument."""
    check_count("standings", len(request.standings), len(Standing))
    faults = [
        FieldViolation(f"standings[{i}]", "must be a known value")
        for i, number in enumerate(request.standings)
        if number not in _STANDING_OF
    ]
    if faults:
        raise InvalidArgument(faults)
    return frozenset(_STANDING_OF[number] for number in request.standings) or frozenset(Standing)


def list_to_proto(advice: Advice, standings: frozenset[Standing]) -> pb.ListRecommendationsResponse:
    return pb.ListRecommendationsResponse(
        recommendations=[item_to_proto(item) for item in advice.items if item.standing in standings],
        as_of=timestamp_to_proto(advice.as_of),
        skipped=[_KINDS[kind] for kind in advice.summary.skipped],
    )


def optimization_to_proto(advice: Advice) -> pb.GetOptimizationResponse:
    found, summary = optimization_of(advice), advice.summary
    strategies = [pb.StrategyUse(strategy=use.strategy, requests=use.requests) for use in summary.strategies]
    return pb.GetOptimizationResponse(
        strategy=strategies[0].strategy if strategies else "",
        strategies=strategies,
        spend=_money(found.spend),
        current_saving=_money(found.current),
        measured_saving=_money(found.measured),
        potential_saving=_money(found.potential),
        recommendations=[item_to_proto(item) for item in advice.items if item.standing is Standing.OPEN],
        patterns=[
            pb.UsagePattern(
                content_type=pattern.content_type,
                calls=pattern.calls,
                cost=_money(pattern.cost),
                input_tokens=pattern.input_tokens,
                output_tokens=pattern.output_tokens,
            )
            for pattern in summary.patterns
        ],
        busiest_hour=summary.busiest_hour,
        last_optimized=timestamp_to_proto(found.last_optimized),
        days=summary.days,
        days_needed=MIN_DAYS,
        as_of=timestamp_to_proto(advice.as_of),
        skipped=[_KINDS[kind] for kind in summary.skipped],
    )


def item_to_proto(item: AdvisedItem) -> pb.Recommendation:
    kept = item.kept
    found = kept.recommendation
    return pb.Recommendation(
        id=found.id,
        kind=_KINDS[found.kind],
        subject=pb.RecommendationSubject(
            tenant=found.subject.tenant,
            content_type=found.subject.content_type,
            provider=found.subject.provider,
            model=found.subject.model,
        ),
        proposal=_proposal(found.proposal),
        saving=_band(found.saving),
        unit=_UNITS[found.unit],
        days=found.days,
        evidence=[pb.RecommendationFact(kind=_FACTS[fact.kind], value=fact.value) for fact in found.evidence],
        risks=[_RISKS[risk] for risk in found.risks],
        risk=_LEVELS[found.risk],
        standing=_STANDINGS[item.standing],
        version=kept.version,
        found=timestamp_to_proto(kept.found),
        seen=timestamp_to_proto(kept.seen),
        last_decision=_decision(kept.last) if kept.last is not None else None,
        measured=_measured(item.measured) if item.measured is not None else None,
    )


def _proposal(proposal: Proposal) -> pb.RecommendationProposal:
    limit = proposal.limit
    return pb.RecommendationProposal(
        policies=proposal.policies,
        new_model=proposal.new_model,
        limit=pb.LimitChange(
            limit=pb.ForecastLimit(
                scope=limit.scope, unit=limit.unit, period=limit.period, limit=limit.limit
            ),
            new_limit=limit.new_limit,
        )
        if limit is not None
        else None,
        tokens_per_request=proposal.tokens_per_request,
    )


def _decision(last: Decision) -> pb.RecommendationDecision:
    return pb.RecommendationDecision(
        verdict=_VERDICTS[last.verdict],
        decided_by=last.by,
        decided_at=timestamp_to_proto(last.at),
        note=last.note,
        snoozed_until=timestamp_to_proto(last.until),
    )


def _measured(found: MeasuredSaving) -> pb.MeasuredSaving:
    return pb.MeasuredSaving(
        saving=_band(found.band), changed=found.changed, left=found.left, days=found.days
    )


def _band(band: Band) -> pb.AmountBand:
    return pb.AmountBand(p10=band.p10, p50=band.p50, p90=band.p90)


def _money(micro_usd: int) -> types_pb2.Money:
    return types_pb2.Money(micro_usd=micro_usd)
