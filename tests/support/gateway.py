"""The gateway on a real socket, in this process, before a router on another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import openai

from libs.client import Client
from libs.clock import SystemClock
from libs.http.observe import HttpObserver
from libs.http.server import HttpServer
from libs.telemetry import Metrics
from services.gateway.adapters.router_client import RouterClient
from services.gateway.app import Gateway
from tests.support.router import KEY


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """One that serves."""

    server: HttpServer
    metrics: Metrics

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.server.port}"

    def client(self, key: str = KEY, **more: object) -> openai.AsyncOpenAI:
        """The official client; by default it does not retry."""
        options: dict[str, object] = {"max_retries": 0, "timeout": 20, **more}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running_gateway(router: str, *, max_body: int = 10_000_000) -> AsyncIterator[RunningGateway]:
    """A gateway of the router at `router`. Request ids count: r-1, r-2, …"""
    numbers = count(1)
    metrics, clock = Metrics(), SystemClock()
    async with Client(router, timeout=None) as client:
        adapter = RouterClient(client)
        gateway = Gateway(adapter, clock, lambda: f"r-{next(numbers)}")
        server = HttpServer(gateway.application(max_body), HttpObserver(metrics, clock), adapter.ready)
        await server.start("127.0.0.1:0")
        server.serving()
        try:
            yield RunningGateway(server, metrics)
        finally:
            await server.drain(0)
