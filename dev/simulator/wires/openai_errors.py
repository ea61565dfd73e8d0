"""OpenAI's error bodies and headers, for chat completions, responses and what derives from them.

Source: platform.openai.com/docs/guides/error-codes and the API reference.
"""

from __future__ import annotations

import math
from email.utils import formatdate
from time import time

from dev.simulator.behaviour import Preset
from dev.simulator.wires.base import BAD_GATEWAY, UNAVAILABLE, Problem, Quota, Reply, encode

#: status, type, code, param, message. `{m}` is the model, `{s}` the wait.
_TABLE: dict[Preset, tuple[int, str, str | None, str | None, str]] = {
    "invalid_request": (
        400,
        "invalid_request_error",
        "invalid_value",
        "messages",
        "Invalid value: the request could not be processed.",
    ),
    "context_length": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9631 tokens. Please"
        " reduce the length of the messages.",
    ),
    "content_filter": (
        400,
        "invalid_request_error",
        "content_policy_violation",
        None,
        "Your request was rejected as a result of our safety system.",
    ),
    "authentication": (
        401,
        "invalid_request_error",
        "invalid_api_key",
        None,
        "Incorrect API key provided: ****. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "permission": (
        403,
        "invalid_request_error",
        "unsupported_country_region_territory",
        None,
        "Country, region, or territory not supported",
    ),
    "model_not_found": (
        404,
        "invalid_request_error",
        "model_not_found",
        None,
        "The model `{m}` does not exist or you do not have access to it.",
    ),
    "timeout": (408, "server_error", None, None, "Request timed out."),
    "too_large": (413, "invalid_request_error", None, None, "Request Entity Too Large"),
    "rate_limited": (
        429,
        "requests",
        "rate_limit_exceeded",
        None,
        "Rate limit reached for {m} in organization org-simulated on requests per min (RPM): Limit 3, Used 3,"
        " Requested 1.{s}",
    ),
    "quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        None,
        "You exceeded your current quota, please check your plan and billing details. For more information on this"
        " error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
    ),
    "server_error": (
        500,
        "server_error",
        None,
        None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    "overloaded": (
        503,
        "server_error",
        "overloaded",
        None,
        "The engine is currently overloaded, please try again later",
    ),
    "prefill": (
        400,
        "invalid_request_error",
        "invalid_prefill",
        "messages",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}


def retry_headers(problem: Problem, *, native: tuple[str, ...] = ("retry-after",)) -> dict[str, str]:
    """The wait as HTTP headers. `native` are the headers this provider uses of its own accord."""
    wait = problem.retry_after
    style = problem.retry_after_as
    if wait is None or style == "body":
        return {}
    if style == "date":
        return {"retry-after": formatdate(time() + wait, usegmt=True)}
    names = {"native": native, "seconds": ("retry-after",), "milliseconds": ("retry-after-ms",)}[style]
    fields = {"retry-after": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(wait * 1000))}
    return {name: fields[name] for name in names}


def plain(problem: Problem) -> Reply | None:
    """The answers that come from a proxy in front of the provider and are the same everywhere."""
    if problem.preset == "bad_gateway":
        return Reply(502, BAD_GATEWAY, "text/html", {"server": "cloudflare", "cf-ray": "-"})
    if problem.preset == "unavailable":
        return Reply(503, UNAVAILABLE, "text/plain", retry_headers(problem))
    return None


def details(problem: Problem) -> tuple[int, dict[str, str | None]]:
    """Status and the `error` object."""
    preset: Preset = "overloaded" if problem.preset in ("bad_gateway", "unavailable") else problem.preset
    status, kind, code, param, message = _TABLE[preset]
    advice = "" if problem.retry_after is None else f" Please try again in {problem.retry_after:g}s."
    text = problem.message or message.format(m=problem.model, s=advice)
    if problem.of_request:
        code, param = problem.code, problem.param
    return status, {"message": text, "type": kind, "param": param, "code": code}


def error(problem: Problem, uid: str) -> Reply:
    """The whole answer."""
    reply = plain(problem)
    if reply is not None:
        return reply
    status, body = details(problem)
    headers = {"x-request-id": f"req_{uid}", **retry_headers(problem)}
    return Reply(status, encode({"error": body}), "application/json", headers)


def duration(seconds: float) -> str:
    """Returns a duration as in `x-ratelimit-reset-*`: 6ms, 1.2s, 1m12s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{round(seconds, 3):g}s"
    return f"{int(seconds // 60)}m{round(seconds % 60, 3):g}s"


def quota_headers(quota: Quota) -> list[tuple[str, str]]:
    """The `x-ratelimit-*` set."""
    return [
        ("x-ratelimit-limit-requests", str(quota.request_limit)),
        ("x-ratelimit-limit-tokens", str(quota.token_limit)),
        ("x-ratelimit-remaining-requests", str(quota.requests_left)),
        ("x-ratelimit-remaining-tokens", str(quota.tokens_left)),
        ("x-ratelimit-reset-requests", duration(quota.requests_reset)),
        ("x-ratelimit-reset-tokens", duration(quota.tokens_reset)),
    ]
