"""The limits a provider states in its headers, on successes and failures alike.

Understood: `x-ratelimit-*` (OpenAI, Groq, xAI, Azure with renewal periods, Cerebras and Mistral with the period in
the name, Fireworks with prompt and generated tokens, OpenRouter, Together), `ratelimit-*` and `ratelimit` with
`ratelimit-policy` (older and newer drafts of the IETF's httpapi-ratelimit-headers), `anthropic-ratelimit-*`,
Mistral's `x-ratelimitbysize-*`. Limits on other things (images, projects) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from libs.limits import MAX_COUNTER, PERIODS, Period, Unit
from services.router.providers.limit_evidence import ObservedLimit
from services.router.providers.wires.fields import as_number
from services.router.providers.wires.waits import answered_at, reset_in

#: Periods that a kind of provider documents but leaves out of its headers.
_DOCUMENTED = {
    "anthropic": dict.fromkeys(
        (Unit.REQUESTS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS, Unit.TOTAL_TOKENS), Period.MINUTE
    ),
    "groq": {Unit.REQUESTS: Period.DAY, Unit.TOTAL_TOKENS: Period.MINUTE},
}
_PERIODS = {period.value: period for period in PERIODS}
_RENEWALS = {1: Period.SECOND, 60: Period.MINUTE, 3600: Period.HOUR, 86_400: Period.DAY}
_UNITS = {
    "": Unit.REQUESTS,
    "requests": Unit.REQUESTS,
    "request": Unit.REQUESTS,
    "req": Unit.REQUESTS,
    "tokens": Unit.TOTAL_TOKENS,
    "input-tokens": Unit.INPUT_TOKENS,
    "tokens-prompt": Unit.INPUT_TOKENS,
    "prompt-tokens": Unit.INPUT_TOKENS,
    "output-tokens": Unit.OUTPUT_TOKENS,
    "tokens-generated": Unit.OUTPUT_TOKENS,
    "completion-tokens": Unit.OUTPUT_TOKENS,
}
_GENERAL = re.compile(r"(?:x-)?ratelimit-(limit|remaining|reset|renewalperiod)(?:-(.+))?")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-(.{1,40})-(limit|remaining|reset)")
#: A parameter with a whole number or a word, of at most as many digits as any limit has.
_PAIR = re.compile(r"\b(\w+)=\"?(\d{1,12}\b|[a-z-]+)")
_BY_SIZE = re.compile(r"(?:x-)?ratelimitbysize-(limit|remaining|reset)(?:-(minute|month))?")


def parse_rate_limits(headers: Mapping[str, str]) -> tuple[ObservedLimit, ...]:
    """Returns every limit in the headers (any case), in a stable order. Never raises; junk values are left out."""
    limits = []
    for unit, period, limit, remaining, reset in _stated(headers):
        if limit is not None or remaining is not None:
            limits.append(ObservedLimit(unit, limit, remaining, reset, period))
    return tuple(limits)


def refill_wait(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds until every limit that is used up is whole again, or, where the headers do not state what
    is left, until the stated reset; None: neither is stated."""
    resets = [reset for _, _, _, remaining, reset in _stated(headers) if not remaining and reset is not None]
    return max(resets, default=None)


def _stated(
    headers: Mapping[str, str],
) -> list[tuple[Unit, Period, int | None, int | None, float | None]]:
    """Returns (unit, period, limit, remaining, seconds to the reset) of each limit."""
    found: dict[tuple[Unit, Period], dict[str, str]] = {}
    for original, value in headers.items():
        name = original.lower()
        if "ratelimit" not in name:
            continue
        if name == "ratelimit":
            for key, values in _structured(value, headers.get("ratelimit-policy", "")):
                found.setdefault(key, {}).update(values)
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
        period = _PERIODS.get(last, Period.NONE)
        unit = _UNITS.get(base if period else dimension)
        if unit is not None:
            found.setdefault((unit, period), {}).setdefault(what, value)
    now = answered_at(headers)
    limits = []
    for (unit, period), values in sorted(found.items()):
        renewal = as_number(values.get("renewalperiod"))
        stated = period or (_RENEWALS.get(int(renewal), Period.NONE) if renewal is not None else Period.NONE)
        reset = reset_in(values["reset"], now) if "reset" in values else None
        limits.append((unit, stated, _count(values.get("limit")), _count(values.get("remaining")), reset))
    return limits


def _structured(states: str, policies: str) -> list[tuple[tuple[Unit, Period], dict[str, str]]]:
    """Reads one header for all limits: `"default";r=0;t=60` with the policy `"default";q=100;w=60`, or, before draft
    8, `limit=100, remaining=0, reset=60`."""
    plain = dict(_PAIR.findall(states))
    if "remaining" in plain or "reset" in plain:
        return [
            (
                (Unit.REQUESTS, Period.NONE),
                {name: plain[name] for name in plain if name in ("limit", "remaining", "reset")},
            )
        ]
    quotas = {item.split(";")[0].strip(): dict(_PAIR.findall(item)) for item in policies.split(",")}
    limits = []
    for item in states.split(","):
        state, policy = dict(_PAIR.findall(item)), quotas.get(item.split(";")[0].strip(), {})
        if policy.get("qu", "requests") != "requests":
            continue
        period = _RENEWALS.get(_count(policy.get("w")) or 0, Period.NONE)
        named = {"remaining": state.get("r"), "reset": state.get("t"), "limit": policy.get("q")}
        values = {name: value for name, value in named.items() if value is not None}
        limits.append(((Unit.REQUESTS, period), values))
    # Of two with one period the tighter one is the last, and stays.
    return sorted(limits, key=lambda limit: -(_count(limit[1].get("remaining")) or 0))


def stated_limits(kind: str, headers: Mapping[str, str]) -> tuple[ObservedLimit, ...]:
    """Returns the limits of `parse_rate_limits`, with the periods that providers of this kind document."""
    documented = _DOCUMENTED.get(kind, {})
    return tuple(
        limit if limit.period else replace(limit, period=documented.get(limit.unit, Period.NONE))
        for limit in parse_rate_limits(headers)
    )


def _count(text: str | None) -> int | None:
    # Drafts of the IETF header put parameters behind the number: "100, 100;w=60".
    number = as_number(text.split(",")[0].split(";")[0]) if text else None
    return (
        int(number) if number is not None and 0 <= number <= MAX_COUNTER and number == int(number) else None
    )
