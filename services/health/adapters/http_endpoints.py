"""Probes of free endpoints."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from libs.catalog.model import Provider
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.types import ErrorClass
from services.health.connectivity.free_endpoints import free_endpoint
from services.health.domain.evidence import ProbeResult, best_result

#: Keys and endpoints of one provider that are asked in one probe, at most.
MOST_ASKED = 4


def _error_class(status: int) -> ErrorClass | None:
    """Classifies a free endpoint's status; None: no failure. 403 and 400 are none: a key may be good for calls and
    not for listing models."""
    if status in (401, 407):
        return ErrorClass.AUTHENTICATION
    if status in (503, 529):
        return ErrorClass.OVERLOADED
    return ErrorClass.SERVER_ERROR if status >= 500 else None


class HttpEndpoints:
    """Sends probes with the provider's own key; the response's body is not read. `timeout` in seconds."""

    def __init__(self, client: httpx.AsyncClient, keys: Keys, clock: Clock, timeout: float = 5.0) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._timeout = timeout

    async def probe(self, provider: Provider) -> ProbeResult:
        """Of several keys and endpoints one that works is enough: others are asked until one does."""
        found: list[ProbeResult] = []
        for part in provider.each_key_and_endpoint()[:MOST_ASKED]:
            found.append(await self._probe(part))
            if found[-1].error is None:
                break
        return best_result(found)

    async def _probe(self, provider: Provider) -> ProbeResult:
        endpoint = free_endpoint(provider)
        key = self._keys(provider)
        began = self._clock.monotonic()
        url = f"{provider.base_url}{endpoint.path}{endpoint.least}"
        error, message = await self._ask(url, endpoint.headers(key))
        seconds = max(0.0, self._clock.monotonic() - began)
        if key is None and error in (None, ErrorClass.AUTHENTICATION):
            # The routers may have the key though this service does not: an unsigned request proves no bad key.
            error, message = None, f"reached, but asked without a key: {self._keys.why_missing(provider)}"
        return ProbeResult(provider.name, seconds, error, message)

    async def _ask(self, url: str, headers: Mapping[str, str]) -> tuple[ErrorClass | None, str]:
        try:
            async with self._client.stream("GET", url, headers=headers, timeout=self._timeout) as response:
                error = _error_class(response.status_code)
                return error, f"HTTP status {response.status_code}" if error else ""
        except httpx.TimeoutException as failure:
            return ErrorClass.TIMEOUT, f"no answer within {self._timeout:g} s ({type(failure).__name__})"
        except (httpx.TransportError, httpx.InvalidURL) as failure:
            # The text of httpx's errors names hosts and system errors, but also lines that it could not read.
            return ErrorClass.TRANSPORT, self._keys.redact(str(failure))[:200] or type(failure).__name__
