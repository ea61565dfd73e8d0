"""The chat-completions wire that OpenAI began and most providers speak. Differences are a `Dialect`, not a branch.

Reference: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.router.providers.wires.errors import classify
from services.router.providers.wires.fields import encode
from services.router.providers.wires.openai_chat_answer import OpenAIChatDecoder, read_completion
from services.router.providers.wires.openai_chat_body import openai_chat_body
from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.request_parts import left_out
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.whole_answer import decode_answer
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure


class OpenAIChatWire:
    """Chat completions in one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        rules = self._dialect.rules(endpoint.model)
        valid = make_valid(prompt, rules, endpoint.max_output_tokens, prefill=endpoint.prefill)
        body = openai_chat_body(valid.prompt, endpoint, self._dialect, stream=stream)
        headers = self._dialect.headers(endpoint, stream=stream)
        url = self._dialect.url(valid.prompt, endpoint)
        ignored = self._ignored(prompt, body) if valid.has_options else ()
        return HttpRequest("POST", url, headers, encode(body), valid.inverse, ignored)

    def _ignored(self, prompt: Prompt, body: Mapping[str, Any]) -> tuple[str, ...]:
        dialect = self._dialect
        # It must not think now, whatever was asked for.
        silenced = dialect.thoughtless is not None and body.get("thinking") == dialect.thoughtless["thinking"]
        return left_out(
            prompt,
            seed=dialect.seed,
            presence_penalty=dialect.penalties,
            frequency_penalty=dialect.penalties,
            reasoning_effort=dialect.reasoning and not silenced,
            # Shown wherever such a vendor thinks.
            reasoning_summary="thinking" in body and not silenced,
        )

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        return read_completion(decode_answer(body), self._dialect)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return OpenAIChatDecoder(self._dialect, may_be_empty=may_be_empty)
