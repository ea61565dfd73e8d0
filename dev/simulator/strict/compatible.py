"""The rules of vendors that speak OpenAI's chat completions with some of their own: Mistral, Groq, DeepSeek; and
those of any such server."""

from __future__ import annotations

import re

from dev.simulator.strict import chat, models
from dev.simulator.strict.openai_schema import bad_in_strict
from dev.simulator.strict.rule import Found, Rule, Sent, above, number, object_of, schemas, text

_ISSUES = "https://github.com/"
_MISTRAL = "https://docs.mistral.ai/api/endpoint/chat"
_GROQ = "https://console.groq.com/docs/api-reference#chat-create"
_DEEPSEEK = "https://api-docs.deepseek.com/api/create-chat-completion"

_MISTRAL_NAMES = """
model temperature top_p max_tokens stream stop random_seed metadata messages response_format tools tool_choice
presence_penalty frequency_penalty n prediction parallel_tool_calls prompt_mode safe_prompt reasoning_effort
"""
_MISTRAL_FIELDS = frozenset(_MISTRAL_NAMES.split())
_MISTRAL_MESSAGE = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
_GROQ_NAMES = """
messages model citation_options compound_custom disable_tool_validation documents exclude_domains frequency_penalty
function_call functions include_domains include_reasoning logit_bias logprobs max_completion_tokens max_tokens
metadata n parallel_tool_calls presence_penalty reasoning_effort reasoning_format response_format search_settings
seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user
"""
_GROQ_FIELDS = frozenset(_GROQ_NAMES.split())
_NINE = re.compile(r"^[a-zA-Z0-9]{9}$")
_MOST_STOPS = 4
_DEEPSEEK_STOPS = 16


def _mistral_field(sent: Sent) -> Found:
    for name in sent.body:
        if name not in _MISTRAL_FIELDS:
            return {"where": f'"body","{name}"'}
    for i, message in enumerate(chat.messages(sent)):
        role = text(message.get("role"))
        for name in message if role in _MISTRAL_MESSAGE else ():
            # A field that is null is as one that is missing.
            if name not in _MISTRAL_MESSAGE[role] and message[name] is not None:
                return {"where": f'"body","messages",{i},"{role}","{name}"'}
    return None


def _nine_characters(sent: Sent) -> Found:
    ids = [text(call.get("id")) for _, _, call in chat.calls(sent)]
    ids += [
        text(message.get("tool_call_id")) for message in chat.messages(sent) if message.get("role") == "tool"
    ]
    return next(({"id": call} for call in ids if not _NINE.match(call)), None)


def _last_role(sent: Sent) -> Found:
    given = chat.messages(sent)
    last = given[-1] if given else {}
    if last.get("role") in ("user", "tool") or (
        last.get("role") == "assistant" and last.get("prefix") is True
    ):
        return None
    return {"role": last.get("role")} if given else None


#: The roles that may come after each.
_AFTER = {
    "": ("system", "user", "assistant"),
    "system": ("system", "user", "assistant"),
    "user": ("user", "assistant"),
    "assistant": ("user", "assistant", "tool"),
    "tool": ("tool", "assistant"),
}


def _order(sent: Sent) -> Found:
    before = ""
    for message in chat.messages(sent):
        role = text(message.get("role"))
        if role not in _AFTER.get(before, (role,)):
            return {"role": role, "before": before}
        before = role
    return None


def _uneven(sent: Sent) -> Found:
    return {} if chat.unanswered(sent) is not None or chat.unasked(sent) is not None else None


def _nothing_said(sent: Sent) -> Found:
    for message in chat.messages(sent):
        empty = not message.get("content") and not message.get("tool_calls")
        if message.get("role") == "assistant" and empty:
            return {}
    return None


def _unknown_keyword(sent: Sent) -> Found:
    wanted = object_of(object_of(sent.body.get("response_format")).get("json_schema"))
    for _, part in schemas(wanted.get("schema")):
        for name in ("maxItems", "minItems", "uniqueItems"):
            if name in part and wanted.get("strict") is True:
                return {"name": name}
    return None


def _groq_field(sent: Sent) -> Found:
    return next(({"name": name} for name in sent.body if name not in _GROQ_FIELDS), None)


