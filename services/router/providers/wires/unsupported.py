"""The words by which a provider says that this model, endpoint or server cannot do what is asked, and the feature
that it means.

A refusal is the model's own where it speaks of the model ("with this model", "only supports"), of a field that it
does not know, or of a bound that another model has not: a fallback may serve. What is wrong with the request itself
(a type, a missing field, roles out of order) is not said in these words, and everyone would say it. A sentence with
neither is a demand of that vendor's ("please enable ..."), since the router lets no request out that is wrong for
all: it costs little to ask another, and much not to.

Words that the request holds itself are no reason to doubt them: a long prompt may well say "not supported", nothing
is concluded from this class about a key or a circuit, and asking the next costs a refusal at most.

Sources: the providers' API references, and bodies that users reported, each with its place in
`tests/unit/router/providers/wires/refusals.py`.
"""

from __future__ import annotations

import re

from services.router.providers.wires.error_body import ErrorBody
from services.router.providers.wires.error_codes import is_everyones
from services.router.providers.wires.request_faults import count_words, is_bare, names_fault
from services.router.request.features import Feature, Unsupported

_NOT = r"(?:not|n['\u2019]t|never|cannot|no longer)(?: (?:be|been|currently|yet|fully|natively|also)){0,2}"
_FIELD = r"(?:argument|param|field|key|propert|option|keyword)"
_PLACE = r"(?:model|endpoint|deployment|api version|engine|operation|server|backend|region|tier)"
_MODE = r"(?:prefix|thinking|reasoning|streaming|non-streaming|json|strict|multistep)"

