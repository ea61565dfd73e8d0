"""Amazon Bedrock's rules of Converse's messages: turns, calls and their results, thinking, images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from dev.simulator import signatures
from dev.simulator.strict.rule import Found, Rule, Sent, object_of, objects, text

_ISSUES = "https://github.com/"
_REFERENCE = "https://docs.aws.amazon.com/bedrock/latest/APIReference/"
_CONVERSE = _REFERENCE + "API_runtime_Converse.html"
#: The words that stand before those of the model's own vendor.
MODEL = "The model returned the following errors: "
_ANTHROPICS_ID = re.compile(r"^[a-zA-Z0-9_-]+$")
_CALL_ID = re.compile(r"^[a-zA-Z0-9_.:-]{1,64}$")
_IMAGE_FORMATS = ("png", "jpeg", "gif", "webp")
_IMAGE_BYTES = 3_750_000 * 4 // 3
_IMAGES = 20
_DOCUMENT_NAME = re.compile(r"^[a-zA-Z0-9()\[\] -]+$")


def _messages(sent: Sent) -> list[Mapping[str, Any]]:
    return objects(sent.body.get("messages"))


def blocks(sent: Sent) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Gives every block with the places of its message and of itself."""
    for i, message in enumerate(_messages(sent)):
        for j, block in enumerate(objects(message.get("content"))):
            yield i, j, block


def violation(value: str, where: str, rest: str) -> str:
    """Returns the words for a value that does not fit its type."""
    return f"1 validation error detected: Value '{value}' at '{where}' failed to satisfy constraint: {rest}"


def _ids(message: Mapping[str, Any], kind: str) -> list[str]:
    given = objects(message.get("content"))
    return [text(object_of(block[kind]).get("toolUseId")) for block in given if kind in block]


def _first_role(sent: Sent) -> Found:
    messages = _messages(sent)
    return {} if sent.body.get("messages") == [] or (messages and messages[0].get("role") != "user") else None


def _alternation(sent: Sent) -> Found:
    roles = [message.get("role") for message in _messages(sent)]
    return {} if any(one == two for one, two in pairwise(roles)) else None


def _empty_content(sent: Sent) -> Found:
    for i, message in enumerate(_messages(sent)):
        if message.get("content") == []:
            return {"i": i}
    return None


def _blank_text(sent: Sent) -> Found:
    for i, j, block in blocks(sent):
        if "text" in block and not text(block["text"]).strip():
            return {"where": f"messages.{i}.content.{j}"}
    for i, block in enumerate(objects(sent.body.get("system"))):
        if "text" in block and not text(block["text"]).strip():
            return {"where": f"system.{i}"}
    return None


def _blank_result(sent: Sent) -> Found:
    """A result's own text may be empty at no model of Anthropic's."""
    for _, _, block in blocks(sent):
        for part in objects(object_of(block.get("toolResult")).get("content")):
            if "text" in part and not text(part["text"]).strip() and "anthropic." in sent.model:
                return {}
    return None


def _trailing_space(sent: Sent) -> Found:
    messages = _messages(sent)
    if not messages or messages[-1].get("role") != "assistant" or "anthropic." not in sent.model:
        return None
    last = objects(messages[-1].get("content"))[-1:]
    value = text(last[0].get("text")) if last else ""
    return {} if value != value.rstrip() else None


def _call_id(sent: Sent) -> Found:
    for i, j, block in blocks(sent):
        for kind in ("toolUse", "toolResult"):
            call = text(object_of(block.get(kind)).get("toolUseId"))
            if kind in block and not _CALL_ID.match(call):
                place = f"messages.{i + 1}.member.content.{j + 1}.member.{kind}.toolUseId"
                return {"id": call, "where": place}
    return None


def _repeated_id(sent: Sent) -> Found:
    for i, message in enumerate(_messages(sent)):
        ids = _ids(message, "toolUse")
        twice = sorted({call for call in ids if ids.count(call) > 1})
        if twice:
            return {"i": i, "ids": ", ".join(twice)}
    return None


def _vendors_call_id(sent: Sent) -> Found:
    for i, j, block in blocks(sent) if "anthropic." in sent.model else ():
        call = text(object_of(block.get("toolUse")).get("toolUseId"))
        if "toolUse" in block and not _ANTHROPICS_ID.match(call):
            return {"i": i, "j": j}
    return None


