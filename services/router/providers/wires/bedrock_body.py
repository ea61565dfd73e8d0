"""The body of a request to Bedrock's Converse API.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from libs.conversation import File, Image, Message, Reasoning, ReasoningEffort, Refusal, Role, Text, Tool
from services.router.providers.wires.anthropic_body import adaptive_effort, claude_thinking
from services.router.providers.wires.fields import drop_unset
from services.router.providers.wires.media import base64_of, file_name, media_type
from services.router.providers.wires.request_parts import (
    CACHEABLE_CHARACTERS,
    JSON_ONLY,
    arguments,
    instructions,
    left_out,
    speakers_turns,
    split_thoughts,
)
from services.router.providers.wires.schemas import parameters_schema, schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt

#: Characters that a document's name may not have.
_NO_NAME = re.compile(r"[^a-zA-Z0-9()\[\] -]")


def bedrock_body(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    reasoning = _reasoning(prompt, endpoint)
    return {
        "messages": _messages(prompt),
        **_system(prompt, endpoint.options),
        "inferenceConfig": _sampling(prompt, thinks="thinking" in reasoning),
        **_response_format(prompt),
        **_tools(prompt),
        **({"additionalModelRequestFields": reasoning} if reasoning else {}),
    }


def bedrock_ignored(prompt: Prompt, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the options of the prompt that its body does not say."""
    sampling, of_model = body["inferenceConfig"], body.get("additionalModelRequestFields", {})
    return left_out(
        prompt,
        temperature="temperature" in sampling,
        top_p="topP" in sampling,
        seed=False,
        presence_penalty=False,
        frequency_penalty=False,
        reasoning_effort=of_model,
        # Models show what they think wherever they think.
        reasoning_summary="thinking" in of_model or "reasoning_effort" in of_model,
    )


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    return speakers_turns(prompt, _blocks, lambda text: {"text": text})


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        content = _content(message) or [{"text": " "}]
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": content}}]
    loose, bound = split_thoughts(message)
    blocks = [*_thinking_blocks(loose), *_content(message)]
    if any("document" in block for block in blocks) and not message.written:
        # Refused: a document without a word.
        blocks.append({"text": "See the document."})
    for call in message.tool_calls:
        blocks += _thinking_blocks(bound.get(call.id, ()))
        blocks.append({"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments(call)}})
    return blocks


def _thinking_blocks(thoughts: Iterable[Reasoning]) -> list[dict[str, Any]]:
    """Returns the blocks of signed thoughts; models that sign none do not read them."""
    return [
        {"reasoningContent": {"redactedContent": thought.opaque}}
        if thought.redacted
        else {"reasoningContent": {"reasoningText": {"text": thought.text, "signature": thought.opaque}}}
        for thought in thoughts
        if thought.opaque
    ]


def _content(message: Message) -> list[dict[str, Any]]:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html"""
    if not message.parts:
        return [{"text": message.text}] if message.text else []
    blocks: list[dict[str, Any]] = []
    for index, part in enumerate(message.content):
        match part:
            case Text(text) | Refusal(text):
                blocks.extend([{"text": text}] if text else [])
            case Image():
                blocks.append({"image": _source(part, media_type(part).removeprefix("image/"))})
            case File():
                # Two of one name are refused, and so is most punctuation.
                name = " ".join(_NO_NAME.sub(" ", file_name(part)[:180]).split())
                blocks.append({"document": {"name": f"{name} {index + 1}", **_source(part, "pdf")}})
    return blocks


def _source(part: Image | File, kind: str) -> dict[str, Any]:
    return {"format": kind, "source": {"bytes": base64_of(part, "Bedrock")}}


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


def _reasoning(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    """Returns the model vendor's own fields."""
    effort, model = prompt.reasoning_effort, endpoint.model
    if effort is None or effort is ReasoningEffort.NONE:
        return {}
    if "openai." in model:
        return {"reasoning_effort": effort.value}
    if "anthropic." not in model:
        return {}
    adaptive = adaptive_effort(prompt, model, endpoint.options)
    config = {} if adaptive is None else {"output_config": {"effort": adaptive.value}}
    return {**claude_thinking(prompt, adaptive), **config}