#: One line for each thing that is said, with an example; joined to one expression.
_SAID = (
    # Unsupported parameter: 'temperature' is not supported with this model. / does not support tools
    r"\bunsupported\b|\bno support\b|\bsupport for\b|\u4e0d\u652f\u6301",
    rf"{_NOT} (?:support|supported|supports|accept|accepted|accepts|implemented|compatible|handle)\b",
    # JSON mode is not enabled for this model / not allowed for this endpoint / `oneOf` is not permitted
    rf"{_NOT} (?:enabled|available|permitted|verified|activated|trained|configured"
    rf"|allowed (?:for|with|in|by|on))\b",
    r"\bdisabled\b|\bdeprecated\b|\bunavailable\b|\bmust be verified\b"
    r"|\bnot have the [^ ]{1,20} capabilit|\boperation not allowed\b",
    # only supports / Only the default (1) value is supported / invalid temperature: only 1 is allowed
    r"\bonly (?:be )?(?:supports?|supported|allowed|allows|available|accepts?|accepted"
    r"|works?|valid|enabled)\b"
    r"(?! when\b)",
    r"\bonly [^.;]{1,40} (?:is|are) (?:supported|allowed|accepted|available|permitted|valid)\b",
    r"\b(?:supports|accepts|allows|enabled|supported|available) (?:only|at most|up to)\b",
    # At most 1 image(s) may be provided / exceeds max allowed size: 8000 pixels / too many images: 25 > 20
    r"\bat most [^ ]{1,9} (?:image|audio|video|file|tool)"
    r"|\bexceeds? (?:the |its )?(?:max|limit|allowed|supported)"
    r"|\bmaximum number of (?!tokens\b)|\btoo many (?!requests\b|tokens\b)|\bpixels?\b",
    # Unrecognized request argument supplied / Extra inputs are not permitted / Unknown name / Cannot find field
    r"\b(?:unknown|unrecogni[sz]ed|unexpected|extra|extraneous|additional)"
    rf" (?:(?:request|body|json|top-level|tool choice|keyword|\*) ){{0,2}}{_FIELD}",
    r"\bextra inputs\b|\bextraneous key\b|\bunknown (?:name|variant)\b|\bfind field\b"
    rf"|\bnot an? (?:valid|known) {_FIELD}",
    # does not work with the specified model / is not a multimodal model
    rf"\b(?:this|specified|requested|selected|chosen|given) {_PLACE}\b"
    r"|\bnot an? (?:multi-?modal|vision|chat|reasoning)\b|\bmodel expects\b",
    # may only be set to 1 when thinking is enabled / must be false in thinking mode
    rf"\b{_MODE}(?: is (?:on|enabled)| mode\b| calls?\b| requests?\b)|\bforces tool use\b",
    # cannot both be specified / may not be enabled when / is incompatible with
    r"\b(?:cannot|can['\u2019]t|may not|may only|can only) (?:both )?be (?:both )?"
    r"(?:used|combined|specified|set|enabled|mixed|turned|provided)\b(?! while\b)"
    r"|\bincompatible\b|\bmutually exclusive\b",
    # header is required: callers send none / Stream must be set to true
    r"\bheaders?\b|\bmust be set to\b|\bstream must\b",
    # "auto" tool choice requires --enable-auto-tool-choice
    r"\brequires? (?:--|the --|a newer|api version|stream|thinking|reasoning|an? \w{1,12} model)",
    # schema must not contain $ref keyword / either content or tool_calls, but not both / must be defined when using
    r"\bmust not (?:contain|include|have|use)\b|\bkeywords?\b|\bbut not both\b"
    r"|\bwhen using \w{2,20}[^:]{0,60}$"
    r"|\brestricted to\b|\bmandatory\b",
    # Malformed input request: string [...] does not match pattern: a body in the form of one model
    r"\bmalformed input request\b",
    # Invalid 'content' type: got list / Unexpected item type in content
    r"\bgot (?:an? )?(?:list|array)\b|\bitem types? in\b",
    # Error while downloading https://... / unable to fetch the image: another vendor may reach it
    r"\b(?:unable to|failed to|could not|cannot|error while) (?:fetch|download|retriev|access)",
    # 'additionalProperties' is required to be supplied and to be false / must contain the word 'json'
    r"\bto be supplied and\b|\bmust be supplied and\b|\bmust contain the word\b|\bat the top level\b",
    # invalid value: `document`, supported values are: `text` / 取值范围 ['text'] (the range of values is)
    r"\binvalid value: [^ ]{1,40}, supported values\b|取值范围",
    # failed to parse grammar / JSON schema conversion failed / template error
    r"\bgrammar\b|\bschema conversion\b|\btemplate\b",
    # should be non-empty for OBJECT type / a constraint that has too many states / Proto field is not repeating
    r"\bfor (?:object|string|array|integer|number) type\b|\btoo many states\b"
    r"|\bfield is not repeating\b|\bnesting\b",
)
_WORDS = re.compile("|".join(_SAID))

#: Of a fault inside a server (500), or of a model that is not found (404): only what leaves no doubt.
_PLAIN_WORDS = re.compile(
    r"\bextra inputs are not permitted|\b(?:item|file|response|conversation) with (?:the )?id \*|"
    r"\b(?:image|audio|video|pdf|tool|vision|multi-?modal)s?(?: (?:input|use|calling|call|choice))?s?"
    r" (?:is|are) not (?:currently )?supported\b"
    r"|\brequires --|\bno (?:endpoints|providers) found that (?:support|can handle)|\bonly supported in\b"
    r"|\b(?:does not|doesn['\u2019]t) support (?:tool|image|function|vision|streaming|json)"
)
#: Statuses that blame the request; 0: none is stated.
_STATUSES = frozenset({0, 400, 422})
_PLAIN_STATUSES = frozenset({404, 500})
#: Refusals that prose without names does not show: codes in it, what a vendor asks back of its own reasoning,
#: Google's own form of schemas, which no other vendor wants, a role that callers may use ("got 'developer'"), and
#: words that a model keeps for itself (<|image_pad|>).
_IN_NAMES = re.compile(
    r"\bunsupported_|\bextra_forbidden\b|reasoning_content|reasoning'? item\b|thought_?signature"
    r"|encrypted_content|redacted_thinking|\bsignature\b|\bthinking\.thinking\b"
    r"|invalid value at [^ ]{0,120}(?:response_schema|function_declarations)"
    r"|\b(?:invalid|unknown|unexpected|illegal) (?:message )?role:? ?['\"`]?(?:system|developer)\b"
    r"|\b(?:got|tag|variant|received|value):? ['\"`]?(?:system|developer)\b|<\|\w{1,24}\|>"
)

