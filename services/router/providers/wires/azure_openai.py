"""Azure OpenAI and Azure AI Foundry: chat completions at addresses of their own, with a key header.

`base_url` is the resource (`https://<resource>.openai.azure.com`), with or without `/openai` or `/openai/v1`.
Options: `api_version` (set: the deployment's own path with that version; unset: the `/openai/v1` path, which
needs none), `auth` = "bearer" where the key is an Entra ID token.
https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

from urllib.parse import quote

from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.request_parts import json_headers
from services.router.providers.wires.validity.rules import openai_rules
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


def azure_headers(endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
    """Returns the headers of a request to Azure."""
    headers = json_headers(stream=stream)
    if endpoint.options.get("auth") == "bearer":
        headers["authorization"] = f"Bearer {endpoint.api_key}"
    elif endpoint.api_key:
        headers["api-key"] = endpoint.api_key
    return headers


def azure_responses_url(endpoint: Endpoint) -> str:
    """Returns the address of the responses API, which is the same wire as OpenAI's."""
    return f"{_resource(endpoint)}/openai/v1/responses"


def _resource(endpoint: Endpoint) -> str:
    """Returns the resource's address without the API's path."""
    return endpoint.base_url.rstrip("/").removesuffix("/v1").removesuffix("/openai").rstrip("/")


def _deployment_url(prompt: Prompt, endpoint: Endpoint) -> str:
    version = endpoint.options.get("api_version", "")
    if not version:
        return f"{_resource(endpoint)}/openai/v1/chat/completions"
    deployment = f"{_resource(endpoint)}/openai/deployments/{quote(endpoint.model, safe='')}"
    return f"{deployment}/chat/completions?api-version={quote(version)}"


def _inference_url(prompt: Prompt, endpoint: Endpoint) -> str:
    base = endpoint.base_url.rstrip("/").removesuffix("/models")
    version = endpoint.options.get("api_version") or "2024-05-01-preview"
    return f"{base}/models/chat/completions?api-version={quote(version)}"


#: Deployments of Azure OpenAI; `model` is the deployment's name.
AZURE_OPENAI = Dialect(
    max_tokens="max_completion_tokens", url=_deployment_url, headers=azure_headers, rules=openai_rules
)
#: The model inference endpoint of Azure AI Foundry (`https://<resource>.services.ai.azure.com`), all vendors.
AZURE_AI = Dialect(url=_inference_url, headers=azure_headers)
