"""Composition root: the only file that names the concrete adapters."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.client import Client, Tls
from libs.http.observe import HttpObserver
from libs.http.server import HttpServer, certificate
from libs.lifecycle import Runtime, run
from services.gateway.adapters.router_client import RouterClient
from services.gateway.app import Gateway
from services.gateway.settings import GatewaySettings


@asynccontextmanager
async def assemble(settings: GatewaySettings, runtime: Runtime) -> AsyncIterator[HttpServer]:
    """Starts whether or not a router is there. Raises OSError."""
    https = certificate(settings.http_certificate, settings.http_key)
    async with Client(settings.router_target, timeout=None, tls=_tls(settings)) as client:
        router = RouterClient(client)
        gateway = Gateway(router, runtime.clock, lambda: secrets.token_hex(16))
        observer = HttpObserver(runtime.metrics, runtime.clock)
        yield HttpServer(gateway.application(settings.max_body), observer, router.ready, https)


def _tls(settings: GatewaySettings) -> Tls | None:
    if settings.tls_ca is None:
        return None
    own = settings.tls_certificate is not None and settings.tls_key is not None
    return Tls(
        settings.tls_ca.read_bytes(),
        settings.tls_key.read_bytes() if own and settings.tls_key else None,
        settings.tls_certificate.read_bytes() if own and settings.tls_certificate else None,
    )


def main() -> int:
    """The service's life; returns its exit status."""
    return run("gateway", GatewaySettings, assemble)