def _groq_message_field(sent: Sent) -> Found:
    known = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "function_call"}
    for i, message in enumerate(chat.messages(sent)):
        for name in message:
            if name not in known:
                return {"i": i, "role": message.get("role"), "name": name}
    return None


def _no_effort(sent: Sent) -> Found:
    known = any(name in sent.model for name in ("gpt-oss", "qwen3", "deepseek-r1"))
    return {} if sent.body.get("reasoning_effort") is not None and not known else None


def _groq_schema(sent: Sent) -> Found:
    wanted = object_of(object_of(sent.body.get("response_format")).get("json_schema"))
    for found in bad_in_strict(wanted.get("schema")) if wanted.get("strict") is True else ():
        return found
    return None


def _json_and_tools(sent: Sent) -> Found:
    wanted = object_of(sent.body.get("response_format")).get("type") in ("json_object", "json_schema")
    return {} if wanted and sent.body.get("tools") else None


def _many_stops(sent: Sent) -> Found:
    count = len(chat.stops(sent))
    return {"count": count} if count > _MOST_STOPS else None


def _many_stops_deepseek(sent: Sent) -> Found:
    return {} if len(chat.stops(sent)) > _DEEPSEEK_STOPS else None


def _negative_seed(sent: Sent) -> Found:
    seed = number(sent.body.get("random_seed"))
    return {} if seed is not None and seed < 0 else None


def _answer_type(sent: Sent) -> Found:
    kind = object_of(sent.body.get("response_format")).get("type")
    return {} if kind not in (None, "text", "json_object") else None


def _reasoning_lost(sent: Sent) -> Found:
    thinks = object_of(sent.body.get("thinking")).get("type") == "enabled" or "reasoner" in sent.model
    given = chat.messages(sent)
    last = max((i for i, message in enumerate(given) if message.get("role") == "user"), default=0)
    for i, message in enumerate(given):
        lost = message.get("tool_calls") and "reasoning_content" not in message
        if thinks and i > last and message.get("role") == "assistant" and lost:
            return {"i": i}
    return None


def _forced_reasoner(sent: Sent) -> Found:
    forced = sent.body.get("tool_choice") not in (None, "auto", "none")
    return {} if "reasoner" in sent.model and forced else None


def _forced_thinker(sent: Sent) -> Found:
    forced = sent.body.get("tool_choice") not in (None, "auto", "none")
    thinks = object_of(sent.body.get("thinking")).get("type") != "disabled"
    return {} if "deepseek-v4" in sent.model and thinks and forced else None


def _large_limit(sent: Sent) -> Found:
    most, asked = models.most_output(sent.model), number(sent.body.get("max_tokens"))
    return {"most": most} if most is not None and asked is not None and asked > most else None


#: The rules of any server of chat completions, its model's template at the latest.
COMMON_RULES: tuple[Rule, ...] = (
    Rule(
        "call without result",
        _ISSUES + "QwenLM/qwen-code/issues/606",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
        " The following tool_call_ids did not have response messages: {ids}",
        chat.unanswered,
    ),
    Rule(
        "result without call",
        "https://platform.openai.com/docs/guides/function-calling",
        "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
        chat.unasked,
    ),
)

MISTRAL_RULES: tuple[Rule, ...] = (
    Rule(
        "extra field",
        _ISSUES + "editor-code-assistant/eca/issues/231",
        '{{"detail":[{{"type":"extra_forbidden","loc":[{where}],"msg":"Extra inputs are not permitted"}}]}}',
        _mistral_field,
        status=422,
    ),
    Rule(
        "call id",
        _ISSUES + "langchain-ai/langchain/pull/24668",
        "Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9.",
        _nine_characters,
        code="3280",
    ),
    Rule(
        "order",
        _ISSUES + "avante-corp/avante.nvim/pull/2695",
        "Unexpected role '{role}' after role '{before}'",
        _order,
        code="3230",
    ),
    Rule(
        "last message",
        _ISSUES + "0xPlaygrounds/rig/pull/1130",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got {role}",
        _last_role,
    ),
    Rule(
        "calls and results",
        _ISSUES + "mistralai/client-ts/issues/106",
        "Not the same number of function calls and responses",
        _uneven,
        code="3230",
    ),
    Rule(
        "nothing said",
        _MISTRAL,
        "Assistant message must have either content or tool_calls, but not none.",
        _nothing_said,
        code="3240",
    ),
    Rule(
        "unknown keyword",
        _MISTRAL,
        "json_schema: property '{name}' is not supported",
        _unknown_keyword,
    ),
    Rule(
        "seed",
        _MISTRAL,
        "Input should be greater than or equal to 0",
        _negative_seed,
        status=422,
    ),
    Rule(
        "temperature",
        _MISTRAL,
        "Input should be less than or equal to 1.5",
        above("temperature", 1.5),
        status=422,
    ),
)

