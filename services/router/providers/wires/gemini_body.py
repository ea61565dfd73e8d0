"""The body of a request to Gemini's generateContent. https://ai.google.dev/api/generate-content"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from libs.conversation import File, Image, Message, Reasoning, ReasoningEffort, Refusal, Role, Text
from services.router.providers.wires.fields import Undecodable, decode, drop_unset
from services.router.providers.wires.media import attachments_of, base64_of, media_type
from services.router.providers.wires.request_parts import (
    arguments,
    instructions,
    merge_turns,
    split_thoughts,
    tool_fields,
)
from services.router.providers.wires.schemas import schema
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt

#: Tokens of thought by effort (Google's own mapping in its OpenAI-compatible endpoint), and the levels of Gemini 3.
_BUDGETS = {
    ReasoningEffort.NONE: 0,
    ReasoningEffort.LOW: 1024,
    ReasoningEffort.MEDIUM: 8192,
    ReasoningEffort.HIGH: 24_576,
}
#: The least that every model with a budget takes but none (2.5 Flash-Lite).
_MIN_BUDGET = 512
_LEVELS = {
    ReasoningEffort.NONE: "minimal",
    ReasoningEffort.LOW: "low",
    ReasoningEffort.MEDIUM: "medium",
    ReasoningEffort.HIGH: "high",
}
#: Gemini 3 wants its thoughts' signature back with a tool call; this value says there is none to give.
#: https://ai.google.dev/gemini-api/docs/thought-signatures
_NO_SIGNATURE = "skip_thought_signature_validator"


def gemini_body(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    """Returns the body. Raises ProviderFailure(INVALID_REQUEST)."""
    third = endpoint.model.rpartition("/")[2].startswith("gemini-3")
    levels = third or endpoint.options.get("thinking") == "level"
    return {
        "contents": _contents(prompt, signed=third),
        **_system(prompt),
        **_tools(prompt),
        "generationConfig": {
            **_sampling(prompt),
            **_response_format(prompt),
            **_reasoning(prompt, levels=levels, reasons=endpoint.reasons),
        },
    }


def _contents(prompt: Prompt, *, signed: bool) -> list[dict[str, Any]]:
    turns: list[tuple[str, list[Any]]] = []
    # An id may come again in a later turn, so a result's name is that of the last call before it.
    names: dict[str, str] = {}
    for message in prompt.messages:
        if message.role is Role.SYSTEM:
            continue
        names.update((call.id, call.name) for call in message.tool_calls)
        role = "model" if message.role is Role.ASSISTANT else "user"
        turns.append((role, _parts(message, names, signed=signed)))
    contents = merge_turns(turns, "parts")
    if prompt.prefill:
        contents.append({"role": "model", "parts": [{"text": prompt.prefill}]})
    return contents


def _parts(message: Message, names: Mapping[str, str], *, signed: bool) -> list[dict[str, Any]]:
    """Returns a message's parts. `names`: of the called tools, by the call's id."""
    if message.role is Role.TOOL:
        try:
            answer = decode(message.written)
        except Undecodable:
            answer = message.written
        response = answer if type(answer) is dict else {"result": answer}
        name = names.get(message.tool_call_id, message.tool_call_id)
        shown = [_attachment(part) for part in attachments_of(message)]
        answered = {"name": name, "response": response}
        if shown and signed:
            # https://ai.google.dev/gemini-api/docs/function-calling#multimodal: Gemini 3 sees what a tool shows.
            return [{"functionResponse": {**answered, "parts": shown}}]
        return [{"functionResponse": answered}, *shown]
    loose, bound = split_thoughts(message)
    parts, signature = _signed_thoughts(loose)
    parts += [{"text": message.text}] if message.text else []
    for said in message.parts:
        match said:
            case Text(text) | Refusal(text):
                parts.extend([{"text": text}] if text else [])
            case Image() | File():
                parts.append(_attachment(said))
    if signature and parts and "thoughtSignature" not in parts[-1]:
        parts[-1]["thoughtSignature"] = signature
    elif signature and not message.tool_calls:
        parts.append({"text": "", "thoughtSignature": signature})
    for index, call in enumerate(message.tool_calls):
        shown, signature = _signed_thoughts(bound.get(call.id, ()))
        parts += shown
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments(call)}}
        if signature or (signed and index == 0):
            part["thoughtSignature"] = signature or _NO_SIGNATURE
        parts.append(part)
    return parts


def _signed_thoughts(thoughts: Iterable[Reasoning]) -> tuple[list[dict[str, Any]], str]:
    """Returns the parts of thoughts that are signed themselves, and the signature of the text or the call that
    follows them; empty: it has none. Thoughts without a signature are summaries, which the model does not read."""
    parts: list[dict[str, Any]] = []
    signature = ""
    for thought in thoughts:
        if thought.text and thought.opaque:
            parts.append({"text": thought.text, "thought": True, "thoughtSignature": thought.opaque})
        elif thought.opaque:
            signature = thought.opaque
    return parts, signature


def _attachment(part: Image | File) -> dict[str, Any]:
    """https://ai.google.dev/gemini-api/docs/image-understanding, …/document-processing, …/file-input-methods"""
    if part.url:
        return {"fileData": {"mimeType": media_type(part), "fileUri": part.url}}
    return {"inlineData": {"mimeType": media_type(part), "data": base64_of(part, "Gemini")}}


def _system(prompt: Prompt) -> dict[str, Any]:
    parts = [{"text": text} for text in instructions(prompt.messages)]
    return {"systemInstruction": {"parts": parts}} if parts else {}


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    declarations = [tool_fields(tool, "parametersJsonSchema") for tool in prompt.tools]
    fields: dict[str, Any] = {"tools": [{"functionDeclarations": declarations}]}
    choice = prompt.tool_choice
    if choice:
        mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}.get(choice)
        config = {"mode": mode} if mode else {"mode": "ANY", "allowedFunctionNames": [choice]}
        fields["toolConfig"] = {"functionCallingConfig": config}
    return fields


def _sampling(prompt: Prompt) -> dict[str, Any]:
    return drop_unset(
        maxOutputTokens=prompt.max_output_tokens,
        temperature=prompt.temperature,
        topP=prompt.top_p,
        seed=prompt.seed,
        presencePenalty=prompt.presence_penalty,
        frequencyPenalty=prompt.frequency_penalty,
        stopSequences=list(prompt.stop_sequences) or None,
    )


def _response_format(prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.response_format
    if wanted is None:
        return {}
    fields: dict[str, Any] = {"responseMimeType": "application/json"}
    if wanted.schema_json:
        fields["responseJsonSchema"] = schema(wanted.schema_json)
    return fields


def _reasoning(prompt: Prompt, *, levels: bool, reasons: bool) -> dict[str, Any]:
    effort = prompt.reasoning_effort
    if effort is None:
        shows = prompt.reasoning_summary is not None and reasons
        return {"thinkingConfig": {"includeThoughts": True}} if shows else {}
    # Shown, they cost no more; they are summaries.
    shown = {} if effort is ReasoningEffort.NONE else {"includeThoughts": True}
    if levels:
        return {"thinkingConfig": {"thinkingLevel": _LEVELS[effort], **shown}}
    # Thoughts count against maxOutputTokens.
    budget = min(_BUDGETS[effort], prompt.max_output_tokens // 2)
    if effort is not ReasoningEffort.NONE and budget < _MIN_BUDGET:
        return {}
    return {"thinkingConfig": {"thinkingBudget": budget, **shown}}
