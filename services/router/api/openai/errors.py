"""Errors of OpenAI's API: a status, a JSON object with message, type, param and code, and headers.

The shape and the codes are those of https://platform.openai.com/docs/guides/error-codes; a refused prompt has Azure
OpenAI's code `content_filter`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from libs.errors import (
    LASTING,
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.http.errors import HttpError, printable
from libs.limits import LimitKey, Unit

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
#: Reasons of bounds of this process, not of limits in the catalog.
_PROCESS_BOUNDS = frozenset({"BYTES_IN_FLIGHT", "TOO_MANY_CONNECTIONS", "UNKNOWN_CALLERS"})
#: Retry-After of a 503 that has none of its own, seconds.
DEFAULT_RETRY_AFTER = 1.0
#: Tells OpenAI's clients that the same request would fail again.
DO_NOT_RETRY = {"x-should-retry": "false"}


class ApiError(HttpError):
    """An error of OpenAI's API. `param` names the wrong field in the client's own terms; `kind` is its `type`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, code=code, headers=headers)
        self.param = param
        self.kind = kind or _kind(status)


def _kind(status: int) -> str:
    return INVALID_REQUEST if status < HTTPStatus.INTERNAL_SERVER_ERROR else SERVER_ERROR


def error_body(error: HttpError) -> bytes:
    """Returns the JSON body of any error, with the object that clients look for under `error`."""
    kind, param = (error.kind, error.param) if isinstance(error, ApiError) else (_kind(error.status), None)
    fields = {"message": error.message, "type": kind, "param": param, "code": error.code}
    return msgspec.json.encode({"error": fields})


def invalid_parameter(param: str, message: str, code: str | None = None) -> ApiError:
    """Returns the error of a request that is wrong in itself."""
    return ApiError(400, message, param=param or None, code=code)


def unsupported(param: str, message: str = "") -> ApiError:
    """Returns the error of a request for something that Pointsman cannot pass on."""
    return invalid_parameter(param, message or f"Unsupported parameter: '{param}'.", "unsupported_parameter")


def unknown_model(name: str) -> ApiError:
    """Returns the error of a model that does not exist, or not for this caller."""
    message = f"The model '{printable(name)}' does not exist or you do not have access to it."
    return ApiError(404, message, code="model_not_found", param="model")


def key_required() -> ApiError:
    """Returns the error of a request without a key."""
    message = "You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY."
    return ApiError(401, message, code="invalid_api_key")


def malformed_key() -> ApiError:
    """Returns the error of a request whose key cannot be one."""
    message = (
        "The Authorization header holds no valid API key: it must be Authorization: Bearer YOUR_KEY, "
        "in printable ASCII."
    )
    return ApiError(401, message, code="invalid_api_key")


def from_failure(error: PointsmanError, names: Mapping[str, str]) -> ApiError:
    """Translates the router's error for the client. `names`: the router's name of a field → the client's."""
    answer = _answer(error, names)
    lasting = error.retry_after is None and error.reason in LASTING
    if lasting:
        answer.headers |= DO_NOT_RETRY
    elif error.retry_after is not None or answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        wait = DEFAULT_RETRY_AFTER if error.retry_after is None else error.retry_after
        answer.headers["retry-after"] = str(max(1, math.ceil(wait)))
        answer.headers["retry-after-ms"] = str(max(1, math.ceil(wait * 1000)))
    if tried := error.metadata.get("attempts"):
        answer.headers["x-pointsman-attempts"] = str(tried.count(",") + 1)
    return answer


def _answer(error: PointsmanError, names: Mapping[str, str]) -> ApiError:
    code = error.reason.lower()
    match error:
        case InvalidArgument():
            return _invalid(error, names)
        case Unauthenticated():
            if error.reason == "KEY_REQUIRED":
                return key_required()
            if error.reason == "KEY_MALFORMED":
                return malformed_key()
            return ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        case PermissionDenied():
            return ApiError(403, error.message, code=code)
        case NotFound():
            return ApiError(404, error.message, code=code)
        case AlreadyExists() | Aborted():
            return ApiError(409, error.message, code=code)
        case FailedPrecondition():
            return _refused(error, code, names.get("messages", "messages"))
        case ResourceExhausted():
            return _exhausted(error)
        case Unavailable():
            return ApiError(503, error.message, code=code)
        case DeadlineExceeded():
            # The caller's time is over, and the attempts so far may have to be paid. One code, wherever the end of
            # that time was noticed.
            return ApiError(504, error.message, code="deadline_exceeded", headers=DO_NOT_RETRY)
        case _:
            return ApiError(500, "The server had an error while processing your request.", code=code)


