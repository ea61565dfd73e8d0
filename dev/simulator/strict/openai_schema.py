"""OpenAI's rules of the schemas of functions and of answers: a few things always, many in strict mode.

Source of strict mode: platform.openai.com/docs/guides/structured-outputs#supported-schemas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.strict.rule import Found, has_type, object_of, schemas

#: Keywords that strict mode refuses, wherever they stand.
_REFUSED = ("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "oneOf")
#: Keywords that strict mode refuses beside their type.
_REFUSED_OF = {
    "array": ("uniqueItems", "contains", "minContains", "maxContains", "prefixItems"),
    "object": (
        "patternProperties",
        "unevaluatedProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
    ),
    # Recorded in github.com/jina-ai/node-DeepResearch/issues/79.
    "string": ("minLength", "maxLength"),
}


def _context(way: tuple[str, ...]) -> str:
    return repr(way)


def bad_anywhere(schema: Any) -> Iterator[Mapping[str, str]]:
    """Gives what no schema may hold, strict or not."""
    for way, part in schemas(schema):
        if has_type(part, "array") and "items" not in part:
            yield {"context": _context(way), "why": "array schema missing items"}
        if part.get("type") == "object" and not way and "properties" not in part:
            yield {"context": _context(way), "why": "object schema missing properties"}


def bad_in_strict(schema: Any) -> Iterator[Mapping[str, str]]:
    """Gives what a strict schema may not hold."""
    yield from bad_anywhere(schema)
    for way, part in schemas(schema):
        context = _context(way)
        named = [name for name in _REFUSED if name in part]
        for kind, names in _REFUSED_OF.items():
            named.extend(name for name in names if name in part and has_type(part, kind))
        for name in named:
            yield {"context": context, "why": f"'{name}' is not permitted"}
        if not has_type(part, "object") and "properties" not in part:
            continue
        if part.get("additionalProperties") is not False:
            yield {
                "context": context,
                "why": "'additionalProperties' is required to be supplied and to be false",
            }
        properties, required = object_of(part.get("properties")), part.get("required")
        missing = [
            name for name in properties if name not in (required if isinstance(required, list) else ())
        ]
        if missing:
            why = (
                "'required' is required to be supplied and to be an array including every key in properties."
            )
            yield {"context": context, "why": f"{why} Missing '{missing[0]}'"}
        extra = (
            [name for name in required or () if name not in properties] if isinstance(required, list) else []
        )
        if extra:
            yield {"context": context, "why": f"Extra required key '{extra[0]}' supplied"}


def root_type(schema: Any) -> Found:
    """Finds a function's schema that is not of an object."""
    kind = object_of(schema).get("type")
    return None if kind == "object" else {"kind": str(kind)}
