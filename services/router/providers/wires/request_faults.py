"""The words by which a provider says that a request is wrong: what everyone would find.

Sources: the providers' API references, and bodies that users reported, each with its place in
`tests/unit/router/providers/wires/refusals.py` and `unseen.jsonl`.
"""

from __future__ import annotations

import re

_TYPE = (
    r"(?:valid )?(?:string|str|object|dict|dictionary|list|array|number|integer|int|float\d{0,2}|bool|boolean"
    r"|tuple|json)"
)
#: One line for each fault of the request itself, which everyone would find. "Must", "invalid" and "required" alone
#: are none: a vendor's demands are written with them too.
_FAULTS = (
    # Not JSON, or not the JSON that was announced / Expecting ',' delimiter / Unexpected token
    r"\bjson (?:body|payload|input|object|array|request|string)\b"
    r"|\b(?:valid|invalid|decode|parse|malformed|as) json\b|\bpars(?:e|ing)\b"
    r"|\bdeserializ|\bunexpected (?:token|end|character)|\bexpecting\b|\bdelimiter\b|\bunterminated\b"
    r"|\bmalformed\b",
    # A field is missing / is required / not specified
    r"\bmissing\b|\bfield required\b|\b(?:is|are) (?:a )?required\b"
    r"|\brequired (?:oneof )?(?:parameter|field|property|key|argument)"
    r"|\bmust (?:provide|have an? (?:message|content|role|name|id))\b"
    r"|\bmust be (?:set|provided|present|specified|supplied|defined)\b(?! to\b)|\bnot specified\b"
    r"|\bonly allowed when [^ ]{1,40} (?:is|are) (?:specified|set|provided|present)\b"
    r"|\bhas to be defined\b|\bwithout (?!th(?:e|is|at)\b)",
    # Of a wrong type / expected a string, got null / should be a valid list / neither str nor list
    rf"\bexpected (?:an? |one of an? )?{_TYPE}\b"
    rf"|\b(?:must|should|to) be (?:iterable|(?:an? |of type ){_TYPE})\b|\bneither\b|\bexpected a valid\b"
    rf"|\bexpected to be\b|\bthe expected\b"
    r"|\bgot (?:an? )?(?:null|none|integer|number|string|empty)\b|\binvalid type\b|\bunmarshal\b"
    r"|\bmatch type\b|\bmust not be null\b|\b(?:none|null|nil) is not\b|<nil>|\barray in request\b",
    # Empty / blank / at least one
    r"\bempty\b|\bblank\b|\btext content blocks\b|\bnon-whitespace text\b|\bat least (?:1|one)\b"
    r"|\bequal to 1\b|\bminimum number of\b|\bmust be positive\b|\bhave content\b|\bno pages\b"
    r"|\beither content\b",
    # Roles, their order, calls and their results
    r"\brole|\balternat|\bturns?\b|\bimmediately\b|\bprece|\bprevious (?:message|turn)"
    r"|\b(?:first|last) message\b|\bfollowed by\b"
    r"|\b(?:start|end|begin)s? with an? user\b"
    r"|\btool (?:call |use |result |response )?(?:ids?|results?|responses?|outputs?)\b"
    r"|\b(?:responses|outputs?|results?) (?:found )?for\b|\bfound for\b|\bnumber of (?:tool|function)"
    r"|\bnot the same\b|\bunique\b|\bduplicate"
    r"|\bmatching (?:number|tool|call|result)|\bsupported values are:[^.]{0,80}(?:\bassistant\b|_text\b)"
    # Tokens that no text has, given in its place
    r"|\btokens? in prompt\b"
    r"|\btoolresult\b|\bcan only be in\b|\bcorrespond|\bwhile providing\b|\btwice\b",
    # Names and ids
    r"\bmatch(?:es)? (?:the )?pattern\b|\binvalid (?:function |tool )?(?:name|url)\b|\bhave a name\b"
    r"|\bmust be a-z\b|\bmust match\b|\bnot found in\b"
    r"|\bstring too (?:long|short)\b|\bat most \d{1,4} characters\b|\bdoes not match any\b"
    r"|\bdoes not match to\b",
    # Images and documents that cannot be read
    r"\b(?:could not|unable to|cannot|failed to) (?:process|read|decode|preprocess|identify|load)\b"
    r"(?! propert| (?:the |your |this )?(?:request|input)\b)"
    r"|\bvalid (?:image|pdf|url)\b|\b(?:invalid|illegal) (?:base64|image)|\bbase64 data\b"
    r"|\bbase64 encoding is\b|\bdecoding failed\b|\binvalid characters\b"
    r"|\bmatch the (?:provided|declared) (?:media|mime)"
    r"|\b(?:image|url|document|file) (?:data )?is not valid\b|\bto be valid\b",
    # Of Chinese vendors: empty, missing, must be filled in
    r"不能为空|缺少|缺失|必填|图[片像][^，。]{0,10}(?:解析|无法|损坏|无效)",
)
_WORDS = re.compile("|".join(_FAULTS))

#: Words that say no more than that the request is wrong. They stand before the cause as often as in its place
#: ("invalid params, tool names are not allowed to be [search]").
_BARE = re.compile(
    r"(?:\brequest contains an? |\bclient specified an? |\bone or more )?"
    r"(?:\b(?:invalid|illegal|incorrect|bad) (?:[\w-]{1,20} ){0,2}(?:requests?|arguments?|inputs?|params?"
    r"|parameters?|payload|prompt|tool schema|values?|token|data)\b|\bprecondition (?:check )?failed\b"
    r"|\b(?:request|parameters?|params?|input|schema|property|value|data|body)\b[^.:]{0,32}? (?:(?:is|are) )?"
    r"(?:not valid|invalid|illegal|incorrect)\b"
    r"|\b(?:could not|unable to|cannot|failed to) process (?:the |your |this )?(?:request|input)\b"
    r"|\bunprocessable (?:entity|content)\b|\brequest failed with (?:status code|status|http) \d{3}\b"
    r"|\b(?:input )?validation errors?\b|\bis not valid\b|\bnot valid$"
    r"|\bbad\b|\bincorrect\b"
    r"|(?:参数|格式)[^，。,. ]{0,6}(?:有误|错误|非法|无效|不正确|不合法))"
)
#: Advice and frames around a cause.
_AROUND = re.compile(
    r"\b(?:please|check (?:the|your)|learn more|for (?:more|further|details)|see also)\b[^.]*"
    r"|请检查[^，。]*|\brequest id:? ?[\w-]+"
    r"|\bprovider returned error\b|\berror from provider(?: \([^)]{1,40}\))?|\bupstream request failed\b"
    r"|\bthe model returned the following errors:|\breceived model group=.*"
)
#: Words that a cause has at least.
_CAUSE = 4


def names_fault(words: str) -> bool:
    """Returns True if the words of an error, in lower case, name a fault that everyone would find."""
    return _WORDS.search(words) is not None


def is_bare(words: str) -> bool:
    """Returns True if the words of an error, in lower case, say "invalid" or "bad request" and no cause beside it, or
    nothing at all."""
    rest, bare = _BARE.subn(" ", words)
    return count_words(_AROUND.sub(" ", rest)) < (_CAUSE if bare else 1)


def count_words(text: str) -> int:
    """Returns the number of words of letters in a text; names with other characters are none."""
    return sum(word.strip(".,:;!()").isalpha() for word in text.split())
