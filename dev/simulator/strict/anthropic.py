"""The rules of Anthropic's messages API; Bedrock's InvokeModel and Vertex pass the same on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.strict import models
from dev.simulator.strict.anthropic_messages import MESSAGE_RULES, all_blocks
from dev.simulator.strict.anthropic_schema import SCHEMA_RULES
from dev.simulator.strict.anthropic_thinking import THINKING_RULES
from dev.simulator.strict.rule import Found, Rule, Sent, above, number, object_of, objects, text

_ISSUES = "https://github.com/"
_MESSAGES = "https://docs.claude.com/en/api/messages"
_VISION = "https://docs.claude.com/en/docs/build-with-claude/vision"
_TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_IMAGE_BYTES = 5 * 1024 * 1024
_IMAGES = 100


def _tool_name(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if not _TOOL_NAME.match(text(tool.get("name"))):
            return {"where": f"tools.{i}.custom.name"}
    return None


def _repeated_tool(sent: Sent) -> Found:
    names = [text(tool.get("name")) for tool in objects(sent.body.get("tools"))]
    return {} if len(set(names)) < len(names) else None


def _choice_without_tools(sent: Sent) -> Found:
    return {} if sent.body.get("tool_choice") and not sent.body.get("tools") else None


def _max_tokens(sent: Sent) -> Found:
    most, asked = models.most_output(sent.model), number(sent.body.get("max_tokens"))
    if most is None or asked is None or asked <= most:
        return None
    return {"asked": f"{asked:g}" if asked >= 1e15 else int(asked), "most": most, "model": sent.model}


def _blank_stop(sent: Sent) -> Found:
    stops = sent.body.get("stop_sequences")
    given = stops if isinstance(stops, list) else []
    return {} if any(isinstance(stop, str) and not stop.strip() for stop in given) else None


def _both_sampling(sent: Sent) -> Found:
    both = sent.body.get("temperature") is not None and sent.body.get("top_p") is not None
    return {} if both and models.takes_one_sampling_field(sent.model) else None


def _sources(sent: Sent) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for i, j, block in all_blocks(sent):
        if block.get("type") == "image":
            yield f"messages.{i}.content.{j}.image.source", object_of(block.get("source"))


def _image_type(sent: Sent) -> Found:
    for where, source in _sources(sent):
        if source.get("type") == "base64" and source.get("media_type") not in _IMAGE_TYPES:
            return {"where": where}
    return None


def _image_size(sent: Sent) -> Found:
    for where, source in _sources(sent):
        size = len(text(source.get("data")))
        if size > _IMAGE_BYTES:
            return {"where": where, "size": size}
    return None


def _image_count(sent: Sent) -> Found:
    count = sum(1 for _ in _sources(sent))
    return {"count": count} if count > _IMAGES else None


RULES: tuple[Rule, ...] = (
    *MESSAGE_RULES,
    Rule(
        "tool's name",
        _MESSAGES,
        "{where}: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'",
        _tool_name,
    ),
    Rule(
        "tool twice",
        _ISSUES + "tailcallhq/forgecode/issues/892",
        "tools: Tool names must be unique.",
        _repeated_tool,
    ),
    Rule(
        "choice without tools",
        _MESSAGES,
        "tool_choice: tool_choice may only be specified while providing tools.",
        _choice_without_tools,
    ),
    *SCHEMA_RULES,
    Rule(
        "max_tokens",
        "https://docs.claude.com/en/docs/about-claude/models/overview",
        "max_tokens: {asked} > {most}, which is the maximum allowed number of output tokens for {model}",
        _max_tokens,
    ),
    Rule("temperature", _MESSAGES, "temperature: range: 0..1", above("temperature", 1)),
    Rule(
        "temperature and top_p",
        _ISSUES + "BerriAI/litellm/issues/15097",
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        _both_sampling,
    ),
    Rule(
        "blank stop sequence",
        _ISSUES + "BerriAI/litellm/issues/3286",
        "stop_sequences: each stop sequence must contain non-whitespace",
        _blank_stop,
    ),
    Rule(
        "image's type",
        _VISION,
        "{where}.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'",
        _image_type,
    ),
    Rule(
        "image's size",
        _VISION,
        "{where}.base64: image exceeds 5 MB maximum: {size} bytes > 5242880 bytes",
        _image_size,
    ),
    Rule("images", _VISION, "messages: too many images: {count} > 100", _image_count),
    *THINKING_RULES,
)
