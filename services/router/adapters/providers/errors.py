"""Classifying what a provider says went wrong: status, body and headers together.

Statuses alone mislead (a bad key is 400 at xAI and Gemini, an overload 500 at Mistral, an empty account 429 at
OpenAI), so the provider's words come first and the status decides where they say nothing. Most quirks are words no
other provider uses, hence one table serves all; a wire passes its own rules in front of it where that is not so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.types import ErrorClass, Usage
from services.router.adapters.providers.error_body import ErrorBody, read_error, redact, status_in_words
from services.router.adapters.providers.fields import as_dict, as_str
from services.router.adapters.providers.limits import parse_rate_limits
from services.router.adapters.providers.waits import body_wait, header_wait
from services.router.domain.generation import ProviderFailure

#: Failures that the same request may outlive on the same model.
_RETRY_SAME = frozenset(
    {
        ErrorClass.RATE_LIMITED,
        ErrorClass.OVERLOADED,
        ErrorClass.SERVER_ERROR,
        ErrorClass.TRANSPORT,
        ErrorClass.TIMEOUT,
        ErrorClass.STALLED,
        ErrorClass.MALFORMED,
    }
)
#: Failures that pass with time, so a stated wait means something.
_WAITING = frozenset(
    {ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED, ErrorClass.SERVER_ERROR, ErrorClass.TIMEOUT}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`words` (a lower-case regular expression over codes and message) mean `error_class` at these statuses."""

    error_class: ErrorClass
    words: re.Pattern[str]
    statuses: frozenset[int]


def rule(error_class: ErrorClass, words: str, statuses: Sequence[int]) -> Rule:
    """A rule; see Rule."""
    return Rule(error_class, re.compile(words), frozenset(statuses))


_CALLER = (400, 401, 402, 403, 404, 405, 409, 410, 413, 422, 429, 451)
_SERVER = (500, 502, 503, 529)

#: Tried in this order. Sources: the providers' error pages and recorded answers.
_RULES: tuple[Rule, ...] = (
    # OpenAI, Groq: more tokens in one request than the account may send in a minute. Waiting does not help.
    rule(
        ErrorClass.CONTEXT_TOO_LONG,
        r"request too large|request_too_large|request entity too large|long context",
        _CALLER,
    ),
    rule(
        ErrorClass.QUOTA_EXHAUSTED,
        r"insufficient[ _](quota|balance|credits?|funds)|credit balance|billing_hard_limit|billing_not_active"
        r"|billing[ _]disabled|billing to be enabled|account is not active|included credits|out of credits"
        r"|requires more credits|used all available credits|spending limit|key limit exceeded|credit limit exceeded"
        r"|api usage limits|calls? / month|token_quota_reached|no resource package|arrearage"
        r"|servicequotaexceeded|exceeded_current_quota|payment required|余额不足",
        _CALLER,
    ),
    # Gemini says "exceeded your current quota" of a minute's quota too; then its status is RESOURCE_EXHAUSTED.
    rule(ErrorClass.QUOTA_EXHAUSTED, r"^(?!.*resource_exhausted).*exceeded your current quota", _CALLER),
    rule(ErrorClass.QUOTA_EXHAUSTED, r"resource_exhausted.*\blimit: 0\b", (429,)),
    rule(
        ErrorClass.CONTEXT_TOO_LONG,
        r"context_length_exceeded|exceed_context_size|string_above_max_length|context window|max_model_len"
        r"|(maximum|max|available|model'?s?) (context|model|prompt|sequence) (length|size)|exceed.{0,20} context"
        r"|(prompt|input|inputs|conversation|messages?) (is|are) too long|input is too long|too many tokens: "
        r"|exceeds the maximum number of (input )?tokens|reduce the length of the (messages|prompt|input)"
        r"|max_new_tokens` must be|must have less than \d+ tokens|(input tokens?|prompt)\b.{0,40}cannot exceed"
        r"|too large for model with",
        (400, 404, 413, 422, 500),
    ),
    rule(
        ErrorClass.CONTENT_REFUSED,
        r"content_filter|content_policy|content filter|content management policy|responsibleaipolicy"
        r"|content policy|content exists risk|violat\w+ (our |the )?(usage|content)|usage guidelines|usage polic"
        r"|requires moderation|moderation_blocked|flagged|prohibited_content|sensitive content"
        r"|data_?inspection|blocked (input|output|by our)|sensitive_words|敏感",
        (400, 403, 422, 451, 498, 500),
    ),
    rule(
        ErrorClass.MODEL_NOT_FOUND,
        r"model_not_(found|available|supported|exist)|model_decommissioned|invalid_model|deploymentnotfound"
        r"|unknown[ _]model|invalid model|not a valid model|no such model|unsupported model|model not exist"
        r"|model identifier is invalid|on-demand throughput isn|end of its life|no endpoints found"
        r"|not have access to (the |this )?model|n't have access to (the |this )?model|unable to access model"
        r"|\bmodels?\b.{0,100}(does not exist|not found|was removed|(has been|is|was) (deprecated|removed"
        r"|decommissioned|retired)|no longer (available|supported))",
        (400, 403, 404, 410, 422),
    ),
    rule(
        ErrorClass.AUTHENTICATION,
        r"api[ _-]?key.{0,12}(not valid|expired|invalid|not found)|(invalid|incorrect|missing|no) (api|x-api)[ _-]key"
        r"|api_key_invalid|invalid_api_key|invalid authentication|authentication_error|unauthenticated|unauthorized"
        r"|unrecognizedclient|invalidsignature|incompletesignature|expiredtoken|location is not supported"
        r"|not available in your (country|region)",
        (400, 403),
    ),
    # The model wrote something its own server could not use; another draw or another model may do better.
    rule(ErrorClass.MALFORMED, r"tool_use_failed|json_validate_failed", (400,)),
    rule(
        ErrorClass.OVERLOADED,
        r"overload|high demand|no ?capacity|capacity temporarily|at capacity|modelnotready|currently loading"
        r"|slow_down|(model|server|engine) is (currently )?busy",
        (429, 424, *_SERVER),
    ),
    # Mistral: a plain 500 (code 1100 or 3505) that says it is out of capacity.
    rule(
        ErrorClass.OVERLOADED,
        r"unavailable|unreachable_backend|capacity|too many requests|rate.?limit|throttl",
        _SERVER,
    ),
    rule(
        ErrorClass.RATE_LIMITED,
        r"throttl|rate[_ ]?limit[_ ]?(error|exceeded|reached)|toomanyrequests",
        (400, 403),
    ),
    rule(ErrorClass.TIMEOUT, r"deadline_exceeded|timed out|timeout", (500, 502, 503)),
)

