"""Anthropic's rules of messages: roles, empty texts, calls and their results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.strict import models
from dev.simulator.strict.rule import Found, Rule, Sent, objects, text

_ISSUES = "https://github.com/"
_MESSAGES = "https://docs.claude.com/en/api/messages"
#: The fields of a request, beta ones left out.
_NAMES = """
model messages max_tokens container context_management inference_geo mcp_servers metadata output_config
output_format service_tier speed stop_sequences stream system temperature thinking tool_choice tools
top_k top_p cache_control anthropic_version anthropic_beta
"""
_FIELDS = frozenset(_NAMES.split())
#: The fields of the blocks that a client sends.
_BLOCK_FIELDS: Mapping[str, frozenset[str]] = {
    kind: frozenset(f"type cache_control {fields}".split())
    for kind, fields in {
        "text": "text citations",
        "image": "source",
        "document": "source title context citations",
        "tool_use": "id name input caller",
        "tool_result": "tool_use_id content is_error",
        "thinking": "thinking signature",
        "redacted_thinking": "data",
    }.items()
}
_ID = re.compile(r"^[a-zA-Z0-9_-]+$")


def blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns a message's content as blocks."""
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)


def messages(sent: Sent) -> list[Mapping[str, Any]]:
    """Returns the messages."""
    return objects(sent.body.get("messages"))


def all_blocks(sent: Sent) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Gives every block with the places of its message and of itself."""
    for i, message in enumerate(messages(sent)):
        for j, block in enumerate(blocks(message)):
            yield i, j, block


def _extra_field(sent: Sent) -> Found:
    for name in sent.body:
        if name not in _FIELDS:
            return {"where": name}
    for i, message in enumerate(messages(sent)):
        for name in message:
            if name not in ("role", "content"):
                return {"where": f"messages.{i}.{name}"}
    for i, j, block in all_blocks(sent):
        kind = text(block.get("type"))
        for name in block if kind in _BLOCK_FIELDS else ():
            if name not in _BLOCK_FIELDS[kind]:
                return {"where": f"messages.{i}.content.{j}.{kind}.{name}"}
    return None


def _system_role(sent: Sent) -> Found:
    if models.takes_system_anywhere(sent.model):
        return None
    return {} if any(message.get("role") == "system" for message in messages(sent)) else None


def _no_message(sent: Sent) -> Found:
    return {} if sent.body.get("messages") == [] else None


def _first_role(sent: Sent) -> Found:
    given = messages(sent)
    return {} if given and given[0].get("role") == "assistant" else None


def _empty_text(sent: Sent) -> Found:
    for i, message in enumerate(messages(sent)):
        # A last message of the assistant's may be an empty string.
        last = i == len(messages(sent)) - 1 and message.get("role") == "assistant"
        if isinstance(message.get("content"), list) or not last:
            for block in blocks(message):
                if block.get("type") == "text" and text(block.get("text")) == "":
                    return {}
    return None


def _blank_text(sent: Sent) -> Found:
    for _, _, block in all_blocks(sent):
        value = block.get("text")
        if block.get("type") == "text" and isinstance(value, str) and value and not value.strip():
            return {}
    return None


def _blank_system(sent: Sent) -> Found:
    for block in objects(sent.body.get("system")):
        if block.get("type") == "text" and not text(block.get("text")).strip():
            return {}
    return None


def _trailing_space(sent: Sent) -> Found:
    given = messages(sent)
    if not given or given[-1].get("role") != "assistant":
        return None
    last = blocks(given[-1])
    value = text(last[-1].get("text")) if last and last[-1].get("type") == "text" else ""
    return {} if value != value.rstrip() else None


def _prefill(sent: Sent) -> Found:
    given = messages(sent)
    ends = bool(given) and given[-1].get("role") == "assistant"
    return {} if ends and not models.takes_prefill(sent.model) else None


def _call_id(sent: Sent) -> Found:
    names = {"tool_use": "id", "tool_result": "tool_use_id"}
    for i, j, block in all_blocks(sent):
        kind = text(block.get("type"))
        if kind in names and not _ID.match(text(block.get(names[kind]))):
            return {"where": f"messages.{i}.content.{j}.{kind}.{names[kind]}"}
    return None


def _repeated_id(sent: Sent) -> Found:
    seen: set[str] = set()
    for i, j, block in all_blocks(sent):
        if block.get("type") == "tool_use":
            call = text(block.get("id"))
            if call in seen:
                return {"where": f"messages.{i}.content.{j}"}
            seen.add(call)
    return None


def ids(message: Mapping[str, Any], kind: str, name: str) -> list[str]:
    """Returns the field `name` of the message's blocks of that kind."""
    return [text(block.get(name)) for block in blocks(message) if block.get("type") == kind]


