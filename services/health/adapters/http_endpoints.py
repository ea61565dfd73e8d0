"""The free endpoints of each kind of provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from libs.catalog.model import Provider
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.types import ErrorClass
from services.health.domain.evidence import ProbeResult

#: Routes of one provider that are asked in one probe, at most.
MOST_ASKED = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A GET that costs nothing. `header` empty: asked without the key, any answer shows that it can be reached."""

    path: str
    header: str = ""
    scheme: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


# Sources: each vendor's API reference, "list models". Perplexity, Vertex and Bedrock have none that takes the key of
# the calls, so they are only tested for reachability.
_REACHABILITY = Endpoint("/")
_MODELS = Endpoint("/models", "authorization", "Bearer ")
_ENDPOINTS = {
    "anthropic": Endpoint("/v1/models?limit=1", "x-api-key", extra={"anthropic-version": "2023-06-01"}),
    "gemini": Endpoint("/v1beta/models?pageSize=1", "x-goog-api-key"),
    "azure_openai": Endpoint("/openai/models?api-version=2024-10-21", "api-key"),
    "cohere": Endpoint("/v1/models?page_size=1", "authorization", "Bearer "),
    "perplexity": _REACHABILITY,
    "vertex": _REACHABILITY,
    "bedrock": _REACHABILITY,
}


def _error_class(status: int) -> ErrorClass | None:
    """Classifies a free endpoint's status; None: no failure. 403 and 400 are none: a key may be good for calls and
    not for listing models."""
    if status in (401, 407):
        return ErrorClass.AUTHENTICATION
    if status in (503, 529):
        return ErrorClass.OVERLOADED
    return ErrorClass.SERVER_ERROR if status >= 500 else None


def _routes(provider: Provider) -> list[Provider]:
    """Returns the providers to ask: of several keys and endpoints each once, MOST_ASKED of them at most."""
    if not provider.routes:
        return [provider]
    endpoints = max(1, len(provider.endpoints))
    keys = len(provider.routes) // endpoints
    # Routes stand key by key, and each key's endpoint by endpoint.
    numbers = range(min(max(keys, endpoints), MOST_ASKED))
    return [provider.routes[number % keys * endpoints + number % endpoints] for number in numbers]


class HttpEndpoints:
    """Sends probes with the provider's own key; the response's body is not read. `timeout` in seconds."""

    def __init__(self, client: httpx.AsyncClient, keys: Keys, clock: Clock, timeout: float = 5.0) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._timeout = timeout

    async def probe(self, provider: Provider) -> ProbeResult:
        """Of several keys and endpoints one that works is enough: others are asked until one does."""
        asked = _routes(provider)
        result = await self._probe(asked[0])
        for route in asked[1:]:
            if result.error is None:
                break
            found = await self._probe(route)
            # A refused key shows at least that the provider can be reached.
            if found.error is None or result.error is not ErrorClass.AUTHENTICATION:
                result = found
        return result

    async def _probe(self, provider: Provider) -> ProbeResult:
        endpoint = _ENDPOINTS.get(provider.kind, _MODELS)
        headers = {"accept": "application/json", **endpoint.extra}
        key = self._keys(provider)
        if key and endpoint.header:
            headers[endpoint.header] = f"{endpoint.scheme}{key}"
        began = self._clock.monotonic()
        error, message = await self._ask(provider.base_url + endpoint.path, headers)
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
