"""Reflection, as grpcurl uses it, on a server of each service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pointsman.analytics.v1 import analytics_pb2_grpc
from pointsman.health.v1 import health_pb2_grpc
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc
from pointsman.router.v1 import router_pb2_grpc

from libs.rpc.identity import ServiceToken
from libs.rpc.server import Registration
from tests.support.address import fresh_address
from tests.support.reflection import described, known, unknown_symbols
from tests.support.server import grpc_server

SERVICES: dict[str, Any] = {
    "pointsman.analytics.v1.Analytics": analytics_pb2_grpc.add_AnalyticsServicer_to_server,
    "pointsman.health.v1.ProviderHealth": health_pb2_grpc.add_ProviderHealthServicer_to_server,
    "pointsman.ratelimit.v1.RateLimiter": ratelimit_pb2_grpc.add_RateLimiterServicer_to_server,
    "pointsman.router.v1.Router": router_pb2_grpc.add_RouterServicer_to_server,
}


class Nothing:
    """Has every method, and answers none: reflection needs no more."""

    def __getattr__(self, name: str) -> Any:
        return None


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_describes_itself(service: str) -> None:
    """Without a key a client finds the service, its methods and the types of all of them: list and describe; and
    whatever it names of the service's file, a method, a field, a value of an enum."""
    server = grpc_server(
        [Registration(SERVICES[service], Nothing(), service)],
        ServiceToken("secret"),
    )
    address = fresh_address()
    await server.start(address)
    try:
        found = await asyncio.to_thread(described, address, service)
        unknown = await asyncio.to_thread(unknown_symbols, address, service)
    finally:
        await server.drain(0)
    assert found == known(service)
    assert unknown == set()