def _turns(sent: Sent) -> list[tuple[int, list[Mapping[str, Any]]]]:
    """Messages of one role that follow each other are one turn."""
    turns: list[tuple[Any, int, list[Mapping[str, Any]]]] = []
    for i, message in enumerate(messages(sent)):
        if turns and turns[-1][0] == message.get("role"):
            turns[-1][2].append(message)
        else:
            turns.append((message.get("role"), i, [message]))
    return [(i, messages) for _, i, messages in turns]


def _unanswered(sent: Sent) -> Found:
    turns = _turns(sent)
    for place, (i, messages) in enumerate(turns):
        calls = [call for message in messages for call in ids(message, "tool_use", "id")]
        following = turns[place + 1][1] if place + 1 < len(turns) else []
        answered = {call for message in following for call in ids(message, "tool_result", "tool_use_id")}
        missing = [call for call in calls if call not in answered]
        if missing:
            return {"i": i, "ids": ", ".join(missing)}
    return None


def _unasked(sent: Sent) -> Found:
    turns = _turns(sent)
    for place, (i, messages) in enumerate(turns):
        before = turns[place - 1][1] if place else []
        asked = {call for message in before for call in ids(message, "tool_use", "id")}
        for message in messages:
            for j, block in enumerate(blocks(message)):
                call = text(block.get("tool_use_id"))
                if block.get("type") == "tool_result" and call not in asked:
                    return {"i": i, "j": j, "id": call}
    return None


def _results_after_text(sent: Sent) -> Found:
    turns = _turns(sent)
    for place, (i, messages) in enumerate(turns):
        before = turns[place - 1][1] if place else []
        calls = [call for message in before for call in ids(message, "tool_use", "id")]
        kinds = [text(block.get("type")) for message in messages for block in blocks(message)]
        if calls and "tool_result" in kinds and kinds[0] != "tool_result":
            return {"i": i - 1, "ids": ", ".join(calls)}
    return None


def _arguments(sent: Sent) -> Found:
    for i, j, block in all_blocks(sent):
        if block.get("type") == "tool_use" and not isinstance(block.get("input"), dict):
            return {"where": f"messages.{i}.content.{j}.tool_use.input"}
    return None


MESSAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "extra field",
        _ISSUES + "anthropics/claude-code/issues/14135",
        "{where}: Extra inputs are not permitted",
        _extra_field,
    ),
    Rule(
        "system message",
        _ISSUES + "ianarawjo/ChainForge/issues/271",
        'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" as'
        " an input message role.",
        _system_role,
    ),
    Rule(
        "no message",
        "https://docs.claude.com/en/api/messages",
        "messages: at least one message is required",
        _no_message,
    ),
    Rule(
        "first message of the assistant's",
        _ISSUES + "lobehub/lobehub/issues/1601",
        'messages: first message must use the "user" role',
        _first_role,
    ),
    Rule(
        "empty text",
        _ISSUES + "anthropics/claude-code/issues/49171",
        "messages: text content blocks must be non-empty",
        _empty_text,
    ),
    Rule(
        "blank text",
        _ISSUES + "home-assistant/core/issues/175637",
        "messages: text content blocks must contain non-whitespace text",
        _blank_text,
    ),
    Rule(
        "blank system text",
        _ISSUES + "home-assistant/core/issues/175637",
        "system: text content blocks must be non-empty",
        _blank_system,
    ),
    Rule(
        "trailing white space",
        _ISSUES + "tailcallhq/forgecode/issues/1872",
        "messages: final assistant content cannot end with trailing whitespace",
        _trailing_space,
    ),
    Rule(
        "prefill",
        "https://docs.claude.com/en/docs/about-claude/models/whats-new-claude-4-6",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        _prefill,
    ),
    Rule(
        "call id's characters",
        _ISSUES + "anomalyco/opencode/issues/1279",
        "{where}: String should match pattern '^[a-zA-Z0-9_-]+$'",
        _call_id,
    ),
    Rule(
        "call id twice",
        _ISSUES + "anthropics/claude-code/issues/20700",
        "{where}: `tool_use` ids must be unique",
        _repeated_id,
    ),
    Rule(
        "call without result",
        _ISSUES + "anthropics/claude-code/issues/1237",
        "messages.{i}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each"
        " `tool_use` block must have a corresponding `tool_result` block in the next message.",
        _unanswered,
    ),
    Rule(
        "result without call",
        _ISSUES + "anthropics/claude-code/issues/13460",
        "messages.{i}.content.{j}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result`"
        " block must have a corresponding `tool_use` block in the previous message.",
        _unasked,
    ),
    Rule(
        "text before results",
        "https://docs.claude.com/en/docs/agents-and-tools/tool-use/implement-tool-use",
        "messages.{i}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each"
        " `tool_use` block must have a corresponding `tool_result` block in the next message.",
        _results_after_text,
    ),
    Rule("arguments", _MESSAGES, "{where}: Input should be a valid dictionary", _arguments),
)
