"""The words by which a provider says that a request is wrong: what everyone would find.

Sources: the providers' API references, and bodies that users reported, each with its place in
`tests/unit/router/providers/wires/refusals.py` and `unseen.py`.
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
    r"\bjson (?:body|payload|input|object|array|request)\b"
    r"|\b(?:valid|invalid|decode|parse|malformed|as) json\b|\bpars(?:e|ing)\b"
    r"|\bdeserializ|\bunexpected (?:token|end|character)|\bexpecting\b|\bdelimiter\b|\bunterminated\b"
    r"|\bmalformed\b",
    # A field is missing / is required / not specified
    r"\bmissing\b|\bfield required\b|\b(?:is|are) (?:a )?required\b"
    r"|\brequired (?:parameter|field|property|key|argument)"
    r"|\bmust be (?:set|provided|present|specified|supplied|defined)\b|\bnot specified\b"
    r"|\bhas to be defined\b|\bwithout\b",
    # Of a wrong type / expected a string, got null / should be a valid list / neither str nor list
    rf"\bexpected (?:an? |one of an? )?{_TYPE}\b"
    rf"|\b(?:must|should|to) be (?:iterable|(?:an? |of type ){_TYPE})\b|\bneither\b|\bexpected a valid\b"
    rf"|\bexpected to be\b|\bthe expected\b"
    r"|\bgot (?:an? )?(?:null|none|integer|number|string|empty)\b|\binvalid type\b|\bunmarshal\b"
    r"|\bmust not be null\b|\barray in request\b",
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
    r"|\btoolresult\b|\bcan only be in\b|\bcorrespond|\bwhile providing\b|\btwice\b",
    # Names and ids
    r"\bmatch(?:es)? (?:the )?pattern\b|\binvalid (?:function |tool )?(?:name|url)\b|\bhave a name\b"
    r"|\bmust be a-z\b|\bmust match\b|\bnot found in\b"
    r"|\bstring too (?:long|short)\b|\bat most \d{1,4} characters\b|\bdoes not match any\b"
    r"|\bdoes not match to\b",
    # Images and documents that cannot be read
    r"\b(?:could not|unable to|cannot|failed to) (?:process|read|decode|preprocess|identify|load)\b"
    r"|\bvalid (?:image|pdf|url)\b|\b(?:invalid|illegal) (?:base64|image)|\bbase64 data\b"
    r"|\bbase64 encoding is\b|\bdecoding failed\b|\binvalid characters\b"
    r"|\bmatch the (?:provided|declared) (?:media|mime)"
    r"|\b(?:image|url|document|file) (?:data )?is not valid\b|\bto be valid\b",
    # Nothing but that it is wrong
    r"\bbad\b|\b(?:invalid|illegal) (?:api )?(?:request|arguments?"
    r"|inputs?|params?|parameters?|payload|prompt|tool schema)\b"
    r"|\b(?:request|parameters?|input|schema|property|value|data)\b[^.]{0,24} (?:is"
    r"|are) (?:not valid|invalid|illegal|incorrect)\b"
    r"|\binvalid (?:value|token)\b|\binput validation error(?!:)|\bnot valid$|\bis not valid\b"
    r"|\bincorrect\b|参数|格式",
)
_WORDS = re.compile("|".join(_FAULTS))


def is_fault(words: str) -> bool:
    """Returns True if the words of an error, in lower case, name a fault that everyone would find."""
    return _WORDS.search(words) is not None
