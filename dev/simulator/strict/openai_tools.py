"""The rules of chat completions' tools and shapes of an answer at OpenAI."""

from __future__ import annotations

import re

from dev.simulator.strict import chat
from dev.simulator.strict.openai_schema import bad_anywhere, bad_in_strict, root_type
from dev.simulator.strict.rule import Found, Rule, Sent, object_of, objects, text

_ISSUES = "https://github.com/"
_CHAT = "https://platform.openai.com/docs/api-reference/chat/create"
_FUNCTIONS = "https://platform.openai.com/docs/guides/function-calling"
_STRICT = "https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"
_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
_DESCRIPTION = 1024


def _function_name(sent: Sent) -> Found:
    for i, function in enumerate(chat.functions(sent)):
        if not _NAME.match(text(function.get("name"))):
            return {"where": f"tools[{i}].function.name"}
    for i, j, call in chat.calls(sent):
        if not _NAME.match(text(object_of(call.get("function")).get("name"))):
            return {"where": f"messages[{i}].tool_calls[{j}].function.name"}
    return None


def _long_description(sent: Sent) -> Found:
    for i, function in enumerate(chat.functions(sent)):
        length = len(text(function.get("description")))
        if length > _DESCRIPTION:
            return {"where": f"tools[{i}].function.description", "length": length}
    return None


def _no_tools(sent: Sent) -> Found:
    return {} if sent.body.get("tools") == [] else None


def _tool_kind(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if tool.get("type") not in ("function", "custom"):
            return {"i": i}
    return None


def _only_with_tools(sent: Sent) -> Found:
    if sent.body.get("tools"):
        return None
    for name in ("tool_choice", "parallel_tool_calls"):
        if sent.body.get(name) is not None and sent.body.get(name) != "none":
            return {"name": name}
    return None


def _unknown_choice(sent: Sent) -> Found:
    chosen = text(object_of(object_of(sent.body.get("tool_choice")).get("function")).get("name"))
    offered = [text(function.get("name")) for function in chat.functions(sent)]
    return {"name": chosen} if chosen and chosen not in offered else None


def _schema_type(sent: Sent) -> Found:
    for i, function in enumerate(chat.functions(sent)):
        found = root_type(function.get("parameters")) if "parameters" in function else None
        if found is not None:
            return {"i": i, "name": text(function.get("name")), **found}
    return None


def _schema_items(sent: Sent) -> Found:
    for i, function in enumerate(chat.functions(sent)):
        for found in bad_anywhere(function.get("parameters")):
            return {"i": i, "name": text(function.get("name")), **found}
    return None


def _strict_function(sent: Sent) -> Found:
    for i, function in enumerate(chat.functions(sent)):
        for found in bad_in_strict(function.get("parameters")) if function.get("strict") is True else ():
            return {"i": i, "name": text(function.get("name")), **found}
    return None


def _strict_answer(sent: Sent) -> Found:
    wanted = object_of(object_of(sent.body.get("response_format")).get("json_schema"))
    for found in bad_in_strict(wanted.get("schema")) if wanted.get("strict") is True else ():
        return {"name": text(wanted.get("name")), **found}
    return None


def _answer_type(sent: Sent) -> Found:
    wanted = object_of(object_of(sent.body.get("response_format")).get("json_schema"))
    found = root_type(wanted["schema"]) if "schema" in wanted else None
    return found if found is None else {"name": text(wanted.get("name")), **found}


def _answer_name(sent: Sent) -> Found:
    wanted = object_of(sent.body.get("response_format"))
    name = text(object_of(wanted.get("json_schema")).get("name"))
    return {} if wanted.get("type") == "json_schema" and not _NAME.match(name) else None


TOOL_RULES: tuple[Rule, ...] = (
    Rule(
        "function's name",
        _FUNCTIONS,
        "Invalid '{where}': string does not match pattern. Expected a string that matches the pattern"
        " '^[a-zA-Z0-9_-]+$'.",
        _function_name,
        code="invalid_value",
        param="{where}",
    ),
    Rule(
        "function's description",
        _ISSUES + "getsentry/sentry-mcp/issues/106",
        "Invalid '{where}': string too long. Expected a string with maximum length 1024, but got a string with length"
        " {length} instead.",
        _long_description,
        code="string_above_max_length",
        param="{where}",
    ),
    Rule(
        "empty list of tools",
        _CHAT,
        "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        _no_tools,
        code="empty_array",
        param="tools",
    ),
    Rule(
        "kind of a tool",
        _CHAT,
        "Missing required parameter: 'tools[{i}].type'.",
        _tool_kind,
        code="missing_required_parameter",
        param="tools[{i}].type",
    ),
    Rule(
        "choice without tools",
        _CHAT,
        "Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.",
        _only_with_tools,
        param="{name}",
    ),
    Rule(
        "choice of no tool",
        _CHAT,
        "Invalid value for 'tool_choice': The function '{name}' was not found in the list of tools.",
        _unknown_choice,
        param="tool_choice",
    ),
    Rule(
        "function's schema of no object",
        _ISSUES + "livekit/agents/issues/4610",
        "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got 'type:"
        ' "{kind}"\'.',
        _schema_type,
        code="invalid_function_parameters",
        param="tools[{i}].function.parameters",
    ),
    Rule(
        "bad schema of a function",
        _ISSUES + "dust-tt/dust/pull/12905",
        "Invalid schema for function '{name}': In context={context}, {why}.",
        _schema_items,
        code="invalid_function_parameters",
        param="tools[{i}].function.parameters",
    ),
    Rule(
        "strict function",
        _STRICT,
        "Invalid schema for function '{name}': In context={context}, {why}.",
        _strict_function,
        code="invalid_function_parameters",
        param="tools[{i}].function.parameters",
    ),
    Rule(
        "answer that is no object",
        _ISSUES + "podly-pure-podcasts/podly_pure_podcasts/pull/89",
        "Invalid schema for response_format '{name}': schema must be a JSON Schema of 'type: \"object\"',"
        " got 'type: \"{kind}\"'.",
        _answer_type,
        param="response_format",
    ),
    Rule(
        "strict answer",
        _ISSUES + "vercel/ai/issues/6484",
        "Invalid schema for response_format '{name}': In context={context}, {why}.",
        _strict_answer,
        param="response_format",
    ),
    Rule(
        "name of the answer's schema",
        _CHAT,
        "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a string that matches"
        " the pattern '^[a-zA-Z0-9_-]+$'.",
        _answer_name,
        code="invalid_value",
        param="response_format.json_schema.name",
    ),
    Rule(
        "JSON without the word",
        _ISSUES + "ultimatejimmy/xray.koplugin/issues/33",
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
        chat.without_word,
        param="messages",
    ),
)
