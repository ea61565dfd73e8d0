"""Translates between errors and gRPC statuses in both directions, by one table, with google.rpc details."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from libs.errors import (
    MAX_VIOLATIONS,
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
#: Trailers are at most 8 KiB where a peer goes by gRPC's default: a call with longer ones ends with another status.
#: Counted are the bytes of names and values as they are sent, and 32 for each (RFC 9113, 6.5.2): for the message and
#: the details 1,500 + 4/3 * 4,000 (base64) + 150, which leaves 1,200 for what the runtime and proxies add.
MAX_DETAILS = 4_000
#: The longest message in bytes, once as `grpc-message` sends it and once in the details in UTF-8, where more of a
#: text fits that is not ASCII.
MAX_MESSAGE = 1_500
#: The longest texts inside the details, in bytes of UTF-8.
MAX_METADATA = 1_000
MAX_TEXT = 500
MAX_NAME = 128
#: `scope unit period` of a quota, whose scope is a name that a catalog or a caller gave.
MAX_SUBJECT = 256
#: A scope is carried whole, so that it can be read back: a campaign and its tenant of 128 characters each.
MAX_SCOPE = 1_200
#: Bytes of lengths and tags around an entry, and around a detail with its type's name.
_ENTRY = 8
_DETAIL = 64
MAX_INT64 = 2**63 - 1
#: Seconds; protobuf's bound of a Duration.
MAX_DURATION = 315_576_000_000

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
    """Returns the status code of an error; INTERNAL for one the table does not know."""
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def trailers_of(error: PointsmanError) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """Returns the message and the trailing metadata of an error, together within what peers take."""
    details = to_status(error).SerializeToString()
    return _cut(error.message, MAX_MESSAGE, _sent_size), ((DETAILS_KEY, details),)


def to_status(error: PointsmanError) -> status_pb2.Status:
    """Returns the google.rpc.Status of an error: ErrorInfo and RetryInfo always, then as many of its violations as
    fit."""
    status = status_pb2.Status(code=code_of(error).value[0], message=_cut(error.message, MAX_MESSAGE))
    info = error_details_pb2.ErrorInfo(reason=_cut(error.reason, MAX_NAME), domain=DOMAIN)
    room = MAX_METADATA
    for name, text in error.metadata.items():
        key, value = _cut(name, MAX_NAME), _cut(text, MAX_TEXT)
        room -= len(key.encode()) + len(value.encode()) + _ENTRY
        if room < 0:
            break
        info.metadata[key] = value
    status.details.add().Pack(info)
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after))
        status.details.add().Pack(retry)
    room = MAX_DETAILS - status.ByteSize() - _DETAIL
    if isinstance(error, InvalidArgument):
        bad = error_details_pb2.BadRequest()
        for field in error.violations:
            bad.field_violations.add(
                field=_cut(field.field, MAX_NAME), description=_cut(field.description, MAX_TEXT)
            )
            if bad.ByteSize() > room:
                del bad.field_violations[-1]
                break
        status.details.add().Pack(bad)
    if isinstance(error, ResourceExhausted) and error.violations:
        quota = error_details_pb2.QuotaFailure()
        for dimension in error.violations[:MAX_VIOLATIONS]:
            subject = _cut(dimension.subject, MAX_SUBJECT)
            quota.violations.add(
                subject=subject,
                description=_cut(dimension.description, MAX_TEXT),
                quota_id=subject,
                quota_dimensions=_dimensions(dimension.key),
                quota_value=min(max(dimension.limit, -MAX_INT64), MAX_INT64),
            )
            if quota.ByteSize() > room:
                del quota.violations[-1]
                break
        status.details.add().Pack(quota)
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> PointsmanError:
    """Returns the error that a failed call means, details included. Never raises: a status from elsewhere (a proxy, a
    dead channel) becomes the type of its code with the reason `TRANSPORT_<CODE>`. A deadline that passed is the same
    whoever noticed it."""
    code = error.code()
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):  # details from elsewhere; the code and message still stand
                status.ParseFromString(value)
    reason, metadata, retry_after = f"TRANSPORT_{code.name}", {}, None
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = DeadlineExceeded.default_reason
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
    # The details hold more of a message that is not ASCII.
    stated = status.message if status.code == code.value[0] else ""
    message = stated or error.details() or code.name
    error_type = _TYPES.get(code, PointsmanError)
    if error_type is InvalidArgument:
        found = fields or [FieldViolation("request", message)]
        return InvalidArgument(found, reason=reason, metadata=metadata)
    if error_type is ResourceExhausted:
        return ResourceExhausted(message, quotas, reason=reason, retry_after=retry_after, metadata=metadata)
    return error_type(message, reason=reason, retry_after=retry_after, metadata=metadata)


def _dimensions(key: LimitKey | QueueKey | str) -> dict[str, str]:
    """Returns a limit's name in parts, as `quota_dimensions` carries it; of a queue, the scope alone."""
    if isinstance(key, LimitKey):
        return {"scope": _cut(str(key.scope), MAX_SCOPE), "unit": key.unit, "period": key.period}
    return {"scope": _cut(str(key.scope), MAX_SCOPE)} if isinstance(key, QueueKey) else {}


def _key(violation: error_details_pb2.QuotaFailure.Violation) -> LimitKey | QueueKey | str:
    """Returns the name that `_dimensions` gave; of one of another version, its text."""
    parts = dict(violation.quota_dimensions)
    try:
        scope = scope_of(parts["scope"])
        if "unit" not in parts:
            return QueueKey(scope)
        return LimitKey(scope, Unit(parts["unit"]), Period(parts["period"]))
    except (KeyError, ValueError):
        return str(violation.subject)


def _cut(text: str, most: int, size: Callable[[str], int] | None = None) -> str:
    """Returns the beginning of a text that takes at most `most` bytes, in UTF-8 or as `size` counts a character's;
    lone surrogates, which have no UTF-8, become question marks."""
    # A character takes at least one byte.
    text = text[:most].encode(errors="replace").decode()
    if text.isascii() and size is None:
        return text
    if size is None:
        return text.encode()[:most].decode(errors="ignore")
    taken = 0
    for place, character in enumerate(text):
        taken += size(character)
        if taken > most:
            return text[:place]
    return text


def _sent_size(character: str) -> int:
    """Returns the bytes that `grpc-message` takes for a character: all but printable ASCII is sent as %XX for each
    byte."""
    if " " <= character <= "~" and character != "%":
        return 1
    return 3 * len(character.encode())


def _duration(seconds: float) -> Duration:
    nanos = round(min(max(seconds, 0.0), MAX_DURATION) * 1e9)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)
