"""The rules of OpenAI's chat completions; Azure's are the same models behind the same checks."""

from __future__ import annotations

import re

from dev.simulator.strict import chat, models
from dev.simulator.strict.openai_messages import MESSAGE_RULES
from dev.simulator.strict.openai_tools import TOOL_RULES
from dev.simulator.strict.rule import Found, Rule, Sent, above, number

_ISSUES = "https://github.com/"
_CHAT = "https://platform.openai.com/docs/api-reference/chat/create"
_REASONING = "https://platform.openai.com/docs/guides/reasoning"
_NAMES = """
messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key
prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store
stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options
"""
_FIELDS = frozenset(_NAMES.split())
#: Of every model that reasons; some take temperature 1, which is their only one.
_UNSUPPORTED = (
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "stop",
)
_MOST_STOPS = 4


def _unknown_field(sent: Sent) -> Found:
    return next(({"name": name} for name in sent.body if name not in _FIELDS), None)


def _many_stops(sent: Sent) -> Found:
    count = len(chat.stops(sent))
    return {"count": count} if count > _MOST_STOPS else None


def _old_limit(sent: Sent) -> Found:
    return {} if models.reasons(sent.model) and sent.body.get("max_tokens") is not None else None


def _both_limits(sent: Sent) -> Found:
    both = ("max_tokens", "max_completion_tokens")
    return {} if all(sent.body.get(name) is not None for name in both) else None


def _large_limit(sent: Sent) -> Found:
    most = models.most_output(sent.model)
    for name in ("max_tokens", "max_completion_tokens"):
        asked = number(sent.body.get(name))
        if most is not None and asked is not None and asked > most:
            return {"name": name, "asked": int(asked), "most": most}
    return None


def _unsupported(sent: Sent) -> Found:
    if not models.reasons(sent.model):
        return None
    return next(({"name": name} for name in _UNSUPPORTED if sent.body.get(name) is not None), None)


def _fixed_temperature(sent: Sent) -> Found:
    value = number(sent.body.get("temperature"))
    return {"value": f"{value:g}"} if models.reasons(sent.model) and value not in (None, 1) else None


def _no_effort(sent: Sent) -> Found:
    known = not sent.model.startswith(("gpt-4", "gpt-3"))
    return None if known or sent.body.get("reasoning_effort") is None else {}


def _effort(sent: Sent) -> Found:
    effort = sent.body.get("reasoning_effort")
    if effort is None or not models.reasons(sent.model):
        return None
    taken = ["low", "medium", "high"]
    if re.search(r"gpt-5\.[1-9]", sent.model):
        taken = ["none", *taken]
    elif "gpt-5" in sent.model:
        taken = ["minimal", *taken]
    if effort in taken or (effort == "xhigh" and re.search(r"gpt-5\.[2-9]", sent.model)):
        return None
    listed = ", ".join(f"'{word}'" for word in taken[:-1])
    return {"effort": effort, "taken": f"{listed}, and '{taken[-1]}'"}


RULES: tuple[Rule, ...] = (
    Rule(
        "unknown field",
        _CHAT,
        "Unrecognized request argument supplied: {name}",
        _unknown_field,
    ),
    *MESSAGE_RULES,
    *TOOL_RULES,
    Rule(
        "stop sequences",
        _ISSUES + "continuedev/continue/issues/2461",
        "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length"
        " {count} instead.",
        _many_stops,
        code="array_above_max_length",
        param="stop",
    ),
    Rule(
        "max_tokens of a reasoning model",
        _ISSUES + "FoundationAgents/OpenManus/issues/555",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        _old_limit,
        code="unsupported_parameter",
        param="max_tokens",
    ),
    Rule(
        "two limits",
        _CHAT,
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        _both_limits,
        code="invalid_parameter_combination",
    ),
    Rule(
        "limit above the model's",
        _ISSUES + "opencode-ai/opencode/issues/140",
        "max_tokens is too large: {asked}. This model supports at most {most} completion tokens, whereas you provided"
        " {asked}.",
        _large_limit,
        code="invalid_value",
        param="{name}",
    ),
    Rule(
        "temperature of a reasoning model",
        _ISSUES + "decolua/9router/issues/560",
        "Unsupported value: 'temperature' does not support {value} with this model. Only the default (1) value is"
        " supported.",
        _fixed_temperature,
        code="unsupported_value",
        param="temperature",
    ),
    Rule(
        "field of no reasoning model",
        _REASONING,
        "Unsupported parameter: '{name}' is not supported with this model.",
        _unsupported,
        code="unsupported_parameter",
        param="{name}",
    ),
    Rule(
        "effort of no reasoning model",
        _REASONING,
        "Unrecognized request argument supplied: reasoning_effort",
        _no_effort,
    ),
    Rule(
        "effort",
        _REASONING,
        "Unsupported value: 'reasoning_effort' does not support '{effort}' with this model. Supported values are:"
        " {taken}.",
        _effort,
        code="unsupported_value",
        param="reasoning_effort",
    ),
    *(
        Rule(
            name,
            _CHAT,
            f"Invalid '{name}': decimal above maximum value. Expected a value <= {{most}}, but got {{value}}"
            " instead.",
            above(name, most),
            code="decimal_above_max_value",
            param=name,
        )
        for name, most in (
            ("temperature", 2),
            ("top_p", 1),
            ("presence_penalty", 2),
            ("frequency_penalty", 2),
        )
    ),
)
