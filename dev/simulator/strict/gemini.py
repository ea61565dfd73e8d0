"""The rules of Google's generateContent, at AI Studio and at Vertex AI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dev.simulator.strict import models
from dev.simulator.strict.gemini_contents import CONTENT_RULES, contents, parts
from dev.simulator.strict.rule import Found, Rule, Sent, number, object_of, objects, schemas, text

_ISSUES = "https://github.com/"
_GENERATE = "https://ai.google.dev/api/generate-content"
_SCHEMA = "https://ai.google.dev/api/caching#Schema"
_THINKING = "https://ai.google.dev/gemini-api/docs/thinking"
_NAMES = """
contents systemInstruction system_instruction tools toolConfig tool_config safetySettings safety_settings
generationConfig generation_config cachedContent cached_content model labels serviceTier store
"""
_FIELDS = frozenset(_NAMES.split())
_CONFIG_NAMES = """
stopSequences responseMimeType responseSchema responseJsonSchema _responseJsonSchema responseModalities
candidateCount maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs
logprobs enableEnhancedCivicAnswers speechConfig thinkingConfig imageConfig mediaResolution audioTimestamp
routingConfig
"""
_CONFIG_FIELDS = frozenset(_CONFIG_NAMES.split())
_PART_NAMES = """
text thought thoughtSignature inlineData fileData functionCall functionResponse executableCode
codeExecutionResult videoMetadata partMetadata mediaResolution
"""
_PART_FIELDS = frozenset(_PART_NAMES.split())
_SCHEMA_NAMES = """
type format title description nullable enum maxItems minItems properties required minProperties maxProperties
minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum
"""
#: The fields of Google's own Schema; `parametersJsonSchema` and `responseJsonSchema` take JSON Schema instead.
_SCHEMA_FIELDS = frozenset(_SCHEMA_NAMES.split())
_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$")
_MOST_STOPS = 5


def _config(sent: Sent) -> Mapping[str, Any]:
    return object_of(sent.body.get("generationConfig") or sent.body.get("generation_config"))


def _penalty(sent: Sent) -> Found:
    later = not any(name in sent.model for name in ("gemini-1", "gemini-2.0"))
    asked = any(number(_config(sent).get(name)) for name in ("presencePenalty", "frequencyPenalty"))
    return {"model": sent.model} if later and asked else None


def _large_seed(sent: Sent) -> Found:
    seed = number(_config(sent).get("seed"))
    return {"seed": f"{seed:.0f}"} if seed is not None and not -(2**31) <= seed < 2**31 else None


def _functions(sent: Sent) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        for j, function in enumerate(objects(tool.get("functionDeclarations"))):
            yield f"tools[{i}].function_declarations[{j}]", function


def _camel(name: str) -> str:
    """Returns a field's name as JSON has it; protocol buffers' own spelling is taken too."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _unknown(name: str, where: str) -> Found:
    return {"name": name, "where": f" at '{where}'" if where else ""}


def _unknown_field(sent: Sent) -> Found:
    for name in sent.body:
        if name not in _FIELDS:
            return _unknown(name, "")
    for name in _config(sent):
        if name not in _CONFIG_FIELDS:
            return _unknown(name, "generation_config")
    for i, content in enumerate(contents(sent)):
        for name in content:
            if name not in ("role", "parts"):
                return _unknown(name, f"contents[{i}]")
    for i, j, part in parts(sent):
        for name in part:
            if _camel(name) not in _PART_FIELDS:
                return _unknown(name, f"contents[{i}].parts[{j}]")
    return None


def _unknown_keyword(sent: Sent) -> Found:
    places = [(f"{where}.parameters", function.get("parameters")) for where, function in _functions(sent)]
    places.append(("generation_config.response_schema", _config(sent).get("responseSchema")))
    for where, schema in places:
        for way, part in schemas(schema):
            for name in part:
                if name not in _SCHEMA_FIELDS:
                    return _unknown(name, ".".join((where, *way)))
    return None


