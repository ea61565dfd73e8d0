"""The body of a request to Ollama's own chat API. https://github.com/ollama/ollama/blob/main/docs/api.md"""

from __future__ import annotations

from typing import Any

from libs.conversation import File, Message, Reasoning, ReasoningEffort
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.media import attachments_of, base64_of, cannot_carry
from services.router.providers.wires.request_parts import arguments, chat_tools
from services.router.providers.wires.schemas import schema
from services.router.request.generation import Prompt


def ollama_body(prompt: Prompt, model: str, *, stream: bool) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    return {
        "model": model,
        "messages": _messages(prompt),
        "stream": stream,
        "options": _sampling(prompt),
        **_response_format(prompt),
        **_tools(prompt),
        **_reasoning(prompt),
    }


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    messages = [_message(message) for message in prompt.messages]
    if prompt.prefill:
        messages.append({"role": "assistant", "content": prompt.prefill})
    return messages


def _message(message: Message) -> dict[str, Any]:
    item: dict[str, Any] = {"role": message.role.value, "content": message.written}
    thoughts = "".join([part.text for part in message.parts if isinstance(part, Reasoning)])
    if thoughts:
        item["thinking"] = thoughts
    shown = attachments_of(message)
    if any(isinstance(part, File) for part in shown):
        raise cannot_carry("Ollama reads no documents")
    if shown:
        item["images"] = [base64_of(image, "Ollama") for image in shown]
    if message.tool_calls:
        item["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments(call)}} for call in message.tool_calls
        ]
    if message.tool_call_id:
        item["tool_call_id"] = message.tool_call_id
    return item


def _tools(prompt: Prompt) -> dict[str, Any]:
    """Returns the tools on offer: there is no other way to say which may be called, or that none may."""
    choice = prompt.tool_choice
    tools = () if choice == "none" else prompt.tools
    if choice not in ("", "auto", "none", "required"):
        tools = tuple(tool for tool in tools if tool.name == choice)
    return {"tools": chat_tools(tools)} if tools else {}


def _sampling(prompt: Prompt) -> dict[str, Any]:
    return drop_unset(
        num_predict=prompt.max_output_tokens,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        seed=prompt.seed,
        presence_penalty=prompt.presence_penalty,
        frequency_penalty=prompt.frequency_penalty,
        stop=list(prompt.stop_sequences) or None,
    )


def _response_format(prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.response_format
    if wanted is None:
        return {}
    return {"format": schema(wanted.schema_json) if wanted.schema_json else "json"}


def _reasoning(prompt: Prompt) -> dict[str, Any]:
    if prompt.reasoning_effort is None:
        return {}
    return {"think": prompt.reasoning_effort is not ReasoningEffort.NONE}
