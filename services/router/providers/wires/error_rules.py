"""Rules for the meaning of an error: its codes first, then its status, then the wait it states, and last its prose.

Prose misleads: it repeats what the caller wrote ("Invalid schema for function get_overdue_invoices"), and that of a
rate limit advises to pay more. So prose counts only at statuses that leave open what is wrong (a bad key is 400 at
xAI and Gemini, an overload 500 at Mistral, an empty account 429 at some), without what it quotes or names, and never
for an empty account where a wait is stated. A verdict by words alone is marked (`explicit`, `deciding_words`); the
provider client takes it back where the request itself holds those words.

Sources: the providers' error pages, recorded answers, and bodies that users reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from libs.types import ACCOUNT_FAULTS, ErrorClass
from services.router.providers.wires.error_body import ErrorBody
from services.router.providers.wires.error_codes import class_of_codes, is_everyones, status_of_codes
from services.router.providers.wires.error_words import RULES, Rule
from services.router.providers.wires.unsupported import is_unsupported


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of an error. `transient`: it passes with time; None: the class says so or not. False: the same
    provider will never take this request. True: the wait that the provider states counts. `explicit`: decided by a
    code or a status. `deciding_words`: the words that decided, or a code that stands in text alone: without worth
    where the request holds them."""

    error_class: ErrorClass
    transient: bool | None = None
    explicit: bool = True
    deciding_words: str = ""


#: A request of more tokens than the account may send in a minute or day: no wait helps here, and any other provider
#: may take it, its context window being none of the matter. OpenAI says it as a 429, Groq as a 413.
_TOO_LARGE = re.compile(r"request too large\b")
_OF_A_PERIOD = re.compile(r"\b(per (second|min|minute|hour|day|month)\b|[tr]p[smhd]\b)")
_LIMIT = re.compile(r"\blimit[: ] ?(\d{1,15})\b")
_REQUESTED = re.compile(r"\brequested[: ] ?(\d{1,15})\b")

#: Of a 429 that says what it is.
_A_RATE = re.compile(r"rate.?limit(?!error)|too many requests")

#: Statuses that another server's error states, and that a gateway hands on as a 400.
_PASSING = frozenset({429, 500, 502, 503, 504, 529})
#: The classes of refusals that are the model's own.
_OF_MODEL = frozenset({ErrorClass.CONTEXT_TOO_LONG, ErrorClass.MODEL_NOT_FOUND})

#: Classes of statuses, where neither codes nor prose say more.
_STATUSES = {
    401: ErrorClass.AUTHENTICATION,
    402: ErrorClass.QUOTA_EXHAUSTED,
    403: ErrorClass.AUTHENTICATION,
    404: ErrorClass.MODEL_NOT_FOUND,
    405: ErrorClass.UNSUPPORTED_HERE,
    408: ErrorClass.TIMEOUT,
    409: ErrorClass.SERVER_ERROR,
    410: ErrorClass.MODEL_NOT_FOUND,
    413: ErrorClass.CONTEXT_TOO_LONG,
    415: ErrorClass.UNSUPPORTED_HERE,
    424: ErrorClass.SERVER_ERROR,
    425: ErrorClass.OVERLOADED,
    429: ErrorClass.RATE_LIMITED,
    451: ErrorClass.CONTENT_REFUSED,
    # Groq: the flex tier is full.
    498: ErrorClass.OVERLOADED,
    # nginx, Cohere: the connection was closed before an answer.
    499: ErrorClass.TRANSPORT,
    501: ErrorClass.UNSUPPORTED_HERE,
    503: ErrorClass.OVERLOADED,
    504: ErrorClass.TIMEOUT,
    # Cloudflare: the origin took too long.
    524: ErrorClass.TIMEOUT,
    # Anthropic.
    529: ErrorClass.OVERLOADED,
    598: ErrorClass.TIMEOUT,
}

#: Characters of a finish reason that are searched: they are words.
_MAX_REASON = 200
#: Finish reasons that are no ends of an answer but of the attempt, by what their names hold, in this order. DeepSeek
#: `insufficient_system_resource`, vLLM and SGLang `abort`, Bedrock `malformed_model_output` and `malformed_tool_use`,
#: Gemini `MALFORMED_FUNCTION_CALL`, `UNEXPECTED_TOOL_CALL`, `TOO_MANY_TOOL_CALLS` and `MISSING_THOUGHT_SIGNATURE`,
#: Cohere `ERROR`, `TIMEOUT` and `USER_CANCEL`, responses `cancelled`, `failed`, `in_progress` and `queued`.
_BREAKS: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (re.compile(r"insufficient|overload|capacity|unavailable|exhausted"), ErrorClass.OVERLOADED),
    (re.compile(r"time_?d?_?out|deadline"), ErrorClass.TIMEOUT),
    (re.compile(r"malformed|unexpected|invalid|too_many|missing"), ErrorClass.MALFORMED),
    (re.compile(r"abort|cancel|interrupt|disconnect|preempt|progress|queued"), ErrorClass.TRANSPORT),
    (re.compile(r"error|fail|crash"), ErrorClass.SERVER_ERROR),
)