def _empty_object(sent: Sent) -> Found:
    for where, function in _functions(sent):
        for way, part in schemas(function.get("parameters")):
            if text(part.get("type")).lower() == "object" and way and not part.get("properties"):
                return {"where": ".".join((f"{where}.parameters", *way))}
    return None


def _no_items(sent: Sent) -> Found:
    for where, function in _functions(sent):
        for way, part in schemas(function.get("parameters")):
            if text(part.get("type")).lower() == "array" and "items" not in part:
                return {"where": ".".join((f"{where}.parameters", *way))}
    return None


def _two_schemas(sent: Sent) -> Found:
    both = ("responseSchema", "responseJsonSchema")
    return {} if all(_config(sent).get(name) is not None for name in both) else None


def _schema_without_type(sent: Sent) -> Found:
    named = any(_config(sent).get(name) for name in ("responseSchema", "responseJsonSchema"))
    return {} if named and _config(sent).get("responseMimeType") != "application/json" else None


def _function_name(sent: Sent) -> Found:
    for where, function in _functions(sent):
        if not _NAME.match(text(function.get("name"))):
            return {"where": where}
    return None


def _repeated_function(sent: Sent) -> Found:
    seen: set[str] = set()
    for _, function in _functions(sent):
        name = text(function.get("name"))
        if name in seen:
            return {"name": name}
        seen.add(name)
    return None


def _json_and_tools(sent: Sent) -> Found:
    # Gemini 3 takes both.
    both = _config(sent).get("responseMimeType") == "application/json" and any(_functions(sent))
    return {} if both and not models.demands_signatures(sent.model) else None


def _choice_without_tools(sent: Sent) -> Found:
    config = object_of(object_of(sent.body.get("toolConfig")).get("functionCallingConfig"))
    return {} if config.get("mode") == "ANY" and not any(_functions(sent)) else None


def _unknown_choice(sent: Sent) -> Found:
    config = object_of(object_of(sent.body.get("toolConfig")).get("functionCallingConfig"))
    offered = {text(function.get("name")) for _, function in _functions(sent)}
    allowed = config.get("allowedFunctionNames")
    for name in allowed if isinstance(allowed, list) else ():
        if name not in offered:
            return {"name": name}
    return None


def _large_limit(sent: Sent) -> Found:
    most, asked = models.most_output(sent.model), number(_config(sent).get("maxOutputTokens"))
    over = most is not None and asked is not None and asked > most
    return {"asked": int(asked or 0), "most": (most or 0) + 1} if over else None


def _many_stops(sent: Sent) -> Found:
    stops = _config(sent).get("stopSequences")
    return {} if isinstance(stops, list) and len(stops) > _MOST_STOPS else None


def _empty_stop(sent: Sent) -> Found:
    stops = _config(sent).get("stopSequences")
    return {} if isinstance(stops, list) and "" in stops else None


def _over(name: str, most: float) -> Callable[[Sent], Found]:
    def find(sent: Sent) -> Found:
        value = number(_config(sent).get(name))
        return {"value": f"{value:g}"} if value is not None and not 0 <= value <= most else None

    return find


def _no_thinking(sent: Sent) -> Found:
    budget = number(object_of(_config(sent).get("thinkingConfig")).get("thinkingBudget"))
    return {} if budget == 0 and models.always_thinks(sent.model) else None


def _level_of_budgets(sent: Sent) -> Found:
    thinking = object_of(_config(sent).get("thinkingConfig"))
    return {} if "thinkingLevel" in thinking and re.search(r"gemini-(2|1)", sent.model) else None


def _level_and_budget(sent: Sent) -> Found:
    thinking = object_of(_config(sent).get("thinkingConfig"))
    return {} if "thinkingLevel" in thinking and "thinkingBudget" in thinking else None


