"""One request that a strict rule refuses, and one beside it that the whole table takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """`model` of both bodies; `other_model` where the accepted one differs by it alone."""

    refused: Body
    accepted: Body
    model: str = ""
    other_model: str | None = None


def user(*content: Any) -> dict[str, Any]:
    """Returns a message of the user's: one text, or parts."""
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    """Returns a message of the assistant's: one text, or parts."""
    return {"role": "assistant", "content": content[0] if isinstance(content[0], str) else list(content)}


#: A schema that every vendor takes, strict or not.
CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def with_property(**schema: Any) -> dict[str, Any]:
    """Returns the closed schema with another for its property."""
    return {**CLOSED, "properties": {"city": schema}}
