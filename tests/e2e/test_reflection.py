"""Reflection of the four services as processes."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.conftest import Shared
from tests.support.reflection import described, known

SERVICES = {
    "analytics": "pointsman.analytics.v1.Analytics",
    "health": "pointsman.health.v1.ProviderHealth",
    "ratelimit": "pointsman.ratelimit.v1.RateLimiter",
    "router": "pointsman.router.v1.Router",
}


@pytest.mark.parametrize("name", SERVICES)
async def test_every_process_describes_its_service(session_stack: Shared, name: str) -> None:
    """Reflection lists every service and describes it with all types, without a key, as the README offers grpcurl."""
    service = SERVICES[name]
    address = session_stack.stack.addresses[name]
    assert await asyncio.to_thread(described, address, service) == known(service)
