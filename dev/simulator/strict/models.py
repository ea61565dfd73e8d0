"""The limits of single models by their names: figures of the vendors' model pages, the first pattern that is found
counts. A model that no pattern knows has no limit.

Sources: docs.claude.com/en/docs/about-claude/models/overview, platform.openai.com/docs/models,
ai.google.dev/gemini-api/docs/models, docs.cohere.com/docs/models, docs.mistral.ai/getting-started/models.
"""

from __future__ import annotations

import re
from functools import lru_cache

#: The most tokens of an answer.
_OUTPUT: tuple[tuple[str, int], ...] = (
    (r"claude-opus-4-[6-9]|claude-sonnet-5|claude-opus-5", 128_000),
    (r"claude-opus-4-5|claude-sonnet-4|claude-haiku-4|claude-3-7", 64_000),
    (r"claude-opus-4", 32_000),
    (r"claude-3-5", 8_192),
    (r"claude-3", 4_096),
    (r"(^|/)gpt-5-chat", 16_384),
    (r"(^|/)gpt-5", 128_000),
    (r"(^|/)o[134](-|$)", 100_000),
    (r"(^|/)gpt-4\.1", 32_768),
    (r"(^|/)gpt-4o-2024-05-13|(^|/)gpt-4-turbo|(^|/)gpt-3\.5", 4_096),
    (r"(^|/)gpt-4o", 16_384),
    (r"(^|/)gemini-(2\.5|3)", 65_536),
    (r"(^|/)gemini-(2\.0|1\.5)", 8_192),
    (r"(^|/)command-a-reasoning", 32_000),
    (r"(^|/)command-a", 8_000),
    (r"(^|/)command-r", 4_000),
    (r"nova-(pro|lite|micro)-v1", 10_000),
    (r"deepseek-chat", 8_192),
    (r"deepseek-reasoner", 65_536),
)
_LIMITS = tuple((re.compile(pattern), most) for pattern, most in _OUTPUT)

_REASONS = re.compile(r"(^|/)(o[134](-|$)|gpt-5(?!-chat))")
_ONE_SAMPLING = re.compile(r"claude-(opus-4-[1-9](?!\d)|sonnet-4-[5-9]|haiku-4-[5-9]|opus-5|sonnet-5)")
_NO_PREFILL = re.compile(r"claude-(opus-4-[6-9]|sonnet-4-[6-9]|opus-5|sonnet-5)")
_SYSTEM_ANYWHERE = re.compile(r"claude-(opus-4-[89]|opus-5|sonnet-5)")
_SIGNED_CALLS = re.compile(r"(^|/)gemini-3")
_ALWAYS_THINKS = re.compile(r"(^|/)gemini-(2\.5-pro|3(\.\d+)?-pro)")


@lru_cache(maxsize=512)
def most_output(model: str) -> int | None:
    """Returns the most tokens that the model writes; None where that is not known."""
    return next((most for pattern, most in _LIMITS if pattern.search(model)), None)


@lru_cache(maxsize=512)
def reasons(model: str) -> bool:
    """Returns True for OpenAI's reasoning models."""
    return _REASONS.search(model) is not None


@lru_cache(maxsize=512)
def takes_one_sampling_field(model: str) -> bool:
    """Returns True for models of Anthropic that take temperature or top_p, and not both."""
    return _ONE_SAMPLING.search(model) is not None


@lru_cache(maxsize=512)
def takes_prefill(model: str) -> bool:
    """Returns True for models of Anthropic that continue a last message of the assistant's."""
    return _NO_PREFILL.search(model) is None


@lru_cache(maxsize=512)
def takes_system_anywhere(model: str) -> bool:
    """Returns True for models of Anthropic that take messages of the system's."""
    return _SYSTEM_ANYWHERE.search(model) is not None


@lru_cache(maxsize=512)
def demands_signatures(model: str) -> bool:
    """Returns True for models of Google that want the signatures of their function calls back."""
    return _SIGNED_CALLS.search(model) is not None


@lru_cache(maxsize=512)
def always_thinks(model: str) -> bool:
    """Returns True for models of Google whose thinking cannot be turned off."""
    return _ALWAYS_THINKS.search(model) is not None
