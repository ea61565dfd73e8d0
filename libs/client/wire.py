"""Converts between values and `pointsman.router.v1`. Enum numbers of a newer server become None,
not errors."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from pointsman.router.v1 import router_pb2 as pb

from libs.answer import (
    Attempt,
    BudgetNotice,
    Completed,
    Delta,
    Event,
    Head,
    LimitState,
    Restarted,
    Result,
    Selected,
    Selection,
    SwitchedProvider,
)
from libs.client.model import Alternative, CostEstimate, ListedModel, Listing, SelectResult
from libs.client.request import Options, Prompt
from libs.conversation import Message, ResponseFormat, Role, ToolCall, ToolCallDelta
from libs.errors import FieldViolation, InvalidArgument
from libs.limits import Period, Unit
from libs.rpc.convert import (
    duration_from_proto,
    error_class_from_proto,
    finish_reason_from_proto,
    money_to_proto,
    route_part_from_proto,
    timestamp_from_proto,
    usage_from_proto,
)
from libs.rpc.parts import (
    citation_from_proto,
    part_to_proto,
    reasoning_delta_from_proto,
    reasoning_from_proto,
)
from libs.selection import Degradation, Scores, SelectionReason

_E = TypeVar("_E", bound=StrEnum)

_UNITS, _PERIODS = frozenset(Unit), frozenset(Period)
_ENUMS = {
    "strategy": "STRATEGY",
    "reasoning_effort": "REASONING_EFFORT",
    "reasoning_summary": "REASONING_SUMMARY",
    "priority": "PRIORITY",
}


def generation_to_proto(prompt: Prompt, options: Options) -> pb.Generation:
    """Returns the request as a message. Raises InvalidArgument for what cannot be put on the wire at all (a number
    out of the field's range, text that is not Unicode, an unknown strategy); every other judgement is the
    router's."""
    messages = [Message(Role.USER, prompt)] if isinstance(prompt, str) else list(prompt)
    fields: dict[str, Any] = dict(options)
    if system := fields.pop("system", None):
        messages.insert(0, Message(Role.SYSTEM, system))
    try:
        if (shape := options.get("response_format")) is not None:
            fields["response_format"] = _format(shape)
        fields["tools"] = [
            pb.Tool(name=tool.name, description=tool.description, parameters_json=tool.parameters_json)
            for tool in options.get("tools", ())
        ]
        for name, prefix in _ENUMS.items():
            if fields.get(name) is not None:
                fields[name] = f"{prefix}_{fields[name].upper()}"
        fields["max_cost"] = money_to_proto(fields.pop("max_cost_micro_usd", None))
        # The constructor reads None as unset and refuses names it does not know.
        return pb.Generation(messages=[_message(item) for item in messages], **fields)
    except (ValueError, TypeError) as error:
        # UnicodeEncodeError quotes the text it could not encode: the prompt must not end up in a log.
        problem = "is not valid Unicode" if isinstance(error, UnicodeError) else str(error)
        raise InvalidArgument([FieldViolation("generation", problem)]) from None


def _message(message: Message) -> pb.Message:
    return pb.Message(
        role=f"ROLE_{message.role.upper()}",
        text=message.text,
        tool_calls=[
            pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        parts=[part_to_proto(part) for part in message.parts],
    )


def _format(value: ResponseFormat) -> pb.ResponseFormat:
    kind = pb.ResponseFormat.KIND_JSON_SCHEMA if value.schema_json else pb.ResponseFormat.KIND_JSON_OBJECT
    return pb.ResponseFormat(kind=kind, schema_json=value.schema_json, schema_name=value.schema_name)


def _enum(kind: type[_E], names: list[str], prefix: str, number: int) -> _E | None:
    if not 0 < number < len(names):
        return None
    return kind(names[number].removeprefix(prefix).lower())


def _seconds(message: pb.Result | pb.Attempt | pb.Selection, name: str) -> float | None:
    if not message.HasField(name):
        return None
    value: Duration = getattr(message, name)
    return duration_from_proto(value)


def selection_from_proto(value: pb.Selection) -> Selection:
    """Returns a choice."""
    scores = value.scores
    return Selection(
        provider=value.provider,
        model=value.model,
        reason=_enum(SelectionReason, pb.SelectionReason.keys(), "SELECTION_REASON_", value.reason),
        explanation=value.explanation,
        estimated_cost_micro_usd=value.estimated_cost.micro_usd if value.HasField("estimated_cost") else None,
        estimated_latency=_seconds(value, "estimated_latency"),
        confidence=value.confidence,
        scores=Scores(scores.cost, scores.performance, scores.reliability, scores.suitability, scores.total),
    )


def _attempt(value: pb.Attempt) -> Attempt:
    return Attempt(
        attempt_id=value.attempt_id,
        provider=value.provider,
        model=value.model,
        error_class=error_class_from_proto(value.error_class),
        message=value.message,
        http_status=value.http_status,
        started=timestamp_from_proto(value.started) if value.HasField("started") else None,
        latency=duration_from_proto(value.latency),
        time_to_first_token=_seconds(value, "time_to_first_token"),
        usage=usage_from_proto(value.usage) if value.HasField("usage") else None,
        cost_micro_usd=value.cost.micro_usd if value.HasField("cost") else None,
        hedge=value.hedge,
        switched=route_part_from_proto(value.switched),
    )


def result_from_proto(value: pb.Result) -> Result:
    """Returns an answer and its account."""
    return Result(
        request_id=value.request_id,
        text=value.text,
        selection=selection_from_proto(value.selection),
        attempts=tuple(_attempt(item) for item in value.attempts),
        finish_reason=finish_reason_from_proto(value.finish_reason),
        tool_calls=tuple(ToolCall(c.id, c.name, c.arguments_json) for c in value.tool_calls),
        usage=usage_from_proto(value.usage),
        cost_micro_usd=value.cost.micro_usd,
        latency=duration_from_proto(value.latency),
        time_to_first_token=_seconds(value, "time_to_first_token"),
        degradation=_enum(Degradation, pb.Degradation.keys(), "DEGRADATION_", value.degradation),
        cached=value.cached,
        budgets=tuple(_notice(item) for item in value.budgets),
        limits=_limits(value.limits),
        reasoning=tuple(reasoning_from_proto(item) for item in value.reasoning),
        refusal=value.refusal,
        citations=tuple(citation_from_proto(item) for item in value.citations),
        ignored=tuple(value.ignored),
    )


def _limits(values: Iterable[pb.LimitState]) -> tuple[LimitState, ...]:
    """Leaves out limits of a unit or a period that only a newer server knows."""
    return tuple(
        LimitState(
            Unit(value.unit),
            Period(value.period),
            value.limit,
            value.remaining,
            duration_from_proto(value.reset) if value.HasField("reset") else None,
        )
        for value in values
        if value.unit in _UNITS and value.period in _PERIODS
    )


def _head(value: pb.Head) -> Head:
    return Head(value.attempts, value.cached, _limits(value.limits), tuple(value.ignored))


def _notice(value: pb.BudgetNotice) -> BudgetNotice:
    names = pb.BudgetAction.keys()
    action = names[value.action] if value.action < len(names) else names[0]
    name = action.removeprefix("BUDGET_ACTION_").lower()
    return BudgetNotice(value.scope, value.period, value.percent, name, value.shadow)


def event_from_proto(value: pb.StreamGenerateResponse) -> Event | None:
    """Returns one event of a stream; None for a kind that this client does not know yet."""
    if value.HasField("delta"):
        return Delta(
            value.delta.text,
            tuple(ToolCallDelta(c.index, c.id, c.name, c.arguments_json) for c in value.delta.tool_calls),
            _head(value.delta.head) if value.delta.HasField("head") else None,
            tuple(reasoning_delta_from_proto(item) for item in value.delta.reasoning),
            value.delta.refusal,
            tuple(citation_from_proto(item) for item in value.delta.citations),
        )
    if value.HasField("selected"):
        return Selected(value.selected.request_id, selection_from_proto(value.selected.selection))
    if value.HasField("restarted"):
        return Restarted(
            value.restarted.from_provider,
            selection_from_proto(value.restarted.selection),
            error_class_from_proto(value.restarted.error_class),
        )
    if value.HasField("switched_provider"):
        return SwitchedProvider(
            value.switched_provider.from_provider,
            selection_from_proto(value.switched_provider.selection),
            error_class_from_proto(value.switched_provider.error_class),
        )
    if value.HasField("completed"):
        return Completed(result_from_proto(value.completed.result))
    return None


def select_from_proto(value: pb.SelectProviderResponse) -> SelectResult:
    """Returns a dry run's answer."""
    return SelectResult(
        selection_from_proto(value.selection),
        tuple(
            Alternative(selection_from_proto(item.selection), item.excluded_because)
            for item in value.alternatives
        ),
    )


def estimate_from_proto(value: pb.CostEstimate) -> CostEstimate:
    """Returns one model's estimate."""
    return CostEstimate(
        value.provider,
        value.model,
        usage_from_proto(value.usage),
        value.expected.micro_usd,
        value.maximum.micro_usd,
    )


def listing_from_proto(value: pb.ListModelsResponse) -> Listing:
    """Returns the models and content types that the caller may name."""
    return Listing(
        tuple(
            ListedModel(
                item.provider,
                item.model,
                item.context_window,
                item.max_output_tokens,
                tuple(item.capabilities),
            )
            for item in value.models
        ),
        tuple(value.content_types),
    )
