"""The body of a request to Anthropic's messages API, as Bedrock's InvokeModel takes it too.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from libs.conversation import File, Image, Message, Reasoning, ReasoningEffort, Refusal, Role, Text
from services.router.providers.wires.media import attachments_of, base64_of, media_type
from services.router.providers.wires.request_parts import (
    CACHEABLE_CHARACTERS,
    JSON_ONLY,
    arguments,
    instructions,
    left_out,
    speakers_turns,
    split_thoughts,
    thinking_tokens,
    tool_fields,
)
from services.router.providers.wires.schemas import schema
from services.router.request.generation import Prompt

_MIN_THINKING_TOKENS = 1024
#: The name of a model, its version, and of one that has none. A date is no part of a version.
_CLAUDE = re.compile(r"claude-(?:[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)|mythos)")
#: The first version that thinks as much as an effort is worth; later ones refuse a budget of tokens.
_FIRST_ADAPTIVE = (4, 6)


def anthropic_body(prompt: Prompt, model: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Returns the body without model and stream. Raises ProviderFailure(INVALID_REQUEST)."""
    effort = adaptive_effort(prompt, model, options)
    thinking = claude_thinking(prompt, effort)
    return {
        "max_tokens": prompt.max_output_tokens,
        **_output_config(prompt, effort),
        **_system(prompt, options),
        "messages": _messages(prompt),
        **_tools(prompt),
        **thinking,
        **_sampling(prompt, thinks=bool(thinking)),
    }


def anthropic_ignored(prompt: Prompt, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the options of the prompt that its body does not say."""
    thinks = "thinking" in body
    said = thinks or "effort" in body.get("output_config", ())
    return left_out(
        prompt,
        temperature="temperature" in body,
        top_p="top_p" in body,
        seed=False,
        presence_penalty=False,
        frequency_penalty=False,
        reasoning_effort=said,
        # It shows summaries wherever it thinks.
        reasoning_summary=thinks,
    )


@lru_cache(1024)
def _is_adaptive(model: str) -> bool:
    """Returns True if a Claude model takes an effort instead of a budget of tokens.
    https://docs.claude.com/en/docs/build-with-claude/adaptive-thinking"""
    found = _CLAUDE.search(model)
    if found is None:
        return False
    major, minor = found.groups()
    return major is None or (int(major), int(minor or 0)) >= _FIRST_ADAPTIVE


def adaptive_effort(prompt: Prompt, model: str, options: Mapping[str, str]) -> ReasoningEffort | None:
    """Returns the effort for a Claude model that takes one instead of a budget; None for others, and for no
    thinking."""
    effort = prompt.reasoning_effort
    if effort is None or effort is ReasoningEffort.NONE:
        return None
    thinking = options.get("thinking")
    adaptive = thinking == "adaptive" or (not thinking and _is_adaptive(model))
    return effort if adaptive else None


def claude_thinking(prompt: Prompt, effort: ReasoningEffort | None) -> dict[str, Any]:
    """Returns the field that asks a Claude model to think. `effort`: instead of a budget."""
    if effort is not None:
        # Not every platform of a model allows it with a forced tool.
        return {} if _is_forced(prompt) else {"thinking": {"type": "adaptive"}}
    budget = _thinking_budget(prompt)
    return {} if budget is None else {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _is_forced(prompt: Prompt) -> bool:
    return prompt.tool_choice not in ("", "auto", "none")


def _thinking_budget(prompt: Prompt) -> int | None:
    """Returns the tokens that a Claude model may think for; None where it must not or is not asked to."""
    effort = prompt.reasoning_effort
    if effort is None or effort is ReasoningEffort.NONE:
        return None
    budget = thinking_tokens(effort, prompt.max_output_tokens)
    # Not allowed: with prefill, with a forced tool, and where a turn goes on after calls without thoughts.
    # https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking#extended-thinking-with-tool-use
    if budget < _MIN_THINKING_TOKENS or prompt.prefill or _is_forced(prompt):
        return None
    if _goes_on_thoughtless(prompt.messages):
        return None
    return budget


def _goes_on_thoughtless(messages: Sequence[Message]) -> bool:
    """Returns True if a call of the turn that goes on has no signed thoughts with it. A user who speaks right after
    results ends no turn: both become one message."""
    answered = False
    for message in reversed(messages):
        if message.role is Role.TOOL:
            answered = True
        elif message.role is Role.ASSISTANT:
            if not answered:
                return False
            if not any(isinstance(part, Reasoning) and bool(part.opaque) for part in message.parts):
                return True
            answered = False
    return False


def _output_config(prompt: Prompt, effort: ReasoningEffort | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    wanted = prompt.response_format
    if wanted is not None and wanted.schema_json:
        config["format"] = {"type": "json_schema", "schema": schema(wanted.schema_json)}
    if effort is not None:
        config["effort"] = effort.value
    return {"output_config": config} if config else {}


def _system(prompt: Prompt, options: Mapping[str, str]) -> dict[str, Any]:
    texts = instructions(prompt.messages)
    if prompt.response_format is not None and not prompt.response_format.schema_json:
        texts.append(JSON_ONLY)
    if not texts:
        return {}
    text = "\n\n".join(texts)
    block: dict[str, Any] = {"type": "text", "text": text}
    if len(text) >= CACHEABLE_CHARACTERS and options.get("prompt_cache") != "off":
        block["cache_control"] = {"type": "ephemeral"}
    return {"system": [block]}


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    return speakers_turns(prompt, _blocks, lambda text: {"type": "text", "text": text})


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        content = _content(message) if attachments_of(message) else message.written
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}]
    loose, bound = split_thoughts(message)
    blocks = [*_thinking_blocks(loose), *_content(message)]
    for call in message.tool_calls:
        blocks += _thinking_blocks(bound.get(call.id, ()))
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments(call)})
    return blocks


