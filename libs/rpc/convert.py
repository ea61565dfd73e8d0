"""Converts between the shared vocabulary (`libs.types`, seconds, epoch instants) and its protos."""

from __future__ import annotations

from typing import cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.types.v1 import types_pb2

from libs.types import ErrorClass, FinishReason, Priority, RoutePart, Usage, UsageAccuracy

_NANOS = 1_000_000_000

_ERROR_TO = {
    item: cast("types_pb2.ErrorClass", types_pb2.ErrorClass.Value(f"ERROR_CLASS_{item.name}"))
    for item in ErrorClass
}
_ERROR_FROM: dict[int, ErrorClass] = {number: item for item, number in _ERROR_TO.items()}
_FINISH_TO = {
    item: cast("types_pb2.FinishReason", types_pb2.FinishReason.Value(f"FINISH_REASON_{item.name}"))
    for item in FinishReason
}
_FINISH_FROM: dict[int, FinishReason] = {number: item for item, number in _FINISH_TO.items()}
_PART_TO = {
    item: cast("types_pb2.RoutePart", types_pb2.RoutePart.Value(f"ROUTE_PART_{item.name}"))
    for item in RoutePart
}
_PART_FROM: dict[int, RoutePart] = {number: item for item, number in _PART_TO.items()}
_PRIORITY_FROM: dict[int, Priority] = {
    types_pb2.Priority.Value(f"PRIORITY_{item.name}"): item for item in Priority
}
_ACCURACY_TO = {
    item: cast("types_pb2.UsageAccuracy", types_pb2.UsageAccuracy.Value(f"USAGE_ACCURACY_{item.name}"))
    for item in UsageAccuracy
}
_ACCURACY_FROM: dict[int, UsageAccuracy] = {number: item for item, number in _ACCURACY_TO.items()}


def error_class_to_proto(value: ErrorClass | None) -> types_pb2.ErrorClass:
    """Returns the proto's number; UNSPECIFIED for None."""
    return _ERROR_TO[value] if value is not None else types_pb2.ERROR_CLASS_UNSPECIFIED


def error_class_from_proto(value: int) -> ErrorClass | None:
    """Returns the member; None for UNSPECIFIED and numbers of later versions."""
    return _ERROR_FROM.get(value)


def finish_reason_to_proto(value: FinishReason | None) -> types_pb2.FinishReason:
    """Returns the proto's number; UNSPECIFIED for None."""
    return _FINISH_TO[value] if value is not None else types_pb2.FINISH_REASON_UNSPECIFIED


def finish_reason_from_proto(value: int) -> FinishReason | None:
    """Returns the member; None for UNSPECIFIED and numbers of later versions."""
    return _FINISH_FROM.get(value)


def route_part_to_proto(value: RoutePart | None) -> types_pb2.RoutePart:
    """Returns the proto's number; UNSPECIFIED for None."""
    return _PART_TO[value] if value is not None else types_pb2.ROUTE_PART_UNSPECIFIED


def route_part_from_proto(value: int) -> RoutePart | None:
    """Returns the member; None for UNSPECIFIED and numbers of later versions."""
    return _PART_FROM.get(value)


def priority_from_proto(value: int) -> Priority | None:
    """Returns the member; None for UNSPECIFIED and numbers of later versions."""
    return _PRIORITY_FROM.get(value)


def fill_usage(proto: types_pb2.Usage, value: Usage) -> None:
    """Writes usage into a message of which it is a part."""
    proto.input_tokens = value.input_tokens
    proto.output_tokens = value.output_tokens
    proto.accuracy = _ACCURACY_TO[value.accuracy]
    if value.cache_read_tokens:
        proto.cache_read_tokens = value.cache_read_tokens
    if value.cache_write_tokens:
        proto.cache_write_tokens = value.cache_write_tokens
    if value.reasoning_tokens:
        proto.reasoning_tokens = value.reasoning_tokens


def usage_to_proto(value: Usage | None) -> types_pb2.Usage | None:
    """Returns the proto; None for None: nothing was used."""
    if value is None:
        return None
    proto = types_pb2.Usage()
    fill_usage(proto, value)
    return proto


def usage_from_proto(value: types_pb2.Usage) -> Usage:
    """Reads an unset accuracy as exact."""
    return Usage(
        input_tokens=value.input_tokens,
        output_tokens=value.output_tokens,
        cache_read_tokens=value.cache_read_tokens,
        cache_write_tokens=value.cache_write_tokens,
        reasoning_tokens=value.reasoning_tokens,
        accuracy=_ACCURACY_FROM.get(value.accuracy, UsageAccuracy.EXACT),
    )


def fill_duration(proto: Duration, seconds: float) -> None:
    """Writes a duration into a new message of which it is a part."""
    nanos = round(seconds * _NANOS)
    if nanos < 0:
        # Duration wants both parts of one sign.
        proto.seconds, proto.nanos = -(-nanos // _NANOS), -(-nanos % _NANOS)
    elif nanos < _NANOS:
        proto.nanos = nanos
    else:
        proto.seconds, proto.nanos = nanos // _NANOS, nanos % _NANOS


def duration_to_proto(seconds: float | None) -> Duration | None:
    """Returns the proto; None for None."""
    if seconds is None:
        return None
    proto = Duration()
    fill_duration(proto, seconds)
    return proto


def duration_from_proto(value: Duration) -> float:
    """Returns seconds. An unset duration is 0; HasField of the message tells it from a set one."""
    return float(value.seconds + value.nanos / _NANOS)


def fill_timestamp(proto: Timestamp, epoch: float) -> None:
    """Writes an instant into a message of which it is a part."""
    nanos = round(epoch * _NANOS)
    proto.seconds = nanos // _NANOS
    proto.nanos = nanos % _NANOS


def timestamp_to_proto(epoch: float | None) -> Timestamp | None:
    """Returns the proto; None for None."""
    if epoch is None:
        return None
    proto = Timestamp()
    fill_timestamp(proto, epoch)
    return proto


def timestamp_from_proto(value: Timestamp) -> float:
    """Returns seconds since the Unix epoch."""
    return float(value.seconds + value.nanos / _NANOS)


def money_to_proto(micro_usd: int | None) -> types_pb2.Money | None:
    """Returns the proto; None for None."""
    return None if micro_usd is None else types_pb2.Money(micro_usd=micro_usd)
