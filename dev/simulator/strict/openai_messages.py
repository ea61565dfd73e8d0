"""The rules of chat completions' messages at OpenAI: fields, calls and their results, images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.strict import chat
from dev.simulator.strict.rule import Found, Rule, Sent, text

_ISSUES = "https://github.com/"
_CHAT = "https://platform.openai.com/docs/api-reference/chat/create"
_FUNCTIONS = "https://platform.openai.com/docs/guides/function-calling"
_VISION = "https://platform.openai.com/docs/guides/images-vision"
_ID = 40
_IMAGE_BYTES = 50 * 1024 * 1024
_IMAGES = 500


def _unknown_message_field(sent: Sent) -> Found:
    known = {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call"}
    for i, message in enumerate(chat.messages(sent)):
        for name in message:
            # What other vendors call reasoning is read past without a word.
            if name not in known and not name.startswith("reasoning"):
                return {"where": f"messages[{i}].{name}"}
    return None


def _no_message(sent: Sent) -> Found:
    return {} if sent.body.get("messages") == [] else None


def _long_id(sent: Sent) -> Found:
    for i, j, call in chat.calls(sent):
        length = len(text(call.get("id")))
        if length > _ID:
            return {"where": f"messages[{i}].tool_calls[{j}].id", "length": length}
    return None


def _long_answer_id(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        length = len(text(message.get("tool_call_id")))
        if length > _ID:
            return {"where": f"messages[{i}].tool_call_id", "length": length}
    return None


def _no_calls(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        if message.get("tool_calls") == []:
            return {"where": f"messages[{i}].tool_calls"}
    return None


def _no_content(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        if message.get("content") is None and not message.get("tool_calls"):
            return {"i": i}
    return None


def _part_type(sent: Sent) -> Found:
    known = ("text", "image_url", "input_audio", "file", "refusal")
    for i, j, part in chat.parts(sent):
        if part.get("type") not in known:
            return {"where": f"messages[{i}].content[{j}].type", "kind": part.get("type")}
    return None


def _images(sent: Sent) -> Iterator[Mapping[str, Any]]:
    for _, _, part in chat.parts(sent):
        if part.get("type") == "image_url":
            yield part


def _image_type(sent: Sent) -> Found:
    for part in _images(sent):
        found = chat.data_url(part.get("image_url"))
        if found is not None and found[0] not in chat.IMAGE_TYPES:
            return {}
    return None


def _image_size(sent: Sent) -> Found:
    sizes = [found[1] for part in _images(sent) if (found := chat.data_url(part.get("image_url")))]
    return {} if sum(sizes) > _IMAGE_BYTES or len(sizes) > _IMAGES else None


def _image_role(sent: Sent) -> Found:
    roles = {i: message.get("role") for i, message in enumerate(chat.messages(sent))}
    for i, j, part in chat.parts(sent):
        if part.get("type") in ("image_url", "file") and roles[i] != "user":
            return {"where": f"messages[{i}].content[{j}]", "kind": part.get("type"), "role": roles[i]}
    return None


MESSAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "no message",
        _CHAT,
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        _no_message,
        code="empty_array",
        param="messages",
    ),
    Rule(
        "unknown field of a message",
        _CHAT,
        "Unknown parameter: '{where}'.",
        _unknown_message_field,
        code="unknown_parameter",
        param="{where}",
    ),
    Rule(
        "call id's length",
        _ISSUES + "vercel/ai/issues/5171",
        "Invalid '{where}': string too long. Expected a string with maximum length 40, but got a string with length"
        " {length} instead.",
        _long_id,
        code="string_above_max_length",
        param="{where}",
    ),
    Rule(
        "answered call id's length",
        _ISSUES + "vercel/ai/issues/5171",
        "Invalid '{where}': string too long. Expected a string with maximum length 40, but got a string with length"
        " {length} instead.",
        _long_answer_id,
        code="string_above_max_length",
        param="{where}",
    ),
    Rule(
        "empty list of calls",
        _CHAT,
        "Invalid '{where}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        _no_calls,
        code="empty_array",
        param="{where}",
    ),
    Rule(
        "call without result",
        _ISSUES + "aliasrobotics/cai/issues/111",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
        " The following tool_call_ids did not have response messages: {ids}",
        chat.unanswered,
        param="messages.[{i}].role",
    ),
    Rule(
        "result without call",
        _FUNCTIONS,
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
        chat.unasked,
        param="messages.[{i}].role",
    ),
    Rule(
        "no content",
        _CHAT,
        "Invalid value for 'content': expected a string, got null.",
        _no_content,
        param="messages.[{i}].content",
    ),
    Rule(
        "kind of a part",
        _CHAT,
        "Invalid value: '{kind}'. Supported values are: 'text', 'image_url', 'input_audio', 'refusal', 'audio', and"
        " 'file'.",
        _part_type,
        code="invalid_value",
        param="{where}",
    ),
    Rule(
        "image's type",
        _VISION,
        "You uploaded an unsupported image. Please make sure your image has of one the following formats: ['png',"
        " 'jpeg', 'gif', 'webp'].",
        _image_type,
        code="invalid_image_format",
    ),
    Rule(
        "images",
        _VISION,
        "Total image size exceeds the limit of 50 MB or 500 images per request.",
        _image_size,
        code="image_too_large",
    ),
    Rule(
        "image of no user",
        _VISION,
        "Invalid '{where}'. '{kind}' is not supported in messages with the role '{role}'.",
        _image_role,
        code="invalid_value",
        param="{where}",
    ),
)