def verdict_of(
    status: int, error: ErrorBody, *, wait: bool = False, statuses: Mapping[int, ErrorClass] | None = None
) -> Verdict:
    """Returns the meaning of an error with this status, 0 where it has none. `wait`: the error states one.
    `statuses`: the meaning of single statuses at this provider alone."""
    own = (statuses or {}).get(status)
    if own is not None:
        return Verdict(own)
    status = status or status_of_codes(error.codes)
    named = class_of_codes(error.codes, status, error.param)
    vague = named is ErrorClass.INVALID_REQUEST and not is_everyones(error.codes)
    if named is not None and not vague:
        quoted = _quoted(named, error, status)
        by_code = Verdict(named, None, quoted not in error.in_prose, quoted)
        return _unless_upstream(status, error, _if_above_rate(by_code, error))
    # A code that says no more than that some field is refused leaves open whether by this model alone.
    rules = (r for r in RULES if status in r.statuses and not (vague and r.error_class not in _OF_MODEL))
    found = next((v for r in rules if (v := _by_words(r, error, status, wait))), None)
    if found is None and error.inner_status in _PASSING and status in (400, 422):
        found = Verdict(class_of_status(error.inner_status), None, False, error.inner_words)
    if found is None and is_unsupported(error, status):
        found = Verdict(ErrorClass.UNSUPPORTED_HERE, explicit=False)
    if found is None:
        found = Verdict(named) if named is not None else _by_status(status)
    return _unless_upstream(status, error, _if_above_rate(found, error))


def _quoted(named: ErrorClass, error: ErrorBody, status: int) -> str:
    """The code in text that alone names the class; empty where another does."""
    own = [code for code in error.codes if code not in error.quoted]
    if class_of_codes(own, status, error.param) is named:
        return ""
    meant = (
        text for code, text in error.quoted.items() if class_of_codes((code,), status, error.param) is named
    )
    return next(meant, "")


def class_of_status(status: int) -> ErrorClass:
    """Returns the class of a status by itself."""
    other = ErrorClass.INVALID_REQUEST if 400 <= status < 500 else ErrorClass.SERVER_ERROR
    return _STATUSES.get(status, other)


def break_class(reason: str) -> ErrorClass | None:
    """Returns the class of failure that a finish reason stands for; None where it may be the end of an answer."""
    lower = reason[:_MAX_REASON].lower()
    return next((error_class for words, error_class in _BREAKS if words.search(lower)), None)


def _by_status(status: int) -> Verdict:
    # A 403 may be a firewall's, so it is no evidence about a key.
    return Verdict(class_of_status(status), explicit=status != 403)


def _by_words(candidate: Rule, error: ErrorBody, status: int, wait: bool) -> Verdict | None:
    spent = candidate.error_class is ErrorClass.QUOTA_EXHAUSTED and candidate.transient is None
    if spent and status == 429 and (wait or _A_RATE.search(error.prose)):
        # A limit that is over in a minute is a rate, whatever the prose advises to do about it.
        return None
    match = None if candidate.unless in error.codes else candidate.words.search(error.prose)
    return Verdict(candidate.error_class, candidate.transient, False, match[0]) if match else None


def _if_above_rate(found: Verdict, error: ErrorBody) -> Verdict:
    """Returns the verdict, or, where the request alone is larger than the account's rate, that it will never pass."""
    if found.error_class not in (ErrorClass.RATE_LIMITED, ErrorClass.CONTEXT_TOO_LONG):
        return found
    limit, requested = _LIMIT.search(error.prose), _REQUESTED.search(error.prose)
    above = limit is not None and requested is not None and int(requested[1]) > int(limit[1])
    large = _TOO_LARGE.search(error.prose) and _OF_A_PERIOD.search(error.prose)
    if large or (above and found.error_class is ErrorClass.RATE_LIMITED):
        return Verdict(ErrorClass.RATE_LIMITED, False, found.explicit)
    return found


def _unless_upstream(status: int, error: ErrorBody, found: Verdict) -> Verdict:
    """Returns the verdict, unless it is about the account of a server behind the provider: ours is in order, and the
    model cannot be had."""
    if error.wrapped and found.error_class in ACCOUNT_FAULTS:
        gone = ErrorClass.RATE_LIMITED if status == 429 else ErrorClass.MODEL_NOT_FOUND
        return Verdict(gone, None, found.explicit, found.deciding_words)
    return found
