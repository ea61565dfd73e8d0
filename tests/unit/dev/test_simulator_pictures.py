"""Pictures are measured and named by their own bytes."""

from __future__ import annotations

import struct
from base64 import b64encode

import pytest

from dev.simulator.pictures import describe, describe_all, main_colour, measure
from tests.unit.dev.test_simulator_answers import png

#: One blue pixel (GIF89a, global table of two colours).
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x1e\x3c\xdc\xff\xff\xff"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xc0\x00\x11\x08" + struct.pack(">HH", 30, 40) + b"\x03" + bytes(9)
)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x27\x00\x00\x1d\x00\x00"


@pytest.mark.parametrize(
    ("raw", "kind", "size"),
    [
        (png(40, 30, (1, 2, 3)), "image/png", (40, 30)),
        (GIF, "image/gif", (1, 1)),
        (JPEG, "image/jpeg", (40, 30)),
        (WEBP, "image/webp", (40, 30)),
        (b"%PDF-1.7", "application/pdf", None),
        (b"hello", "", None),
        (b"\x89PNG\r\n\x1a\n", "", None),
    ],
)
def test_a_picture_is_measured(raw: bytes, kind: str, size: tuple[int, int] | None) -> None:
    """Type and size come from the first bytes; what is cut short has neither."""
    assert measure(raw) == (kind, size)


@pytest.mark.parametrize(
    ("raw", "colour"),
    [
        (png(5, 5, (210, 20, 20)), "red"),
        (png(5, 5, (250, 250, 250)), "white"),
        (GIF, "blue"),
        (png(5, 5, (0, 0, 0))[:40], None),
    ],
)
def test_the_main_colour_is_named(raw: bytes, colour: str | None) -> None:
    """The nearest of a few names; none for what cannot be read."""
    assert main_colour(raw) == colour


def test_documents_addresses_and_nonsense_are_described() -> None:
    """In one sentence each."""
    pdf = b64encode(b"%PDF-1.7").decode()
    parts = [
        {"type": "image_url", "image_url": {"url": "https://shop.example/mug.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{pdf}"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf}},
        {"type": "text", "text": "Hi"},
    ]
    assert list(describe_all(parts)) == [
        "Sent by address: https://shop.example/mug.png.",
        "Sent: application/pdf, 8 bytes.",
        "Sent: application/pdf, 8 bytes.",
    ]
    assert describe("?", "image/png") == "Sent: image/png, which is no base64."
