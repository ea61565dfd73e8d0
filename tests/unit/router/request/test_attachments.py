"""Sizes that are read from headers, and the tokens that vendors' own examples give."""

from __future__ import annotations

import struct

import pytest

from libs.catalog.model import Model, Price, Provider
from libs.conversation import File, Image, ImageDetail
from services.router.request.attachment_limits import find_excess
from services.router.request.attachments import (
    Attachment,
    SentDocument,
    SentImage,
    attachment_tokens,
    measure,
)
from services.router.request.pictures import count_pages, is_animated, measure_image, read_media_type
from tests.support.pictures import gif, jpeg, pdf, png, webp

EXIF = b"\xff\xe1" + struct.pack(">H", 2 + 30_000) + b"\xff\xc0" * 15_000


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(31, 17), "image/png"),
        (gif(31, 17), "image/gif"),
        (jpeg(31, 17), "image/jpeg"),
        (jpeg(31, 17, before=EXIF), "image/jpeg"),
        (jpeg(31, 17, before=b"\xff\xff\xff" + EXIF[1:]), "image/jpeg"),
        (webp(31, 17), "image/webp"),
        (webp(31, 17, "VP8L"), "image/webp"),
        (webp(31, 17, "VP8 "), "image/webp"),
    ],
)
def test_type_and_size_are_read_from_the_header(data: bytes, kind: str) -> None:
    """Of every format, whatever stands before a JPEG's frame; cut off anywhere, there is no size and no fault."""
    assert read_media_type(data) == kind
    assert measure_image(data) == (31, 17)
    for end in range(min(64, len(data))):
        assert measure_image(data[:end]) in (None, (31, 17))


FRAME = b"\x2c" + bytes(8) + b"\x80" + bytes(6) + b"\x02\x02\x4c\x01\x00"
#: A comment that holds the mark of a frame, and how long a frame is shown.
BETWEEN = b"\x21\xfe\x02\x2c\x2c\x00" + b"\x21\xf9\x04\x00\x0a\x00\x00\x00"


@pytest.mark.parametrize(
    ("data", "animated"),
    [
        (gif()[:-1] + BETWEEN + FRAME + BETWEEN + FRAME + b";", True),
        (gif()[:-1] + BETWEEN + FRAME + BETWEEN + b";", False),
        (gif()[:-1] + FRAME + FRAME[:4], True),
        (gif(), False),
        (gif()[:10] + b"\x80\0\0" + b"\x2c" * 6 + FRAME + b";", False),
        (b"GIF89a", False),
        (webp()[:20] + b"\x02" + webp()[21:], True),
        (webp(), False),
        (webp(kind="VP8L"), False),
        (b"RIFF....WEBPVP8X", False),
        (png(), False),
    ],
)
def test_frames_are_seen(data: bytes, animated: bool) -> None:
    """A mark of a frame inside a block or a table is none, and nothing is read beyond the end."""
    assert is_animated(data) is animated


def test_what_is_no_image_has_no_size() -> None:
    """Text, a PDF, zeros for sides, and nothing."""
    for data in (b"", b"GIF", b"<svg/>", pdf(), png(1, 1).replace(struct.pack(">II", 1, 1), bytes(8))):
        assert measure_image(data) is None
    assert read_media_type(pdf()) == read_media_type(b"\n" + pdf()) == "application/pdf"


def test_a_claim_costs_nothing() -> None:
    """A PNG that claims 2^31 pixels a side is as quick to measure as a small one; a JPEG of a million segments is
    given up."""
    huge = png(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 2**31, 2**31))
    assert measure_image(huge) == (2**31, 2**31)
    assert measure_image(jpeg(8, 8, before=b"\xff\xe0\0\x02" * 500)) == (8, 8)
    assert measure_image(jpeg(8, 8, before=b"\xff\xe0\0\x02" * 1_000_000)) is None


@pytest.mark.parametrize("pages", [1, 3, 250])
def test_pages_are_about_as_many_as_there_are(pages: int) -> None:
    """Within the one node of their tree; of packed documents by bytes, and never above the most."""
    assert pages <= count_pages(pdf(pages)) <= pages + 1
    assert count_pages(b"%PDF-1.7" + bytes(640 * 1024)) == 11
    assert count_pages(b"%PDF-1.7" + b"/Type /Page" * 5000) == 1000


def tokens(kind: str, model: str, *attachments: Attachment) -> int:
    """On a model of that name."""
    price = Price(0, 0)
    provider = Provider("p", kind, "https://a.example")
    return attachment_tokens(attachments, provider, Model("p", "m", model, 1000, 100, price=price))