def _invalid(error: InvalidArgument, names: Mapping[str, str]) -> ApiError:
    found = [(_param(violation.field, names), violation.description) for violation in error.violations]
    param = found[0][0] if found else None
    message = "; ".join(f"{name}: {text}" if name else text for name, text in found)
    if param == "model":
        return ApiError(404, f"The model does not exist: {message}.", code="model_not_found", param=param)
    return ApiError(400, message, code="invalid_value" if param else None, param=param)


def _param(field: str, names: Mapping[str, str]) -> str | None:
    """Translates a field's path: `generation.messages[0].text` → `messages[0].content`. None for the request as a
    whole."""
    path = field.removeprefix("generation").removeprefix(".")
    parts = re.fullmatch(r"([^.\[]*)(\[\d+\])?(.*)", path, re.DOTALL)
    assert parts is not None
    head, index, tail = parts.groups(default="")
    if tail.startswith(".parts") and "messages.parts" in names:
        place = names["messages.parts"]
        return place.replace("[]", index) + (tail.removeprefix(".parts") if "[]" in place else "")
    template = names.get(head + tail)
    if template is not None:
        return template.replace("[]", index)
    return names.get(head, head) + index + tail or None


def _refused(error: FailedPrecondition, code: str, prompt: str) -> ApiError:
    if error.reason == "CONTENT_REFUSED":
        return ApiError(400, error.message, code="content_filter")
    if error.reason == "CONTEXT_TOO_LONG":
        return ApiError(400, error.message, code="context_length_exceeded", param=prompt)
    if error.reason == "UNSUPPORTED_HERE":
        return ApiError(400, error.message, code="unsupported_parameter")
    return ApiError(400, error.message, code=code)


def _exhausted(error: ResourceExhausted) -> ApiError:
    if error.reason in _PROCESS_BOUNDS:
        return ApiError(429, error.message, code=error.reason.lower(), kind="requests")
    headers = limit_headers(error.violations, error.retry_after)
    keys = [v.key for v in error.violations if isinstance(v.key, LimitKey)]
    if any(key.budget for key in keys):
        return ApiError(
            429,
            error.message,
            code="insufficient_quota",
            kind="insufficient_quota",
            headers=headers | DO_NOT_RETRY,
        )
    kind = "tokens" if any(key.unit.tokens for key in keys) else "requests"
    if error.reason == "REQUEST_ABOVE_LIMIT":
        code = error.reason.lower()
        return ApiError(429, error.message, code=code, kind=kind, headers=headers | DO_NOT_RETRY)
    return ApiError(429, error.message, code="rate_limit_exceeded", kind=kind, headers=headers)


def limit_headers(violations: tuple[QuotaViolation, ...], retry_after: float | None) -> dict[str, str]:
    """Returns the rate-limit headers of a denial: of the violated limits of requests and tokens, as far as known."""
    headers: dict[str, str] = {}
    for violation in violations:
        if not isinstance(violation.key, LimitKey) or not violation.limit:
            continue
        unit = violation.key.unit
        what = "requests" if unit is Unit.REQUESTS else "tokens" if unit.tokens else ""
        if not what:
            continue
        headers[f"x-ratelimit-limit-{what}"] = str(violation.limit)
        if what == "requests":
            # There is no room for one; of tokens there may be some, but fewer than the request needs.
            headers["x-ratelimit-remaining-requests"] = "0"
        if retry_after is not None:
            headers[f"x-ratelimit-reset-{what}"] = f"{math.ceil(retry_after * 1000)}ms"
    return headers