GROQ_RULES: tuple[Rule, ...] = (
    Rule(
        "unknown field",
        _ISSUES + "musistudio/llms/pull/64",
        "property '{name}' is unsupported",
        _groq_field,
    ),
    Rule(
        "unknown field of a message",
        _ISSUES + "tashfeenahmed/freellmapi/issues/1070",
        "'messages.{i}' : for 'role:{role}' the following must be satisfied[('messages.{i}' : property '{name}' is"
        " unsupported)]",
        _groq_message_field,
    ),
    *COMMON_RULES,
    Rule(
        "JSON without the word",
        "https://console.groq.com/docs/structured-outputs#json-object-mode",
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
        chat.without_word,
    ),
    Rule(
        "JSON with tools",
        "https://console.groq.com/docs/structured-outputs",
        "json mode cannot be combined with tool/function calling",
        _json_and_tools,
    ),
    Rule(
        "strict answer",
        "https://console.groq.com/docs/structured-outputs#schema-requirements",
        "invalid JSON schema for response_format: In context={context}, {why}",
        _groq_schema,
    ),
    Rule(
        "effort of no reasoning model",
        "https://console.groq.com/docs/reasoning",
        "`reasoning_effort` is not supported with this model",
        _no_effort,
        param="reasoning_effort",
    ),
    Rule(
        "stop sequences",
        _GROQ,
        "'stop' : maximum number of items is 4, but found {count} items",
        _many_stops,
    ),
    Rule("temperature", _GROQ, "'temperature' : must be less than or equal to 2", above("temperature", 2)),
)

DEEPSEEK_RULES: tuple[Rule, ...] = (
    *COMMON_RULES,
    Rule(
        "kind of an answer",
        _ISSUES + "UKGovernmentBEIS/inspect_ai/issues/4916",
        "This response_format type is unavailable now",
        _answer_type,
        code="invalid_request_error",
    ),
    Rule(
        "JSON without the word",
        _ISSUES + "browserbase/stagehand/issues/1204",
        "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.",
        chat.without_word,
        code="invalid_request_error",
    ),
    Rule(
        "reasoning not sent back",
        _ISSUES + "hotovo/aider-desk/issues/529",
        "Missing `reasoning_content` field in the assistant message at message index {i}. For more information,"
        " please refer to https://api-docs.deepseek.com/guides/thinking_mode#tool-calls",
        _reasoning_lost,
        code="invalid_request_error",
    ),
    Rule(
        "forced tool of a reasoner",
        "https://api-docs.deepseek.com/guides/thinking_mode",
        "deepseek-reasoner does not support this tool_choice",
        _forced_reasoner,
        code="invalid_request_error",
    ),
    Rule(
        "forced tool while it thinks",
        _ISSUES + "tickernelz/opencode-mem/issues/253",
        "Thinking mode does not support this tool_choice",
        _forced_thinker,
    ),
    Rule(
        "limit above the model's",
        _DEEPSEEK,
        "Invalid max_tokens value, the valid range of max_tokens is [1, {most}]",
        _large_limit,
        code="invalid_request_error",
    ),
    Rule(
        "stop sequences",
        _DEEPSEEK,
        "Invalid stop value, at most 16 stop sequences are supported",
        _many_stops_deepseek,
        code="invalid_request_error",
    ),
    Rule(
        "temperature",
        _DEEPSEEK,
        "Invalid temperature value, the valid range of temperature is [0, 2.0]",
        above("temperature", 2),
        code="invalid_request_error",
    ),
)
