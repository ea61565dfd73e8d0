"""The rules of Cohere's chat (v2). Source, where no other is named: docs.cohere.com/reference/chat."""

from __future__ import annotations

from dev.simulator.strict import chat, models
from dev.simulator.strict.rule import Found, Rule, Sent, above, number, object_of, schemas, text

_CHAT = "https://docs.cohere.com/reference/chat"
_STRUCTURED = "https://docs.cohere.com/docs/structured-outputs"

_NAMES = """
model messages stream tools strict_tools tool_choice documents citation_options response_format safety_mode
max_tokens stop_sequences temperature seed frequency_penalty presence_penalty k p logprobs thinking priority
raw_prompting
"""
_FIELDS = frozenset(_NAMES.split())
_ROLES = ("user", "assistant", "system", "tool")
_UNSUPPORTED_NAMES = """
minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems uniqueItems multipleOf
minProperties maxProperties oneOf allOf
"""
_UNSUPPORTED = tuple(_UNSUPPORTED_NAMES.split())
_MOST_STOPS = 5


def _unknown_field(sent: Sent) -> Found:
    return next(({"name": name} for name in sent.body if name not in _FIELDS), None)


def _role(sent: Sent) -> Found:
    for message in chat.messages(sent):
        if message.get("role") not in _ROLES:
            return {"role": message.get("role")}
    return None


def _empty_message(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        if not message.get("content") and not message.get("tool_calls") and message.get("role") != "tool":
            return {"i": i}
    return None


def _last_message(sent: Sent) -> Found:
    given = chat.messages(sent)
    return {} if given and given[-1].get("role") not in ("user", "tool") else None


def _many_stops(sent: Sent) -> Found:
    stops = sent.body.get("stop_sequences")
    return {} if isinstance(stops, list) and len(stops) > _MOST_STOPS else None


def _json_and_tools(sent: Sent) -> Found:
    wanted = object_of(sent.body.get("response_format")).get("type") == "json_object"
    return {} if wanted and (sent.body.get("tools") or sent.body.get("documents")) else None


def _unknown_keyword(sent: Sent) -> Found:
    wanted = object_of(sent.body.get("response_format"))
    for _, part in schemas(wanted.get("json_schema") or wanted.get("schema")):
        for name in _UNSUPPORTED:
            if name in part:
                return {"name": name}
    return None


def _schema_type(sent: Sent) -> Found:
    wanted = object_of(sent.body.get("response_format"))
    schema = object_of(wanted.get("json_schema") or wanted.get("schema"))
    return {} if schema and schema.get("type") != "object" else None


def _nothing_required(sent: Sent) -> Found:
    wanted = object_of(sent.body.get("response_format"))
    schema = object_of(wanted.get("json_schema") or wanted.get("schema"))
    return {} if schema.get("type") == "object" and not schema.get("required") else None


def _choice(sent: Sent) -> Found:
    choice = sent.body.get("tool_choice")
    return {} if choice is not None and choice not in ("REQUIRED", "NONE") else None


def _choice_without_tools(sent: Sent) -> Found:
    return {} if sent.body.get("tool_choice") is not None and not sent.body.get("tools") else None


def _large_limit(sent: Sent) -> Found:
    most, asked = models.most_output(sent.model), number(sent.body.get("max_tokens"))
    return {"most": most} if most is not None and asked is not None and asked > most else None


def _image_role(sent: Sent) -> Found:
    roles = {i: text(message.get("role")) for i, message in enumerate(chat.messages(sent))}
    for i, _, part in chat.parts(sent):
        if part.get("type") == "image_url" and roles[i] != "user":
            return {"i": i}
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        "unknown field",
        _CHAT,
        "invalid request: unknown field: parameter '{name}' is not a valid field.",
        _unknown_field,
        status=422,
    ),
    Rule("role", _CHAT, "invalid request: invalid role '{role}' in messages", _role),
    Rule(
        "empty message",
        _CHAT,
        "invalid request: message at index {i} must have content or tool calls",
        _empty_message,
    ),
    Rule(
        "last message",
        _CHAT,
        "invalid request: the last message must be from a user or a tool",
        _last_message,
    ),
    Rule(
        "call without result",
        "https://docs.cohere.com/docs/tool-use-overview",
        "invalid request: all tool calls must have a result; missing: {ids}",
        chat.unanswered,
    ),
    Rule(
        "result without call",
        "https://docs.cohere.com/docs/tool-use-overview",
        "invalid request: tool call id '{id}' not found in previous tool calls",
        chat.unasked,
    ),
    Rule("stop sequences", _CHAT, "invalid request: stop_sequences can have at most 5 elements", _many_stops),
    Rule(
        "JSON with tools",
        _CHAT,
        "invalid request: response_format is not supported in combination with documents or tools",
        _json_and_tools,
    ),
    Rule(
        "schema of no object",
        _STRUCTURED,
        "invalid request: json_schema: the top level schema must be an object",
        _schema_type,
    ),
    Rule(
        "nothing required",
        _STRUCTURED,
        "invalid request: json_schema: at least one field must be required",
        _nothing_required,
    ),
    Rule(
        "unknown keyword",
        _STRUCTURED,
        "invalid request: json_schema: keyword '{name}' is not supported",
        _unknown_keyword,
    ),
    Rule("tool choice", _CHAT, "invalid request: tool_choice must be one of REQUIRED, NONE", _choice),
    Rule("choice without tools", _CHAT, "invalid request: tool_choice requires tools", _choice_without_tools),
    Rule(
        "limit above the model's",
        _CHAT,
        "invalid request: max_tokens must be less than or equal to {most}, the maximum output length of this model.",
        _large_limit,
    ),
    Rule(
        "temperature",
        _CHAT,
        "invalid request: temperature must be between 0 and 1.0 inclusive.",
        above("temperature", 1),
    ),
    Rule("p", _CHAT, "invalid request: p must be between 0.01 and 0.99 inclusive.", above("p", 0.99)),
    Rule(
        "presence penalty",
        _CHAT,
        "invalid request: presence_penalty must be between 0 and 1 inclusive.",
        above("presence_penalty", 1),
    ),
    Rule(
        "frequency penalty",
        _CHAT,
        "invalid request: frequency_penalty must be between 0 and 1 inclusive.",
        above("frequency_penalty", 1),
    ),
    Rule(
        "image of no user",
        _CHAT,
        "invalid request: message at index {i}: images are only allowed in user messages",
        _image_role,
    ),
)
