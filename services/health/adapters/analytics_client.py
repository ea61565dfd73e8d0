"""The history of changes that analytics keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.change import Change
from libs.errors import Unavailable
from libs.rpc import channel as rpc
from libs.rpc.change_wire import change_from_proto, change_to_proto
from libs.rpc.status import from_rpc_error
from services.health.domain.setting import Kind

#: Seconds for one call.
TIMEOUT = 10.0


class AnalyticsChangeLog:
    """Satisfies `ports.ChangeLog`."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._metadata = rpc.metadata(token)

    async def record(self, changes: Sequence[Change]) -> None:
        """See the port."""
        request = pb.RecordChangesRequest(changes=[change_to_proto(change) for change in changes])
        async with _calling():
            await self._stub.RecordChanges(request, timeout=TIMEOUT, metadata=self._metadata)

    async def standing(self) -> list[Change]:
        """See the port."""
        found = []
        for kind in Kind:
            found += await self._list(pb.ListChangesRequest(standing=True, kind=kind))
        return found

    async def find(self, change_id: str) -> Change | None:
        """See the port."""
        found = await self._list(pb.ListChangesRequest(change_id=change_id)) if change_id else []
        return found[0] if found else None

    async def _list(self, request: pb.ListChangesRequest) -> list[Change]:
        found: list[Change] = []
        while True:
            async with _calling():
                page = await self._stub.ListChanges(request, timeout=TIMEOUT, metadata=self._metadata)
            found += [change_from_proto(message) for message in page.changes]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@asynccontextmanager
async def _calling() -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise Unavailable(
            f"The history of changes does not answer: {from_rpc_error(error).message}",
            reason="HISTORY_UNAVAILABLE",
        ) from error
