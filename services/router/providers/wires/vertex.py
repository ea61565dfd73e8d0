"""Gemini on Vertex AI: the wire of `gemini` at a project's own address with an OAuth token.

Options: `project` (required), `region` (else read from the address, else "global"),
`auth` = "api_key" for express mode.
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference
"""

from __future__ import annotations

import re
from urllib.parse import quote

from services.router.providers.wires.gemini import gemini_key
from services.router.providers.wires.wire import Endpoint

_REGION = re.compile(r"https?://([a-z0-9-]+)-aiplatform\.")


def vertex_address(endpoint: Endpoint) -> str:
    """Returns the address above the models in the project and region."""
    found = _REGION.match(endpoint.base_url)
    region = endpoint.options.get("region") or (found.group(1) if found else "global")
    # The global location has the host without a prefix.
    base = (endpoint.base_url or "https://aiplatform.googleapis.com").rstrip("/")
    base = base.replace("://global-aiplatform.", "://aiplatform.").replace(
        "://-aiplatform.", "://aiplatform."
    )
    if not base.endswith(("/v1", "/v1beta1")):
        base += "/v1"
    project = quote(endpoint.options.get("project", ""), safe="")
    return f"{base}/projects/{project}/locations/{quote(region, safe='')}/publishers/google"


def vertex_key(endpoint: Endpoint) -> dict[str, str]:
    """Returns the header with the access token, or the API key in express mode."""
    if endpoint.options.get("auth") == "api_key":
        return gemini_key(endpoint)
    return {"authorization": f"Bearer {endpoint.api_key}"}
