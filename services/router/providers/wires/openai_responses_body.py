"""The body of a request to OpenAI's responses API. https://platform.openai.com/docs/api-reference/responses

It has no stop sequences, seed, penalties or prefill: they are left out, and the catalog must not promise them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from libs.conversation import File, Image, Message, Reasoning, Refusal, Role, Text
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.media import address_of, attachments_of, file_name
from services.router.providers.wires.request_parts import cache_key, split_thoughts, tool_fields
from services.router.providers.wires.schemas import strict_schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


def responses_body(prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    return {
        "model": endpoint.model,
        "input": _input(prompt.messages),
        # Nothing is left with the provider.
        "store": False,
        # So thoughts must come along to be sent back. Other models refuse the wish.
        **({"include": ["reasoning.encrypted_content"]} if endpoint.reasons else {}),
        **({"stream": True} if stream else {}),
        **_sampling(prompt),
        **_reasoning(prompt, reasons=endpoint.reasons),
        **_response_format(prompt),
        **_tools(prompt),
        **({"prompt_cache_key": key} if (key := cache_key(prompt)) else {}),
    }


def _input(messages: Sequence[Message]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.TOOL:
            output = {"type": "function_call_output", "call_id": message.tool_call_id}
            items.append({**output, "output": _content(message)})
            continue
        loose, bound = split_thoughts(message)
        content = _content(message)
        if content or message.tool_calls:
            items += _thoughts(loose)
        if content:
            items.append({"role": message.role.value, "content": content})
        for call in message.tool_calls:
            items += _thoughts(bound.get(call.id, ()))
            items.append(
                {
                    "type": "function_call",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": call.arguments_json or "{}",
                }
            )
    return items


def _thoughts(thoughts: Iterable[Reasoning]) -> list[dict[str, Any]]:
    """Returns the items of thoughts, each of which must stand before what followed it. Nothing is stored, so only
    those that are encrypted or open can go back.

    https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items
    """
    items: list[dict[str, Any]] = []
    for thought in thoughts:
        if not thought.opaque and (thought.summary or not thought.text):
            continue
        item: dict[str, Any] = {"type": "reasoning", "summary": []}
        if thought.id:
            item["id"] = thought.id
        if thought.text and thought.summary:
            item["summary"] = [{"type": "summary_text", "text": thought.text}]
        elif thought.text:
            item["content"] = [{"type": "reasoning_text", "text": thought.text}]
        if thought.opaque:
            item["encrypted_content"] = thought.opaque
        items.append(item)
    return items


def _content(message: Message) -> str | list[dict[str, Any]]:
    """Returns the text, or the parts where there is more. https://platform.openai.com/docs/guides/images-vision,
    …/pdf-files"""
    if not attachments_of(message):
        return message.written
    parts: list[dict[str, Any]] = []
    for part in message.content:
        match part:
            case Text(text) | Refusal(text):
                parts.extend([{"type": "input_text", "text": text}] if text else [])
            case Image():
                detail = part.detail.value if part.detail else "auto"
                parts.append({"type": "input_image", "image_url": address_of(part), "detail": detail})
            case File(url=url) if url:
                parts.append({"type": "input_file", "file_url": url})
            case File():
                name = file_name(part)
                parts.append({"type": "input_file", "filename": name, "file_data": address_of(part)})
    return parts


def _sampling(prompt: Prompt) -> dict[str, Any]:
    return drop_unset(
        max_output_tokens=prompt.max_output_tokens, temperature=prompt.temperature, top_p=prompt.top_p
    )


def _reasoning(prompt: Prompt, *, reasons: bool) -> dict[str, Any]:
    # Other models refuse the wish.
    summary = prompt.reasoning_summary if reasons else None
    wanted = drop_unset(effort=prompt.reasoning_effort, summary=summary)
    return {"reasoning": wanted} if wanted else {}


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
    fields: dict[str, Any] = {"tools": tools}
    choice = prompt.tool_choice
    if choice:
        plain = choice in ("auto", "none", "required")
        fields["tool_choice"] = choice if plain else {"type": "function", "name": choice}
    if prompt.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = prompt.parallel_tool_calls
    return fields
