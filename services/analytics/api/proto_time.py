"""Instants of protos."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

#: Nanoseconds of a second.
NANOS = 1_000_000_000


def instant_from_proto(timestamp: Timestamp) -> float | None:
    """Returns epoch seconds; None for what is not a timestamp."""
    if not 0 <= timestamp.nanos < NANOS:
        return None
    return timestamp.seconds + timestamp.nanos / NANOS
