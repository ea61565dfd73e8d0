"""JSON Schemas in requests: of tools' parameters, and of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import ResponseFormat, Tool
from libs.types import ErrorClass
from services.router.providers.wires.fields import Undecodable, as_dict, as_list, decode
from services.router.request.generation import ProviderFailure


def schema(text: str) -> Any:
    """Decodes a JSON Schema given as text. Raises ProviderFailure(INVALID_REQUEST) where it is not JSON."""
    try:
        return decode(text)
    except Undecodable:
        raise ProviderFailure(
            ErrorClass.INVALID_REQUEST, "a JSON Schema in the request is not JSON"
        ) from None


def parameters_schema(tool: Tool) -> Any:
    """Returns the schema of a tool's parameters; of an object without any where none is given."""
    return schema(tool.parameters_json) if tool.parameters_json else {"type": "object", "properties": {}}


def strict_schema(wanted: ResponseFormat) -> dict[str, Any]:
    """Returns name, schema and strictness of an answer's schema, as OpenAI's two APIs take it."""
    shape = schema(wanted.schema_json)
    return {"name": wanted.schema_name, "schema": shape, "strict": is_strict(shape)}


def is_strict(value: Any) -> bool:
    """Returns True if a schema meets the terms of OpenAI's strict mode: closed objects whose every property is
    required.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas; others are refused with a 400.
    """
    # A loop, since a caller may nest deeper than calls can.
    rest = [value]
    while rest:
        part = rest.pop()
        if type(part) is list:
            rest.extend(part)
        elif type(part) is dict:
            if part.get("type") == "object" or "properties" in part:
                properties, required = as_dict(part.get("properties")), as_list(part.get("required"))
                if part.get("additionalProperties") is not False or not _same_names(properties, required):
                    return False
            rest.extend(part.values())
    return True


def _same_names(properties: Mapping[str, Any], required: list[Any]) -> bool:
    return all(type(name) is str for name in required) and set(properties) == set(required)
