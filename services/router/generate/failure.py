"""The error a caller gets when nothing more can be done. Pure.

The first failure that says something about the request or the providers is named, never what a later fallback made
of it: a fallback's own 400 must not hide the outage that led to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from libs.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unavailable,
)
from libs.types import ErrorClass
from services.router.generate.next_step import Failed
from services.router.health.target_health import Availability
from services.router.planning.plan import Plan

#: Failures that time alone does not mend, each with the reason in the error; all of them are `libs.errors.LASTING`.
_LASTING = {
    ErrorClass.AUTHENTICATION: "PROVIDER_KEY_REFUSED",
    ErrorClass.QUOTA_EXHAUSTED: "PROVIDER_QUOTA_EXHAUSTED",
    ErrorClass.MODEL_NOT_FOUND: "MODEL_RETIRED",
}
#: RetryInfo when nobody said when to come back, seconds.
DEFAULT_RETRY_AFTER = 1.0


def why_given_up(
    why: str,
    plan: Plan,
    failed: Sequence[Failed],
    refused: Mapping[str, Sequence[QuotaViolation]],
    quota_retry_after: float | None,
    now: float,
) -> PointsmanError:
    """Returns the error for a `GiveUp.why`."""
    story = "; ".join(f"{f.candidate.target}: {f.error_class}: {f.message}" for f in failed)
    metadata = (
        {"attempts": ",".join(f"{f.candidate.target}={f.error_class}" for f in failed)} if failed else {}
    )
    if why == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(
            f"The deadline passed before an answer came. {story}".strip(), metadata=metadata
        )
    # What another key or endpoint made up for says nothing of the provider.
    said = [f for f in failed if f.next_route is None] or failed
    root = said[0] if said else None
    if why == "CONTENT_REFUSED":
        return FailedPrecondition(
            f"The provider refused the content. {story}", reason="CONTENT_REFUSED", metadata=metadata
        )
    if why == "INVALID_REQUEST" and root is not None:
        root = next((f for f in failed if not f.unexplained), root)
        return InvalidArgument(
            [FieldViolation("generation", f"{root.candidate.target} says: {root.message}")],
            reason="INVALID_REQUEST",
            metadata=metadata,
        )
    if why == "CANCELLED":
        return Cancelled("The caller went away", metadata=metadata)
    if not failed:
        return _never_tried(plan, refused, quota_retry_after)
    if why != "RETRY_BUDGET_EXHAUSTED" and all(f.of_request for f in said):
        refusal = _refused_by_all(said, story, metadata)
        if refusal is not None:
            return refusal
    soonest = _soonest(plan, failed, quota_retry_after, now)
    if why == "PROVIDERS_FAILED" and not refused and all(f.error_class in _LASTING for f in said):
        why = _LASTING[said[0].error_class]
    elif soonest is None:
        soonest = DEFAULT_RETRY_AFTER
    return Unavailable(
        f"No permitted provider answered. {story}", reason=why, retry_after=soonest, metadata=metadata
    )


def _refused_by_all(
    failed: Sequence[Failed], story: str, metadata: Mapping[str, str]
) -> FailedPrecondition | None:
    """Returns the error of a request that every model refused for what it is; None where some refused it as wrong
    and others could not be asked."""
    classes = {f.error_class for f in failed}
    if classes == {ErrorClass.CONTEXT_TOO_LONG}:
        return FailedPrecondition(
            f"The prompt fits no permitted model. {story}", reason="CONTEXT_TOO_LONG", metadata=metadata
        )
    if ErrorClass.UNSUPPORTED_HERE in classes:
        return FailedPrecondition(
            f"No permitted model supports what is asked. {story}",
            reason="UNSUPPORTED_HERE",
            metadata=metadata,
        )
    return None


def _never_tried(
    plan: Plan, refused: Mapping[str, Sequence[QuotaViolation]], quota_retry_after: float | None
) -> PointsmanError:
    violations = tuple(dict.fromkeys(v for found in refused.values() for v in found))
    if any(found and all(v.unknown for v in found) for found in refused.values()):
        # One candidate at least may have room: that nobody can tell is no sign of a limit that is used up.
        return Unavailable(
            "The limiter does not answer. " + "; ".join(v.description for v in violations if v.unknown),
            reason="LIMITER_UNAVAILABLE",
            retry_after=quota_retry_after or DEFAULT_RETRY_AFTER,
        )
    if violations:
        known = [v for v in violations if not v.unknown]
        return ResourceExhausted(
            "; ".join(v.description for v in known),
            known,
            reason="LIMIT_EXCEEDED" if quota_retry_after is not None else "REQUEST_ABOVE_LIMIT",
            retry_after=quota_retry_after,
        )
    down = [c for c in plan.excluded if c.health.availability is Availability.DOWN]
    reasons = "; ".join(f"{c.target}: {c.excluded or c.health.reason}" for c in plan.excluded)
    if down or plan.candidates:
        return Unavailable(
            f"Every provider that could serve this is down. {reasons}".strip(),
            reason="PROVIDERS_DOWN",
            retry_after=plan.retry_after() or DEFAULT_RETRY_AFTER,
        )
    if any(c.unusable for c in plan.excluded):
        return Unavailable(
            f"No provider that could serve this is set up. {reasons}", reason="PROVIDER_NOT_SET_UP"
        )
    if plan.excluded and all(c.model.context_window <= c.input_tokens for c in plan.excluded):
        return FailedPrecondition(f"The prompt fits no permitted model. {reasons}", reason="CONTEXT_TOO_LONG")
    return FailedPrecondition(f"No model can serve this request. {reasons}".strip(), reason="NO_CANDIDATE")


def _soonest(plan: Plan, failed: Sequence[Failed], quota: float | None, now: float) -> float | None:
    """Returns the seconds after which somebody may answer again, as far as is known; None: nothing is."""
    waits = [max(0.0, f.ended + f.retry_after - now) for f in failed if f.retry_after is not None]
    waits += [w for w in (quota, plan.retry_after()) if w is not None]
    return min(waits, default=None)
