"""The router over gRPC: protos to values and back. No decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, cast

import grpc
from msgspec import Struct
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from libs.answer import Attempt, Completed, Delta, Event, LimitState, Restarted, Result, Selected, Selection
from libs.conversation import Message, ReasoningEffort, ResponseFormat, Role, Tool, ToolCall
from libs.rpc.convert import (
    error_class_to_proto,
    fill_duration,
    fill_timestamp,
    fill_usage,
    finish_reason_to_proto,
    money_to_proto,
    priority_from_proto,
    timestamp_to_proto,
    usage_to_proto,
)
from libs.rpc.identity import current_caller
from libs.selection import Degradation, SelectionReason, Strategy
from services.router.api.accept import MOST, Draft, check_entries
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.identity import require_operator
from services.router.request.generation import Prompt
from services.router.set_aside.patterns import SetAsideEntry
from services.router.set_aside.set_aside import SettingAside

Context = grpc.aio.ServicerContext[Any, Any]

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
_STRATEGIES = {pb.Strategy.Value(f"STRATEGY_{s.name}"): s for s in Strategy}
_REASONS = {
    r: cast("pb.SelectionReason", pb.SelectionReason.Value(f"SELECTION_REASON_{r.name}"))
    for r in SelectionReason
}
_DEGRADATIONS = {
    d: cast("pb.Degradation", pb.Degradation.Value(f"DEGRADATION_{d.name}")) for d in Degradation
}
_HEARTBEAT = pb.StreamGenerateResponse(heartbeat=pb.Heartbeat())
_EFFORTS = {pb.ReasoningEffort.Value(f"REASONING_EFFORT_{e.name}"): e for e in ReasoningEffort}


class RouterServicer(router_pb2_grpc.RouterServicer):
    """The gRPC service `Router`."""

    def __init__(self, entry: Entry, set_aside: SettingAside, heartbeats: Heartbeats) -> None:
        self._entry = entry
        self._set_aside = set_aside
        self._heartbeats = heartbeats

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        result = await self._entry.generate(*_read_call(request.generation, context))
        response = pb.GenerateResponse()
        _fill_result(response.result, result)
        return response

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        async def beat() -> None:
            await context.write(_HEARTBEAT)

        events = self._entry.stream(*_read_call(request.generation, context))
        async with aclosing(self._heartbeats.between(events, beat)) as events:
            async for event in events:
                yield _event(event)

    async def SelectProvider(
        self, request: pb.SelectProviderRequest, context: Context
    ) -> pb.SelectProviderResponse:
        plan = self._entry.select(*_read_call(request.generation, context))
        others = [*plan.candidates[1:], *plan.excluded]
        response = pb.SelectProviderResponse()
        _fill_selection(response.selection, plan.candidates[0].selection)
        for candidate in others:
            found = response.alternatives.add(excluded_because=candidate.excluded)
            _fill_selection(found.selection, candidate.selection)
        return response

    async def EstimateCost(
        self, request: pb.EstimateCostRequest, context: Context
    ) -> pb.EstimateCostResponse:
        found = self._entry.estimate_costs(*_read_call(request.generation, context))
        return pb.EstimateCostResponse(
            estimates=[
                pb.CostEstimate(
                    provider=candidate.model.provider,
                    model=candidate.model.name,
                    usage=usage_to_proto(usage),
                    expected=money_to_proto(cost),
                    maximum=money_to_proto(candidate.estimated_micro_usd),
                )
                for candidate, usage, cost in found
            ]
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        models, content_types = self._entry.models(current_caller())
        return pb.ListModelsResponse(
            models=[
                pb.ListedModel(
                    provider=model.provider,
                    model=model.name,
                    context_window=model.context_window,
                    max_output_tokens=model.max_output_tokens,
                    capabilities=sorted(model.capabilities),
                )
                for model in models
            ],
            content_types=content_types,
        )

    async def ListSetAside(
        self, request: pb.ListSetAsideRequest, context: Context
    ) -> pb.ListSetAsideResponse:
        require_operator()
        return pb.ListSetAsideResponse(set_aside=[_set_aside(entry) for entry in self._set_aside.entries()])

    async def ClearSetAside(
        self, request: pb.ClearSetAsideRequest, context: Context
    ) -> pb.ClearSetAsideResponse:
        require_operator()
        return pb.ClearSetAsideResponse(cleared=_set_aside(self._set_aside.clear(request.name)))


def _read_call(request: pb.Generation, context: Context) -> tuple[str, Draft, float | None]:
    """Returns the caller, its draft, and the seconds until its deadline; None: it set none."""
    return current_caller(), _draft(request), context.time_remaining()


def _set_aside(entry: SetAsideEntry) -> pb.SetAside:
    combination = entry.combination
    return pb.SetAside(
        name=combination.name,
        kind=f"PATTERN_KIND_{combination.kind.name}",
        provider=combination.provider,
        model=combination.model,
        region=combination.region,
        tenant=combination.tenant,
        content_type=combination.content_type,
        features=combination.features,
        error_class=error_class_to_proto(entry.error_class),
        reason=entry.reason,
        since=timestamp_to_proto(entry.since),
        until=timestamp_to_proto(entry.until),
        times=entry.times,
    )


def _draft(request: pb.Generation) -> Draft:
    """Reads a draft. Only fields that are set cost anything: most are not. Raises InvalidArgument where one has too
    many entries, before they are read."""
    draft: dict[str, Any] = {}
    prompt: dict[str, Any] = {"messages": (), "max_output_tokens": 0}
    unknown = []
    for field, value in request.ListFields():
        name, part, read = _FIELDS[field.number]
        if name in MOST:
            check_entries(name, len(value))
        found = value if read is None else read(value)
        (prompt if part is Prompt else draft)[name] = found
        # An enum that is unset is not among them.
        if found is None and (name != "response_format" or value.kind):
            unknown.append("response_format.kind" if name == "response_format" else name)
    if unknown:
        draft["unknown"] = tuple(unknown)
    if "response_format" in prompt:
        draft["needs_schema"] = request.response_format.kind == pb.ResponseFormat.KIND_JSON_SCHEMA
    roleless = [i for i, message in enumerate(request.messages) if message.role not in _ROLES]
    if roleless:
        draft["roleless"] = tuple(roleless)
    return Draft(Prompt(**prompt), **draft)


def _response_format(shape: pb.ResponseFormat) -> ResponseFormat | None:
    if shape.kind not in (pb.ResponseFormat.KIND_JSON_OBJECT, pb.ResponseFormat.KIND_JSON_SCHEMA):
        return None
    return ResponseFormat(shape.schema_json, shape.schema_name or "answer")


def _messages(messages: Sequence[pb.Message]) -> tuple[Message, ...]:
    check_entries("messages.tool_calls", sum([len(message.tool_calls) for message in messages]))
    return tuple([_message(message) for message in messages])


def _message(message: pb.Message) -> Message:
    calls: tuple[ToolCall, ...] = ()
    if message.tool_calls:
        calls = tuple(ToolCall(c.id, c.name, c.arguments_json) for c in message.tool_calls)
    return Message(_ROLES.get(message.role, Role.USER), message.text, calls, message.tool_call_id)


def _event(event: Event) -> pb.StreamGenerateResponse:
    response = pb.StreamGenerateResponse()
    if isinstance(event, Delta):
        delta = response.delta
        delta.text = event.text
        for t in event.tool_calls:
            delta.tool_calls.add(index=t.index, id=t.id, name=t.name, arguments_json=t.arguments_json)
        if event.head is not None:
            head = event.head
            delta.head.attempts, delta.head.cached = head.attempts, head.cached
            for state in head.limits:
                _fill_limit(delta.head.limits.add(), state)
    elif isinstance(event, Selected):
        response.selected.request_id = event.request_id
        _fill_selection(response.selected.selection, event.selection)
    elif isinstance(event, Completed):
        _fill_result(response.completed.result, event.result)
    else:
        change = response.restarted if isinstance(event, Restarted) else response.switched_provider
        change.from_provider = event.from_provider
        _fill_selection(change.selection, event.selection)
        change.error_class = error_class_to_proto(event.error_class)
    return response


def _fill_result(proto: pb.Result, result: Result) -> None:
    """Fills in a proto in place, as all functions `_fill_…` do: a message that is handed to another is copied into
    it."""
    proto.request_id = result.request_id
    proto.text = result.text
    for c in result.tool_calls:
        proto.tool_calls.add(id=c.id, name=c.name, arguments_json=c.arguments_json)
    proto.finish_reason = finish_reason_to_proto(result.finish_reason)
    _fill_selection(proto.selection, result.selection)
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


def _fill_selection(proto: pb.Selection, selection: Selection) -> None:
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


_NAMES = {"max_cost": "max_cost_micro_usd"}
#: Readers of fields' values; the values of other fields are taken as they are.
_READ: dict[str, Callable[[Any], Any]] = {
    "messages": _messages,
    # 0 is for those who name none.
    "max_output_tokens": lambda tokens: tokens or -1,
    "stop_sequences": tuple,
    "response_format": _response_format,
    "tools": lambda tools: tuple(Tool(t.name, t.description, t.parameters_json) for t in tools),
    "reasoning_effort": _EFFORTS.get,
    "models": tuple,
    "strategy": _STRATEGIES.get,
    "priority": priority_from_proto,
    "max_cost": lambda money: money.micro_usd,
    "labels": dict,
}
#: Proto field's number → the field it becomes, the struct that holds it, and the reader of its value.
_FIELDS: dict[int, tuple[str, type[Struct], Callable[[Any], Any] | None]] = {
    field.number: (
        _NAMES.get(field.name, field.name),
        Prompt if field.name in Prompt.__struct_fields__ else Draft,
        _READ.get(field.name),
    )
    for field in pb.Generation.DESCRIPTOR.fields
}
