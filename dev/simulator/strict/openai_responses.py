"""The rules of OpenAI's responses API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.strict import models
from dev.simulator.strict.openai_schema import bad_anywhere, bad_in_strict, root_type
from dev.simulator.strict.responses_input import INPUT_RULES, items, parts
from dev.simulator.strict.rule import Found, Rule, Sent, above, number, object_of, objects, text

_ISSUES = "https://github.com/"
_CREATE = "https://platform.openai.com/docs/api-reference/responses/create"
_STRICT = "https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"
_REASONING = "https://platform.openai.com/docs/guides/reasoning"
_NAMES = """
background conversation include input instructions max_output_tokens max_tool_calls metadata model
parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning
safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
truncation user
"""
_FIELDS = frozenset(_NAMES.split())
_FUNCTION = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
_LEAST = 16


def _functions(sent: Sent) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if tool.get("type") == "function":
            yield i, tool


def _format(sent: Sent) -> Mapping[str, Any]:
    return object_of(object_of(sent.body.get("text")).get("format"))


def _unknown_field(sent: Sent) -> Found:
    return next(({"name": name} for name in sent.body if name not in _FIELDS), None)


def _function_name(sent: Sent) -> Found:
    for i, tool in _functions(sent):
        if not _FUNCTION.match(text(tool.get("name"))):
            return {"where": f"tools[{i}].name"}
    return None


def _nested_function(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if "function" in tool:
            return {"where": f"tools[{i}].name"}
    return None


def _schema_type(sent: Sent) -> Found:
    for i, tool in _functions(sent):
        found = root_type(tool.get("parameters")) if tool.get("parameters") is not None else None
        if found is not None:
            return {"i": i, "name": text(tool.get("name")), **found}
    return None


def _bad_schema(sent: Sent) -> Found:
    for i, tool in _functions(sent):
        bad = bad_in_strict if tool.get("strict") is True else bad_anywhere
        for found in bad(tool.get("parameters")):
            return {"i": i, "name": text(tool.get("name")), **found}
    return None


def _bad_answer(sent: Sent) -> Found:
    wanted = _format(sent)
    for found in bad_in_strict(wanted.get("schema")) if wanted.get("strict") is True else ():
        return {"name": text(wanted.get("name")), **found}
    return None


def _answer_type(sent: Sent) -> Found:
    wanted = _format(sent)
    found = root_type(wanted["schema"]) if "schema" in wanted else None
    return found if found is None else {"name": text(wanted.get("name")), **found}


def _choice_without_tools(sent: Sent) -> Found:
    choice = sent.body.get("tool_choice")
    return {} if choice not in (None, "auto", "none") and not sent.body.get("tools") else None


def _words(sent: Sent) -> Iterator[str]:
    given = sent.body.get("input")
    yield text(given)
    for item in items(sent):
        yield text(item.get("content"))
    for _, _, part in parts(sent):
        yield text(part.get("text"))


def _without_word(sent: Sent) -> Found:
    # The instructions do not count.
    wanted = _format(sent).get("type") == "json_object"
    return {} if wanted and not any("json" in word.lower() for word in _words(sent)) else None


def _small_limit(sent: Sent) -> Found:
    asked = number(sent.body.get("max_output_tokens"))
    return {"asked": f"{asked:g}"} if asked is not None and asked < _LEAST else None


def _large_limit(sent: Sent) -> Found:
    most, asked = models.most_output(sent.model), number(sent.body.get("max_output_tokens"))
    over = most is not None and asked is not None and asked > most
    return {"asked": int(asked or 0), "most": most} if over else None


def _unsupported(sent: Sent) -> Found:
    names = ("temperature", "top_p") if models.reasons(sent.model) else ()
    return next(({"name": name} for name in names if sent.body.get(name) is not None), None)


def _no_effort(sent: Sent) -> Found:
    effort = object_of(sent.body.get("reasoning")).get("effort")
    return {} if effort is not None and sent.model.startswith(("gpt-4", "gpt-3")) else None


RULES: tuple[Rule, ...] = (
    Rule(
        "unknown field",
        _CREATE,
        "Unknown parameter: '{name}'.",
        _unknown_field,
        code="unknown_parameter",
        param="{name}",
    ),
    *INPUT_RULES,
    Rule(
        "function of the chat API",
        "https://platform.openai.com/docs/guides/migrate-to-responses",
        "Missing required parameter: '{where}'.",
        _nested_function,
        code="missing_required_parameter",
        param="{where}",
    ),
    Rule(
        "function's name",
        _CREATE,
        "Invalid '{where}': string does not match pattern. Expected a string that matches the pattern"
        " '^[a-zA-Z0-9_-]+$'.",
        _function_name,
        code="invalid_value",
        param="{where}",
    ),
    Rule(
        "function's schema of no object",
        _ISSUES + "livekit/agents/issues/4610",
        "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got 'type:"
        ' "{kind}"\'.',
        _schema_type,
        code="invalid_function_parameters",
        param="tools[{i}].parameters",
    ),
    Rule(
        "bad schema of a function",
        _ISSUES + "Effect-TS/effect-smol/issues/1857",
        "Invalid schema for function '{name}': In context={context}, {why}.",
        _bad_schema,
        code="invalid_function_parameters",
        param="tools[{i}].parameters",
    ),
    Rule(
        "answer that is no object",
        _STRICT,
        "Invalid schema for response_format '{name}': schema must be a JSON Schema of 'type: \"object\"',"
        " got 'type: \"{kind}\"'.",
        _answer_type,
        code="invalid_json_schema",
        param="text.format.schema",
    ),
    Rule(
        "strict answer",
        _STRICT,
        "Invalid schema for response_format '{name}': In context={context}, {why}.",
        _bad_answer,
        code="invalid_json_schema",
        param="text.format.schema",
    ),
    Rule(
        "choice without tools",
        _CREATE,
        "Tool choice 'required' must be specified with 'tools' parameter.",
        _choice_without_tools,
        param="tool_choice",
    ),
    Rule(
        "JSON without the word",
        _ISSUES + "BigDawnGhost/wenyi/pull/66",
        "Response input messages must contain the word 'json' in some form to use 'text.format' of type"
        " 'json_object'.",
        _without_word,
        param="input",
    ),
    Rule(
        "limit below the least",
        _CREATE,
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {asked} instead.",
        _small_limit,
        code="integer_below_min_value",
        param="max_output_tokens",
    ),
    Rule(
        "limit above the model's",
        "https://platform.openai.com/docs/models",
        "max_output_tokens is too large: {asked}. This model supports at most {most} output tokens, whereas you"
        " provided {asked}.",
        _large_limit,
        code="invalid_value",
        param="max_output_tokens",
    ),
    Rule(
        "field of no reasoning model",
        _REASONING,
        "Unsupported parameter: '{name}' is not supported with this model.",
        _unsupported,
        param="{name}",
    ),
    Rule(
        "effort of no reasoning model",
        _REASONING,
        "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
        _no_effort,
        code="unsupported_parameter",
        param="reasoning.effort",
    ),
    Rule(
        "temperature",
        _CREATE,
        "Invalid 'temperature': decimal above maximum value. Expected a value <= {most}, but got {value} instead.",
        above("temperature", 2),
        code="decimal_above_max_value",
        param="temperature",
    ),
)
