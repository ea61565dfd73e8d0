"""DeepSeek: chat completions; prefill exists only under its beta address. https://api-docs.deepseek.com"""

from __future__ import annotations

from services.router.providers.wires.openai_chat import OpenAIChatWire
from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


class DeepSeekWire(OpenAIChatWire):
    """DeepSeek's own API."""

    def __init__(self) -> None:
        super().__init__(Dialect(json_schema=False, seed="", reasoning="", prefill_fields={"prefix": True}))

    def _url(self, prompt: Prompt, endpoint: Endpoint) -> str:
        base = endpoint.base_url.rstrip("/")
        if prompt.prefill and not base.endswith("/beta"):
            base = base.removesuffix("/v1") + "/beta"
        return f"{base}/chat/completions"
