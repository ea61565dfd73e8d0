"""The parts of a strict table: what was sent, a rule, and the readings of a body that several rules need.

A rule never trusts the body's shape: it judges what any client may send, so every reading gives an empty value where
the wrong type stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it came: the JSON body, the model's name in lower case (in the body or the path), and the vendor
    that the virtual provider plays."""

    body: Mapping[str, Any]
    model: str = ""
    vendor: str = ""


#: The values for a rule's text where a request breaks it, by placeholder; None where it keeps it.
Found = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a vendor refuses.

    `find` returns the values for `text`, the vendor's own words. `source` is the vendor's page, or a public issue
    that recorded the refusal. `code` and `param` are fields of OpenAI's error object, and may hold placeholders too.
    """

    name: str
    source: str
    text: str
    find: Callable[[Sent], Found]
    status: int = 400
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that a request broke, in the vendor's words."""

    rule: str
    status: int
    message: str
    code: str | None = None
    param: str | None = None
    #: The vendor that refuses, where the wire has several.
    vendor: str = ""


def check(rules: tuple[Rule, ...], sent: Sent) -> Refusal | None:
    """Returns the first rule that the request breaks."""
    for rule in rules:
        found = rule.find(sent)
        if found is not None:
            param = rule.param.format_map(found) if rule.param else None
            return Refusal(rule.name, rule.status, rule.text.format_map(found), rule.code, param, sent.vendor)
    return None


def objects(value: Any) -> list[Mapping[str, Any]]:
    """Returns the objects of a list; empty ones in place of all else, so that positions stay."""
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def object_of(value: Any) -> Mapping[str, Any]:
    """Returns the value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str:
    """Returns the value where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """Returns the value where it is a number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def above(name: str, most: float, *path: str) -> Callable[[Sent], Found]:
    """Returns a finder of the number called `name`, inside the objects of `path`, that is above `most`."""

    def find(sent: Sent) -> Found:
        place: Any = sent.body
        for step in path:
            place = object_of(place).get(step)
        value = number(object_of(place).get(name))
        return {"value": f"{value:g}", "most": f"{most:g}"} if value is not None and value > most else None

    return find


_SINGLE = ("items", "additionalProperties", "not", "contains")


def schemas(schema: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Gives every schema inside a JSON Schema, itself included, with the way to it. A loop, since a caller may nest
    deeper than calls can."""
    rest: list[tuple[tuple[str, ...], Any]] = [((), schema)]
    while rest:
        way, part = rest.pop()
        if not isinstance(part, dict):
            continue
        yield way, part
        for name in ("properties", "$defs", "definitions", "patternProperties"):
            rest.extend(((*way, name, key), value) for key, value in object_of(part.get(name)).items())
        rest.extend(((*way, name), part.get(name)) for name in _SINGLE)
        for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            rest.extend(((*way, name, str(i)), value) for i, value in enumerate(objects(part.get(name))))


def has_type(schema: Mapping[str, Any], name: str) -> bool:
    """Returns True if the schema's type is, or may be, the one of that name."""
    kind = schema.get("type")
    return kind == name or (isinstance(kind, list) and name in kind)