def size(width: int, height: int, detail: ImageDetail | None = None) -> SentImage:
    return SentImage(width, height, 1000, "image/png", detail)


@pytest.mark.parametrize(
    ("kind", "model", "image", "documented"),
    [
        # https://platform.openai.com/docs/guides/images-vision#calculating-costs
        ("openai", "gpt-4o", size(1024, 1024), 765),
        ("openai", "gpt-4.1", size(2048, 4096), 1105),
        ("openai", "gpt-4o", size(4096, 8192, ImageDetail.LOW), 85),
        ("azure_openai", "gpt-4o-mini", size(512, 512), 2833 + 5667),
        ("azure_openai", "our-deployment", size(1024, 1024), 765),
        ("openai_responses", "gpt-4.1-mini", size(1024, 1024), 1659),
        ("openrouter", "openai/gpt-4.1-nano", size(1024, 1024), 2520),
        ("openai", "o4-mini", size(4000, 4000), 2642),
        # https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs
        ("anthropic", "claude-sonnet-4-5", size(200, 200), 54),
        ("anthropic", "claude-haiku-4-5", size(1000, 1000), 1334),
        ("anthropic", "claude-opus-4-20250514", size(8000, 8000), 1600),
        ("anthropic", "claude-opus-4-7", size(2000, 1500), 4000),
        ("bedrock", "eu.anthropic.claude-sonnet-4-5-v1:0", size(1092, 1092), 1590),
        # https://ai.google.dev/gemini-api/docs/image-understanding#token-calculation
        ("gemini", "gemini-2.5-flash", size(384, 384), 258),
        ("gemini", "gemini-2.5-flash", size(960, 540), 258 * 6),
        ("vertex", "gemini-3-pro-preview", size(384, 384), 1120),
        # https://docs.together.ai/docs/vision-overview
        ("together", "meta-llama/Llama-3.2-11B-Vision", size(559, 559), 1601),
        ("together", "meta-llama/Llama-3.2-11B-Vision", size(900, 900), 6404),
    ],
)
def test_images_are_estimated_by_the_vendors_rule(
    kind: str, model: str, image: SentImage, documented: int
) -> None:
    """As the vendor's own page works them out."""
    assert tokens(kind, model, image) == documented


def test_nothing_is_estimated_without_bound() -> None:
    """The longest strip that is taken, and a page more than none, on every rule."""
    for kind, model in (
        ("openai", "gpt-4.1"),
        ("gemini", "gemini-2.5-pro"),
        ("ollama", "x"),
        ("xai", "grok-4"),
    ):
        assert 0 < tokens(kind, model, size(16_384, 1)) < 20_000
        assert 0 < tokens(kind, model, SentDocument(1)) < 5000
    assert tokens("openai", "gpt-4.1", *[size(512, 512)] * 3) == 3 * tokens(
        "openai", "gpt-4.1", size(512, 512)
    )


def test_an_address_is_taken_for_a_large_one() -> None:
    """Nobody knows its size before its provider has fetched it."""
    image, document = (
        measure(Image(url="https://a.example/b.png")),
        measure(File(url="https://a.example/b.pdf")),
    )
    assert image == SentImage(2048, 2048)
    assert document == SentDocument(20)


@pytest.mark.parametrize(
    ("kind", "attachments", "why"),
    [
        ("bedrock", [size(8, 8)] * 21, "at most 20 images"),
        ("bedrock", [SentImage(8, 8, 3_750_001, "image/png")], "of at most 3750000 bytes"),
        ("bedrock", [SentDocument(1, 4_500_001)], "documents of at most 4500000 bytes"),
        ("bedrock", [SentDocument(1)] * 6, "at most 5 documents"),
        ("anthropic", [size(8001, 10)], "8000 pixels"),
        ("anthropic", [size(2001, 10)] * 21, "2000 pixels"),
        ("gemini", [SentImage(8, 8, 10, "image/gif")], "image/gif"),
        ("xai", [SentImage(8, 8, 10, "image/webp")], "image/webp"),
        ("mistral", [size(8, 8)] * 9, "at most 8 images"),
        ("groq", [size(8, 8)] * 6, "at most 5 images"),
        ("azure_openai", [SentImage(8, 8, 10, "image/gif", animated=True)], "animated"),
    ],
)
def test_who_does_not_take_them_is_known_before(kind: str, attachments: list[Attachment], why: str) -> None:
    """One less or smaller passes."""
    assert why in find_excess(attachments, kind)
    assert find_excess([size(8, 8)], kind) == find_excess(attachments, "vllm") == ""
