"""The client for what a router sets aside. `key` is the service token."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from libs.client.connection import ServiceClient
from libs.rpc.convert import error_class_from_proto, timestamp_from_proto
from libs.types import ErrorClass


@dataclass(frozen=True, slots=True)
class SetAside:
    """A combination that one router process does not call for a while; fields that its `kind` ("key", "model",
    "shape", "region" or "feature") does not need are empty. `since` and `until` in epoch seconds; `until` passed: the
    next call tries it. `times` in a row."""

    name: str
    kind: str
    provider: str
    model: str
    region: str
    tenant: str
    content_type: str
    features: tuple[str, ...]
    error_class: ErrorClass | None
    reason: str
    since: float
    until: float
    times: int


class SetAsideClient(ServiceClient):
    """Calls a router as an operator."""

    service = "pointsman.router.v1.Router"
    _stub: router_pb2_grpc.RouterAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = router_pb2_grpc.RouterStub(channel)

    async def list_set_aside(self, *, timeout: float | None = None) -> tuple[SetAside, ...]:
        """Returns all that this router process sets aside, by name."""
        self._open()
        response = await self._unary(self._stub.ListSetAside, pb.ListSetAsideRequest(), timeout)
        return tuple(_set_aside(item) for item in response.set_aside)

    async def clear_set_aside(
        self, name: str, *, author: str = "", reason: str = "", timeout: float | None = None
    ) -> SetAside:
        """Puts one back before its time. `author` and `reason` are kept. Raises NotFound."""
        self._open()
        request = pb.ClearSetAsideRequest(name=name, author=author, reason=reason)
        return _set_aside((await self._unary(self._stub.ClearSetAside, request, timeout)).cleared)


def _set_aside(item: pb.SetAside) -> SetAside:
    kinds = pb.PatternKind.keys()
    return SetAside(
        name=item.name,
        kind=kinds[item.kind].removeprefix("PATTERN_KIND_").lower() if item.kind < len(kinds) else "",
        provider=item.provider,
        model=item.model,
        region=item.region,
        tenant=item.tenant,
        content_type=item.content_type,
        features=tuple(item.features),
        error_class=error_class_from_proto(item.error_class),
        reason=item.reason,
        since=timestamp_from_proto(item.since),
        until=timestamp_from_proto(item.until),
        times=item.times,
    )
