"""Rules for the meaning of an error: its codes first, then its status, then the wait it states, and last its prose.

Prose misleads: it repeats what the caller wrote ("Invalid schema for function get_overdue_invoices"), and that of a
rate limit advises to pay more. So prose counts only at statuses that leave open what is wrong (a bad key is 400 at
xAI and Gemini, an overload 500 at Mistral, an empty account 429 at some), without what it quotes or names, and never
for an empty account where a wait is stated. A verdict by words alone is marked (`explicit`, `deciding_words`); the
provider client takes it back where the request itself holds those words.

Every rule is linear in the text, and the text is bounded (`error_body.py`): no two repetitions of one expression can
match the same characters, and gaps have a bound.
`tests/unit/router/providers/wires/test_adversarial.py` finds each by itself.

Sources: the providers' error pages, recorded answers, and bodies that users reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.types import ACCOUNT_FAULTS, ErrorClass
from services.router.providers.wires.error_body import ErrorBody
from services.router.providers.wires.error_codes import class_of_codes, is_everyones, status_of_codes
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


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `words` (a regular expression over lower-case prose) mean `error_class` at these statuses. `unless`: a
    code, canonical, beside which they mean nothing."""

    error_class: ErrorClass
    words: re.Pattern[str]
    statuses: frozenset[int]
    transient: bool | None = None
    unless: str = ""


def rule(
    error_class: ErrorClass,
    words: str,
    statuses: Sequence[int],
    transient: bool | None = None,
    unless: str = "",
) -> Rule:
    """Returns a Rule of a pattern and statuses as they are written below."""
    return Rule(error_class, re.compile(words), frozenset(statuses), transient, unless)


#: An error inside a 200 that states no status.
_UNSTATED = 0
_DENIED = r"(disabled|deactivated|restricted|suspended|banned|blocked|terminated|locked|deleted)"

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