_STATUSES = {
    401: ErrorClass.AUTHENTICATION,
    402: ErrorClass.QUOTA_EXHAUSTED,
    403: ErrorClass.AUTHENTICATION,
    404: ErrorClass.MODEL_NOT_FOUND,
    408: ErrorClass.TIMEOUT,
    409: ErrorClass.SERVER_ERROR,
    410: ErrorClass.MODEL_NOT_FOUND,
    413: ErrorClass.CONTEXT_TOO_LONG,
    424: ErrorClass.SERVER_ERROR,
    425: ErrorClass.OVERLOADED,
    429: ErrorClass.RATE_LIMITED,
    451: ErrorClass.CONTENT_REFUSED,
    # Groq: the flex tier is full.
    498: ErrorClass.OVERLOADED,
    # nginx, Cohere: the connection was closed before an answer.
    499: ErrorClass.TRANSPORT,
    503: ErrorClass.OVERLOADED,
    504: ErrorClass.TIMEOUT,
    # Cloudflare: the origin took too long.
    524: ErrorClass.TIMEOUT,
    # Anthropic.
    529: ErrorClass.OVERLOADED,
    598: ErrorClass.TIMEOUT,
}
_TOKENS = re.compile(r"limit[: ]+(\d+).{0,60}requested[: ]+(\d+)")


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    rules: Sequence[Rule] = (),
) -> ProviderFailure:
    """The failure that an answer with an error status means. Header names are lower case. Never raises."""
    error = read_error(body, headers)
    words = error.words
    error_class = _class_of(status, words, rules)
    retry_same = error_class in _RETRY_SAME and headers.get("x-should-retry") != "false"
    wait = _wait(error_class, headers, error) if error_class in _WAITING else None
    return ProviderFailure(
        error_class,
        redact(error.message) or f"HTTP {status} without an explanation",
        http_status=status,
        retry_after=wait,
        retry_same=retry_same,
    )


def classify_inside(data: Any, rules: Sequence[Rule] = (), usage: Usage | None = None) -> ProviderFailure:
    """The failure that an error object inside a 200 means (a stream's error event, a failed response).

    The answer's own headers belong to the 200 and say nothing about it.
    """
    error = read_error(data, {})
    status = status_in_words(error)
    error_class = _class_of(status, error.words, rules)
    return ProviderFailure(
        error_class,
        redact(error.message) or "the provider reported an error without an explanation",
        http_status=200,
        retry_after=body_wait(data, error.message) if error_class in _WAITING else None,
        retry_same=error_class in _RETRY_SAME,
        usage=usage,
    )


def malformed(message: str, usage: Usage | None = None) -> ProviderFailure:
    """A 200 that cannot be used."""
    return ProviderFailure(ErrorClass.MALFORMED, message, http_status=200, retry_same=True, usage=usage)


def cut_off(usage: Usage | None = None) -> ProviderFailure:
    """A stream that ended before its answer did."""
    return ProviderFailure(
        ErrorClass.TRANSPORT,
        "the stream ended before the answer was complete",
        http_status=200,
        retry_same=True,
        usage=usage,
    )


def _class_of(status: int, words: str, rules: Sequence[Rule]) -> ErrorClass:
    for candidate in (*rules, *_RULES):
        if status in candidate.statuses and candidate.words.search(words):
            return candidate.error_class
    if status == 429:
        tokens = _TOKENS.search(words)
        if tokens and int(tokens.group(2)) > int(tokens.group(1)):
            return ErrorClass.CONTEXT_TOO_LONG
    found = _STATUSES.get(status)
    if found is not None:
        return found
    return ErrorClass.INVALID_REQUEST if 400 <= status < 500 else ErrorClass.SERVER_ERROR


def _wait(error_class: ErrorClass, headers: Mapping[str, str], error: ErrorBody) -> float | None:
    for stated in (header_wait(headers), body_wait(error.data, error.message)):
        if stated is not None:
            return stated
    if error_class is not ErrorClass.RATE_LIMITED:
        return None
    # OpenRouter repeats the upstream's headers in the body.
    upstream = as_dict(as_dict(as_dict(as_dict(error.data).get("error")).get("metadata")).get("headers"))
    resets = [
        limit.reset_seconds
        for source in (headers, {name.lower(): as_str(value) for name, value in upstream.items()})
        for limit in parse_rate_limits({**source, "date": headers.get("date", "")})
        if limit.remaining == 0 and limit.reset_seconds is not None
    ]
    return max(resets, default=None)
