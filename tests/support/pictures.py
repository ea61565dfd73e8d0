"""Small pictures and documents, made by hand."""

from __future__ import annotations

import struct
import zlib

Colour = tuple[int, int, int]


def png(width: int = 8, height: int = 8, colour: Colour = (200, 30, 30)) -> bytes:
    """Returns a PNG of one colour."""
    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
