"""The body of a request to Cohere's chat, version 2. https://docs.cohere.com/reference/chat"""

from __future__ import annotations

from typing import Any

from libs.conversation import Reasoning, ReasoningEffort
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.request_parts import chat_messages, chat_tools, thinking_tokens
from services.router.providers.wires.schemas import schema
from services.router.request.generation import Prompt

#: Names the thoughts that Cohere calls the plan of the tools' use.
PLAN = "tool_plan"


def cohere_body(prompt: Prompt, model: str, *, stream: bool) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    return {
        "model": model,
        "messages": _messages(prompt),
        "stream": stream,
        **_sampling(prompt),
        **_response_format(prompt),
        **_tools(prompt),
        **_reasoning(prompt),
    }


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    messages = [drop_unset(**item) for item in chat_messages(prompt.messages)]
    calling = [message for message in prompt.messages if message.tool_calls]
    for item, message in zip([item for item in messages if "tool_calls" in item], calling, strict=True):
        # The plan and the thoughts from which a turn goes on after its calls.
        thoughts = [part for part in message.parts if isinstance(part, Reasoning)]
        if plan := "".join(thought.text for thought in thoughts if thought.id == PLAN):
            item["tool_plan"] = plan
        if text := "".join(thought.text for thought in thoughts if thought.id != PLAN):
            spoken = [{"type": "text", "text": message.written}] if message.written else []
            item["content"] = [{"type": "thinking", "thinking": text}, *spoken]
    if prompt.prefill:
        messages.append({"role": "assistant", "content": prompt.prefill})
    return messages


def _sampling(prompt: Prompt) -> dict[str, Any]:
    return drop_unset(
        max_tokens=prompt.max_output_tokens,
        temperature=prompt.temperature,
        p=prompt.top_p,
        seed=prompt.seed,
        presence_penalty=prompt.presence_penalty,
        frequency_penalty=prompt.frequency_penalty,
        stop_sequences=list(prompt.stop_sequences) or None,
    )


def _response_format(prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.response_format
    if wanted is None:
        return {}
    shape: dict[str, Any] = {"type": "json_object"}
    if wanted.schema_json:
        shape["json_schema"] = schema(wanted.schema_json)
    return {"response_format": shape}


def _tools(prompt: Prompt) -> dict[str, Any]:
    tools, choice = prompt.tools, prompt.tool_choice
    if not tools:
        return {}
    if choice not in ("", "auto", "none", "required"):
        # No tool can be demanded by name, but it can be the only one.
        tools = tuple(tool for tool in tools if tool.name == choice) or tools
    fields: dict[str, Any] = {"tools": chat_tools(tools)}
    if choice not in ("", "auto"):
        fields["tool_choice"] = "NONE" if choice == "none" else "REQUIRED"
    return fields


def _reasoning(prompt: Prompt) -> dict[str, Any]:
    effort = prompt.reasoning_effort
    if effort is None:
        return {}
    if effort is ReasoningEffort.NONE:
        return {"thinking": {"type": "disabled"}}
    # Thoughts count against max_tokens.
    budget = max(1, thinking_tokens(effort, prompt.max_output_tokens))
    return {"thinking": {"type": "enabled", "token_budget": budget}}
