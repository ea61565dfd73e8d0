"""Makes the smallest sensible value that satisfies a JSON Schema: arguments of tool calls and structured answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEPTH = 12


def example(schema: Mapping[str, Any], text: str, *, key: str = "") -> Any:
    """Returns an instance of `schema` whose strings are cut from `text`. Knows type, enum, const, default,
    properties, items, anyOf/oneOf/allOf and local references; a schema it does not know gives a string."""
    return _build(schema, schema, text, key, 0)


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found: Any = root
    for part in reference[2:].split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _build(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, key: str, depth: int) -> Any:
    schema = _resolve(schema, root)
    if depth > _DEPTH:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        options = [_resolve(option, root) for option in schema.get(name) or () if isinstance(option, Mapping)]
        if options:
            wanted = next((option for option in options if option.get("type") != "null"), options[0])
            return _build(wanted, root, text, key, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    kind = str(kind or ("object" if "properties" in schema else "string")).lower()
    if kind == "object":
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return {}
        return {name: _build(part, root, text, name, depth + 1) for name, part in properties.items()}
    if kind == "array":
        items = schema.get("items")
        count = max(1, int(schema.get("minItems") or 1))
        return [_build(items if isinstance(items, Mapping) else {}, root, text, key, depth + 1)] * count
    if kind in ("integer", "number"):
        return max(1, int(schema.get("minimum") or 1))
    if kind == "boolean":
        return True
    return None if kind == "null" else _string(schema, text, key)


def _string(schema: Mapping[str, Any], text: str, key: str) -> str:
    sentences = text.split(". ")
    whole = any(name in key.lower() for name in ("description", "text", "body", "content", "summary"))
    value = text if whole else sentences[len(key) % len(sentences)].rstrip(".")
    longest = schema.get("maxLength")
    value = value[:longest] if isinstance(longest, int) else value
    shortest = schema.get("minLength")
    return value.ljust(shortest, ".") if isinstance(shortest, int) and shortest <= 10_000 else value
