"""Describes pictures and documents that were sent, from their own bytes: type, width and height, main colour.

Sources: www.w3.org/TR/png-3, www.w3.org/Graphics/GIF/spec-gif89a.txt, www.w3.org/Graphics/JPEG/itu-t81.pdf (frame
headers), developers.google.com/speed/webp/docs/riff_container.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode
from binascii import Error
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 20, 30),
    "green": (20, 160, 40),
    "blue": (30, 60, 220),
    "yellow": (245, 225, 30),
    "orange": (250, 140, 20),
    "purple": (130, 30, 150),
    "pink": (250, 150, 190),
    "brown": (120, 70, 30),
    "turquoise": (40, 200, 200),
}
#: Pictures of more bytes, unpacked, are described without a colour.
_MOST = 16 * 1024 * 1024
#: Samples a pixel by PNG's colour type.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def describe_all(content: Any) -> Iterator[str]:
    """Gives a sentence for every picture and document among the parts of a message, whatever wire it came by."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            yield from _describe_part(part)


def _describe_part(part: Mapping[str, Any]) -> Iterator[str]:
    for name in ("image_url", "file_data", "file_url"):
        found = part.get(name)
        url = found.get("url") if isinstance(found, dict) else found
        if isinstance(url, str):
            yield _describe_url(url)
    if isinstance(part.get("file"), dict):
        yield from _describe_part(part["file"])
    for name in ("source", "inlineData", "inline_data", "fileData", "file_data", "image", "document"):
        found = part.get(name)
        if isinstance(found, dict):
            yield from _describe_source(found)


def _describe_source(source: Mapping[str, Any]) -> Iterator[str]:
    """A source of Anthropic's, data of Google's, or a block of Bedrock's with its own source inside."""
    inner = source.get("source")
    if isinstance(inner, dict):
        yield from _describe_source({**inner, "mimeType": source.get("format")})
        return
    kind = next(
        (source[k] for k in ("media_type", "mimeType", "mime_type") if isinstance(source.get(k), str)), ""
    )
    for name in ("url", "fileUri", "file_uri"):
        if isinstance(source.get(name), str):
            yield _describe_url(source[name])
    for name in ("data", "bytes"):
        if isinstance(source.get(name), str):
            yield describe(source[name], kind)


def _describe_url(url: str) -> str:
    if not url.startswith("data:"):
        return f"Sent by address: {url}."
    head, _, data = url[5:].partition(",")
    return describe(data, head.partition(";")[0])


def describe(data: str, kind: str) -> str:
    """Returns a sentence about base64 of a picture or a document, said to be of that media type."""
    try:
        raw = b64decode(data, validate=True)
    except (Error, ValueError):
        return f"Sent: {kind}, which is no base64."
    true_kind, size = measure(raw)
    told = true_kind or kind or "bytes"
    if size is None:
        return f"Sent: {told}, {len(raw)} bytes."
    colour = main_colour(raw) if true_kind in ("image/png", "image/gif") else None
    return f"Sent: {told}, {size[0]} × {size[1]} pixels" + (f", mostly {colour}." if colour else ".")


def measure(raw: bytes) -> tuple[str, tuple[int, int] | None]:
    """Returns the media type by the first bytes, and width and height; empty and None where they do not tell."""
    try:
        if raw.startswith(b"\x89PNG\r\n\x1a\n"):
            return "image/png", struct.unpack(">II", raw[16:24])
        if raw.startswith((b"GIF87a", b"GIF89a")):
            return "image/gif", struct.unpack("<HH", raw[6:10])
        if raw.startswith(b"\xff\xd8"):
            return "image/jpeg", _measure_jpeg(raw)
        if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
            return "image/webp", _measure_webp(raw)
    except (struct.error, IndexError):
        return "", None
    return ("application/pdf" if raw.startswith(b"%PDF-") else ""), None


def _measure_jpeg(raw: bytes) -> tuple[int, int] | None:
    """Reads segments until a frame header: SOF0 to SOF15 but for tables (C4), extension (C8) and arithmetic (CC)."""
    at = 2
    while at + 9 < len(raw) and raw[at] == 0xFF:
        marker, length = raw[at + 1], struct.unpack(">H", raw[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def _measure_webp(raw: bytes) -> tuple[int, int] | None:
    chunk = raw[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(raw[24:27], "little"), 1 + int.from_bytes(raw[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(raw[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", raw[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def main_colour(raw: bytes) -> str | None:
    """Returns the name of a picture's most frequent colour; None where it cannot be read."""
    try:
        pixels = _png_pixels(raw) if raw.startswith(b"\x89PNG") else _gif_colour(raw)
    except (struct.error, IndexError, zlib.error):
        return None
    if not pixels:
        return None
    (red, green, blue), _ = pixels.most_common(1)[0]

    def distance(name: str) -> int:
        one, two, three = _COLOURS[name]
        return (one - red) ** 2 + (two - green) ** 2 + (three - blue) ** 2

    return min(_COLOURS, key=distance)


def _png_pixels(raw: bytes) -> Counter[tuple[int, int, int]] | None:
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", raw[16:29])
    samples = _SAMPLES.get(colour, 0)
    if depth != 8 or interlaced or not samples or (width * samples + 1) * height > _MOST:
        return None
    packed, palette, at = b"", b"", 8
    while at + 8 <= len(raw):
        length, name = struct.unpack(">I4s", raw[at : at + 8])
        data = raw[at + 8 : at + 8 + length]
        packed += data if name == b"IDAT" else b""
        palette = data if name == b"PLTE" else palette
        at += 12 + length
    rows = _unfilter(zlib.decompressobj().decompress(packed, _MOST), width * samples, height, samples)
    found: Counter[tuple[int, int, int]] = Counter()
    for row in rows:
        for x in range(0, len(row), samples):
            if colour == 3:
                found[tuple(palette[3 * row[x] : 3 * row[x] + 3])] += 1  # type: ignore[index]
            else:
                found[(row[x],) * 3 if samples < 3 else (row[x], row[x + 1], row[x + 2])] += 1
    return found


def _unfilter(data: bytes, width: int, height: int, samples: int) -> Iterator[bytearray]:
    """Gives the rows of a PNG, `width` bytes each, with their filters undone (section 9.2 of the specification)."""
    above = bytearray(width)
    for y in range(height):
        start = y * (width + 1)
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + width])
        for x in range(width):
            left = row[x - samples] if x >= samples else 0
            corner = above[x - samples] if x >= samples else 0
            guess = (0, left, above[x], (left + above[x]) // 2, _paeth(left, above[x], corner))[kind]
            row[x] = (row[x] + guess) & 0xFF
        yield row
        above = row


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


def _gif_colour(raw: bytes) -> Counter[tuple[int, int, int]] | None:
    """The first code of the first image that stands for a colour: enough for pictures of one."""
    flags = raw[10]
    if not flags & 0x80:
        return None
    size = 3 * (2 << (flags & 7))
    palette, at = raw[13 : 13 + size], 13 + size
    while raw[at] == 0x21:
        at += 2
        while raw[at]:
            at += 1 + raw[at]
        at += 1
    if raw[at] != 0x2C:
        return None
    least, codes = raw[at + 10], raw[at + 12 : at + 16]
    # The first code clears the table; the second is the first pixel's colour.
    colour = int.from_bytes(codes, "little") >> (least + 1) & ((1 << least + 1) - 1)
    return Counter([tuple(palette[3 * colour : 3 * colour + 3])])  # type: ignore[list-item]
