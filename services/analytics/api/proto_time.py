"""Instants of protos."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from services.analytics.reports.query import MAX_INSTANT

#: Nanoseconds of a second.
NANOS = 1_000_000_000


def instant_from_proto(timestamp: Timestamp) -> float | None:
    """Returns epoch seconds; None for what is no timestamp from 1970 to 2200, which calendars and databases know."""
    if not (0 <= timestamp.nanos < NANOS and 0 <= timestamp.seconds <= MAX_INSTANT):
        return None
    return timestamp.seconds + timestamp.nanos / NANOS


def bounded_instant_from_proto(timestamp: Timestamp) -> float | None:
    """Returns epoch seconds; None for what is not a timestamp from 1970 to 2200."""
    instant = instant_from_proto(timestamp)
    return instant if instant is not None and 0 <= instant <= MAX_INSTANT else None
