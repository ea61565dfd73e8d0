"""The endpoints of each kind of provider that cost nothing, and the meaning of their statuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.catalog.model import Provider


@dataclass(frozen=True, slots=True)
class FreeEndpoint:
    """A GET that costs nothing. `header` empty: asked without the key, any answer shows that it can be reached.
    `least` and `whole` are the queries for a short list of models and for a long one. `comparable`: the list names
    models as calls do. `by_name`: a GET of the path, a slash and a model's name says whether there is that model,
    and knows aliases that no list has."""

    path: str
    header: str = ""
    scheme: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    least: str = ""
    whole: str = ""
    comparable: bool = True
    by_name: bool = True

    @property
    def lists(self) -> bool:
        """Returns True if it is a list of models."""
        return bool(self.header)

    def headers(self, key: str | None) -> dict[str, str]:
        """Returns the headers, with the key where there is one."""
        headers = {"accept": "application/json", **self.extra}
        if key and self.header:
            headers[self.header] = f"{self.scheme}{key}"
        return headers


# Sources: each vendor's API reference, "list models". Perplexity, Vertex and Bedrock have none that takes the key of
# the calls, so they are only tested for reachability. Calls to Azure name deployments, and its list models; llama.cpp
# serves one model under any name.
_REACHABILITY = FreeEndpoint("/")
_MODELS = FreeEndpoint("/models", "authorization", "Bearer ")
_MODELS_BY_OTHER_NAMES = FreeEndpoint("/models", "authorization", "Bearer ", comparable=False)
_ENDPOINTS = {
    "anthropic": FreeEndpoint(
        "/v1/models",
        "x-api-key",
        extra={"anthropic-version": "2023-06-01"},
        least="?limit=1",
        whole="?limit=1000",
    ),
    "gemini": FreeEndpoint("/v1beta/models", "x-goog-api-key", least="?pageSize=1", whole="?pageSize=1000"),
    "azure_openai": FreeEndpoint(
        "/openai/models",
        "api-key",
        least="?api-version=2024-10-21",
        whole="?api-version=2024-10-21",
        comparable=False,
    ),
    "azure_responses": _MODELS_BY_OTHER_NAMES,
    "azure_ai": _MODELS_BY_OTHER_NAMES,
    "llamacpp": _MODELS_BY_OTHER_NAMES,
    "cohere": FreeEndpoint(
        "/v1/models", "authorization", "Bearer ", least="?page_size=1", whole="?page_size=1000"
    ),
    "ollama_native": FreeEndpoint("/api/tags", "authorization", "Bearer ", by_name=False),
    "perplexity": _REACHABILITY,
    "vertex": _REACHABILITY,
    "bedrock": _REACHABILITY,
    "bedrock_invoke": _REACHABILITY,
}


def free_endpoint(provider: Provider) -> FreeEndpoint:
    """Returns the free endpoint of a provider's kind."""
    return _ENDPOINTS.get(provider.kind, _MODELS)
