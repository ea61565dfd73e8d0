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


def gif(width: int = 8, height: int = 8) -> bytes:
    """Returns the head of a GIF and its end."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def webp(width: int = 8, height: int = 8, kind: str = "VP8X") -> bytes:
    """Returns the head of a WebP: VP8X (extended), VP8L (lossless) or "VP8 "."""
    if kind == "VP8X":
        sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
        body = bytes(4) + sides
    elif kind == "VP8L":
        body = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14)
    else:
        body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunk = kind.encode() + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg(width: int = 8, height: int = 8, level: int = 200, before: bytes = b"") -> bytes:
    """Returns a baseline JPEG of one level of grey; `before`: segments before its frame header."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    def table(kind: int, symbols: bytes) -> bytes:
        """The first symbol has the code 0, the second 10."""
        lengths = bytes(1 if at < len(symbols) else 0 for at in range(16))
        return segment(0xC4, bytes([kind]) + lengths + symbols)

    blocks = -(-width // 8) * -(-height // 8)
    # Quantised by 8, the one coefficient of a block is its level; later blocks differ by none.
    value = level - 128
    size = abs(value).bit_length()
    bits = f"10{value if value > 0 else value + (1 << size) - 1:0{size}b}0" + "00" * (blocks - 1)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        (
            b"\xff\xd8",
            before,
            segment(0xDB, b"\0" + b"\x08" * 64),
            segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\0"),
            table(0x00, bytes([0, size])),
            table(0x10, b"\0"),
            segment(0xDA, b"\x01\x01\0\0\x3f\0"),
            scan,
            b"\xff\xd9",
        )
    )


def pdf(pages: int = 1) -> bytes:
    """Returns a PDF of blank pages."""
    kids = " ".join(f"{number + 3} 0 R" for number in range(pages))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>",
        *["<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] >>"] * pages,
    ]
    out, offsets = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + end.encode()
