"""The rules of Ollama's own chat API: mostly JSON that its Go types do not take.

Source, where no other is named: github.com/ollama/ollama, docs/api.md and api/types.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dev.simulator.strict import chat
from dev.simulator.strict.rule import Found, Rule, Sent, object_of, objects, text

_ISSUES = "https://github.com/"
_TYPES = "https://github.com/ollama/ollama/blob/main/api/types.go"
_KINDS = {list: "array", dict: "object", int: "number", float: "number", bool: "bool"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "string")


def _arguments(sent: Sent) -> Found:
    for _, _, call in chat.calls(sent):
        given = object_of(call.get("function")).get("arguments")
        if given is not None and not isinstance(given, dict):
            return {"kind": _kind(given)}
    return None


def _content(sent: Sent) -> Found:
    for message in chat.messages(sent):
        given = message.get("content")
        if given is not None and not isinstance(given, str):
            return {"kind": _kind(given)}
    return None


def _images(sent: Sent) -> Found:
    for message in chat.messages(sent):
        given = message.get("images")
        items = given if isinstance(given, list) else []
        # A data URL is no base64.
        if any(not isinstance(item, str) or item.startswith(("data:", "http")) for item in items):
            return {}
    return None


def _format(sent: Sent) -> Found:
    wanted = sent.body.get("format")
    known = wanted in (None, "", "json") or isinstance(wanted, dict)
    return None if known else {"given": wanted}


def _role(sent: Sent) -> Found:
    for message in chat.messages(sent):
        if text(message.get("role")) not in ("system", "user", "assistant", "tool"):
            return {"role": message.get("role")}
    return None


def _stop(sent: Sent) -> Found:
    stop = object_of(sent.body.get("options")).get("stop")
    return {"kind": _kind(stop)} if stop is not None and not isinstance(stop, list) else None


def _parameters(sent: Sent) -> Found:
    for tool in objects(sent.body.get("tools")):
        given: Mapping[str, Any] = object_of(object_of(tool.get("function")).get("parameters"))
        if "required" in given and not isinstance(given["required"], list):
            return {"kind": _kind(given["required"])}
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        "arguments",
        _ISSUES + "ollama/ollama/issues/12794",
        "json: cannot unmarshal {kind} into Go struct field ChatRequest.messages.tool_calls.function.arguments of"
        " type api.ToolCallFunctionArguments",
        _arguments,
    ),
    Rule(
        "content",
        _ISSUES + "BerriAI/litellm/issues/11273",
        "json: cannot unmarshal {kind} into Go struct field ChatRequest.messages.content of type string",
        _content,
    ),
    Rule("images", _TYPES, "illegal base64 data at input byte 4", _images),
    Rule(
        "format",
        _ISSUES + "ollama/ollama/blob/main/server/routes.go",
        'invalid format: "{given}"; expected "json" or a JSON schema',
        _format,
    ),
    Rule("role", _TYPES, "invalid role: {role}", _role),
    Rule(
        "stop",
        _TYPES,
        "json: cannot unmarshal {kind} into Go struct field Options.stop of type []string",
        _stop,
    ),
    Rule(
        "parameters",
        _TYPES,
        "json: cannot unmarshal {kind} into Go struct field ToolFunctionParameters.required of type []string",
        _parameters,
    ),
)
