"""The router over gRPC: protos to values and back. No decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import msgspec
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from libs.rpc.change_sender import ChangeNotes
from libs.rpc.convert import (
    error_class_to_proto,
    money_to_proto,
    timestamp_to_proto,
    usage_to_proto,
)
from libs.rpc.identity import current_caller, require_operator
from services.router.api.accept import Draft
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.proto_answer import fill_result, fill_selection, make_event
from services.router.api.proto_request import read_draft
from services.router.set_aside.entry import SetAsideEntry
from services.router.set_aside.set_aside import SettingAside

Context = grpc.aio.ServicerContext[Any, Any]

_HEARTBEAT = pb.StreamGenerateResponse(heartbeat=pb.Heartbeat())


class RouterServicer(router_pb2_grpc.RouterServicer):
    """The gRPC service `Router`."""

    def __init__(
        self,
        entry: Entry,
        set_aside: SettingAside,
        heartbeats: Heartbeats,
        changes: ChangeNotes | None = None,
    ) -> None:
        """`changes`: takes note of what operators put back; None: nobody does."""
        self._entry = entry
        self._changes = changes
        self._set_aside = set_aside
        self._heartbeats = heartbeats

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        result = await self._entry.generate(*_read_call(request.generation, context))
        response = pb.GenerateResponse()
        fill_result(response.result, result)
        return response

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        async def beat() -> None:
            await context.write(_HEARTBEAT)

        events = self._entry.stream(*_read_call(request.generation, context))
        async with aclosing(self._heartbeats.between(events, beat)) as events:
            async for event in events:
                yield make_event(event)

    async def SelectProvider(
        self, request: pb.SelectProviderRequest, context: Context
    ) -> pb.SelectProviderResponse:
        plan = self._entry.select(*_read_call(request.generation, context))
        others = [*plan.candidates[1:], *plan.excluded]
        response = pb.SelectProviderResponse()
        fill_selection(response.selection, plan.candidates[0].selection)
        for candidate in others:
            found = response.alternatives.add(excluded_because=candidate.excluded)
            fill_selection(found.selection, candidate.selection)
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
        cleared = self._set_aside.clear(request.name)
        if self._changes is not None:
            before = msgspec.json.encode({"reason": cleared.reason, "until": cleared.until}).decode()
            name = cleared.combination.name
            self._changes.note("set_aside", name, 1, request.author, request.reason, before, "")
        return pb.ClearSetAsideResponse(cleared=_set_aside(cleared))


def _read_call(request: pb.Generation, context: Context) -> tuple[str, Draft, float | None]:
    """Returns the caller, its draft, and the seconds until its deadline; None: it set none."""
    return current_caller(), read_draft(request), context.time_remaining()


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
