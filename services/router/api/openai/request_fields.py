"""The fields that requests of both dialects have: their JSON, and how they are read.

Bounded as the head of `decode` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from libs.conversation import ReasoningEffort, ResponseFormat, Role
from services.router.api.accept import Draft
from services.router.api.openai.decode import NOTHING, decode_small, is_set, json_text
from services.router.api.openai.errors import ApiError, invalid_parameter, unsupported
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.routing import Routing, read_routing
from services.router.request.generation import Prompt

#: The roles of messages in both dialects.
ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
#: Models differ in how many steps they know; Pointsman has these.
EFFORTS = {
    "none": ReasoningEffort.NONE,
    "minimal": ReasoningEffort.LOW,
    "low": ReasoningEffort.LOW,
    "medium": ReasoningEffort.MEDIUM,
    "high": ReasoningEffort.HIGH,
    "xhigh": ReasoningEffort.HIGH,
    "max": ReasoningEffort.HIGH,
}
#: The router's names of fields in the client's terms.
NAMES = {
    "models": "model",
    "labels": "metadata",
    "request_id": "x-request-id",
    "campaign": "x-pointsman-campaign",
    "max_cost": "x-pointsman-max-cost-usd",
    "max_attempts": "x-pointsman-max-attempts",
}
_CONTENT_TYPE = "x-pointsman-content-type"
_names = msgspec.json.Decoder(list[str] | None)
_labels = msgspec.json.Decoder(dict[str, str] | None)


class RequestBody(msgspec.Struct, kw_only=True):
    """The fields of both dialects that mean something here, besides tools, whose shapes differ."""

    model: str | None = None
    models: msgspec.Raw = NOTHING
    fallbacks: msgspec.Raw = NOTHING
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    metadata: msgspec.Raw = NOTHING
    top_logprobs: int | None = None
    # Taken, and named in a header as ignored.
    moderation: msgspec.Raw = NOTHING
    prompt_cache_key: msgspec.Raw = NOTHING
    prompt_cache_options: msgspec.Raw = NOTHING
    prompt_cache_retention: msgspec.Raw = NOTHING
    safety_identifier: msgspec.Raw = NOTHING
    service_tier: msgspec.Raw = NOTHING
    store: msgspec.Raw = NOTHING


class SchemaBody(msgspec.Struct):
    """The JSON Schema that an answer must fit."""

    name: str = ""
    schema: msgspec.Raw = NOTHING


#: Fields of both dialects that are taken and ignored.
IGNORED = (
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
)


def ignored_fields(request: RequestBody, names: Sequence[str]) -> list[str]:
    """Returns those of the fields that are set."""
    # Most requests set none, so nothing is read before it is known to be there.
    return [name for name in names if (raw := getattr(request, name)) and is_set(raw)]


def read_route(request: RequestBody, headers: Mapping[str, str]) -> Routing:
    """Returns the routing of a request. `headers` by lower-case name. Raises ApiError."""
    models, fallbacks = read_names("models", request.models), read_names("fallbacks", request.fallbacks)
    return read_routing(request.model, models, fallbacks, headers)


def make_request(
    request: RequestBody,
    prompt: Prompt,
    route: Routing,
    headers: Mapping[str, str],
    request_id: str,
    names: Mapping[str, str],
    ignored: Sequence[str],
) -> ParsedRequest:
    """Returns the request with its prompt and its routing. `names`: the dialect's, beside NAMES; `ignored`: its
    fields that are set and ignored. Raises ApiError."""
    draft = Draft(
        prompt,
        request_id=request_id,
        content_type=route.content_type,
        needs_schema=prompt.response_format is not None and bool(prompt.response_format.schema_json),
        models=route.models,
        strategy=route.strategy,
        priority=route.priority,
        campaign=route.campaign,
        max_cost_micro_usd=route.max_cost_micro_usd,
        max_attempts=route.max_attempts,
        hedge=route.hedge,
        labels=_read_labels(request),
    )
    content_type = _CONTENT_TYPE if _CONTENT_TYPE in headers else "model"
    all_names = {**NAMES, **names, "content_type": content_type}
    return ParsedRequest(
        draft, bool(request.stream), route.timeout, route.on_restart, all_names, tuple(ignored)
    )


def read_names(param: str, raw: msgspec.Raw) -> list[str]:
    """Returns a field's list of names. Raises ApiError."""
    return decode_small(param, raw, _names) or []


def output_limit(limit: int | None) -> int:
    """Returns the output limit as a draft has it, where 0 stands for none: an explicit 0 is out of range."""
    return 0 if limit is None else limit or -1


def read_role(at: str, name: str | None, known: Mapping[str, Role] = ROLES) -> Role:
    """Returns the role of a message. Raises ApiError."""
    role = known.get(name or "")
    if role is None:
        message = f"'{at}.role' must be one of {', '.join(known)}."
        raise invalid_parameter(f"{at}.role", message, "invalid_value")
    return role


def read_effort(param: str, value: str | None) -> ReasoningEffort | None:
    """Returns the reasoning effort; None where it is not set. Raises ApiError."""
    if value is None:
        return None
    if value not in EFFORTS:
        raise invalid_parameter(param, f"'{param}' must be one of {', '.join(EFFORTS)}.", "invalid_value")
    return EFFORTS[value]


def read_format(at: str, kind: str, schema_at: str, shape: SchemaBody) -> ResponseFormat | None:
    """Returns the format of the answer; None for text. `at` names it, `schema_at` its schema. Raises ApiError."""
    match kind:
        case "text":
            return None
        case "json_object":
            return ResponseFormat()
        case "json_schema":
            text = json_text(schema_at, shape.schema)
            if not text:
                message = f"Missing required parameter: '{schema_at}'."
                raise invalid_parameter(schema_at, message, "missing_required_parameter")
            return ResponseFormat(text, shape.name or "answer")
        case _:
            message = f"'{at}.type' must be text, json_object or json_schema."
            raise invalid_parameter(f"{at}.type", message, "invalid_value")


def unsupported_tool(index: int, kind: str) -> ApiError:
    """Returns the error for a tool that is not a function."""
    at = f"tools[{index}]"
    return unsupported(at, f"Only functions are supported; '{at}' is of type '{kind}'.")


def demanded_tool(kind: str, name: str | None) -> str:
    """Returns the name of the tool that must be called. Raises ApiError where the choice does not name a function."""
    if kind != "function" or not name:
        raise unsupported("tool_choice", "'tool_choice' must be auto, none, required or name one function.")
    return name


def _read_labels(request: RequestBody) -> dict[str, str]:
    """Returns the labels to keep with the usage record. Raises ApiError."""
    kept = decode_small("metadata", request.metadata, _labels) or {}
    return {**kept, "user": request.user} if request.user else kept
