"""JSON Schemas in requests: of tools' parameters, and of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import ResponseFormat, Tool
from libs.types import ErrorClass
from services.router.providers.wires.fields import Undecodable, as_dict, as_list, decode
from services.router.providers.wires.validity.subset import describe, has_type, is_object, subschemas
from services.router.request.generation import ProviderFailure

_NOT_STRICT_NAMES = """
allOf oneOf not if then else dependentRequired dependentSchemas patternProperties propertyNames minProperties
maxProperties unevaluatedProperties uniqueItems contains minContains maxContains prefixItems minLength maxLength
"""
#: Keywords that OpenAI's strict mode refuses.
_NOT_STRICT = frozenset(_NOT_STRICT_NAMES.split())


def schema(text: str) -> Any:
    """Decodes a JSON Schema given as text, as draft 2020-12 writes it, and with the items of each array, which OpenAI
    wants. Raises ProviderFailure(INVALID_REQUEST) where it is not JSON."""
    try:
        shape = decode(text)
    except Undecodable:
        raise ProviderFailure(
            ErrorClass.INVALID_REQUEST, "a JSON Schema in the request is not JSON"
        ) from None
    for part in subschemas(shape):
        _modernise(part)
        if "items" not in part and has_type(part, "array"):
            part["items"] = {}
    return shape


def _modernise(part: dict[str, Any]) -> None:
    """Writes what earlier drafts of JSON Schema wrote otherwise as draft 2020-12 does, the only one that Anthropic
    takes: a tuple's items, and bounds that a number excludes.

    https://json-schema.org/draft/2020-12/release-notes, …/draft-06/json-schema-release-notes
    """
    if type(part.get("items")) is list:
        part["prefixItems"] = part.pop("items")
        part["items"] = part.pop("additionalItems", {})
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if type(part.get(exclusive)) is bool and part.pop(exclusive) and bound in part:
            part[exclusive] = part.pop(bound)


def parameters_schema(tool: Tool) -> Any:
    """Returns the schema of a tool's parameters, as every vendor takes it: of an object with properties and without a
    choice on top. Of no parameters where none is given. Raises
    ProviderFailure(INVALID_REQUEST)."""
    if not tool.parameters_json:
        return {"type": "object", "properties": {}}
    shape = schema(tool.parameters_json)
    if type(shape) is not dict:
        return shape
    # A choice of whole objects is said in words: OpenAI and Anthropic refuse it here.
    describe(shape, ("oneOf", "anyOf", "allOf"))
    if is_object(shape) or "type" not in shape:
        shape["type"] = "object"
        shape.setdefault("properties", {})
    return shape


def strict_schema(wanted: ResponseFormat, unknown: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Returns name, schema and strictness of an answer's schema, as OpenAI's two APIs take it. `unknown`: keywords
    that a vendor's strict mode refuses beside those that OpenAI's does."""
    shape = schema(wanted.schema_json)
    return {"name": wanted.schema_name, "schema": shape, "strict": is_strict(shape, _NOT_STRICT | unknown)}


def is_strict(value: Any, unknown: frozenset[str] = _NOT_STRICT) -> bool:
    """Returns True if a schema meets the terms of OpenAI's strict mode: closed objects whose every property is
    required, and no keyword that it does not know.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas; others are refused with a 400.
    """
    for part in subschemas(value):
        if not unknown.isdisjoint(part):
            return False
        if has_type(part, "array") and "items" not in part:
            return False
        if is_object(part):
            properties, required = as_dict(part.get("properties")), as_list(part.get("required"))
            if part.get("additionalProperties") is not False or not _same_names(properties, required):
                return False
    return type(value) is dict


def _same_names(properties: Mapping[str, Any], required: list[Any]) -> bool:
    return all(type(name) is str for name in required) and set(properties) == set(required)
