"""The body of a request to Bedrock's Converse API.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Message, ReasoningEffort, Role, Tool
from services.router.providers.wires.anthropic_body import thinking_budget
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.request_parts import (
    CACHEABLE_CHARACTERS,
    JSON_ONLY,
    arguments,
    instructions,
    merge_turns,
)
from services.router.providers.wires.schemas import parameters_schema, schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


def bedrock_body(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    reasoning = _reasoning(prompt, endpoint.model)
    return {
        "messages": _messages(prompt),
        **_system(prompt, endpoint.options),
        "inferenceConfig": _sampling(prompt, thinks="thinking" in reasoning),
        **_response_format(prompt),
        **_tools(prompt),
        **({"additionalModelRequestFields": reasoning} if reasoning else {}),
    }


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    turns = merge_turns(
        ("assistant" if message.role is Role.ASSISTANT else "user", _blocks(message))
        for message in prompt.messages
        if message.role is not Role.SYSTEM
    )
    # Refused: a prefill that ends in white space.
    prefill = prompt.prefill.rstrip()
    if prefill:
        turns.append({"role": "assistant", "content": [{"text": prefill}]})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        result = {"toolUseId": message.tool_call_id, "content": [{"text": message.written or " "}]}
        return [{"toolResult": result}]
    blocks: list[dict[str, Any]] = [{"text": message.written}] if message.written else []
    blocks.extend(
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments(call)}}
        for call in message.tool_calls
    )
    return blocks


def _system(prompt: Prompt, options: Mapping[str, str]) -> dict[str, Any]:
    texts = instructions(prompt.messages)
    blocks: list[dict[str, Any]] = [{"text": text} for text in texts]
    if sum(map(len, texts)) >= CACHEABLE_CHARACTERS and options.get("prompt_cache") == "on":
        blocks.append({"cachePoint": {"type": "default"}})
    if prompt.response_format is not None and not prompt.response_format.schema_json:
        blocks.append({"text": JSON_ONLY})
    return {"system": blocks} if blocks else {}


def _sampling(prompt: Prompt, *, thinks: bool) -> dict[str, Any]:
    # Thinking allows no sampling parameters.
    return drop_unset(
        maxTokens=prompt.max_output_tokens,
        temperature=None if thinks else prompt.temperature,
        topP=None if thinks else prompt.top_p,
        stopSequences=list(prompt.stop_sequences) or None,
    )


def _response_format(prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.response_format
    if wanted is None or not wanted.schema_json:
        return {}
    # The schema is sent as text, which must be JSON nevertheless.
    schema(wanted.schema_json)
    shape = {"jsonSchema": {"schema": wanted.schema_json, "name": wanted.schema_name}}
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": shape}}}


def _tools(prompt: Prompt) -> dict[str, Any]:
    choice = prompt.tool_choice
    # There is no choice "none", but where no call was made before the tools can be left out.
    if not prompt.tools or (choice == "none" and not any(m.tool_calls for m in prompt.messages)):
        return {}
    config: dict[str, Any] = {"tools": [_tool(tool) for tool in prompt.tools]}
    if choice not in ("", "none"):
        plain = {"auto": "auto", "required": "any"}.get(choice)
        config["toolChoice"] = {plain: {}} if plain else {"tool": {"name": choice}}
    return {"toolConfig": config}


def _tool(tool: Tool) -> dict[str, Any]:
    spec = {"name": tool.name, "inputSchema": {"json": parameters_schema(tool)}}
    return {"toolSpec": {**spec, "description": tool.description} if tool.description else spec}


def _reasoning(prompt: Prompt, model: str) -> dict[str, Any]:
    """Returns the model vendor's own fields."""
    effort = prompt.reasoning_effort
    if effort is None or effort is ReasoningEffort.NONE:
        return {}
    if "openai." in model:
        return {"reasoning_effort": effort.value}
    budget = thinking_budget(prompt) if "anthropic." in model else None
    return {} if budget is None else {"thinking": {"type": "enabled", "budget_tokens": budget}}
