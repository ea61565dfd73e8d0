"""grpc.health.v1, Check and Watch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.errors import NotFound, ResourceExhausted

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_Status = health_pb2.HealthCheckResponse
#: The most streams that watch, in all and from one address. Each connection of a client has one: nobody needs a key
#: for them, and each takes some 20 KB.
MOST_WATCHERS = 1_000
MOST_WATCHERS_OF_ONE = 200


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Serves grpc.health.v1: statuses by service name; the empty name is the server as a whole."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {"": _Status.NOT_SERVING}
        self._changed = asyncio.Condition()
        self._notifications: set[asyncio.Task[None]] = set()
        self._watchers: Counter[str] = Counter()

    def set(self, name: str, *, serving: bool) -> None:
        """Sets one status and sends it to its watchers."""
        self._statuses[name] = _Status.SERVING if serving else _Status.NOT_SERVING
        task = asyncio.ensure_future(self._notify())
        self._notifications.add(task)
        task.add_done_callback(self._notifications.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def Check(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> health_pb2.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            raise NotFound(f"no service {request.service!r} here")
        return _Status(status=status)

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        address = context.peer().rpartition(":")[0]
        if self._watchers[address] >= MOST_WATCHERS_OF_ONE or self._watchers.total() >= MOST_WATCHERS:
            raise ResourceExhausted("Too many watch the health of this server", reason="TOO_MANY_WATCHERS")
        self._watchers[address] += 1
        last: int | None = None
        try:
            while True:
                async with self._changed:
                    while (status := self._watched(request.service)) == last:
                        await self._changed.wait()
                last = status
                yield _Status(status=status)
        finally:
            self._watchers[address] -= 1
            if not self._watchers[address]:
                del self._watchers[address]

    def _watched(self, name: str) -> int:
        return self._statuses.get(name, _Status.SERVICE_UNKNOWN)


def add_health(servicer: HealthServicer, server: grpc.aio.Server) -> None:
    """Registers the servicer."""
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
