"""The body of a chat completions request in one dialect. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from typing import Any

from services.router.providers.wires.chat_thoughts import lacks_thoughts, put_thoughts_back
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.request_parts import cache_key, chat_messages, chat_tools
from services.router.providers.wires.schemas import strict_schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


def openai_chat_body(prompt: Prompt, endpoint: Endpoint, dialect: Dialect, *, stream: bool) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    max_tokens = endpoint.options.get("max_tokens_field") or dialect.max_tokens
    return {
        "model": endpoint.model,
        "messages": _messages(prompt, dialect),
        max_tokens: prompt.max_output_tokens,
        **(_stream(dialect) if stream else {}),
        **((dialect.prefill_body or {}) if prompt.prefill else {}),
        **_sampling(prompt, dialect),
        **_response_format(prompt, dialect),
        **_tools(prompt, dialect),
        **_reasoning(prompt, dialect),
        **({"prompt_cache_key": key} if dialect.cache_key and (key := cache_key(prompt)) else {}),
        **(dialect.thoughtless if dialect.thoughtless and _must_not_think(prompt) else {}),
        **(dialect.extra or {}),
    }


def _must_not_think(prompt: Prompt) -> bool:
    """Returns True where a vendor that thinks by itself refuses to: its thoughts are not at hand, or a call is
    demanded."""
    forced = prompt.tool_choice not in ("", "auto", "none")
    return forced or lacks_thoughts(prompt.messages)


def _stream(dialect: Dialect) -> dict[str, Any]:
    options = {"stream_options": {"include_usage": True}} if dialect.stream_options else {}
    return {"stream": True, **options}


def _messages(prompt: Prompt, dialect: Dialect) -> list[dict[str, Any]]:
    messages = chat_messages(prompt.messages, dialect.file, tools_show=dialect.tools_show)
    required = dialect.thoughtless is not None
    # Most conversations hold no thoughts.
    if required or any(message.parts for message in prompt.messages):
        put_thoughts_back(messages, prompt.messages, dialect.thoughts, required=required)
    if prompt.prefill:
        messages.append({"role": "assistant", "content": prompt.prefill, **(dialect.prefill_fields or {})})
    return messages


def _sampling(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    fields = drop_unset(
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        presence_penalty=prompt.presence_penalty if dialect.penalties else None,
        frequency_penalty=prompt.frequency_penalty if dialect.penalties else None,
        stop=list(prompt.stop_sequences) or None,
    )
    if prompt.seed is not None and dialect.seed:
        fields[dialect.seed] = prompt.seed
    return fields


def _response_format(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    wanted = prompt.response_format
    if wanted is None:
        return {}
    if not wanted.schema_json or not dialect.json_schema:
        return {"response_format": {"type": "json_object"}}
    return {
        "response_format": {"type": "json_schema", "json_schema": strict_schema(wanted, dialect.not_strict)}
    }


def _tools(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    fields: dict[str, Any] = {"tools": chat_tools(prompt.tools)}
    if dialect.one_call and prompt.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = prompt.parallel_tool_calls
    choice = prompt.tool_choice
    if choice in ("auto", "none"):
        fields["tool_choice"] = choice
    elif choice == "required" or (choice and not dialect.named_tool):
        fields["tool_choice"] = dialect.required
    elif choice:
        fields["tool_choice"] = {"type": "function", "function": {"name": choice}}
    return fields


def _reasoning(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
    effort = prompt.reasoning_effort
    if effort is None or not dialect.reasoning:
        return {}
    if dialect.reasoning == "effort":
        return {"reasoning_effort": effort.value}
    return {"reasoning": {"effort": effort.value}}