#: Tried in this order.
RULES: tuple[Rule, ...] = (
    # Azure API Management; it says when, and so does its Retry-After.
    rule(ErrorClass.QUOTA_EXHAUSTED, r"out of (call volume|bandwidth) quota", (403, 429), transient=True),
    # Google's word for "none at all", beside a minute's wait that helps nobody.
    rule(
        ErrorClass.QUOTA_EXHAUSTED,
        r"quota exceeded for metric\b.{0,120}\blimit: 0\b",
        (429,),
        transient=False,
    ),
    rule(
        ErrorClass.QUOTA_EXHAUSTED,
        r"(insufficient|not enough) (quota|balance|credits?|funds)\b|credit balance|billing disabled"
        r"|billing to be enabled|account is not active|included credits"
        r"|requires more credits|used all available credits|spend(ing)? (limit|cap)\b|key limit exceeded"
        r"|credit limit exceeded|api usage limits|calls? / month|no resource package"
        r"|(do(es)?n't|do(es)? not) have (any|enough) credits|\b(out of|no( more)?|used up .{0,20}) credits?\b"
        r"|credits? (balance )?(is|are|was|were|has been|have been) (depleted|exhausted|used up|too low|insufficient)"
        r"|(account|balance) (is|has) (too low|depleted|negative|insufficient|overdue|in arrears)"
        r"|\bextra usage\b|\b(weekly|monthly)\b[^.]{0,12} (limit|quota|usage|allowance)\b|inference limit"
        r"|\b(limit|quota|usage|allowance)s? (is |are |was |has been |have been )?(used up|exhausted)\b"
        r"|usage limit|subscription quota|free (quota|allocation|tier) .{0,30}(exhausted|used up|run out)"
        r"|\bused up (all )?(of )?your\b|\bbudget (has been |was |is )?exceeded\b"
        r"|failure to pay|\bunpaid\b|\bpast[ -]due\b|\boverdue\b|payment (method|instrument)|payment required"
        r"|余额不足|欠费|充值|额度(已)?(用完|用尽|耗尽|不足)",
        (400, 403, 404, 412, 422, 429, _UNSTATED),
    ),
    # Google says it of a minute's quota too.
    rule(
        ErrorClass.QUOTA_EXHAUSTED,
        r"exceeded your current quota",
        (400, 403, 429, _UNSTATED),
        unless="resourceexhausted",
    ),
    rule(
        ErrorClass.CONTEXT_TOO_LONG,
        r"max(imum)? bytes (to|of|in|for) "
        r"|(request|payload|body|content|entity|text) (size|length|bytes)( \(?\d{1,15}\)?)? (is too|exceed)"
        r"|(input|prompt|string value) length [^.]{0,20}exceed|must be at least 1, got -\d"
        r"|exceeds the maximum (allowed )?(number of bytes|size)|(body|payload) (is )?too large"
        r"|request too large|request entity too large|long context|context window|too many total text bytes"
        r"|(maximum|max|available|model'?s?) (context|model|prompt|sequence) (length|size)|exceed.{0,20} context\b"
        r"|context (length|size|limit) (has been |was |is )?(exceeded|only|overflow)|context overflow"
        r"|(longer|larger|greater|more|less|fewer|smaller) than the (model'?s )?(max\w{0,10} )?context"
        r"|(prompt|input|inputs|conversation|messages?) (is |are )?too long|too many tokens: "
        r"|exceeds the maximum number of (input )?tokens|reduce (the length of )?(the|your) (messages|prompt|input)"
        r"|\b(input|prompt) tokens? (count )?(.{0,40} )?exceed|model token limit"
        r"|(allowed|range of) input length|\* tokens \+ \* must be|must have less than \d{1,15} tokens"
        r"|(input tokens?|prompt)\b.{0,40}cannot exceed|too large for model with|configured context size"
        r"|tokens? .{0,20}(more|greater|larger) than (the )?max|(tokens?|characters?) (is |are )?too long"
        r"|max(imum)? (input|prompt) (characters|tokens|length)|prompt (exceeds|超)|超长|长度超"
        r"|\b(length|size) limit exceeded",
        (400, 403, 404, 413, 422, 500, _UNSTATED),
    ),
    rule(
        ErrorClass.CONTENT_REFUSED,
        r"content (filter|policy|moderation|management policy|exists risk)|rejected by .{0,20}moderation"
        r"|violat\w{1,10} (our |the )?(usage|content)"
        r"|usage guidelines|usage polic|requires moderation|\bflagged\b|sensitive content|failed check: "
        r"|(image|input|text) is sensitive"
        r"|for safety reasons|safety (system|polic|filter|guideline|check)|unsafe (content|or sensitive)"
        r"|sensitive information|inappropriate content|\bis unsafe\b|cybersecurity risk|\(102[67]\)"
        r"|data inspection|blocked (input|output|by our)|敏感|不安全|违规",
        (400, 403, 422, 498, 500, 502, _UNSTATED),
    ),
    rule(
        ErrorClass.MODEL_NOT_FOUND,
        r"unknown model|invalid model|supported (api )?model names|not a valid model"
        r"|no such model|unsupported model|model not exist"
        r"|unavailable model|model identifier is invalid|on-demand throughput isn|end of its life|no endpoints found"
        r"|not have access to (the |this )?model|n't have access to (the |this )?model|unable to access model"
        r"|\bmodels?\b[^.]{0,60} (does not exist|not found|was removed|(has been|is|was) (deprecated(?! for)|removed"
        r"|decommissioned|retired|blocked at)|no longer (available|supported)"
        r"|is not (enabled|available|permitted|supported by any)"
        r"|access is denied|requires? (an? )?(\w{1,12} )?(subscription|plan|upgrade))"
        r"|\bno access to (the |this )?model"
        r"|not (authorized|allowed|permitted) to (use|invoke|access|sample from) (the |this |publisher )?model"
        r"|access to \w{1,20} models is not allowed|\bmodel (is |was |has been )?disabled"
        r"|\* model is not (currently )?supported"
        r"|(^|[.:] ?|\bthe (requested |specified |selected )?)model \* is not (currently )?supported"
        r"|模型(不存在|已下线)",
        (400, 403, 410, 422, _UNSTATED),
    ),
    rule(
        ErrorClass.AUTHENTICATION,
        r"\bapi[ -]?key.{0,12}(not valid|expired|invalid|not found)"
        r"|(invalid|incorrect|missing|wrong|no) (api|x-api)[ -]key"
        r"|\bapi key (is|has|does|was) (not?|been)\b"
        r"|\blogin fail|invalid authentication|\bunauthenticated\b|\bunauthorized\b|location is not supported"
        rf"|\b(organi[sz]ation|account|project|workspace|team)\b.{{0,40}}(has been|is|was|have been) {_DENIED}"
        r"|not available in your (country|region)",
        (400, 403, 412, 422, _UNSTATED),
    ),
    rule(ErrorClass.MODEL_NOT_FOUND, r"暂未开放|无权(访问|使用).{0,20}模型", (400, 403, 422, 429)),
    rule(
        ErrorClass.OVERLOADED,
        r"overload|high demand|no ?capacity|capacity (temporarily |limit )?exceeded|(at|of) capacity"
        r"|currently loading"
        r"|访问量过大|繁忙|过载"
        r"|(model|server|engine|service) (is )?((currently|too) )?busy",
        (424, 429, 500, 502, 503, _UNSTATED),
    ),
    rule(
        ErrorClass.RATE_LIMITED,
        r"throttl|rate limit|too many requests|request rate\b|requests? too (fast|frequent|quick)|频率|并发",
        (400, 403, _UNSTATED),
    ),
    # As a 400 too: FastChat (code 50001), LM Studio, gateways.
    rule(
        ErrorClass.SERVER_ERROR,
        r"internal (server )?error\b|\bcrashed\b|\bconnection (error|refused|reset|failed)|out of memory|\bcuda\b"
        r"|\bunexpected (server )?error\b",
        (400, 403, 404, 409, 422),
    ),
    # Mistral: a plain 500 (code 1100 or 3505) that says it is out of capacity.
    rule(
        ErrorClass.OVERLOADED,
        r"unavailable|capacity|too many requests|rate.?limit|throttl",
        (500, 502, _UNSTATED),
    ),
    rule(ErrorClass.TIMEOUT, r"timed out|timeout", (500, 502, _UNSTATED)),
)

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
        return _unless_upstream(status, error, _if_above_rate(Verdict(named, deciding_words=quoted), error))
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