def _vendors_repeated_id(sent: Sent) -> Found:
    seen: set[str] = set()
    for i, j, block in blocks(sent) if "anthropic." in sent.model else ():
        call = text(object_of(block.get("toolUse")).get("toolUseId"))
        if "toolUse" in block and call in seen:
            return {"i": i, "j": j}
        seen.add(call)
    return None


def _unanswered(sent: Sent) -> Found:
    messages = _messages(sent)
    for i, message in enumerate(messages):
        answered = set(_ids(messages[i + 1], "toolResult")) if i + 1 < len(messages) else set()
        missing = [call for call in _ids(message, "toolUse") if call not in answered]
        if missing:
            return {"i": i + 1, "ids": ", ".join(missing)}
    return None


def _unasked(sent: Sent) -> Found:
    messages = _messages(sent)
    for i, message in enumerate(messages):
        asked = set(_ids(messages[i - 1], "toolUse")) if i else set()
        if any(call not in asked for call in _ids(message, "toolResult")):
            return {"i": i}
    return None


def _arguments(sent: Sent) -> Found:
    for i, j, block in blocks(sent):
        if "toolUse" in block and not isinstance(object_of(block["toolUse"]).get("input"), dict):
            return {"where": f"messages.{i}.content.{j}.toolUse.input"}
        for k, part in enumerate(objects(object_of(block.get("toolResult")).get("content"))):
            if "json" in part and not isinstance(part["json"], dict):
                return {"where": f"messages.{i}.content.{j}.toolResult.content.{k}.json"}
    return None


def _bad_signature(sent: Sent) -> Found:
    for i, j, block in blocks(sent):
        thought = object_of(object_of(block.get("reasoningContent")).get("reasoningText"))
        given = text(thought.get("signature"))
        if thought and not signatures.signs("anthropic", text(thought.get("text")), given):
            return {"i": i, "j": j}
    return None


def _thinking_lost(sent: Sent) -> Found:
    fields = object_of(sent.body.get("additionalModelRequestFields"))
    messages = _messages(sent)
    if object_of(fields.get("thinking")).get("type") != "enabled" or len(messages) < 2:
        return None
    open_, last = bool(_ids(messages[-1], "toolResult")), objects(messages[-2].get("content"))[:1]
    lost = open_ and last and "reasoningContent" not in last[0]
    return {"i": len(messages) - 2} if lost else None


def _image_format(sent: Sent) -> Found:
    for i, j, block in blocks(sent):
        if "image" in block and object_of(block["image"]).get("format") not in _IMAGE_FORMATS:
            return {"where": f"messages.{i}.content.{j}.image.format"}
    return None


def _image_size(sent: Sent) -> Found:
    images = [object_of(block["image"]) for _, _, block in blocks(sent) if "image" in block]
    sizes = [len(text(object_of(image.get("source")).get("bytes"))) for image in images]
    return {} if len(sizes) > _IMAGES or any(size > _IMAGE_BYTES for size in sizes) else None


def _image_source(sent: Sent) -> Found:
    for i, j, block in blocks(sent):
        source = object_of(object_of(block.get("image")).get("source"))
        if "image" in block and not ("bytes" in source or "s3Location" in source):
            return {"where": f"messages.{i}.content.{j}.image.source"}
    return None


def _document_alone(sent: Sent) -> Found:
    for message in _messages(sent):
        given = objects(message.get("content"))
        if any("document" in block for block in given) and not any("text" in block for block in given):
            return {}
    return None


def _document_name(sent: Sent) -> Found:
    for _, _, block in blocks(sent):
        if "document" in block and not _DOCUMENT_NAME.match(text(object_of(block["document"]).get("name"))):
            return {}
    return None


MESSAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "first message of the assistant's",
        _ISSUES + "NousResearch/hermes-agent/pull/63983",
        "A conversation must start with a user message. Try again with a conversation that starts with a user"
        " message.",
        _first_role,
    ),
    Rule(
        "alternation",
        _ISSUES + "langchain-ai/langchain-aws/issues/130",
        "A conversation must alternate between user and assistant roles. Make sure the conversation alternates"
        " between user and assistant roles and try again.",
        _alternation,
    ),
    Rule(
        "no content",
        _ISSUES + "archestra-ai/archestra/pull/4220",
        "The content field in the Message object at messages.{i} is empty. Add a ContentBlock object to the content"
        " field and try again.",
        _empty_content,
    ),
    Rule(
        "blank text",
        _ISSUES + "OpenHands/OpenHands/issues/5339",
        "The text field in the ContentBlock object at {where} is blank. Add text to the text field, and try again.",
        _blank_text,
    ),
    Rule(
        "blank result",
        _ISSUES + "NousResearch/hermes-agent/pull/55093",
        MODEL + "messages: text content blocks must be non-empty",
        _blank_result,
    ),
    Rule(
        "trailing white space",
        _ISSUES + "tailcallhq/forgecode/issues/1872",
        MODEL + "messages: final assistant content cannot end with trailing whitespace",
        _trailing_space,
    ),
    Rule(
        "call id",
        _REFERENCE + "API_runtime_ToolUseBlock.html",
        violation(
            "{id}",
            "{where}",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.:-]+ and have length"
            " between 1 and 64",
        ),
        _call_id,
    ),
    Rule(
        "call id twice",
        _REFERENCE + "API_runtime_ToolUseBlock.html",
        "The toolUse blocks at messages.{i}.content contain duplicate Ids: {ids}",
        _repeated_id,
    ),
    Rule(
        "call id's characters at Anthropic",
        _ISSUES + "anomalyco/opencode/issues/1279",
        MODEL + "messages.{i}.content.{j}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        _vendors_call_id,
    ),
    Rule(
        "call id in two turns at Anthropic",
        _ISSUES + "anthropics/claude-code/issues/20700",
        MODEL + "messages.{i}.content.{j}: `tool_use` ids must be unique",
        _vendors_repeated_id,
    ),
    Rule(
        "call without result",
        _ISSUES + "zeroclaw-labs/zeroclaw/pull/1476",
        "Expected toolResult blocks at messages.{i}.content for the following Ids: {ids}",
        _unanswered,
    ),
    Rule(
        "result without call",
        _ISSUES + "langgenius/dify-official-plugins/issues/765",
        "The number of toolResult blocks at messages.{i}.content exceeds the number of toolUse blocks of"
        " previous turn.",
        _unasked,
    ),
    Rule(
        "arguments",
        _ISSUES + "sigoden/aichat/pull/1550",
        "The format of the value at {where} is invalid. Provide a json object for the field and try again.",
        _arguments,
    ),
    Rule(
        "thinking's signature",
        _ISSUES + "anthropics/claude-code/issues/10627",
        MODEL + "messages.{i}.content.{j}: Invalid `signature` in `thinking` block",
        _bad_signature,
    ),
    Rule(
        "thinking not sent back",
        _ISSUES + "anomalyco/opencode/issues/3077",
        MODEL
        + "messages.{i}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When"
        " `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the"
        " lastmost set of `tool_use` and `tool_result` blocks).",
        _thinking_lost,
    ),
    Rule(
        "image's format",
        _REFERENCE + "API_runtime_ImageBlock.html",
        violation("", "{where}", "Member must satisfy enum value set: [jpeg, png, gif, webp]"),
        _image_format,
    ),
    Rule(
        "image's source",
        _REFERENCE + "API_runtime_ImageSource.html",
        "The format of the value at {where} is invalid. Provide bytes or an s3Location for the field and try again.",
        _image_source,
    ),
    Rule(
        "images",
        _CONVERSE,
        "The request holds more than 20 images, or one above 3.75 MB.",
        _image_size,
    ),
    Rule(
        "document alone",
        _ISSUES + "archestra-ai/archestra/pull/4220",
        "A text block must be included when using documents.",
        _document_alone,
    ),
    Rule(
        "document's name",
        _REFERENCE + "API_runtime_DocumentBlock.html",
        "The document file name can only contain alphanumeric characters, whitespace characters, hyphens,"
        " parentheses, and square brackets. The name can't contain more than one consecutive whitespace character.",
        _document_name,
    ),
)
