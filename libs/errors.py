"""Every error a caller can meet. `libs.rpc.status` holds the one table from these to gRPC statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.limits import LimitKey, QueueKey

#: The most violations of one request that an error names; more help nobody, and must not fill an answer.
MAX_VIOLATIONS = 20


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is wrong. `field` is the proto path, e.g. `generation.messages[0].role`."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit, or queue for one, that has no room; amounts are in the limit's unit. `key` is a text where a server
    of another version named it. `paced`: the limit is to be waited for rather than refused. `unknown`: nobody knows
    whether there is room, as the limiter is gone or does not know the window's past."""

    key: LimitKey | QueueKey | str
    description: str
    limit: int = 0
    used: int = 0
    requested: int = 0
    reset_seconds: float | None = None
    paced: bool = False
    unknown: bool = False

    @property
    def subject(self) -> str:
        """Returns the limit's name for people."""
        return str(self.key)


class PointsmanError(Exception):
    """The base of all errors. `reason` is the stable UPPER_SNAKE name in google.rpc.ErrorInfo; the message is for a
    person and never holds a key or a prompt; `metadata` goes into ErrorInfo."""

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = dict(metadata or {})
        #: Seconds after which a retry may succeed; None: unknown, or never.
        self.retry_after = retry_after


class InvalidArgument(PointsmanError):
    """The request is wrong, whatever the state of the system. Names every wrong field, up to a bound."""

    default_reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        violations: Sequence[FieldViolation],
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        named = tuple(violations[:MAX_VIOLATIONS])
        message = "; ".join([f"{v.field}: {v.description}" for v in named])
        if len(violations) > len(named):
            message += f"; and {len(violations) - len(named)} more"
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = named


def check_count(field: str, count: int, most: int) -> None:
    """Refuses a field for its number of entries, before any of them is read. Raises InvalidArgument."""
    if count > most:
        raise InvalidArgument([FieldViolation(field, f"has {count} entries; at most {most} are accepted")])


class Unauthenticated(PointsmanError):
    """No identity, or one that is not known."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(PointsmanError):
    """A known identity that may not do this."""

    default_reason = "PERMISSION_DENIED"


class NotFound(PointsmanError):
    """The named thing does not exist."""

    default_reason = "NOT_FOUND"


class AlreadyExists(PointsmanError):
    """The id is taken by something else."""

    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(PointsmanError):
    """Right in itself, but not in the present state; retrying without a change does not help."""

    default_reason = "FAILED_PRECONDITION"


class Aborted(PointsmanError):
    """A concurrent change won; read again and retry."""

    default_reason = "ABORTED"


class ResourceExhausted(PointsmanError):
    """A limit, quota or budget has no room. One violation per dimension."""

    default_reason = "RESOURCE_EXHAUSTED"

    def __init__(
        self,
        message: str,
        violations: Sequence[QuotaViolation] = (),
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after, metadata=metadata)
        self.violations = tuple(violations)


class Unavailable(PointsmanError):
    """The call cannot be served now; the same call may succeed later."""

    default_reason = "UNAVAILABLE"


#: Reasons of an Unavailable that time alone does not mend: our key is refused, the account's quota is spent, the
#: model is gone. Without a `retry_after` the same call would fail again until somebody has changed something.
LASTING = frozenset(
    {"PROVIDER_KEY_REFUSED", "PROVIDER_NOT_SET_UP", "PROVIDER_QUOTA_EXHAUSTED", "MODEL_RETIRED"}
)


class DeadlineExceeded(PointsmanError):
    """The caller's deadline passed, or cannot be met."""

    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(PointsmanError):
    """The caller went away."""

    default_reason = "CANCELLED"
