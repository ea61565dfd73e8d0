"""Reads the kind and the size of images and documents from their first bytes. Nothing is decoded, so nothing unfolds;
the work is bounded whatever the bytes claim.

PNG: https://www.w3.org/TR/png-3/#11IHDR. GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt, section 18. JPEG:
https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.2. WebP: https://developers.google.com/speed/webp/docs/riff_container.
PDF: ISO 32000-1, 7.5.2 and 7.7.3.
"""

from __future__ import annotations

import struct

PDF = "application/pdf"
#: Pages of a document that are counted at most: more than any vendor takes.
MAX_PAGES = 1000
#: Segments of a JPEG before its frame header that are looked at: a picture with a long profile has some dozens.
_MAX_SEGMENTS = 1000
#: Bytes a page where a document packs its objects away, so that none can be counted.
_PAGE_BYTES = 64 * 1024
#: JPEG's frame headers: SOF0 to SOF15 without DHT, JPG and DAC, which stand between them.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_media_type(data: bytes) -> str:
    """Returns the media type by the first bytes; empty where they are none of PNG, JPEG, GIF, WebP and PDF."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    # Readers accept it anywhere in the first kilobyte; vendors do as well.
    return PDF if b"%PDF-" in data[:1024] else ""


def measure_image(data: bytes) -> tuple[int, int] | None:
    """Returns width and height in pixels as the header claims them; None where it is cut off or is no header."""
    try:
        match read_media_type(data):
            case "image/png":
                width, height = struct.unpack_from(">II", data, 16)
            case "image/gif":
                width, height = struct.unpack_from("<HH", data, 6)
            case "image/jpeg":
                width, height = _measure_jpeg(data)
            case "image/webp":
                width, height = _measure_webp(data)
            case _:
                return None
    except (struct.error, IndexError):
        return None
    return (width, height) if width and height else None


def is_animated(data: bytes) -> bool:
    """Returns True if a GIF or a WebP has more than one frame."""
    match read_media_type(data):
        case "image/gif":
            return _has_frames(data)
        case "image/webp":
            # The flags of the extended format: https://developers.google.com/speed/webp/docs/riff_container#extended_file_format
            return data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & 0x02)
    return False


def _has_frames(gif: bytes) -> bool:
    """Returns True if a second image begins in a GIF."""
    frames = 0
    try:
        at = 13 + _table_bytes(gif[10])
        while frames < 2:
            kind = gif[at]
            if kind == 0x2C:
                frames += 1
                # The descriptor, its table of colours, and the size of the first code.
                at += 10 + _table_bytes(gif[at + 9]) + 1
            elif kind == 0x21:
                at += 2
            else:
                break
            while length := gif[at]:
                at += 1 + length
            at += 1
    except IndexError:
        # Cut off: what is not there is no frame.
        pass
    return frames > 1


def _table_bytes(flags: int) -> int:
    """Returns the bytes of a table of colours; 0: there is none."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def count_pages(data: bytes) -> int:
    """Returns about how many pages a PDF has, from 1 to MAX_PAGES."""
    # The nodes of the tree of pages are counted with them: one in ten or fewer.
    found = data.count(b"/Type /Page") + data.count(b"/Type/Page")
    return min(MAX_PAGES, max(1, found or -(-len(data) // _PAGE_BYTES)))


def _measure_jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        marker, kind, length = struct.unpack_from(">BBH", data, at)
        if marker != 0xFF:
            break
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        # Any number of 0xFF may stand before a marker.
        at += 1 if kind == 0xFF else 2 + length
    return 0, 0


def _measure_webp(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            low, high, wide, tall = struct.unpack_from("<HBHB", data, 24)
            return 1 + (high << 16 | low), 1 + (tall << 16 | wide)
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    return 0, 0
