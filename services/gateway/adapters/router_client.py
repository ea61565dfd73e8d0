"""The router over gRPC, on one channel for all tenants."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from libs.client import Client
from libs.client.model import Event, Listing, Result
from libs.errors import Unavailable
from services.gateway.ports import Call

#: How long a readiness probe waits for a connection, seconds.
READY_TIMEOUT = 0.5
#: How long the list of models may take, seconds.
LIST_TIMEOUT = 10.0


class RouterClient:
    """Satisfies `ports.Router`. `client` is open and has no key and no timeout of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def generate(self, call: Call) -> Result:
        """See `Router.generate`."""
        tenant = self._client.as_caller(call.key)
        return await tenant.generate(call.messages, timeout=call.timeout, **call.options)

    def stream(self, call: Call) -> AsyncGenerator[Event, None]:
        """See `Router.stream`."""
        tenant = self._client.as_caller(call.key)
        return tenant.stream(call.messages, timeout=call.timeout, **call.options)

    async def models(self, key: str) -> Listing:
        """See `Router.models`."""
        return await self._client.as_caller(key).list_models(timeout=LIST_TIMEOUT)

    async def ready(self) -> bool:
        """See `Router.ready`."""
        try:
            await self._client.ready(READY_TIMEOUT)
        except Unavailable:
            return False
        return True
