"""The one table between errors and gRPC statuses, in both directions, with google.rpc details."""

from __future__ import annotations

from contextlib import suppress

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from libs.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.limits import LimitKey, Period, QueueKey, Unit, scope_of

DOMAIN = "pointsman"
DETAILS_KEY = "grpc-status-details-bin"
#: What a server may put into a status: HTTP/2 peers refuse trailers beyond about 8 KiB.
MAX_MESSAGE = 1000
MAX_VIOLATIONS = 20

_CODES: dict[type[PointsmanError], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Aborted: grpc.StatusCode.ABORTED,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
}
_TYPES = {code: error_type for error_type, code in _CODES.items()}


def code_of(error: PointsmanError) -> grpc.StatusCode:
    """The status code of an error; INTERNAL for one the table does not know."""
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def to_status(error: PointsmanError) -> status_pb2.Status:
    """The google.rpc.Status of an error: ErrorInfo always, then what its type adds."""
    details: list[AnyProto] = [
        _pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    ]
    if error.retry_after is not None:
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after))))
    if isinstance(error, InvalidArgument):
        bad = error_details_pb2.BadRequest()
        for field in error.violations[:MAX_VIOLATIONS]:
            bad.field_violations.add(field=field.field, description=field.description)
        details.append(_pack(bad))
    if isinstance(error, ResourceExhausted) and error.violations:
        quota = error_details_pb2.QuotaFailure()
        for dimension in error.violations[:MAX_VIOLATIONS]:
            quota.violations.add(
                subject=dimension.subject,
                description=dimension.description,
                quota_id=dimension.subject,
                quota_dimensions=_dimensions(dimension.key),
                quota_value=dimension.limit,
            )
        details.append(_pack(quota))
    return status_pb2.Status(
        code=code_of(error).value[0], message=error.message[:MAX_MESSAGE], details=details
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> PointsmanError:
    """The error a failed call means, details included. Never raises: a status from elsewhere (a proxy, a dead
    channel) becomes the type of its code with the reason `TRANSPORT_<CODE>`."""
    code = error.code()
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):  # details from elsewhere; the code and message still stand
                status.ParseFromString(value)
    reason, metadata, retry_after = f"TRANSPORT_{code.name}", {}, None
    fields: list[FieldViolation] = []
    quotas: list[QuotaViolation] = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        quota = error_details_pb2.QuotaFailure()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Unpack(bad):
            fields = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(quota):
            quotas = [QuotaViolation(_key(v), v.description, limit=v.quota_value) for v in quota.violations]
    message = error.details() or code.name
    error_type = _TYPES.get(code, PointsmanError)
    if error_type is InvalidArgument:
        found = fields or [FieldViolation("request", message)]
        return InvalidArgument(found, reason=reason, metadata=metadata)
    if error_type is ResourceExhausted:
        return ResourceExhausted(message, quotas, reason=reason, retry_after=retry_after, metadata=metadata)
    return error_type(message, reason=reason, retry_after=retry_after, metadata=metadata)


def _dimensions(key: LimitKey | QueueKey | str) -> dict[str, str]:
    """A limit's name in parts, as `quota_dimensions` carries it; of a queue, the scope alone."""
    if isinstance(key, LimitKey):
        return {"scope": str(key.scope), "unit": key.unit, "period": key.period}
    return {"scope": str(key.scope)} if isinstance(key, QueueKey) else {}


def _key(violation: error_details_pb2.QuotaFailure.Violation) -> LimitKey | QueueKey | str:
    """The name that `_dimensions` gave; of one of another version, its text."""
    parts = dict(violation.quota_dimensions)
    try:
        scope = scope_of(parts["scope"])
        if "unit" not in parts:
            return QueueKey(scope)
        return LimitKey(scope, Unit(parts["unit"]), Period(parts["period"]))
    except (KeyError, ValueError):
        return str(violation.subject)


def _pack(message: error_details_pb2.ErrorInfo | object) -> AnyProto:
    packed = AnyProto()
    packed.Pack(message)  # type: ignore[arg-type]  # any generated message
    return packed


def _duration(seconds: float) -> Duration:
    nanos = max(0, round(seconds * 1e9))
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)
