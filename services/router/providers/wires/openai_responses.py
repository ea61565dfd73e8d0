"""OpenAI's responses API, also spoken by Azure, xAI, OpenRouter, DeepSeek and Bedrock.

It has no stop sequences, seed, penalties or prefill: they are left out, and the catalog must not promise them.
https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libs.conversation import Message, Role
from services.router.providers.wires.azure_openai import azure_headers, azure_resource
from services.router.providers.wires.chat_format import (
    cache_key,
    is_strict,
    json_headers,
    schema,
    tool_fields,
)
from services.router.providers.wires.errors import classify, malformed
from services.router.providers.wires.fields import (
    Undecodable,
    as_dict,
    as_list,
    as_str,
    decode,
    drop_unset,
    encode,
)
from services.router.providers.wires.responses_stream import (
    ResponsesDecoder,
    calls_of,
    finish_of,
    texts_of,
    unfinished_failure,
    usage_of,
)
from services.router.providers.wires.stream import Decoder, needs_content
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure


class OpenAIResponsesWire:
    """The responses API."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        body: dict[str, Any] = {
            "model": endpoint.model,
            "input": _input(prompt.messages),
            "max_output_tokens": prompt.max_output_tokens,
            # Nothing is left with the provider.
            "store": False,
        }
        if stream:
            body["stream"] = True
        body |= drop_unset(temperature=prompt.temperature, top_p=prompt.top_p)
        if prompt.reasoning_effort is not None:
            body["reasoning"] = {"effort": prompt.reasoning_effort.value}
        wanted = prompt.response_format
        if wanted is not None and wanted.schema_json:
            shape = schema(wanted.schema_json)
            named = {
                "type": "json_schema",
                "name": wanted.schema_name,
                "schema": shape,
                "strict": is_strict(shape),
            }
            body["text"] = {"format": named}
        elif wanted is not None:
            body["text"] = {"format": {"type": "json_object"}}
        if prompt.tools:
            body["tools"] = [
                {"type": "function", "strict": False, **tool_fields(tool)} for tool in prompt.tools
            ]
            choice = prompt.tool_choice
            if choice:
                plain = choice in ("auto", "none", "required")
                body["tool_choice"] = choice if plain else {"type": "function", "name": choice}
        if key := cache_key(prompt):
            body["prompt_cache_key"] = key
        return HttpRequest("POST", self._url(endpoint), self._headers(endpoint, stream=stream), encode(body))

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        try:
            data = as_dict(decode(body))
        except Undecodable:
            raise malformed("the answer is not JSON") from None
        usage, output, state = usage_of(data), as_list(data.get("output")), as_str(data.get("status"))
        if data.get("error") and state != "completed":
            raise unfinished_failure(data, usage, state)
        found, texts = calls_of(output), list(texts_of(output))
        answer = "".join(text for text, refused in texts if not refused)
        refusal = "".join(text for text, refused in texts if refused)
        finish = finish_of(data, calls=bool(found), refused=bool(refusal and not answer), usage=usage)
        answer = answer or refusal
        if not answer and not found and needs_content(finish):
            raise malformed(
                "the answer is empty" if "output" in data else "the answer holds no output", usage
            )
        return Completion(answer, finish, usage, found, as_str(data.get("model")))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return ResponsesDecoder(may_be_empty=may_be_empty)

    def _url(self, endpoint: Endpoint) -> str:
        return endpoint.base_url.rstrip("/") + "/responses"

    def _headers(self, endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
        headers = json_headers(stream=stream)
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        return headers


class AzureResponsesWire(OpenAIResponsesWire):
    """The same on Azure; see azure_openai for addresses and keys."""

    def _url(self, endpoint: Endpoint) -> str:
        return f"{azure_resource(endpoint)}/openai/v1/responses"

    def _headers(self, endpoint: Endpoint, *, stream: bool) -> dict[str, str]:
        return azure_headers(endpoint, stream=stream)


def _input(messages: Sequence[Message]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.TOOL:
            items.append(
                {"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}
            )
            continue
        if message.text:
            items.append({"role": message.role.value, "content": message.text})
        items.extend(
            {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments_json or "{}",
            }
            for call in message.tool_calls
        )
    return items