def _thinking_blocks(thoughts: Iterable[Reasoning]) -> list[dict[str, Any]]:
    """Returns the blocks of thoughts, exactly as they came; those without a signature are refused."""
    return [
        {"type": "redacted_thinking", "data": thought.opaque}
        if thought.redacted
        else {"type": "thinking", "thinking": thought.text, "signature": thought.opaque}
        for thought in thoughts
        if thought.opaque
    ]


def _content(message: Message) -> list[dict[str, Any]]:
    if not message.parts:
        # Refused: an empty text.
        return [{"type": "text", "text": message.text}] if message.text else []
    blocks: list[dict[str, Any]] = []
    for part in message.content:
        match part:
            case Text(text) | Refusal(text):
                blocks.extend([{"type": "text", "text": text}] if text else [])
            case Image():
                blocks.append({"type": "image", "source": _source(part)})
            case File():
                title = {"title": part.name} if part.name else {}
                blocks.append({"type": "document", "source": _source(part), **title})
    return blocks


def _source(part: Image | File) -> dict[str, Any]:
    """https://docs.anthropic.com/en/docs/build-with-claude/vision, …/pdf-support"""
    if part.url:
        return {"type": "url", "url": part.url}
    data = base64_of(part, "Anthropic")
    return {"type": "base64", "media_type": media_type(part), "data": data}


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    tools = [tool_fields(tool, "input_schema") for tool in prompt.tools]
    one = prompt.parallel_tool_calls is False
    choice = prompt.tool_choice or ("auto" if one else "")
    if not choice:
        return {"tools": tools}
    plain = {"auto": "auto", "none": "none", "required": "any"}.get(choice)
    wanted: dict[str, Any] = {"type": plain} if plain else {"type": "tool", "name": choice}
    if one and choice != "none":
        wanted["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": wanted}


def _sampling(prompt: Prompt, *, thinks: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if prompt.stop_sequences:
        fields["stop_sequences"] = list(prompt.stop_sequences)
    # Thinking allows no sampling parameters, and newer models not both of them at once.
    if not thinks and prompt.temperature is not None:
        fields["temperature"] = min(prompt.temperature, 1.0)
    elif not thinks and prompt.top_p is not None:
        fields["top_p"] = prompt.top_p
    return fields