#: Of sampling and penalties, whose bounds are the same nearly everywhere.
_OUT_OF_RANGE = re.compile(
    r"\brange\b|between|\babove|below|<=|>=|greater|less|positive|negative|must be in|\binvalid\b"
)
#: Words of its own that a sentence has at least.
_SENTENCE = 3

#: The names of an answer's length: a bound on it is the model's.
_LENGTH = r"(?:max_?(?:completion_|output_|new_|gen_)?(?:tokens|len)|maxoutputtokens|maximum tokens)"
_NAMES: tuple[tuple[Feature | None, str], ...] = (
    (None, _LENGTH),
    (Feature.SAMPLING, r"temperature|top_?[pk]|min_p|typical_p"),
    (Feature.PENALTIES, r"(?:presence|frequency|repetition)_?penalty"),
    (
        Feature.REASONING,
        r"reasoning(?:_effort|effort|\.effort)?|thinking\w{0,12}|enable_thinking|effort(?: level)?"
        r"|thoughts",
    ),
    (Feature.SEED, r"seed"),
    (Feature.STOP, r"stop(?:_?sequences?)?"),
    (Feature.TOOL_CHOICE, r"tool_?choice(?:\.\w{1,12})?|tool choice|parallel_tool_calls"),
    (
        Feature.JSON_SCHEMA,
        r"response_?(?:format|schema|mime_?type)|json_?(?:schema|mode|object)|json (?:schema|mode)"
        r"|output_(?:format|config)|text\.format|structured outputs?|guided|grammar",
    ),
    (Feature.TOOLS, r"tools?\b|tool[ _]\w{1,12}|function[ _]?call\w{0,5}|functions?|toolconfig|input_schema"),
    (Feature.IMAGE, r"images?\w{0,8}|input_images?|vision|multi-?modal\w{0,4}"),
    (Feature.PDF, r"pdfs?|documents?|input_files?|file_(?:data|url)"),
    (Feature.SYSTEM, r"system|developer"),
    (Feature.STREAM, r"stream(?:ing|_options)?"),
)
_NAMED = re.compile("|".join(rf"(?P<n{n}>\b(?:{names})\b)" for n, (_, names) in enumerate(_NAMES)), re.ASCII)

#: Keywords of JSON Schema that one vendor or another refuses. https://json-schema.org/draft/2020-12
_KEYWORDS = {
    keyword.lower(): keyword
    for keyword in (
        "maxItems",
        "minItems",
        "uniqueItems",
        "prefixItems",
        "minLength",
        "maxLength",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "oneOf",
        "anyOf",
        "allOf",
        "const",
        "$ref",
        "$defs",
        "$schema",
        "$id",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "unevaluatedProperties",
        "dependentRequired",
        "nullable",
    )
}
_WORD = re.compile(r"\$?[a-z_]{2,32}")