RULES: tuple[Rule, ...] = (
    Rule(
        "unknown field",
        _ISSUES + "zed-industries/zed/issues/44875",
        'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.',
        _unknown_field,
    ),
    *CONTENT_RULES,
    Rule(
        "unknown keyword",
        _ISSUES + "BerriAI/litellm/issues/14330",
        'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.',
        _unknown_keyword,
    ),
    Rule(
        "empty object",
        _SCHEMA,
        "* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type",
        _empty_object,
    ),
    Rule(
        "array without items",
        _ISSUES + "cline/cline/issues/7339",
        "* GenerateContentRequest.{where}.items: missing field.",
        _no_items,
    ),
    Rule(
        "two schemas",
        _GENERATE,
        "* GenerateContentRequest.generation_config.response_json_schema: cannot be set together with"
        " response_schema",
        _two_schemas,
    ),
    Rule(
        "schema of no JSON",
        _GENERATE,
        "Response schema can only be used with a response mime type of 'application/json'",
        _schema_without_type,
    ),
    Rule(
        "function's name",
        _ISSUES + "google-gemini/gemini-cli/issues/7869",
        "* GenerateContentRequest.{where}.name: Invalid function name. Must start with a letter or an underscore."
        " Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum"
        " length of 64.",
        _function_name,
    ),
    Rule(
        "function twice",
        _GENERATE,
        "Duplicate function declaration found: {name}",
        _repeated_function,
    ),
    Rule(
        "JSON with tools",
        _ISSUES + "googleapis/python-genai/issues/867",
        "Function calling with a response mime type: 'application/json' is unsupported",
        _json_and_tools,
    ),
    Rule(
        "choice without tools",
        _GENERATE,
        "Function calling config is set without function_declarations.",
        _choice_without_tools,
    ),
    Rule(
        "choice of no tool",
        _GENERATE,
        "* GenerateContentRequest.tool_config.function_calling_config.allowed_function_names: {name} is not declared"
        " in function_declarations",
        _unknown_choice,
    ),
    Rule(
        "limit above the model's",
        _ISSUES + "stackblitz-labs/bolt.diy/issues/955",
        "Unable to submit request because it has a maxOutputTokens value of {asked} but the supported range is from 1"
        " (inclusive) to {most} (exclusive). Update the value and try again.",
        _large_limit,
    ),
    Rule(
        "stop sequences",
        _ISSUES + "BerriAI/litellm/issues/18921",
        "* GenerateContentRequest.generation_config.stop_sequences: the number of stop_sequences must not exceed 5.",
        _many_stops,
    ),
    Rule(
        "empty stop sequence",
        _GENERATE,
        "* GenerateContentRequest.generation_config.stop_sequences: must not be empty.",
        _empty_stop,
    ),
    Rule(
        "penalty",
        _ISSUES + "google-gemini/cookbook/issues/1290",
        "Penalty is not enabled for models/{model}",
        _penalty,
    ),
    Rule(
        "seed",
        _GENERATE,
        "Invalid value at 'generation_config.seed' (TYPE_INT32), {seed}",
        _large_seed,
    ),
    Rule(
        "temperature",
        _GENERATE,
        "* GenerateContentRequest.generation_config.temperature: temperature must be in the range [0.0, 2.0].",
        _over("temperature", 2),
    ),
    Rule(
        "top_p",
        _GENERATE,
        "* GenerateContentRequest.generation_config.top_p: top_p must be in the range [0.0, 1.0].",
        _over("topP", 1),
    ),
    Rule(
        "thinking turned off",
        _ISSUES + "vercel/ai/issues/8027",
        "Budget 0 is invalid. This model only works in thinking mode.",
        _no_thinking,
    ),
    Rule(
        "level of an older model",
        _THINKING,
        "Thinking level is not supported for this model.",
        _level_of_budgets,
    ),
    Rule(
        "level and budget",
        _THINKING,
        "You can only set only one of thinking budget and thinking level.",
        _level_and_budget,
    ),
)
