"""The rules of the input of OpenAI's responses API: ids, calls and their results, reasoning, parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator import signatures
from dev.simulator.strict import chat
from dev.simulator.strict.rule import Found, Rule, Sent, objects, text

_ISSUES = "https://github.com/"
_CREATE = "https://platform.openai.com/docs/api-reference/responses/create"
_VISION = "https://platform.openai.com/docs/guides/images-vision"
_ID = re.compile(r"^[a-zA-Z0-9_-]+$")
_PREFIXES = {"function_call": "fc", "reasoning": "rs", "message": "msg", "function_call_output": "fc"}
_LENGTH = 64


def items(sent: Sent) -> list[Mapping[str, Any]]:
    """Returns the items of the input."""
    return objects(sent.body.get("input"))


def kind(item: Mapping[str, Any]) -> str:
    """Returns an item's type; a message may leave it out."""
    return text(item.get("type")) or ("message" if "role" in item else "")


def parts(sent: Sent) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Gives every part of the messages with the places of its message and of itself."""
    for i, item in enumerate(items(sent)):
        for j, part in enumerate(objects(item.get("content")) if kind(item) == "message" else ()):
            yield i, j, part


def _empty_input(sent: Sent) -> Found:
    return {} if sent.body.get("input") in (None, "", []) else None


def _call_id_length(sent: Sent) -> Found:
    for i, item in enumerate(items(sent)):
        for name in ("call_id", "id"):
            length = len(text(item.get(name)))
            if length > _LENGTH:
                return {"where": f"input[{i}].{name}", "length": length}
    return None


def _no_call_id(sent: Sent) -> Found:
    for i, item in enumerate(items(sent)):
        if kind(item) in ("function_call", "function_call_output") and not text(item.get("call_id")):
            return {"where": f"input[{i}].call_id"}
    return None


def _item_id(sent: Sent) -> Found:
    for i, item in enumerate(items(sent)):
        given, prefix = item.get("id"), _PREFIXES.get(kind(item))
        if isinstance(given, str) and prefix and not given.startswith(prefix):
            return {"where": f"input[{i}].id", "id": given, "prefix": prefix}
    return None


def _item_id_characters(sent: Sent) -> Found:
    for i, item in enumerate(items(sent)):
        given = item.get("id")
        if isinstance(given, str) and not _ID.match(given):
            return {"where": f"input[{i}].id", "id": given}
    return None


def _unanswered(sent: Sent) -> Found:
    answered = {text(item.get("call_id")) for item in items(sent) if kind(item) == "function_call_output"}
    for item in items(sent):
        call = text(item.get("call_id"))
        if kind(item) == "function_call" and call not in answered:
            return {"id": call}
    return None


def _unasked(sent: Sent) -> Found:
    asked: set[str] = set()
    for item in items(sent):
        call = text(item.get("call_id"))
        if kind(item) == "function_call":
            asked.add(call)
        elif kind(item) == "function_call_output" and call not in asked:
            return {"id": call}
    return None


def _not_kept(sent: Sent) -> Found:
    """Only with its encrypted content does reasoning stand alone where nothing is stored."""
    if sent.body.get("store") is not False:
        return None
    for item in items(sent):
        kept = text(item.get("encrypted_content"))
        if kind(item) == "item_reference" or (kind(item) == "reasoning" and not kept):
            return {"id": text(item.get("id"))}
    return None


def _bad_encryption(sent: Sent) -> Found:
    for item in items(sent):
        kept = text(item.get("encrypted_content"))
        if kind(item) == "reasoning" and kept and not signatures.is_of("openai", kept):
            short = kept if len(kept) <= 8 else f"{kept[:4]}...{kept[-4:]}"
            return {"short": short}
    return None


def _alone(sent: Sent) -> Found:
    given = items(sent)
    for i, item in enumerate(given):
        following = kind(given[i + 1]) if i + 1 < len(given) else ""
        role = given[i + 1].get("role") if i + 1 < len(given) else ""
        followed = following in ("function_call", "reasoning") or role == "assistant"
        if kind(item) == "reasoning" and not followed:
            return {"id": text(item.get("id"))}
    return None


def _part_kind(sent: Sent) -> Found:
    roles = {i: item.get("role") for i, item in enumerate(items(sent))}
    for i, j, part in parts(sent):
        own = ("output_text", "refusal")
        taken = own if roles[i] == "assistant" else ("input_text", "input_image", "input_file", "input_audio")
        if part.get("type") not in taken:
            listed = "', '".join(taken[:-1]) + "', and '" + taken[-1]
            return {"where": f"input[{i}].content[{j}]", "kind": part.get("type"), "taken": f"'{listed}'"}
    return None


def _arguments(sent: Sent) -> Found:
    for i, item in enumerate(items(sent)):
        if kind(item) == "function_call" and not isinstance(item.get("arguments"), str):
            return {"where": f"input[{i}].arguments"}
    return None


def _image_type(sent: Sent) -> Found:
    for _, _, part in parts(sent):
        found = chat.data_url(part.get("image_url")) if part.get("type") == "input_image" else None
        if found is not None and found[0] not in chat.IMAGE_TYPES:
            return {}
    return None


INPUT_RULES: tuple[Rule, ...] = (
    Rule(
        "empty input",
        _CREATE,
        "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.",
        _empty_input,
        code="missing_required_parameter",
        param="input",
    ),
    Rule(
        "id's length",
        _ISSUES + "AnswerDotAI/fastllm/issues/45",
        "Invalid '{where}': string too long. Expected a string with maximum length 64, but got a string with length"
        " {length} instead.",
        _call_id_length,
        code="string_above_max_length",
        param="{where}",
    ),
    Rule(
        "empty call id",
        _CREATE,
        "Invalid '{where}': empty string. Expected a string with minimum length 1, but got an empty string instead.",
        _no_call_id,
        code="empty_string",
        param="{where}",
    ),
    Rule(
        "id's characters",
        _ISSUES + "earendil-works/pi/issues/1022",
        "Invalid '{where}': '{id}'. Expected an ID that contains letters, numbers, underscores, or dashes, but this"
        " value contained additional characters.",
        _item_id_characters,
        code="invalid_value",
        param="{where}",
    ),
    Rule(
        "id's beginning",
        _ISSUES + "nodetool-ai/nodetool/pull/4252",
        "Invalid '{where}': '{id}'. Expected an ID that begins with '{prefix}'.",
        _item_id,
        code="invalid_value",
        param="{where}",
    ),
    Rule(
        "call without result",
        _ISSUES + "symgraph/GhidrAssist/issues/78",
        "No tool output found for function call {id}.",
        _unanswered,
        param="input",
    ),
    Rule(
        "result without call",
        _ISSUES + "continuedev/continue/issues/10092",
        "No tool call found for function call output with call_id {id}.",
        _unasked,
        param="input",
    ),
    Rule(
        "reasoning that is not kept",
        _ISSUES + "openai/openai-agents-python/issues/919",
        "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store`"
        " set to true, or remove this item from your input.",
        _not_kept,
        status=404,
        param="input",
    ),
    Rule(
        "reasoning of others",
        _ISSUES + "openai/codex/issues/8138",
        "The encrypted content {short} could not be verified.",
        _bad_encryption,
        code="invalid_encrypted_content",
    ),
    Rule(
        "reasoning alone",
        _ISSUES + "continuedev/continue/issues/8933",
        "Item '{id}' of type 'reasoning' was provided without its required following item.",
        _alone,
        param="input",
    ),
    Rule(
        "kind of a part",
        _CREATE,
        "Invalid value: '{kind}'. Supported values are: {taken}.",
        _part_kind,
        code="invalid_value",
        param="{where}",
    ),
    Rule(
        "arguments",
        _CREATE,
        "Invalid type for '{where}': expected a string, but got an object instead.",
        _arguments,
        code="invalid_type",
        param="{where}",
    ),
    Rule(
        "image's type",
        _VISION,
        "The image data you provided does not represent a valid image. Please check your input and try again with one"
        " of the supported image formats: ['image/jpeg', 'image/png', 'image/gif', 'image/webp'].",
        _image_type,
        code="invalid_image_format",
        param="input",
    ),
)
