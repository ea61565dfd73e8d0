"""The words of errors that decide at statuses which leave open what is wrong, tried in their order.

Every rule is linear in the text, and the text is bounded (`error_body.py`): no two repetitions of one expression can
match the same characters, and gaps have a bound.
`tests/unit/router/providers/wires/test_adversarial.py` finds each by itself.

Sources: the providers' error pages, recorded answers, and bodies that users reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from libs.types import ErrorClass


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
_DENIED = r"(disabled|deactivated|restricted|suspended|banned|blocked|terminated|locked|deleted|denied)"

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
        r"|(do(es)?n't|do(es)? not) have (any|enough) credits"
        r"|\b(out of|no( more)?|used up .{0,20}) credits?\b"
        r"|credits? (balance )?(is|are|was|were|has been|have been) (depleted|exhausted"
        r"|used up|too low|insufficient)"
        r"|(account|balance) (is|has) (too low|depleted|negative|insufficient|overdue|in arrears)"
        r"|\bextra usage\b|\b(weekly|monthly)\b[^.]{0,12} (limit|quota|usage|allowance)\b|inference limit"
        r"|\b(limit|quota|usage|allowance)s? (is |are |was |has been |have been )?(used up|exhausted)\b"
        r"|usage limit|subscription quota|free (quota|allocation|tier) .{0,30}(exhausted|used up|run out)"
        r"|\bused up (all )?(of )?your\b|\bbudget (has been |was |is )?(exceeded|exhausted|depleted)\b"
        r"|\b(exceeded|crossed) budget\b"
        r"|failure to pay|\bunpaid\b|\bpast[ -]due\b|\boverdue\b|payment (method|instrument)"
        r"|payment required"
        r"|余额不足|欠费|充值|额度(已)?(用完|用尽|耗尽|不足)|(当日|今日|每日|每月|本月).{0,12}(上限|限额)",
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
        r"|(maximum|max|available|model'?s?) (context|model|prompt|sequence) (length|size)"
        r"|exceed.{0,20} context\b"
        # n_keep: 9750>= n_ctx: 8192, of llama.cpp and its like
        r"|^\* \d{1,9} ?>=? \* \d{1,9}$"
        r"|context (length|size|limit|window) (has been |was |is )?(exceeded|only|overflow|too (large|long|big))"
        r"|context overflow"
        r"|(longer|larger|greater|more|less|fewer|smaller) than the (model'?s )?(max\w{0,10} )?context"
        r"|(prompt|input|inputs|conversation|messages?) (is |are )?too long|too many tokens: "
        r"|exceeds the maximum number of (input )?tokens"
        r"|reduce (the length of )?(the|your) (messages|prompt|input)"
        r"|\b(input|prompt) tokens? (count )?(.{0,40} )?exceed|model token limit"
        r"|(allowed|range of) input length|\* tokens \+ \* must be|must have less than \d{1,15} tokens"
        r"|(input tokens?|prompt)\b.{0,40}cannot exceed|too large for model with|configured context size"
        r"|tokens? .{0,20}(more|greater|larger) than (the )?max|(tokens?|characters?) (is |are )?too long"
        r"|max(imum)? (input|prompt) (characters|tokens|length)"
        r"|prompt (exceeds|超)|超长|过长|长度超|最大长度|\btext fields? (that )?(is |are )?too (large|long)"
        r"|\b(length|size) limit exceeded"
        r"|\b(input|prompt|text|content) exceeds? (the )?(max(imum)?|allowed) (allowed )?(length|size)",
        (400, 403, 404, 413, 422, 500, _UNSTATED),
    ),
    rule(
        ErrorClass.CONTENT_REFUSED,
        r"content (filter|policy|moderation|management policy|exists risk)|rejected by .{0,20}moderation"
        r"|violat\w{1,10} (our |the )?(usage|content)"
        r"|usage guidelines|usage polic|requires moderation|\bflagged\b|sensitive content|failed check: "
        r"|(image|input|text) is sensitive"
        r"|for safety reasons|safety (system|polic|filter|guideline|check)|unsafe (content|or sensitive)"
        r"|sensitive (information|words)"
        r"|\b(prompt|response|request|input|output) (was|were|has been) (filtered|blocked)\b"
        r"|responsible ai\b|inappropriate content|\bis unsafe\b|cybersecurity risk|\(102[67]\)"
        r"|\b(considered|deemed|classified as) (an? |too )?(high[ -]?risk|risky|unsafe|harmful|sensitive|dangerous)"
        r"|data inspection|blocked (input|output|by our)|敏感|不安全|违规",
        (400, 403, 422, 498, 500, 502, _UNSTATED),
    ),
    rule(
        ErrorClass.MODEL_NOT_FOUND,
        r"unknown model|invalid model|supported (api )?model names|not a valid model"
        r"|no such model|unsupported model|model not exist"
        r"|unavailable model|model identifier is invalid|on-demand throughput isn|end of its life"
        r"|no endpoints found"
        r"|not have access to (the |this )?model|n't have access to (the |this )?model"
        r"|unable to access model"
        r"|\bmodels?\b[^.]{0,60} (does not exist"
        r"|not found|was removed|(has been|is|was) (deprecated(?! for)|removed"
        r"|decommissioned|retired|blocked at)|no longer (available|supported)"
        r"|is not (enabled|available|permitted|supported by any)"
        r"|access is denied|requires? (terms|an? )?(\w{1,12} )?(subscription|plan|upgrade))"
        r"|\bno access to (the |this )?model|unexpected model name|\bverified to use (the |this )?model"
        r"|not (authorized|allowed|permitted) to (use|invoke|access|sample from) (the "
        r"|this |publisher )?model"
        r"|access to \w{1,20} models is not allowed|\b(provider|model) not allowed for\b"
        r"|\bmodel (is |was |has been )?disabled"
        r"|\* model is not (currently )?supported"
        r"|\b(requested|selected|specified) model ([^ ]{1,60} )?(is )?not supported"
        r"(?! (for|with|by|in|when|on|via)\b)"
        r"|(^|[.:] ?|\bthe (requested |specified |selected )?)model (\* )?(is )?not (currently )?supported"
        r"(?! (for|with|by|in|when|on|via)\b)"
        r"|模型(不存在|已下线)"
        r"|\bllm provider not provided\b|\bcatalog(ue)? entry\b|\bto use this model\b",
        (400, 403, 410, 422, _UNSTATED),
    ),
    rule(
        ErrorClass.AUTHENTICATION,
        r"\bapi[ -]?key.{0,12}(not valid|expired|invalid|not found)|\bvalid api key\b"
        r"|(invalid|incorrect|missing|wrong|no) (api|x-api)[ -]key"
        r"|\bapi key (is|has|does|was) (not?|been)\b"
        r"|\bno (auth(entication)? )?credentials?\b"
        r"|\blogin fail|invalid authentication|\bunauthenticated\b|\bunauthorized\b"
        r"|location is not supported|unsupported (country|countries|region|territor|location)"
        rf"|\b(organi[sz]ation|account|project|workspace|team)\b.{{0,40}}(has been"
        rf"|is|was|have been) {_DENIED}"
        r"|not available in your (country|region)"
        r"|\b(tier|plan|subscription|credential) (can|may) only be used\b|\bonly authorized for use with\b",
        (400, 403, 412, 422, _UNSTATED),
    ),
    rule(ErrorClass.MODEL_NOT_FOUND, r"暂未开放|(无权|没有权限)(访问|使用).{0,20}模型", (400, 403, 422, 429)),
    rule(
        ErrorClass.OVERLOADED,
        r"overload|high demand|no ?capacity|capacity (temporarily |limit )?exceeded|(at|of) capacity"
        r"|currently loading"
        r"|访问量过大|繁忙|过载|饱和"
        r"|(model|server|engine|service|system) (is )?((currently|too|really) )?busy",
        (424, 429, 500, 502, 503, _UNSTATED),
    ),
    # As a 400 too: gateways without a server that is free just now.
    rule(
        ErrorClass.OVERLOADED,
        r"\btemporarily (unavailable|overloaded|down)\b|\b(retry|try again) (in|after) \d"
        r"|\bno (deployment|instance|channel|worker|server|backend|replica)s? (is |are )?(currently )?available\b",
        (400, 404, 422),
    ),
    rule(
        ErrorClass.RATE_LIMITED,
        r"throttl|rate limit|too many requests|request rate\b|requests? too (fast|frequent|quick)|频率|并发",
        (400, 403, _UNSTATED),
    ),
    # The model wrote a call or JSON that its own server could not use.
    rule(
        ErrorClass.MALFORMED,
        r"\bfailed to parse (fc|function calls?|tool calls?)\b(?! arg)"
        r"|\bmodel output (became|is|was) (abnormal|malformed)"
        r"|\bmalformed (function|tool) ?calls?\b"
        r"|\bno (valid )?(response|output|answer|completion) (was )?(generated|produced)\b"
        # Of what gpt-oss writes between its channels.
        r"|\bunknown (recipient|channel|role): ?(?!system|developer|user|assistant|tool|function)",
        (400, 422, 500),
    ),
    # As a 400 too: FastChat (code 50001), LM Studio, gateways.
    rule(
        ErrorClass.SERVER_ERROR,
        r"internal (server )?error\b|\bcrashed\b|\bconnection (error|refused|reset|failed)|out of memory"
        r"|\bcuda\b"
        r"|\b(unexpected|unknown) (server )?(error|status)\b"
        r"|\b(failed to load|error loading) (the )?(model|tokenizer|adapter|weights|engine)\b"
        # A gateway that found nothing where its upstream's answer should be; what is sent is never empty.
        r"|\bline 1 column [01] \(char 0\)|\bjson at position 0\b|\bunexpected token <"
        r"|\b(pars|decod|deserializ|unmarshal|read)\w{1,8} (the )?(upstream|provider|backend|model)('s)?"
        r" (response|answer)"
        r"|\b(empty|no|null|invalid|bad) (response|reply|answer|output) (was )?((received|returned) )?(from|by)\b"
        r"|\breturned (an? )?(empty|no|null|invalid|bad|unexpected) (response|reply|answer|output|body)\b"
        # The server's program broke off, in JavaScript's or Python's words.
        r"|\bcannot read propert|\bobject has no attribute\b|\bis not iterable\b|\bimport failed\b"
        r"|\bindex out of range\b|\bpositional arguments?\b"
        # A gateway without the server behind it.
        r"|\bupstream request failed\b(?!:)|\bendpoint is unavailable\b|\bis degraded\b"
        r"|\bdegraded function\b|(响应|服务器?|网络|系统)(异常|错误|故障|超时)",
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
