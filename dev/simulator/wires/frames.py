"""Frames of vnd.amazon.eventstream. Source: docs.aws.amazon.com/transcribe/latest/dg/event-stream.html."""

from __future__ import annotations

import struct
from zlib import crc32


def header(name: str, value: str) -> bytes:
    """One header, of type string."""
    raw = value.encode()
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(raw)) + raw


def frame(headers: bytes, payload: bytes) -> bytes:
    """One event-stream message: prelude, its CRC, headers, payload, the CRC of all."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def event_headers(name: str) -> bytes:
    """The headers of an event of that type."""
    kind = header(":event-type", name) + header(":content-type", "application/json")
    return kind + header(":message-type", "event")
