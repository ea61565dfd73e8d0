"""The limits a provider states in its headers, on successes and failures alike.

Understood: `x-ratelimit-*` (OpenAI, Groq, xAI, Azure with renewal periods, Cerebras and Mistral with the period in
the name, Fireworks with prompt and generated tokens, OpenRouter, Together), `ratelimit-*` (the IETF draft),
`anthropic-ratelimit-*`, Mistral's `x-ratelimitbysize-*`. Limits on other things (images, projects) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from services.router.adapters.providers.fields import as_count, as_number
from services.router.adapters.providers.waits import answered_at, reset_in
from services.router.domain.learned_limits import ObservedLimit

#: Periods that a kind of provider documents but leaves out of its headers.
_DOCUMENTED = {
    "anthropic": dict.fromkeys(("requests", "input_tokens", "output_tokens", "total_tokens"), "minute"),
    "groq": {"requests": "day", "total_tokens": "minute"},
}
_PERIODS = {"second": "second", "minute": "minute", "hour": "hour", "day": "day", "month": "month"}
_RENEWALS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
_UNITS = {
    "": "requests",
    "requests": "requests",
    "request": "requests",
    "req": "requests",
    "tokens": "total_tokens",
    "input-tokens": "input_tokens",
    "tokens-prompt": "input_tokens",
    "prompt-tokens": "input_tokens",
    "output-tokens": "output_tokens",
    "tokens-generated": "output_tokens",
    "completion-tokens": "output_tokens",
}
_GENERAL = re.compile(r"(?:x-)?ratelimit-(limit|remaining|reset|renewalperiod)(?:-(.+))?")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-(.+)-(limit|remaining|reset)")
_BY_SIZE = re.compile(r"(?:x-)?ratelimitbysize-(limit|remaining|reset)(?:-(minute|month))?")


def parse_rate_limits(headers: Mapping[str, str]) -> tuple[ObservedLimit, ...]:
    """Every limit in the headers (any case), in a stable order. Never raises; junk values are left out."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for original, value in headers.items():
        name = original.lower()
        if "ratelimit" not in name:
            continue
        if match := _ANTHROPIC.fullmatch(name):
            dimension, what = match.groups()
        elif match := _BY_SIZE.fullmatch(name):
            what, dimension = match.group(1), f"tokens-{match.group(2) or 'minute'}"
        elif match := _GENERAL.fullmatch(name):
            what, dimension = match.group(1), match.group(2) or ""
        else:
            continue
        base, _, last = dimension.rpartition("-")
        period = _PERIODS.get(last, "")
        unit = _UNITS.get(base if period else dimension)
        if unit is not None:
            found.setdefault((unit, period), {}).setdefault(what, value)
    now = answered_at(headers)
    limits = []
    for (unit, period), values in sorted(found.items()):
        limit, remaining = _count(values.get("limit")), _count(values.get("remaining"))
        if limit is None and remaining is None:
            continue
        renewal = as_number(values.get("renewalperiod"))
        stated = period or (_RENEWALS.get(int(renewal), "") if renewal is not None else "")
        reset = reset_in(values["reset"], now) if "reset" in values else None
        limits.append(ObservedLimit(unit, limit, remaining, reset, stated))
    return tuple(limits)


def stated_limits(kind: str, headers: Mapping[str, str]) -> tuple[ObservedLimit, ...]:
    """As `parse_rate_limits`, with the periods that providers of this kind document."""
    documented = _DOCUMENTED.get(kind, {})
    return tuple(
        limit if limit.period else replace(limit, period=documented.get(limit.unit, ""))
        for limit in parse_rate_limits(headers)
    )


def _count(text: str | None) -> int | None:
    # Drafts of the IETF header put parameters behind the number: "100, 100;w=60".
    number = as_number(text.split(",")[0].split(";")[0]) if text else None
    return as_count(number)
