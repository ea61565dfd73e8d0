"""The one table of what providers' words mean, status by status.

Statuses alone mislead (a bad key is 400 at xAI and Gemini, an overload 500 at Mistral, an empty account 429 at
OpenAI), so words come first and the status decides where they say nothing. Most quirks are words no other provider
uses, hence one table serves all; a wire passes its own rules in front of it where that is not so.

Sources: the providers' error pages, recorded answers, and bodies that users reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from libs.types import ErrorClass


@dataclass(frozen=True, slots=True)
class Rule:
    """`words` (a lower-case regular expression over codes and message) mean `error_class` at these statuses.

    `passes`: whether it passes with time, where the class alone would say otherwise. False: the same provider will
    never take this request. True: the wait that the provider states counts.
    """

    error_class: ErrorClass
    words: re.Pattern[str]
    statuses: frozenset[int]
    passes: bool | None = None


def rule(error_class: ErrorClass, words: str, statuses: Sequence[int], passes: bool | None = None) -> Rule:
    """A rule; see Rule."""
    return Rule(error_class, re.compile(words), frozenset(statuses), passes)


_CALLER = (400, 401, 402, 403, 404, 405, 409, 410, 412, 413, 422, 429, 451)
_SERVER = (500, 502, 503, 529)
_DENIED = r"(disabled|deactivated|restricted|suspended|banned|blocked|terminated|locked|deleted)"

#: More tokens in one request than the account may send in a minute or day: no wait helps here, and any other
#: provider may take it, its context window being none of the matter.
_ABOVE_THE_RATE = rule(ErrorClass.RATE_LIMITED, "", (), passes=False)
_TOKENS = re.compile(r"limit[: ]+(\d+).{0,60}requested[: ]+(\d+)")

#: Tried in this order.
_RULES: tuple[Rule, ...] = (
    # OpenAI says it as a 429, Groq as a 413.
    rule(
        ErrorClass.RATE_LIMITED,
        r"request too large.*\b(per (second|min|minute|hour|day|month)\b|[tr]p[smhd]\b)",
        (400, 413, 429),
        passes=False,
    ),
    rule(
        ErrorClass.CONTEXT_TOO_LONG,
        r"request too large|request_too_large|request entity too large|long context",
        _CALLER,
    ),
    # Azure API Management; it says when, and so does its Retry-After.
    rule(ErrorClass.QUOTA_EXHAUSTED, r"out of (call volume|bandwidth) quota", (403, 429), passes=True),
    rule(
        ErrorClass.QUOTA_EXHAUSTED,
        r"(insufficient|not[ _]enough)[ _](quota|balance|credits?|funds)|credit balance|billing_hard_limit"
        r"|billing_not_active|billing[ _]disabled|billing to be enabled|account is not active|included credits"
        r"|requires more credits|used all available credits|spend(ing)?[ _](limit|cap)|key limit exceeded"
        r"|credit limit exceeded|api usage limits|calls? / month|token_quota_reached|no resource package|arrearage"
        r"|(do(es)?n't|do(es)? not) have (any|enough) credits|(out of|no( more)?|used up .{0,20}) credits?\b"
        r"|credits? (balance )?(is|are|was|were|has been|have been) (depleted|exhausted|used up|too low|insufficient)"
        r"|(account|balance) (is|has) (too low|depleted|negative|insufficient|overdue|in arrears)"
        r"|failure to pay|unpaid|past[ -]due|overdue|payment (method|instrument)|invalid_payment|blocked_api_access"
        r"|servicequotaexceeded|exceeded_current_quota|payment required|余额不足|欠费",
        _CALLER,
    ),
    # Gemini says "exceeded your current quota" of a minute's quota too; then its status is RESOURCE_EXHAUSTED.
    rule(ErrorClass.QUOTA_EXHAUSTED, r"^(?!.*resource_exhausted).*exceeded your current quota", _CALLER),
    rule(ErrorClass.QUOTA_EXHAUSTED, r"resource_exhausted.*\blimit: 0\b", (429,)),
    rule(
        ErrorClass.CONTEXT_TOO_LONG,
        r"context_length_exceeded|exceed_context_size|string_above_max_length|context[_ ]window|max_model_len"
        r"|(maximum|max|available|model'?s?) (context|model|prompt|sequence) (length|size)|exceed.{0,20} context"
        r"|context (length|size|limit) (has been |was |is )?(exceeded|only|overflow)|context overflow"
        r"|(longer|larger|greater|more|less|fewer|smaller) than the (model'?s )?(max\w* )?context"
        r"|(prompt|input|inputs|conversation|messages?) (is |are )?too long|too many tokens: "
        r"|exceeds the maximum number of (input )?tokens|reduce (the length of )?(the|your) (messages|prompt|input)"
        r"|(number of |total )?(input|prompt) tokens? (count )?(.{0,40} )?exceed|model token limit"
        r"|(allowed|range of) input length|max_new_tokens` must be|must have less than \d+ tokens"
        r"|(input tokens?|prompt)\b.{0,40}cannot exceed|too large for model with|configured context size",
        (400, 403, 404, 413, 422, 500),
    ),
    rule(
        ErrorClass.CONTENT_REFUSED,
        r"content_filter|content_policy|content filter|content management policy|responsibleaipolicy"
        r"|content policy|content exists risk|violat\w+ (our |the )?(usage|content)|usage guidelines|usage polic"
        r"|requires moderation|moderation_blocked|flagged|prohibited_content|sensitive content"
        r"|for safety reasons|safety (system|polic|filter|guideline|check)|safety_check|unsafe (content|or sensitive)"
        r"|data_?inspection|blocked (input|output|by our)|sensitive_words|敏感",
        (400, 403, 422, 451, 498, 500),
    ),
    rule(
        ErrorClass.MODEL_NOT_FOUND,
        r"model_(is_)?not_(found|available|supported|exist|enabled)|model_decommissioned|invalid_model"
        r"|deploymentnotfound|model\.?notfound|unavailable[_ ]model|model_permission_blocked"
        r"|unknown[ _]model|invalid model|not a valid model|no such model|unsupported model|model not exist"
        r"|model identifier is invalid|on-demand throughput isn|end of its life|no endpoints found"
        r"|not have access to (the |this )?model|n't have access to (the |this )?model|unable to access model"
        r"|\bmodels?\b.{0,100}(does not exist|not found|was removed|(has been|is|was) (deprecated|removed"
        r"|decommissioned|retired|blocked at)|no longer (available|supported)|is not (enabled|available|permitted)"
        r"|access is denied)",
        (400, 403, 404, 410, 422),
    ),
    rule(
        ErrorClass.AUTHENTICATION,
        r"api[ _-]?key.{0,12}(not valid|expired|invalid|not found)"
        r"|(invalid|incorrect|missing|wrong|no) (api|x-api)[ _-]key"
        r"|api_key_invalid|invalid_api_key|invalid authentication|authentication_error|unauthenticated|unauthorized"
        r"|unrecognizedclient|invalidsignature|incompletesignature|expiredtoken|location is not supported"
        rf"|(organi[sz]ation|account|project|workspace|team)\b.{{0,40}}(has been|is|was|have been) {_DENIED}"
        rf"|(organization|account|project|workspace|team|access)_{_DENIED}|not available in your (country|region)",
        (400, 403, 412, 422),
    ),
    # The model wrote something its own server could not use; another draw or another model may do better.
    rule(ErrorClass.MALFORMED, r"tool_use_failed|json_validate_failed", (400,)),
    rule(
        ErrorClass.OVERLOADED,
        r"overload|high demand|no ?capacity|capacity temporarily|at capacity|modelnotready|currently loading"
        r"|slow_down|(model|server|engine|service) (is )?((currently|too) )?busy",
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


def rule_for(status: int, words: str, rules: Sequence[Rule] = ()) -> Rule:
    """What a status and lower-case words mean; `rules` come first."""
    for candidate in (*rules, *_RULES):
        if status in candidate.statuses and candidate.words.search(words):
            return candidate
    if status == 429:
        tokens = _TOKENS.search(words)
        if tokens and int(tokens.group(2)) > int(tokens.group(1)):
            return _ABOVE_THE_RATE
    other = ErrorClass.INVALID_REQUEST if 400 <= status < 500 else ErrorClass.SERVER_ERROR
    return rule(_STATUSES.get(status, other), "", ())


def break_class(reason: str) -> ErrorClass | None:
    """The class of failure that a finish reason stands for; None where it may be the end of an answer."""
    lower = reason.lower()
    return next((error_class for words, error_class in _BREAKS if words.search(lower)), None)
