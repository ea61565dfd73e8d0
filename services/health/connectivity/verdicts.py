"""The meaning of what steps find: certificates, answers, and what a whole test proves."""

from __future__ import annotations

import msgspec

from libs.connectivity import Cause, EndpointTest, Finding, HttpDetail, Step, StepName, StepVerdict
from libs.types import ErrorClass
from services.health.connectivity.network import Answer, Certificate
from services.health.domain.evidence import ProbeResult

#: A certificate ends soon with less than this left, seconds, or less than a third of its life where that is shorter:
#: some authorities issue them for days, and renew at a third (letsencrypt.org, "Integration Guide").
SOON = 14 * 86_400.0
_SOON_SHARE = 1 / 3
#: Statuses of a request without a valid key.
REFUSED = frozenset({401, 403, 407})


def trouble_of(answer: Answer, detail: HttpDetail) -> Finding | None:
    """Returns the finding of an answer that is not what was asked for; None: it is."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status in (401, 407) or (status == 400 and _names_bad_key(answer.body)):
        return Finding(StepVerdict.FAILED, Cause.KEY_REFUSED, detail)
    if status >= 500:
        return Finding(StepVerdict.FAILED, Cause.SERVER_FAULT, detail)
    others = {403: Cause.LIST_FORBIDDEN, 429: Cause.RATE_LIMITED}
    return Finding(StepVerdict.WARNING, others.get(status, Cause.UNEXPECTED_ANSWER), detail)


def _names_bad_key(body: bytes | None) -> bool:
    """Returns True for Google's error of a key that does not exist, which comes with status 400
    (cloud.google.com/apis/design/errors, reason API_KEY_INVALID)."""
    try:
        details = msgspec.json.decode(body or b"")["error"]["details"]
        return any(detail.get("reason") == "API_KEY_INVALID" for detail in details)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return False


def ends_soon(certificate: Certificate, now: float) -> bool:
    """Returns True if the certificate should have been renewed by now."""
    life = certificate.ends - certificate.begins
    return certificate.ends - now < min(SOON, _SOON_SHARE * life)


def evidence(provider: str, tested: EndpointTest) -> ProbeResult:
    """Returns the test as a probe's result. A model that is missing is no fault of the provider as a whole."""
    seconds = sum(step.duration for step in tested.steps)
    for step in tested.steps:
        if step.verdict is StepVerdict.FAILED and step.name is not StepName.MODELS:
            assert step.name is not None
            assert step.cause is not None
            sentence = f"test of {step.name.value}: {step.cause.value}".replace("_", " ")
            return ProbeResult(provider, seconds, _error_class(step), sentence)
    return ProbeResult(provider, seconds)


def _error_class(step: Step) -> ErrorClass:
    match step.cause:
        case Cause.TIMED_OUT:
            return ErrorClass.TIMEOUT
        case Cause.KEY_REFUSED:
            return ErrorClass.AUTHENTICATION
        case Cause.SERVER_FAULT:
            overloaded = isinstance(step.detail, HttpDetail) and step.detail.status in (503, 529)
            return ErrorClass.OVERLOADED if overloaded else ErrorClass.SERVER_ERROR
        case _:
            return ErrorClass.TRANSPORT
