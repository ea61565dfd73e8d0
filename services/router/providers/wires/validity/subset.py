"""The part of JSON Schema that a vendor knows, for the schemas of answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any
from urllib.parse import unquote

from services.router.providers.wires.fields import encode

#: A reference that is no JSON pointer into the schema.
_ELSEWHERE = "/$elsewhere"
_SINGLE = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


@dataclass(frozen=True, slots=True)
class Subset:
    """`unknown`: keywords that are refused. `most_min_items`: the largest `minItems`, None for any. `one_of`: it is
    known; else it becomes `anyOf`. `closed`: objects must be closed. `needs_required`: the outer object must require
    something. `any_root`: the answer may be something else than an object. `recursive`: a schema may hold itself, or
    refer to what stands elsewhere."""

    unknown: frozenset[str] = frozenset()
    most_min_items: int | None = None
    one_of: bool = True
    closed: bool = False
    needs_required: bool = False
    any_root: bool = True
    recursive: bool = True


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Gives every schema inside a JSON Schema, itself included: objects of a fresh copy may be changed on the way.
    A loop, since a caller may nest deeper than calls can."""
    rest = [schema]
    while rest:
        part = rest.pop()
        if type(part) is not dict:
            continue
        yield part
        for name in _NAMED:
            named = part.get(name)
            if type(named) is dict:
                rest.extend(named.values())
        rest.extend(part.get(name) for name in _SINGLE)
        for name in _LISTED:
            listed = part.get(name)
            if type(listed) is list:
                rest.extend(listed)


def fit(schema: Any, subset: Subset) -> Any:
    """Fits a schema, which is changed, into the subset: what is unknown goes into the descriptions, in words. Returns
    the schema; None where the subset cannot say what it means."""
    if type(schema) is not dict or not (subset.recursive or _is_finite(schema)):
        return None
    if not subset.any_root and schema.get("type") != "object":
        if "type" in schema or "properties" not in schema:
            return None
        schema["type"] = "object"
    for part in subschemas(schema):
        if not subset.one_of and "oneOf" in part and "anyOf" not in part:
            part["anyOf"] = part.pop("oneOf")
        least = part.get("minItems")
        if subset.most_min_items is not None and type(least) is int and least > subset.most_min_items:
            describe(part, ("minItems",))
            part["minItems"] = subset.most_min_items
        describe(
            part, [name for name in part if name in subset.unknown or (name == "oneOf" and not subset.one_of)]
        )
        if subset.closed and is_object(part) and not _close(part):
            return None
    if subset.needs_required and not schema.get("required"):
        properties = schema.get("properties")
        if type(properties) is not dict or not properties:
            return None
        schema["required"] = [next(iter(properties))]
    return schema


def _is_finite(schema: dict[str, Any]) -> bool:
    """Returns True if every reference leads to a part of the schema that does not lead back to it. False for
    references without number, whose parts hold each other: they are not followed beyond what a schema of definitions
    beside each other needs."""
    parts = list(subschemas(schema))
    inside = {"": _references(parts)}
    rest, left = list(inside[""]), len(parts)
    while rest:
        place = rest.pop()
        if place in inside:
            continue
        target = _find(schema, place)
        parts = list(islice(subschemas(target), left + 1))
        left -= len(parts)
        if left < 0 or type(target) is not dict:
            return False
        inside[place] = _references(parts)
        rest.extend(inside[place])
    try:
        TopologicalSorter(inside).prepare()
    except CycleError:
        return False
    return True


def _references(parts: Iterable[dict[str, Any]]) -> frozenset[str]:
    """Returns the places that schemas refer to: JSON pointers."""
    found = [part["$ref"] for part in parts if "$ref" in part]
    return frozenset(
        name.removeprefix("#") if type(name) is str and name[:1] == "#" else _ELSEWHERE for name in found
    )


def _find(schema: Any, pointer: str) -> Any:
    """Returns what a JSON pointer leads to; None where there is nothing.
    https://datatracker.ietf.org/doc/html/rfc6901"""
    for step in pointer.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if type(schema) is list and name.isdecimal() and int(name[:9]) < len(schema):
            schema = schema[int(name[:9])]
        elif type(schema) is dict:
            schema = schema.get(name)
        else:
            return None
    return schema


def has_type(schema: dict[str, Any], name: str) -> bool:
    """Returns True if the schema's type is, or may be, the one of that name."""
    kind = schema.get("type")
    return kind == name or (type(kind) is list and name in kind)


def is_object(schema: dict[str, Any]) -> bool:
    """Returns True if the schema is, or may be, of an object."""
    return has_type(schema, "object") or "properties" in schema


def describe(schema: dict[str, Any], names: Any) -> None:
    """Moves keywords from a schema into its description."""
    moved = {name: schema.pop(name) for name in names if name in schema}
    if moved:
        before = schema.get("description")
        words = encode(moved).decode()
        schema["description"] = f"{before}\n\n{words}" if type(before) is str and before else words


def _close(schema: dict[str, Any]) -> bool:
    """Closes an object. Returns False where its properties have no names, so that none would be left."""
    more = schema.get("additionalProperties")
    if not schema.get("properties") and more is not False:
        return False
    if type(more) is dict and more:
        describe(schema, ("additionalProperties",))
    schema["additionalProperties"] = False
    return True