#: Words of a bound that a value exceeds.
_ABOVE = re.compile(
    r"too (?:large|long|high|many|big)|exceed|above|at most|less than or equal"
    r"|greater than(?! or equal)|<=| > |maximum|up to"
    r"|range (?:of|is)|非法"
)
#: A bound on the temperature that only some vendors have; others go up to 2.
_BELOW_TWO = re.compile(
    r"(?:\brange: 0\.\.|less than or equal to |<= ?|between 0(?:\.0)? and )(?:0\.\d"
    r"|1(?:\.\d{1,2})?\b(?!\.?\d))"
)
#: Words about this image or document, or their number: others the model may well see.
_ONE_TOO_MANY = re.compile(
    r"at most|too many|too large|too big|exceed|more than|only supports one|up to|size|pixels|bytes|format"
    r"|(?:media|mime) ?type"
)
#: Words of a list of values, of which the request's is none.
_ONE_OF = re.compile(
    r"\bmust be (?:one of|either|['\"`])|\bshould be\b|\bexpected one of\b|\bnot one of\b|\bis invalid\b"
    r"|\bunrecogni[sz]ed\b|\b(?:valid|supported|allowed|available) (?:values|levels|options)\b"
)
#: Features whose values have the same bounds nearly everywhere.
_ALIKE = frozenset({Feature.SAMPLING, Feature.PENALTIES})
#: Features that each vendor has in a form of its own, so that whatever is said of them is said by this one.
_OF_VENDOR = frozenset({Feature.REASONING, Feature.JSON_SCHEMA})
#: Words of a field that is missing or of a wrong type.
_MISSHAPEN = re.compile(
    r"\bmissing\b|field required|\bexpected (?:an? |array\b|object\b|string\b)|\bempty\b|\bgot null\b"
    r"|\b(?:must|should) be an? (?:valid )?(?:string|object|dict|int|number|array|list|bool)"
)
#: Features whose values differ from model to model; of others (roles) they do not.
_BY_VALUE = frozenset({Feature.TOOL_CHOICE})
#: Codes of a list that is longer than this vendor's; a text that is too long may be the prompt.
_TOO_MANY = "arrayabovemaxlength"


def feature_meant(error: ErrorBody) -> Unsupported | None:
    """Returns the feature that an error blames, by its `param` or else by the first name in its words; None: it names
    none that a request is known by."""
    feature = _first_named(error)[0]
    if feature is None or (feature in (Feature.IMAGE, Feature.PDF) and _ONE_TOO_MANY.search(error.words)):
        return None
    keyword = ""
    if feature in (Feature.JSON_SCHEMA, Feature.TOOLS):
        found = (_KEYWORDS[word] for word in _WORD.findall(error.words) if word in _KEYWORDS)
        keyword = next(found, "")
    return Unsupported(feature, keyword)


def is_unsupported(error: ErrorBody, status: int) -> bool:
    """Returns True if an error's words say that this model cannot do what is asked. `status`: 0 where there is
    none."""
    if status in _PLAIN_STATUSES:
        return _PLAIN_WORDS.search(error.prose) is not None
    if status not in _STATUSES:
        return False
    if _WORDS.search(error.prose) or _IN_NAMES.search(error.words) or _is_bound_of_model(error):
        return True
    return (
        status != 0
        and count_words(error.prose) >= _SENTENCE
        and not is_bare(error.words)
        and not is_explained(error)
    )


def is_explained(error: ErrorBody) -> bool:
    """Returns True if an error says what is wrong with the request, so that everyone would say it."""
    if is_everyones(error.codes) or names_fault(error.words):
        return True
    return _first_named(error)[0] in _ALIKE and _OUT_OF_RANGE.search(error.words) is not None


def _is_bound_of_model(error: ErrorBody) -> bool:
    """Returns True if an error is about a value that another model may well take: a longer answer than this one
    gives, more stop sequences, an effort of reasoning that it does not have."""
    feature, length = _first_named(error)
    if length:
        return _ABOVE.search(error.words) is not None
    if _TOO_MANY in error.codes:
        return feature in (Feature.STOP, Feature.TOOLS)
    if feature is Feature.STOP and _ABOVE.search(error.words):
        return True
    if "temperature" in f"{error.param} {error.words}" and _BELOW_TWO.search(error.words):
        return True
    if feature in _OF_VENDOR:
        return _MISSHAPEN.search(error.words) is None
    return feature in _BY_VALUE and _ONE_OF.search(error.words) is not None


def _first_named(error: ErrorBody) -> tuple[Feature | None, bool]:
    """Returns the feature whose name comes first in `param`, else in the words, and True where it is the length of an
    answer, which is no feature."""
    match = _NAMED.search(error.param.lower()[:80]) or _NAMED.search(error.words)
    if match is None:
        return None, False
    feature = _NAMES[int((match.lastgroup or "n0")[1:])][0]
    return feature, feature is None
