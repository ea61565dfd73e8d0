"""The rules of Amazon Bedrock's Converse for all models; those of Anthropic's models behind it come through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import DecodeError
from msgspec.json import decode

from dev.simulator.strict import models
from dev.simulator.strict.anthropic_schema import GRAMMAR_RULES
from dev.simulator.strict.bedrock_messages import MESSAGE_RULES, MODEL, blocks, violation
from dev.simulator.strict.rule import Found, Rule, Sent, check, number, object_of, objects, text

_ISSUES = "https://github.com/"
_REFERENCE = "https://docs.aws.amazon.com/bedrock/latest/APIReference/"
_CONVERSE = _REFERENCE + "API_runtime_Converse.html"
_NAMES = """
messages system inferenceConfig toolConfig guardrailConfig additionalModelRequestFields promptVariables
additionalModelResponseFieldPaths requestMetadata performanceConfig serviceTier outputConfig
"""
_FIELDS = frozenset(_NAMES.split())
_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


def _specs(sent: Sent) -> list[Mapping[str, Any]]:
    tools = objects(object_of(sent.body.get("toolConfig")).get("tools"))
    return [object_of(tool.get("toolSpec")) for tool in tools if "toolSpec" in tool]


def _unknown_field(sent: Sent) -> Found:
    return next(({"name": name} for name in sent.body if name not in _FIELDS), None)


def _no_config(sent: Sent) -> Found:
    uses = any("toolUse" in block or "toolResult" in block for _, _, block in blocks(sent))
    return {} if uses and not sent.body.get("toolConfig") else None


def _no_tools(sent: Sent) -> Found:
    return {} if object_of(sent.body.get("toolConfig")).get("tools", None) == [] else None


def _tool_name(sent: Sent) -> Found:
    for i, spec in enumerate(_specs(sent)):
        name = text(spec.get("name"))
        if not _NAME.match(name):
            return {"name": name, "where": f"toolConfig.tools.{i + 1}.member.toolSpec.name"}
    return None


def _empty_description(sent: Sent) -> Found:
    for i, spec in enumerate(_specs(sent)):
        if spec.get("description") == "":
            return {"where": f"toolConfig.tools.{i + 1}.member.toolSpec.description"}
    return None


def _schema_type(sent: Sent) -> Found:
    for i, spec in enumerate(_specs(sent)):
        if object_of(object_of(spec.get("inputSchema")).get("json")).get("type") != "object":
            return {"i": i}
    return None


def _answers_schema(sent: Sent) -> Found:
    """Anthropic's models take the same part of JSON Schema as at home."""
    wanted = object_of(object_of(sent.body.get("outputConfig")).get("textFormat"))
    schema = object_of(object_of(wanted.get("structure")).get("jsonSchema")).get("schema")
    if "anthropic." not in sent.model or not isinstance(schema, str):
        return None
    try:
        parsed = decode(schema)
    except DecodeError:
        return {"why": "the schema is no JSON"}
    wrapped = Sent({"output_config": {"format": {"type": "json_schema", "schema": parsed}}}, sent.model)
    refusal = check(GRAMMAR_RULES, wrapped)
    return {"why": refusal.message} if refusal else None


def _large_limit(sent: Sent) -> Found:
    asked = number(object_of(sent.body.get("inferenceConfig")).get("maxTokens"))
    most = models.most_output(sent.model)
    return {"most": most} if most is not None and asked is not None and asked > most else None


def _temperature(sent: Sent) -> Found:
    value = number(object_of(sent.body.get("inferenceConfig")).get("temperature"))
    return {"value": f"{value:g}"} if value is not None and not 0 <= value <= 1 else None


def _both_sampling(sent: Sent) -> Found:
    config = object_of(sent.body.get("inferenceConfig"))
    both = config.get("temperature") is not None and config.get("topP") is not None
    return {} if both and models.takes_one_sampling_field(sent.model) else None


def _empty_stop(sent: Sent) -> Found:
    stops = object_of(sent.body.get("inferenceConfig")).get("stopSequences")
    return {} if isinstance(stops, list) and "" in stops else None


def _blank_stop(sent: Sent) -> Found:
    stops = object_of(sent.body.get("inferenceConfig")).get("stopSequences")
    given = stops if isinstance(stops, list) and "anthropic." in sent.model else []
    return {} if any(isinstance(stop, str) and stop and not stop.strip() for stop in given) else None


def _thinking_forced(sent: Sent) -> Found:
    fields = object_of(sent.body.get("additionalModelRequestFields"))
    choice = object_of(object_of(sent.body.get("toolConfig")).get("toolChoice"))
    thinks = object_of(fields.get("thinking")).get("type") in ("enabled", "adaptive")
    return {} if thinks and ("any" in choice or "tool" in choice) else None


RULES: tuple[Rule, ...] = (
    Rule("unknown field", _CONVERSE, "Unexpected field type: {name}", _unknown_field),
    *MESSAGE_RULES,
    Rule(
        "calls without tools",
        _ISSUES + "pydantic/pydantic-ai/pull/5929",
        "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        _no_config,
    ),
    Rule(
        "empty list of tools",
        _ISSUES + "Portkey-AI/gateway/issues/1124",
        "1 validation error detected: Value at 'toolConfig.tools' failed to satisfy constraint: Member must have"
        " length greater than or equal to 1",
        _no_tools,
    ),
    Rule(
        "tool's name",
        _ISSUES + "aws-samples/remote-swe-agents/pull/457",
        violation("{name}", "{where}", "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+"),
        _tool_name,
    ),
    Rule(
        "empty description",
        _REFERENCE + "API_runtime_ToolSpecification.html",
        violation("", "{where}", "Member must have length greater than or equal to 1"),
        _empty_description,
    ),
    Rule(
        "tool's schema of no object",
        _ISSUES + "aaif-goose/goose/pull/5064",
        "The value at toolConfig.tools.{i}.toolSpec.inputSchema.json.type must be one of the following: object.",
        _schema_type,
    ),
    Rule(
        "answer's schema at Anthropic",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html",
        MODEL + "{why}",
        _answers_schema,
    ),
    Rule(
        "limit above the model's",
        _ISSUES + "sigoden/aichat/pull/813",
        "The maximum tokens you requested exceeds the model limit of {most}. Try again with a maximum tokens value"
        " that is lower than {most}.",
        _large_limit,
    ),
    Rule(
        "temperature",
        _REFERENCE + "API_runtime_InferenceConfiguration.html",
        violation("{value}", "inferenceConfig.temperature", "Member must have value less than or equal to 1"),
        _temperature,
    ),
    Rule(
        "temperature and top_p",
        _ISSUES + "skydiscover-ai/skydiscover/issues/15",
        MODEL + "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        _both_sampling,
    ),
    Rule(
        "empty stop sequence",
        _REFERENCE + "API_runtime_InferenceConfiguration.html",
        violation(
            "[]", "inferenceConfig.stopSequences", "Member must have length greater than or equal to 1"
        ),
        _empty_stop,
    ),
    Rule(
        "blank stop sequence",
        _ISSUES + "BerriAI/litellm/issues/3286",
        MODEL + "stop_sequences: each stop sequence must contain non-whitespace",
        _blank_stop,
    ),
    Rule(
        "thinking with a forced tool",
        _ISSUES + "can1357/oh-my-pi/issues/341",
        MODEL + "Thinking may not be enabled when tool_choice forces tool use.",
        _thinking_forced,
    ),
)
