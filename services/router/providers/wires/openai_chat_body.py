"""The body of a chat completions request in one dialect. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import ReasoningEffort, ResponseFormat
from services.router.providers.wires.chat_thoughts import lacks_thoughts, put_thoughts_back
from services.router.providers.wires.openai_compatible import Dialect, EffortField
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
        **(_response_format(shape, dialect) if (shape := prompt.response_format) else {}),
        **(_tools(prompt, dialect) if prompt.tools else {}),
        **(_thinking(prompt, dialect) if dialect.thoughtless or prompt.reasoning_effort else {}),
        **({"prompt_cache_key": key} if dialect.cache_key and (key := cache_key(prompt)) else {}),
        **(dialect.extra or {}),
    }


def _thinking(prompt: Prompt, dialect: Dialect) -> Mapping[str, Any]:
    if dialect.thoughtless and _must_not_think(prompt):
        return dialect.thoughtless
    effort = prompt.reasoning_effort
    return {} if effort is None else _reasoning(effort, dialect)


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
    fields: dict[str, Any] = {}
    if prompt.temperature is not None:
        fields["temperature"] = prompt.temperature
    if prompt.top_p is not None:
        fields["top_p"] = prompt.top_p
    if prompt.presence_penalty is not None and dialect.penalties:
        fields["presence_penalty"] = prompt.presence_penalty
    if prompt.frequency_penalty is not None and dialect.penalties:
        fields["frequency_penalty"] = prompt.frequency_penalty
    if prompt.stop_sequences:
        fields["stop"] = prompt.stop_sequences
    if prompt.seed is not None and dialect.seed:
        fields[dialect.seed] = prompt.seed
    return fields


def _response_format(wanted: ResponseFormat, dialect: Dialect) -> dict[str, Any]:
    if not wanted.schema_json or not dialect.json_schema:
        return {"response_format": {"type": "json_object"}}
    return {
        "response_format": {"type": "json_schema", "json_schema": strict_schema(wanted, dialect.not_strict)}
    }


def _tools(prompt: Prompt, dialect: Dialect) -> dict[str, Any]:
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


def _reasoning(effort: ReasoningEffort, dialect: Dialect) -> dict[str, Any]:
    match dialect.reasoning:
        case EffortField.NONE:
            return {}
        case EffortField.EFFORT:
            return {"reasoning_effort": effort.value}
        case EffortField.OBJECT:
            return {"reasoning": {"effort": effort.value}}
    if effort is ReasoningEffort.NONE:
        return {"thinking": {"type": "disabled"}}
    beside = dialect.reasoning is EffortField.SWITCH_AND_EFFORT
    return {"thinking": {"type": "enabled"}, **({"reasoning_effort": effort.value} if beside else {})}
