"""The rules of xAI, Cerebras and Perplexity for OpenAI's chat completions."""

from __future__ import annotations

from dev.simulator.strict import chat
from dev.simulator.strict.compatible import COMMON_RULES
from dev.simulator.strict.rule import Found, Rule, Sent, number, object_of, objects, schemas, text

_ISSUES = "https://github.com/"
_CEREBRAS = "https://inference-docs.cerebras.ai/resources/openai"
_INVALID = "invalid-argument"
_FORMAT = "wrong_api_format"

#: The fields that xAI's reasoning models do not take, by its own names for them.
_UNREASONED = {"stop": "stop", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
_EFFORT = ("grok-3-mini", "grok-4.3", "grok-4.5", "grok-4.20-multi-agent")
_NO_CEREBRAS = ("frequency_penalty", "presence_penalty", "logit_bias", "service_tier", "store")
_CEREBRAS_MESSAGE = frozenset(("role", "content", "name", "tool_calls", "tool_call_id", "reasoning"))
#: The keywords that Cerebras does not take in an answer's schema.
_UNBOUND = ("minItems", "maxItems", "pattern", "format")


def _reasons(model: str) -> bool:
    known = "grok-4" in model or "grok-3-mini" in model or "grok-code" in model
    return known and "non-reasoning" not in model


def _unreasoned(sent: Sent) -> Found:
    for name, theirs in _UNREASONED.items() if _reasons(sent.model) else ():
        if sent.body.get(name) is not None:
            return {"model": sent.model, "name": theirs}
    return None


def _effort(sent: Sent) -> Found:
    known = any(name in sent.model for name in _EFFORT)
    return {"model": sent.model} if sent.body.get("reasoning_effort") is not None and not known else None


def _no_element(sent: Sent) -> Found:
    for message in chat.messages(sent):
        if message.get("content") == [] and not message.get("tool_calls"):
            return {}
    return None


def _empty_message(sent: Sent) -> Found:
    for message in chat.messages(sent):
        given = message.get("content")
        said = (
            given
            if isinstance(given, str)
            else any(part != {"type": "text", "text": ""} for part in objects(given))
        )
        if message.get("role") in ("system", "user") and not said:
            return {}
    return None


def _cerebras_field(sent: Sent) -> Found:
    for name in _NO_CEREBRAS:
        if sent.body.get(name) is not None:
            return {"name": name}
    return None


def _cerebras_message_field(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        for name in message:
            if name not in _CEREBRAS_MESSAGE:
                return {"where": f"messages.{i}.{text(message.get('role'))}.{name}"}
    return None


def _cerebras_schema(sent: Sent) -> Found:
    wanted = object_of(object_of(sent.body.get("response_format")).get("json_schema"))
    for _, part in schemas(wanted.get("schema")):
        bad = [name for name in _UNBOUND if name in part]
        if bad:
            return {"names": "{" + ", ".join(f"'{name}'" for name in bad) + "}"}
    return None


def _no_perplexity_role(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        if message.get("role") not in ("system", "user", "assistant"):
            return {"i": i}
    return None


def _no_perplexity_content(sent: Sent) -> Found:
    for i, message in enumerate(chat.messages(sent)):
        if message.get("content") is None:
            return {"i": i}
    return None


def _unalternating(sent: Sent) -> Found:
    roles = [text(message.get("role")) for message in chat.messages(sent)]
    while roles and roles[0] == "system":
        roles.pop(0)
    awaited = ("user", "assistant")
    return {} if any(role != awaited[i % 2] for i, role in enumerate(roles)) else None


def _last_of_another(sent: Sent) -> Found:
    given = chat.messages(sent)
    return {} if given and given[-1].get("role") != "user" else None


def _zero_penalty(sent: Sent) -> Found:
    penalty = number(sent.body.get("frequency_penalty"))
    return {} if penalty is not None and penalty <= 0 else None


XAI_RULES: tuple[Rule, ...] = (
    Rule(
        "field of no reasoning model",
        _ISSUES + "lidge-jun/opencodex/issues/5278",
        "Model {model} does not support parameter {name}.",
        _unreasoned,
        code=_INVALID,
    ),
    Rule(
        "effort",
        _ISSUES + "NousResearch/hermes-agent/pull/23435",
        "Model {model} does not support parameter reasoningEffort.",
        _effort,
        code=_INVALID,
    ),
    Rule(
        "no content element",
        _ISSUES + "AstrBotDevs/AstrBot/issues/6447",
        "Invalid request content: Each message must have at least one content element.",
        _no_element,
        code="Client specified an invalid argument",
    ),
    Rule(
        "empty message",
        _ISSUES + "langbot-app/LangBot/issues/1205",
        "An empty message was provided. Every message needs at least one non-empty content element.",
        _empty_message,
        code="Client specified an invalid argument",
    ),
    *COMMON_RULES,
)

CEREBRAS_RULES: tuple[Rule, ...] = (
    Rule(
        "unsupported field",
        _CEREBRAS,
        "body.{name}: property 'body.{name}' is unsupported",
        _cerebras_field,
        code=_FORMAT,
        param="validation_error",
    ),
    Rule(
        "unsupported field of a message",
        _ISSUES + "Alishahryar1/free-claude-code/issues/1136",
        "{where}: property '{where}' is unsupported",
        _cerebras_message_field,
        code=_FORMAT,
        param="validation_error",
    ),
    Rule(
        "unknown keyword",
        _ISSUES + "musistudio/claude-code-router/issues/708",
        "Unsupported JSON schema fields: {names}",
        _cerebras_schema,
        code=_FORMAT,
        param="response_format",
    ),
    *COMMON_RULES,
)

PERPLEXITY_RULES: tuple[Rule, ...] = (
    Rule(
        "tools",
        _ISSUES + "pipecat-ai/pipecat/pull/4862",
        "Tool calling is not supported for this model",
        lambda sent: {} if sent.body.get("tools") else None,
    ),
    Rule(
        "no content",
        _ISSUES + "BerriAI/litellm/issues/11665",
        '["At body -> messages -> {i} -> content: Field required"]',
        _no_perplexity_content,
    ),
    Rule(
        "role",
        _ISSUES + "BerriAI/litellm/issues/11665",
        "[\"At body -> messages -> {i} -> role: Input should be 'system', 'user' or 'assistant'\"]",
        _no_perplexity_role,
    ),
    Rule(
        "roles in turn",
        _ISSUES + "perplexityai/api-discussion/issues/265",
        "After the (optional) system message(s), user and assistant roles should be alternating.",
        _unalternating,
    ),
    Rule(
        "last message",
        _ISSUES + "BerriAI/litellm/issues/3918",
        "Last message must have role `user`.",
        _last_of_another,
    ),
    Rule(
        "penalty of nothing",
        _ISSUES + "logancyang/obsidian-copilot/issues/431",
        "Frequency penalty must satisfy p > 0.",
        _zero_penalty,
    ),
)
