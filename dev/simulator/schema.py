"""Makes the smallest sensible value that satisfies a JSON Schema: arguments of tool calls and structured answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEPTH = 12
_SHALLOW = 5
#: Strings of the formats that JSON Schema names.
_FORMATS = {
    "date": "2026-05-04",
    "date-time": "2026-05-04T10:00:00Z",
    "time": "10:00:00Z",
    "duration": "PT1H",
    "email": "anna@shop.example",
    "hostname": "shop.example",
    "ipv4": "192.0.2.1",
    "uri": "https://shop.example/",
    "uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
}


def example(schema: Mapping[str, Any], text: str, *, key: str = "") -> Any:
    """Returns an instance of `schema` whose strings are cut from `text`. Knows type, enum, const, default,
    properties, items, bounds, formats, anyOf/oneOf/allOf and local references; else it gives a string."""
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
        # Deep inside, as in a schema that refers to itself, only what must be there.
        needed = schema.get("required") if depth > _SHALLOW else None
        names = [name for name in properties if needed is None or name in needed]
        return {name: _build(properties[name], root, text, name, depth + 1) for name in names}
    if kind == "array":
        items = schema.get("items")
        count = max(1, int(schema.get("minItems") or 1))
        if schema.get("maxItems") == 0:
            return []
        return [_build(items if isinstance(items, Mapping) else {}, root, text, key, depth + 1)] * count
    if kind in ("integer", "number"):
        return _number(schema)
    if kind == "boolean":
        return True
    return None if kind == "null" else _string(schema, text, key)


def _number(schema: Mapping[str, Any]) -> int | float:
    """Returns the number nearest to one that the bounds allow."""
    step = schema.get("multipleOf") or 1
    least, most = schema.get("minimum"), schema.get("maximum")
    if schema.get("exclusiveMinimum") is not None:
        least = schema["exclusiveMinimum"] + step
    if schema.get("exclusiveMaximum") is not None:
        most = schema["exclusiveMaximum"] - step
    value = step if least is None else max(step, -(-least // step) * step)
    if most is not None and value > most:
        value = most // step * step
    return value


def _string(schema: Mapping[str, Any], text: str, key: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    sentences = text.split(". ")
    whole = any(name in key.lower() for name in ("description", "text", "body", "content", "summary"))
    value = text if whole else sentences[len(key) % len(sentences)].rstrip(".")
    longest = schema.get("maxLength")
    value = value[:longest] if isinstance(longest, int) else value
    shortest = schema.get("minLength")
    return value.ljust(shortest, ".") if isinstance(shortest, int) and shortest <= 10_000 else value
