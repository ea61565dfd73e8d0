"""The one table of providers' machine-readable error words: types, codes, reasons and exception names.

A code is compared whole, in the form that `canonical` gives it; one that the table does not hold is read by the words
that it is made of (`InputTextRiskDetection`, `RateLimitExceeded.EndpointTPMExceeded`). Neither is searched for in
running text: a caller's words can stand in a message, but not in a code. Codes that say no more than a status does
(`invalid_request_error`, `RESOURCE_EXHAUSTED`) are not failures of their own here: they give the status of an error
inside a 200, nothing else.

Sources: the providers' error pages, recorded answers, and bodies that users reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from libs.types import ErrorClass

#: Beginnings of codes of a field or value that this model, or this vendor, does not have (OpenAI's
#: `unsupported_parameter`, `unknown_parameter`, pydantic's `extra_forbidden`), at statuses that blame the request.
_NOT_HERE: tuple[str, ...] = (
    "unsupported",
    "unknown",
    "unrecognized",
    "extra",
    "notsupported",
    "operationnotsupported",
)
#: Beginnings of codes that name another fault of one field (OpenAI's `invalid_type`, `string_above_max_length`).
_OF_A_FIELD: tuple[str, ...] = (
    "invalid",
    "missing",
    "string",
    "array",
    "integer",
    "decimal",
    "number",
    "object",
    "duplicate",
    "literal",
    "value",
)
#: Codes of a fault that leaves nothing open, whatever the words beside them.
_EVERYONES = frozenset(
    {"invalidtype", "invalidimageformat", "invalidbase64", "missingrequiredparameter", "emptyarray"}
)
_FIELD_STATUSES = frozenset({400, 422})
#: Fields that hold the prompt: one that is too long is a prompt that is too long.
_PROMPT_FIELDS = ("content", "text", "input", "output", "prompt", "messages", "instructions")

#: Tried in this order: an error may carry several codes, and an empty account is often named beside a rate.
_TABLE: tuple[tuple[ErrorClass, str], ...] = (
    (
        ErrorClass.QUOTA_EXHAUSTED,
        "insufficient_quota insufficient_balance not_enough_balance insufficient_credits insufficient_funds"
        " insufficient_user_quota billing_hard_limit_reached billing_not_active billing_disabled billing_error"
        " blocked_api_access exceeded_current_quota token_quota_reached service_quota_exceeded arrearage"
        " invalid_payment_instrument payment_required credit_balance_too_low out_of_credits credits_exhausted"
        " spend_limit_exceeded spending_limit_reached usage_limit_reached account_overdue set_limit_exceeded",
    ),
    (
        ErrorClass.AUTHENTICATION,
        "invalid_api_key api_key_invalid incorrect_api_key missing_api_key api_key_expired api_key_disabled"
        " authentication_error invalid_authentication unauthenticated unauthorized unrecognized_client"
        " invalid_signature incomplete_signature expired_token invalid_client_token_id invalid_token"
        " missing_authentication_token invalid_grant invalid_client access_token_expired credentials_missing"
        " access_token_type_unsupported account_deactivated account_disabled account_suspended"
        " account_restricted organization_restricted organization_disabled organization_deactivated"
        " organization_suspended project_suspended"
        " unsupported_country_region_territory",
    ),
    (
        ErrorClass.RATE_LIMITED,
        "rate_limit rate_limit_exceeded rate_limit_reached rate_limited too_many_requests throttling throttled"
        " request_quota_exceeded token_quota_exceeded too_many_tokens",
    ),
    (
        ErrorClass.CONTEXT_TOO_LONG,
        "context_length_exceeded exceed_context_size context_window_exceeded max_context_length_exceeded"
        " model_context_window_exceeded model_max_prompt_tokens_exceeded tokens_limit_reached request_too_large"
        " prompt_too_long input_too_long",
    ),
    (
        ErrorClass.CONTENT_REFUSED,
        "content_filter content_policy_violation responsible_ai_policy_violation moderation_blocked flagged"
        " prohibited_content data_inspection_failed content_blocked",
    ),
    (
        ErrorClass.MODEL_NOT_FOUND,
        "model_not_found model_not_available model_not_supported model_not_exist model_not_enabled"
        " model_decommissioned model_permission_blocked_org model_permission_blocked_project invalid_model"
        " unknown_model unavailable_model no_such_model deployment_not_found fail.model.notFound",
    ),
    (
        ErrorClass.UNSUPPORTED_HERE,
        "unsupported_parameter unsupported_value unsupported_image unsupported_feature unsupported_content_type"
        " unsupported_media_type unsupported_api_for_model not_supported feature_not_supported"
        " operation_not_supported",
    ),
    # The model wrote something its own server could not use; another draw or another model may do better.
    (ErrorClass.MALFORMED, "tool_use_failed json_validate_failed"),
    (
        ErrorClass.OVERLOADED,
        "overloaded slow_down engine_overloaded model_overloaded server_overloaded model_not_ready"
        " unreachable_backend no_capacity service_unavailable",
    ),
    (ErrorClass.TIMEOUT, "deadline_exceeded timeout model_timeout gateway_timeout"),
)

#: The words of codes that stand in no table, canonical. Tried in this order.
_WORDS: tuple[tuple[ErrorClass, re.Pattern[str]], ...] = (
    (
        ErrorClass.QUOTA_EXHAUSTED,
        re.compile(
            r"overdue|arrear|(?:insufficient|notenough|lack|low)(?:account|user)?(?:quota"
            r"|balance|credit|fund|budget)"
            r"|(?:balance|credits?|quota)(?:insufficient|notenough|exhausted|depleted)|paymentrequired"
            r"|^(?:budget|spend(?:ing)?limit)exceeded"
        ),
    ),
    (
        ErrorClass.CONTENT_REFUSED,
        re.compile(
            r"sensitive(?:content|information|data|words?)|riskdetect|unsafe|moderation|contentfilter"
            r"|contentpolicy"
            r"|policyviolation|cyberpolicy|safetyviolation|blockedcontent"
        ),
    ),
    (
        ErrorClass.RATE_LIMITED,
        re.compile(r"^throttl|ratelimit|toomanyrequest|ratequota|burstrate|[rt]pmexceed"),
    ),
    (
        ErrorClass.CONTEXT_TOO_LONG,
        re.compile(
            r"context(?:length|window|size)?(?:exceed|toolong|toolarge|overflow)|maxcontext"
            r"|(?:tokens?|prompt|input|characters|messages?|request|payload|body)too(?:long|large|big)"
        ),
    ),
    (
        ErrorClass.MODEL_NOT_FOUND,
        re.compile(
            r"model(?:does)?not(?:found|exist|open|available|enabled|allowed|permitted|deployed|subscribed)"
            r"|model(?:terms|accessdenied|deprecated|retired|removed|disabled|offline)"
            r"|^(?:invalid|unknown|unsupported|nosuch)(?:endpointor)?model|(?:deployment|endpoint)notfound"
        ),
    ),
    (
        ErrorClass.AUTHENTICATION,
        re.compile(
            r"(?:invalid|incorrect|wrong|missing|expired|bad|no)(?:apikey|accesskey|credential|accesstoken)"
            r"|apikey(?:invalid|expired|disabled|missing|service)|unauthenticated|authenticationtype"
        ),
    ),
    (ErrorClass.OVERLOADED, re.compile(r"overload|(?:no|over|at|insufficient)capacity|serverbusy|modelbusy")),
    (ErrorClass.TIMEOUT, re.compile(r"timeout|timedout|deadlineexceeded")),
)
#: Fields whose text may be too long for this vendor and not for another; ids and names are as short everywhere.
_FREE_TEXT = ("description", "user", "safety_identifier", "prompt_cache_key", "stop", "metadata")

#: Statuses that a code stands for where nothing else states one.
_STATUS: tuple[tuple[int, str], ...] = (
    (400, "invalid_request invalid_argument invalid_prompt bad_request validation"),
    (403, "permission permission_denied access_denied forbidden"),
    (404, "not_found resource_not_found"),
    (424, "model_stream"),
    (429, "resource_exhausted"),
    (500, "api_error server_error internal internal_server"),
    (503, "unavailable"),
)


def canonical(code: str) -> str:
    """Returns a code without case, punctuation and the suffix that says that it is an error: `ThrottlingException`
    and `com.amazon.coral#ThrottlingException:http://...` are `throttling`, `RATE_LIMIT_ERROR` is `ratelimit`."""
    bare = code.rpartition("#")[2].partition(":")[0].lower()
    letters = "".join(character for character in bare if character.isalnum())
    return letters.removesuffix("exception").removesuffix("error") or letters


_CLASSES: dict[str, tuple[int, ErrorClass]] = {
    canonical(code): (rank, error_class)
    for rank, (error_class, codes) in enumerate(_TABLE)
    for code in codes.split()
}
_STATUSES = {canonical(code): status for status, codes in _STATUS for code in codes.split()}


def class_of_codes(codes: Sequence[str], status: int, param: str) -> ErrorClass | None:
    """Returns the class that canonical codes name; None where they name none. `param`: the field that the error
    blames."""
    known = [_CLASSES[code] for code in codes if code in _CLASSES]
    if known:
        return min(known)[1]
    own = [code for code in codes if code not in _STATUSES]
    for error_class, words in _WORDS:
        if any(words.search(code) for code in own):
            return error_class
    if status not in _FIELD_STATUSES:
        return None
    if "stringabovemaxlength" in codes:
        field = param.rpartition(".")[2].partition("[")[0]
        if field in _PROMPT_FIELDS:
            return ErrorClass.CONTEXT_TOO_LONG
        if field in _FREE_TEXT:
            return ErrorClass.UNSUPPORTED_HERE
    if any(code.startswith(_NOT_HERE) for code in own if code != "unknown"):
        return ErrorClass.UNSUPPORTED_HERE
    return ErrorClass.INVALID_REQUEST if any(code.startswith(_OF_A_FIELD) for code in own) else None


def is_known(code: str) -> bool:
    """Returns True if the table holds a canonical code."""
    return code in _CLASSES


def is_everyones(codes: Iterable[str]) -> bool:
    """Returns True if canonical codes name a fault that every provider would find."""
    return any(code in _EVERYONES for code in codes)


def status_of_codes(codes: Sequence[str]) -> int:
    """Returns the status that canonical codes stand for; 0 where they name none."""
    return next((_STATUSES[code] for code in codes if code in _STATUSES), 0)
