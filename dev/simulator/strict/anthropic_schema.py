"""Anthropic's rules of the schemas of tools and answers.

A tool's schema that is not strict is read loosely; that of an answer, or of a strict tool, becomes a grammar, which
knows a part of JSON Schema only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dev.simulator.strict.rule import Found, Rule, Sent, has_type, object_of, objects, schemas, text

_ISSUES = "https://github.com/"
_PAGE = "https://docs.claude.com/en/docs/build-with-claude/structured-outputs"

_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
#: Keywords that no grammar knows, by the type that they stand with.
_UNKNOWN = {
    "array": ("maxItems", "uniqueItems", "contains", "prefixItems"),
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}


def _grammars(sent: Sent) -> Iterator[tuple[str, Any]]:
    config = object_of(sent.body.get("output_config"))
    wanted = object_of(config.get("format") or sent.body.get("output_format"))
    if wanted.get("type") == "json_schema":
        yield ("output_config.format" if config else "output_format") + ".schema", wanted.get("schema")
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if tool.get("strict") is True:
            yield f"tools.{i}.custom.input_schema", tool.get("input_schema")


def _untyped(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if "type" in tool and tool["type"] != "custom":
            continue
        if "type" not in object_of(tool.get("input_schema")):
            return {"i": i}
    return None


def _not_object(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if object_of(tool.get("input_schema")).get("type", "object") != "object":
            return {"i": i}
    return None


def _choice_on_top(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        if any(name in object_of(tool.get("input_schema")) for name in ("oneOf", "allOf", "anyOf")):
            return {"i": i}
    return None


def _strange_key(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        properties = object_of(object_of(tool.get("input_schema")).get("properties"))
        if not all(map(_KEY.fullmatch, properties)):
            return {"i": i}
    return None


def _older_draft(sent: Sent) -> Found:
    for i, tool in enumerate(objects(sent.body.get("tools"))):
        for _, schema in schemas(tool.get("input_schema")):
            exclusive = (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))
            if isinstance(schema.get("items"), list) or any(isinstance(bound, bool) for bound in exclusive):
                return {"i": i}
    return None


def _recursive(sent: Sent) -> Found:
    for where, grammar in _grammars(sent):
        for way, schema in schemas(grammar):
            reference = text(schema.get("$ref"))
            if reference == "#" or _holds(grammar, reference, way):
                return {"where": where}
    return None


def _holds(grammar: Any, reference: str, way: tuple[str, ...]) -> bool:
    """Returns True if the definition that a reference on that way leads to leads back to it."""
    seen: set[str] = set()
    rest = [reference]
    while rest:
        name = rest.pop()
        place = tuple(name.split("/")[1:])
        if name in seen or not place:
            continue
        seen.add(name)
        if place == way[: len(place)]:
            return True
        found: Any = grammar
        for step in place:
            found = object_of(found).get(step)
        rest += [text(part.get("$ref")) for _, part in schemas(found) if "$ref" in part]
    return False


def _unknown_keyword(sent: Sent) -> Found:
    for where, grammar in _grammars(sent):
        for _, schema in schemas(grammar):
            for kind, names in _UNKNOWN.items():
                for name in names:
                    if name in schema and has_type(schema, kind):
                        return {"where": where, "kind": kind, "name": name}
    return None


def _least_items(sent: Sent) -> Found:
    for where, grammar in _grammars(sent):
        for _, schema in schemas(grammar):
            if has_type(schema, "array") and schema.get("minItems", 0) not in (0, 1):
                return {"where": where}
    return None


def _open_object(sent: Sent) -> Found:
    for where, grammar in _grammars(sent):
        for _, schema in schemas(grammar):
            if has_type(schema, "object") and schema.get("additionalProperties") is not False:
                return {"where": where}
    return None


def _one_of(sent: Sent) -> Found:
    for where, grammar in _grammars(sent):
        for _, schema in schemas(grammar):
            if "oneOf" in schema:
                return {"where": where}
    return None


TOOL_RULES: tuple[Rule, ...] = (
    Rule(
        "tool's schema without a type",
        _ISSUES + "lidge-jun/opencodex/issues/75",
        "tools.{i}.custom.input_schema.type: Field required",
        _untyped,
    ),
    Rule(
        "tool's schema of no object",
        "https://docs.claude.com/en/api/messages",
        "tools.{i}.custom.input_schema.type: Input should be 'object'",
        _not_object,
    ),
    Rule(
        "choice on top of a tool's schema",
        _ISSUES + "Hmbown/Codewhale/issues/4329",
        "tools.{i}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level",
        _choice_on_top,
    ),
    Rule(
        "name of a parameter",
        _ISSUES + "decocms/studio/pull/6874",
        "tools.{i}.custom.input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{{1,64}}$'",
        _strange_key,
    ),
    Rule(
        "schema of an older draft",
        _ISSUES + "hyperdxio/hyperdx/pull/2925",
        "tools.{i}.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12",
        _older_draft,
    ),
)
#: Of schemas that become a grammar.
GRAMMAR_RULES: tuple[Rule, ...] = (
    Rule(
        "open object",
        _PAGE,
        "{where}: For 'object' type, 'additionalProperties' must be explicitly set to false",
        _open_object,
    ),
    Rule(
        "unknown keyword",
        _ISSUES + "agentjido/req_llm/pull/707",
        "{where}: For '{kind}' type, property '{name}' is not supported",
        _unknown_keyword,
    ),
    Rule(
        "minItems",
        _ISSUES + "ghostlobster/memorize-everything/issues/93",
        "{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported",
        _least_items,
    ),
    Rule("oneOf", _PAGE, "{where}: Schema type 'oneOf' is not supported", _one_of),
    Rule("recursive schema", _PAGE, "{where}: Recursive schemas are not supported", _recursive),
)
SCHEMA_RULES = TOOL_RULES + GRAMMAR_RULES
