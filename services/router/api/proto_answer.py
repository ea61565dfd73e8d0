"""Writes answers as protos, in place: a message that is handed to another is copied into it. No decisions."""

from __future__ import annotations

from typing import cast

from pointsman.router.v1 import router_pb2 as pb

from libs.answer import Attempt, Completed, Delta, Event, LimitState, Restarted, Result, Selected, Selection
from libs.rpc.convert import (
    error_class_to_proto,
    fill_duration,
    fill_timestamp,
    fill_usage,
    finish_reason_to_proto,
    route_part_to_proto,
)
from libs.rpc.parts import fill_citation, fill_reasoning, fill_reasoning_delta
from libs.selection import Degradation, SelectionReason

_REASONS = {
    r: cast("pb.SelectionReason", pb.SelectionReason.Value(f"SELECTION_REASON_{r.name}"))
    for r in SelectionReason
}
_DEGRADATIONS = {
    d: cast("pb.Degradation", pb.Degradation.Value(f"DEGRADATION_{d.name}")) for d in Degradation
}


def make_event(event: Event) -> pb.StreamGenerateResponse:
    """Returns an event of a stream."""
    response = pb.StreamGenerateResponse()
    if isinstance(event, Delta):
        delta = response.delta
        delta.text = event.text
        for t in event.tool_calls:
            delta.tool_calls.add(index=t.index, id=t.id, name=t.name, arguments_json=t.arguments_json)
        if event.reasoning or event.refusal or event.citations:
            for piece in event.reasoning:
                fill_reasoning_delta(delta.reasoning.add(), piece)
            delta.refusal = event.refusal
            for citation in event.citations:
                fill_citation(delta.citations.add(), citation)
        if event.head is not None:
            head = event.head
            delta.head.attempts, delta.head.cached = head.attempts, head.cached
            for state in head.limits:
                _fill_limit(delta.head.limits.add(), state)
            delta.head.ignored.extend(head.ignored)
    elif isinstance(event, Selected):
        response.selected.request_id = event.request_id
        fill_selection(response.selected.selection, event.selection)
    elif isinstance(event, Completed):
        fill_result(response.completed.result, event.result)
    else:
        change = response.restarted if isinstance(event, Restarted) else response.switched_provider
        change.from_provider = event.from_provider
        fill_selection(change.selection, event.selection)
        change.error_class = error_class_to_proto(event.error_class)
    return response


def fill_result(proto: pb.Result, result: Result) -> None:
    """Fills in a proto in place, as all functions `fill_…` do: a message that is handed to another is copied into
    it."""
    proto.request_id = result.request_id
    proto.text = result.text
    for c in result.tool_calls:
        proto.tool_calls.add(id=c.id, name=c.name, arguments_json=c.arguments_json)
    proto.finish_reason = finish_reason_to_proto(result.finish_reason)
    fill_selection(proto.selection, result.selection)
    for attempt in result.attempts:
        _fill_attempt(proto.attempts.add(), attempt)
    fill_usage(proto.usage, result.usage)
    proto.cost.micro_usd = result.cost_micro_usd
    fill_duration(proto.latency, result.latency)
    if result.time_to_first_token is not None:
        fill_duration(proto.time_to_first_token, result.time_to_first_token)
    if result.degradation is not None:
        proto.degradation = _DEGRADATIONS[result.degradation]
    if result.cached:
        proto.cached = True
    for notice in result.budgets:
        proto.budgets.add(
            scope=notice.scope,
            period=notice.period,
            percent=notice.percent,
            action=f"BUDGET_ACTION_{notice.action.upper()}",
            shadow=notice.shadow,
        )
    for state in result.limits:
        _fill_limit(proto.limits.add(), state)
    for thoughts in result.reasoning:
        fill_reasoning(proto.reasoning.add(), thoughts)
    if result.refusal:
        proto.refusal = result.refusal
    for citation in result.citations:
        fill_citation(proto.citations.add(), citation)
    if result.ignored:
        proto.ignored.extend(result.ignored)


def _fill_limit(proto: pb.LimitState, state: LimitState) -> None:
    proto.unit = state.unit
    proto.period = state.period
    proto.limit = state.limit
    proto.remaining = state.remaining
    if state.reset is not None:
        fill_duration(proto.reset, state.reset)


def _fill_attempt(proto: pb.Attempt, attempt: Attempt) -> None:
    proto.attempt_id = attempt.attempt_id
    proto.provider = attempt.provider
    proto.model = attempt.model
    if attempt.error_class is not None:
        proto.error_class = error_class_to_proto(attempt.error_class)
        proto.message = attempt.message
        proto.http_status = attempt.http_status
    if attempt.started is not None:
        fill_timestamp(proto.started, attempt.started)
    fill_duration(proto.latency, attempt.latency)
    if attempt.time_to_first_token is not None:
        fill_duration(proto.time_to_first_token, attempt.time_to_first_token)
    if attempt.usage is not None:
        fill_usage(proto.usage, attempt.usage)
    if attempt.cost_micro_usd is not None:
        proto.cost.micro_usd = attempt.cost_micro_usd
    if attempt.hedge:
        proto.hedge = True
    if attempt.switched is not None:
        proto.switched = route_part_to_proto(attempt.switched)


def fill_selection(proto: pb.Selection, selection: Selection) -> None:
    """Fills in a choice."""
    proto.provider = selection.provider
    proto.model = selection.model
    if selection.reason is not None:
        proto.reason = _REASONS[selection.reason]
    proto.explanation = selection.explanation
    if selection.estimated_cost_micro_usd is not None:
        proto.estimated_cost.micro_usd = selection.estimated_cost_micro_usd
    if selection.estimated_latency is not None:
        fill_duration(proto.estimated_latency, selection.estimated_latency)
    proto.confidence = selection.confidence
    scores, filled = selection.scores, proto.scores
    filled.cost = scores.cost
    filled.performance = scores.performance
    filled.reliability = scores.reliability
    filled.suitability = scores.suitability
    filled.total = scores.total
