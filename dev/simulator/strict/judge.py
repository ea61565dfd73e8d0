"""Finds the table that a request is judged by, and the first of its rules that the request breaks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dev.simulator.strict import (
    anthropic,
    bedrock,
    cohere,
    compatible,
    gemini,
    ollama,
    openai_chat,
    openai_responses,
    others,
)
from dev.simulator.strict.rule import Refusal, Rule, Sent, check

#: The tables by the wire's name; of the wire that many vendors speak, by the vendor's name too.
TABLES: Mapping[tuple[str, str], tuple[Rule, ...]] = {
    ("openai_chat", "openai"): openai_chat.RULES,
    ("openai_chat", "mistral"): compatible.MISTRAL_RULES,
    ("openai_chat", "groq"): compatible.GROQ_RULES,
    ("openai_chat", "deepseek"): compatible.DEEPSEEK_RULES,
    ("openai_chat", "xai"): others.XAI_RULES,
    ("openai_chat", "cerebras"): others.CEREBRAS_RULES,
    ("openai_chat", "perplexity"): others.PERPLEXITY_RULES,
    ("openai_chat", ""): compatible.COMMON_RULES,
    ("azure_openai", ""): openai_chat.RULES,
    ("openai_responses", ""): openai_responses.RULES,
    ("anthropic", ""): anthropic.RULES,
    ("bedrock", ""): bedrock.RULES,
    ("bedrock_invoke", ""): anthropic.RULES,
    ("gemini", ""): gemini.RULES,
    ("cohere", ""): cohere.RULES,
    ("ollama", ""): ollama.RULES,
}
#: The vendors of chat completions by how names of virtual providers, and then of models, begin.
_PROVIDERS = ("openai", "mistral", "groq", "deepseek", "xai", "cerebras", "perplexity")
_MODELS = (
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("mistral-", "mistral"),
    ("ministral-", "mistral"),
    ("magistral-", "mistral"),
    ("codestral-", "mistral"),
    ("deepseek-", "deepseek"),
    ("grok-", "xai"),
    ("sonar", "perplexity"),
)


@lru_cache(maxsize=512)
def vendor_of(provider: str, model: str) -> str:
    """Returns the vendor of chat completions that a virtual provider plays: the one that its name begins with, else
    the one whose models are called so; empty where neither tells."""
    if "compatible" in provider.lower():
        return ""
    named = next((vendor for vendor in _PROVIDERS if provider.lower().startswith(vendor)), "")
    return named or next((vendor for begin, vendor in _MODELS if model.startswith(begin)), "")


def judge(wire: str, vendor: str, model: str, body: Mapping[str, Any]) -> Refusal | None:
    """Returns what the vendor refuses of the request; None where it takes it."""
    rules = TABLES.get((wire, vendor)) or TABLES[wire, ""]
    return check(rules, Sent(body, model.lower(), vendor))
