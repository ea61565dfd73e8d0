"""The body of a request to OpenAI's responses API. https://platform.openai.com/docs/api-reference/responses

It has no stop sequences, seed, penalties or prefill: they are left out, and the catalog must not promise them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libs.conversation import Message, Role
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.request_parts import cache_key, tool_fields
from services.router.providers.wires.schemas import strict_schema
from services.router.request.generation import Prompt


def responses_body(prompt: Prompt, model: str, *, stream: bool) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    return {
        "model": model,
        "input": _input(prompt.messages),
        # Nothing is left with the provider.
        "store": False,
        **({"stream": True} if stream else {}),
        **_sampling(prompt),
        **_reasoning(prompt),
        **_response_format(prompt),
        **_tools(prompt),
        **({"prompt_cache_key": key} if (key := cache_key(prompt)) else {}),
    }


def _input(messages: Sequence[Message]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.TOOL:
            items.append(
                {"type": "function_call_output", "call_id": message.tool_call_id, "output": message.written}
            )
            continue
        if message.written:
            items.append({"role": message.role.value, "content": message.written})
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


def _sampling(prompt: Prompt) -> dict[str, Any]:
    return drop_unset(
        max_output_tokens=prompt.max_output_tokens, temperature=prompt.temperature, top_p=prompt.top_p
    )


def _reasoning(prompt: Prompt) -> dict[str, Any]:
    effort = prompt.reasoning_effort
    return {} if effort is None else {"reasoning": {"effort": effort.value}}


def _response_format(prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.response_format
    if wanted is None:
        return {}
    if not wanted.schema_json:
        return {"text": {"format": {"type": "json_object"}}}
    return {"text": {"format": {"type": "json_schema", **strict_schema(wanted)}}}


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    tools = [{"type": "function", "strict": False, **tool_fields(tool)} for tool in prompt.tools]
    choice = prompt.tool_choice
    if not choice:
        return {"tools": tools}
    plain = choice in ("auto", "none", "required")
    return {"tools": tools, "tool_choice": choice if plain else {"type": "function", "name": choice}}
