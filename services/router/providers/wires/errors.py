"""Classifies a provider's failure by status, body and headers together.

The meaning of codes, words and statuses stands in `error_codes.py` and `error_rules.py`; here it is joined with the
answer's headers and waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from libs.types import ErrorClass, FinishReason, Usage
from services.router.providers.wires.context_size import least_window
from services.router.providers.wires.error_body import MAX_PROSE, ErrorBody, read_error, redact
from services.router.providers.wires.error_rules import Verdict, break_class, class_of_status, verdict_of
from services.router.providers.wires.fields import as_dict, as_str
from services.router.providers.wires.limits import refill_wait
from services.router.providers.wires.unsupported import feature_meant, is_explained
from services.router.providers.wires.waits import answered_at, body_wait, days_end, header_wait, is_days_quota
from services.router.request.generation import ProviderFailure

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
#: Bytes of a request that is too long for no model.
_SHORT = 4096
_WORD = re.compile(r"[^\W_]+")
#: Words of a request, of which one may be a name, and their escapes.
_BETWEEN = rb"(?:\\[nrt]|\\u[0-9a-f]{4}|[\x00-/:-`{-\x7f]|\xc2\xa0|\xe2\x80.)+"

#: A quota that is whole again when the provider's day ends: the wait counts, and the same model is not asked again.
DAYS_QUOTA = Verdict(ErrorClass.QUOTA_EXHAUSTED, transient=True)
#: Failures that pass with time, so a stated wait means something.
_WAITING = frozenset(
    {ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED, ErrorClass.SERVER_ERROR, ErrorClass.TIMEOUT}
)


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    statuses: Mapping[int, ErrorClass] | None = None,
    now: float | None = None,
) -> ProviderFailure:
    """Returns the failure that an answer with an error status means. Header names are lower case. `statuses`: the
    meaning of single statuses at this provider alone. `now`: seconds since the epoch, for answers without a date.
    Never raises."""
    error = read_error(body, headers)
    stated = _stated_wait(headers, error)
    found = verdict_of(status, error, wait=stated is not None, statuses=statuses)
    if found.error_class is ErrorClass.RATE_LIMITED and is_days_quota(error.data):
        found, at = DAYS_QUOTA, answered_at(headers)
        at = now if at is None else at
        stated = None if at is None else days_end(at)
    return _failure(
        found,
        error,
        error.message or f"HTTP {status} without an explanation",
        status,
        _wait(found.error_class, stated, headers, error) if _waits(found) else None,
        again=headers.get("x-should-retry") != "false",
    )


def classify_inside(data: Any, usage: Usage | None = None) -> ProviderFailure:
    """Returns the failure that an error object inside a 200 means (a stream's error event, a failed response).

    The answer's own headers belong to the 200 and say nothing about it.
    """
    error = read_error(data, {})
    stated = body_wait(data, error.words)
    found = verdict_of(error.status, error, wait=stated is not None)
    if found.error_class is ErrorClass.RATE_LIMITED and is_days_quota(data):
        found, stated = DAYS_QUOTA, None
    message = error.message or "the provider reported an error without an explanation"
    return _failure(found, error, message, 200, stated if _waits(found) else None, usage=usage)


def sanitise(failure: ProviderFailure, hide: Callable[[str], str], request_body: bytes) -> None:
    """Makes a failure fit to leave the room, in place: no key is in its message (`hide` takes out those that are
    known, before anything is cut), nothing that was raised on the way is kept with it, and its class was not read
    from words that `request_body` holds itself."""
    if failure.deciding_words and _is_echo(failure, request_body):
        status = failure.http_status
        failure.error_class = class_of_status(status if status >= 400 else 0)
        failure.retry_same = failure.error_class in _RETRY_SAME
        failure.explicit = status != 403
        failure.unexplained = failure.error_class is ErrorClass.INVALID_REQUEST
    failure.message = redact(hide(failure.unredacted or failure.message))
    failure.args = (f"{failure.error_class}: {failure.message}",)
    failure.unredacted = failure.deciding_words = ""
    failure.__cause__ = failure.__context__ = None


def _is_echo(failure: ProviderFailure, request_body: bytes) -> bool:
    """Returns True if the request holds the words, whatever stands between them (a name's underscores, a space of
    another kind)."""
    # A long prompt may well name context windows, and its length is a fault of its own.
    if failure.error_class is ErrorClass.CONTEXT_TOO_LONG and len(request_body) > _SHORT:
        return False
    words = [word.encode() for word in _WORD.findall(failure.deciding_words.lower())]
    return bool(words) and re.search(_BETWEEN.join(words), request_body.lower()) is not None


def failure_of_reason(
    reason: str, usage: Usage | None = None, explanation: str = ""
) -> ProviderFailure | None:
    """Returns the failure that a finish reason of a 200 stands for; None where it may be the end of an answer.
    `explanation`: the provider's own explanation."""
    error_class = break_class(reason)
    if error_class is None:
        return None
    message = f"the answer was broken off: {reason}" + (f" ({explanation})" if explanation else "")
    failure = ProviderFailure(error_class, redact(message), http_status=200, retry_same=True, usage=usage)
    failure.unredacted = message[:MAX_PROSE]
    return failure


def read_finish(
    reason: str, known: Mapping[str, FinishReason], usage: Usage | None, explanation: str = ""
) -> FinishReason:
    """Returns the reason why a whole answer ended; a reason that is neither known nor the name of a failure, or none,
    is OTHER. Raises ProviderFailure where it was broken off."""
    finish = known.get(reason)
    if finish is None and (failure := failure_of_reason(reason, usage, explanation)) is not None:
        raise failure
    return finish or FinishReason.OTHER


def malformed(message: str, usage: Usage | None = None) -> ProviderFailure:
    """Returns the failure of a 200 that cannot be used."""
    return ProviderFailure(ErrorClass.MALFORMED, message, http_status=200, retry_same=True, usage=usage)


def cut_off(usage: Usage | None = None) -> ProviderFailure:
    """Returns the failure of a stream that ended before its answer did."""
    return ProviderFailure(
        ErrorClass.TRANSPORT,
        "the stream ended before the answer was complete",
        http_status=200,
        retry_same=True,
        usage=usage,
    )


def _failure(
    found: Verdict,
    error: ErrorBody,
    message: str,
    status: int,
    wait: float | None,
    *,
    again: bool = True,
    usage: Usage | None = None,
) -> ProviderFailure:
    failure = ProviderFailure(
        found.error_class,
        redact(message),
        http_status=status,
        retry_after=wait,
        retry_same=again and found.error_class in _RETRY_SAME and found.transient is not False,
        usage=usage,
        explicit=found.explicit,
        unexplained=found.error_class is ErrorClass.INVALID_REQUEST and not is_explained(error),
    )
    if found.error_class is ErrorClass.UNSUPPORTED_HERE:
        failure.unsupported = feature_meant(error)
    elif found.error_class is ErrorClass.CONTEXT_TOO_LONG:
        failure.least_window = least_window(error, status)
    failure.unredacted = message[:MAX_PROSE]
    failure.deciding_words = found.deciding_words
    return failure


def _waits(found: Verdict) -> bool:
    return found.error_class in _WAITING if found.transient is None else found.transient


def _stated_wait(headers: Mapping[str, str], error: ErrorBody) -> float | None:
    stated = header_wait(headers)
    return body_wait(error.data, error.words) if stated is None else stated


def _wait(
    error_class: ErrorClass, stated: float | None, headers: Mapping[str, str], error: ErrorBody
) -> float | None:
    if stated is not None or error_class is not ErrorClass.RATE_LIMITED:
        return stated
    # OpenRouter repeats the upstream's headers in the body.
    upstream = as_dict(as_dict(as_dict(as_dict(error.data).get("error")).get("metadata")).get("headers"))
    resets = [
        wait
        for source in (headers, {name.lower(): as_str(value) for name, value in upstream.items()})
        if (wait := refill_wait({**source, "date": headers.get("date", "")})) is not None
    ]
    return max(resets, default=None)
