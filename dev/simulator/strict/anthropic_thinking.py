"""Anthropic's rules of thinking: fields that do not go with it, and thoughts that do not come back as they went."""

from __future__ import annotations

from dev.simulator import signatures
from dev.simulator.strict.anthropic_messages import all_blocks, blocks, ids, messages
from dev.simulator.strict.rule import Found, Rule, Sent, number, object_of, text

_ISSUES = "https://github.com/"
_THINKING = "https://docs.claude.com/en/docs/build-with-claude/extended-thinking"

#: Models that refuse a budget, and those that know nothing else.
_NO_BUDGET = ("opus-4-7", "opus-4-8", "opus-5", "sonnet-5", "mythos", "fable")
_NO_ADAPTIVE = ("3-", "opus-4-1", "opus-4-2", "sonnet-4-2", "haiku-4-5", "sonnet-4-5", "opus-4-5")


def thinks(sent: Sent) -> bool:
    """Returns True if the request asks for thinking."""
    return object_of(sent.body.get("thinking")).get("type") in ("enabled", "adaptive")


def _has_budget(sent: Sent) -> bool:
    return object_of(sent.body.get("thinking")).get("type") == "enabled"


def _budget_of_adaptive(sent: Sent) -> Found:
    adaptive = any(f"claude-{name}" in sent.model for name in _NO_BUDGET)
    return {} if adaptive and _has_budget(sent) else None


def _adaptive_of_older(sent: Sent) -> Found:
    adaptive = object_of(sent.body.get("thinking")).get("type") == "adaptive"
    older = any(f"claude-{name}" in sent.model for name in _NO_ADAPTIVE)
    return {} if adaptive and older else None


def _small_budget(sent: Sent) -> Found:
    budget = number(object_of(sent.body.get("thinking")).get("budget_tokens"))
    return {} if _has_budget(sent) and budget is not None and budget < 1024 else None


def _large_budget(sent: Sent) -> Found:
    budget = number(object_of(sent.body.get("thinking")).get("budget_tokens"))
    most = number(sent.body.get("max_tokens"))
    return {} if _has_budget(sent) and budget and most is not None and budget >= most else None


def _thinking_temperature(sent: Sent) -> Found:
    return {} if thinks(sent) and sent.body.get("temperature") not in (None, 1, 1.0) else None


def _thinking_forced(sent: Sent) -> Found:
    forced = object_of(sent.body.get("tool_choice")).get("type") in ("any", "tool")
    return {} if thinks(sent) and forced else None


def _thinking_lost(sent: Sent) -> Found:
    """Of the turns that a chain of calls and results is still open with, each must begin with its thinking."""
    if not _has_budget(sent):
        return None
    given = messages(sent)
    place = len(given) - 1
    while place > 0 and ids(given[place], "tool_result", "tool_use_id"):
        place -= 1
    if not given or given[place].get("role") != "assistant":
        # The last user turn holds no results: nothing is open.
        place = len(given)
    for i in range(place, len(given)):
        first = blocks(given[i])[:1]
        if given[i].get("role") == "assistant" and first:
            kind = text(first[0].get("type"))
            if kind not in ("thinking", "redacted_thinking"):
                return {"where": f"messages.{i}.content.0.type", "kind": kind}
    return None


def _bad_signature(sent: Sent) -> Found:
    for i, j, block in all_blocks(sent):
        if block.get("type") == "thinking":
            given, thought = text(block.get("signature")), text(block.get("thinking"))
            if not signatures.signs("anthropic", thought, given):
                return {"where": f"messages.{i}.content.{j}", "kind": "signature", "block": "thinking"}
        if block.get("type") == "redacted_thinking" and not signatures.is_of(
            "anthropic", text(block.get("data"))
        ):
            return {"where": f"messages.{i}.content.{j}", "kind": "data", "block": "redacted_thinking"}
    return None


THINKING_RULES: tuple[Rule, ...] = (
    Rule(
        "budget of a model that takes an effort",
        _ISSUES + "freecodexyz/free-code/issues/32",
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and'
        ' "output_config.effort" to control thinking behavior.',
        _budget_of_adaptive,
    ),
    Rule(
        "effort of a model that takes a budget",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html",
        "adaptive thinking is not supported on this model",
        _adaptive_of_older,
    ),
    Rule(
        "budget below the least",
        _THINKING,
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        _small_budget,
    ),
    Rule(
        "budget above max_tokens",
        _THINKING,
        "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at"
        f" {_THINKING}#max-tokens-and-context-window-size",
        _large_budget,
    ),
    Rule(
        "thinking with a temperature",
        _ISSUES + "MartialBE/one-hub/issues/529",
        "`temperature` may only be set to 1 when thinking is enabled. Please consult our documentation at"
        f" {_THINKING}#important-considerations-when-using-extended-thinking",
        _thinking_temperature,
    ),
    Rule(
        "thinking with a forced tool",
        _ISSUES + "mastra-ai/mastra/issues/7507",
        "Thinking may not be enabled when tool_choice forces tool use.",
        _thinking_forced,
    ),
    Rule(
        "thinking not sent back",
        _ISSUES + "mastra-ai/mastra/issues/7799",
        "{where}: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is enabled, a final"
        " `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and"
        " `tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this"
        f" requirement, disable `thinking`. Please consult our documentation at {_THINKING}",
        _thinking_lost,
    ),
    Rule(
        "thinking's signature",
        _ISSUES + "anthropics/claude-code/issues/10627",
        "{where}: Invalid `{kind}` in `{block}` block",
        _bad_signature,
    ),
)
