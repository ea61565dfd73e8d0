"""Server-sent events, JSON lines, AWS framing and signatures, rate-limit headers."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.limits import Period, Unit
from services.router.providers.limit_evidence import ObservedLimit
from services.router.providers.wires import sse
from services.router.providers.wires.eventstream import EventStreamParser
from services.router.providers.wires.limits import parse_rate_limits
from services.router.providers.wires.sigv4 import Credentials, sign
from services.router.providers.wires.sse import Event, FramingError, JsonLinesParser, SseParser
from tests.unit.router.providers.wires.samples import frame


def events(data: bytes, size: int | None = None) -> list[Event]:
    """Events of a stream fed in pieces of `size` bytes."""
    parser, found = SseParser(), []
    step = size or max(len(data), 1)
    for at in range(0, len(data), step):
        found += parser.feed(data[at : at + step])
    return found + parser.flush()


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_lines_end_in_lf_crlf_or_cr(newline: str, size: int | None) -> None:
    """All three line endings, comments, ids, several data lines and names are understood, however cut."""
    text = ": hello\nevent: greeting\nid: 7\ndata: {\ndata:}\n\ndata:x\nretry: 10\n\n\n\nevent: nothing\n\ndata\n\n"
    assert events(text.replace("\n", newline).encode(), size) == [
        Event("greeting", b"{\n}"),
        Event("", b"x"),
        Event("", b""),
    ]


def test_only_one_space_after_the_colon_goes() -> None:
    """A second space belongs to the data."""
    assert events(b"data:  x\n\n") == [Event("", b" x")]


def test_byte_order_mark_is_ignored() -> None:
    """A stream may begin with one."""
    assert events(b"\xef\xbb\xbfdata: x\n\n", 1) == [Event("", b"x")]


def test_event_without_blank_line_comes_at_the_end() -> None:
    """The event that the end of the stream cuts off is handed out."""
    assert events(b"data: x") == [Event("", b"x")]
    assert events(b"data: x\n") == [Event("", b"x")]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: one line, and one event of many lines."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    for piece in (b"data: xxxxxxxx", b"data: xxxxxxxx\n"):
        parser = SseParser()
        with pytest.raises(FramingError):
            deque((parser.feed(piece) for _ in range(20)), maxlen=0)


@given(st.lists(st.binary(max_size=20)))
def test_noise_is_no_event(chunks: list[bytes]) -> None:
    """Noise gives the same events in pieces and whole."""
    parser, found = SseParser(), []
    for piece in chunks:
        found += parser.feed(piece)
    found += parser.flush()
    assert found == events(b"".join(chunks))


def test_json_lines() -> None:
    """One event per line, blank lines ignored, the last without an ending."""
    parser = JsonLinesParser()
    assert list(parser.feed(b'{"a":1}\r\n\n{"b"')) == [Event("", b'{"a":1}')]
    assert list(parser.feed(b":2}")) == []
    assert parser.flush() == [Event("", b'{"b":2}')]


def test_event_stream_checks_both_checksums() -> None:
    """A wrong bit anywhere is noticed."""
    data = frame("x", {"a": 1})
    assert list(EventStreamParser().feed(data)) == [Event("x", b'{"a": 1}')]
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(FramingError):
            list(EventStreamParser().feed(bytes(damaged)))


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)
def test_aws_signature(method: str, signature: str) -> None:
    """The vectors get-vanilla and post-vanilla of AWS's Signature Version 4 test suite."""
    signed = sign(
        method,
        "https://example.amazonaws.com/",
        {},
        b"",
        credentials=Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        service="service",
        now=1440938160.0,
    )
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}"
    )


DATE = "Tue, 01 Dec 2026 12:00:00 GMT"
LIMITS: list[tuple[dict[str, str], list[ObservedLimit]]] = [
    (
        {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1m30s",
            "x-ratelimit-limit-input-images": "50",
            "x-ratelimit-limit-project-tokens": "9",
        },
        [ObservedLimit(Unit.REQUESTS, 10000, 9999, 0.006), ObservedLimit(Unit.TOTAL_TOKENS, 30000, 0, 90.0)],
    ),
    (
        {
            "date": DATE,
            "anthropic-ratelimit-input-tokens-limit": "450000",
            "anthropic-ratelimit-input-tokens-remaining": "1",
            "anthropic-ratelimit-input-tokens-reset": "2026-12-01T12:01:00Z",
            "anthropic-ratelimit-output-tokens-limit": "90000",
            "anthropic-ratelimit-output-tokens-reset": "1970-01-01T00:00:00Z",
        },
        [
            ObservedLimit(Unit.INPUT_TOKENS, 450000, 1, 60.0),
            ObservedLimit(Unit.OUTPUT_TOKENS, 90000, None, 0.0),
        ],
    ),
    (
        {
            "x-ratelimit-limit-tokens-minute": "250000",
            "x-ratelimit-remaining-tokens-minute": "249891",
            "x-ratelimit-limit-req-minute": "4",
            "x-ratelimit-remaining-req-minute": "3",
            "x-ratelimit-tokens-query-cost": "109",
        },
        [
            ObservedLimit(Unit.REQUESTS, 4, 3, None, Period.MINUTE),
            ObservedLimit(Unit.TOTAL_TOKENS, 250000, 249891, None, Period.MINUTE),
        ],
    ),
    (
        {
            "x-ratelimitbysize-limit-minute": "2000000",
            "x-ratelimitbysize-remaining-minute": "1968000",
            "ratelimitbysize-reset": "19",
            "x-ratelimitbysize-limit-month": "10000000000",
        },
        [
            ObservedLimit(Unit.TOTAL_TOKENS, 2000000, 1968000, 19.0, Period.MINUTE),
            ObservedLimit(Unit.TOTAL_TOKENS, 10000000000, None, None, Period.MONTH),
        ],
    ),
    (
        {
            "X-RateLimit-Limit-Requests": "250",
            "x-ratelimit-remaining-requests": "249",
            "x-ratelimit-reset-requests": "0",
            "x-ratelimit-renewalperiod-requests": "60",
            "x-ratelimit-key": "gpt-5-nano",
        },
        [ObservedLimit(Unit.REQUESTS, 250, 249, 0.0, Period.MINUTE)],
    ),
    (
        {"ratelimit-limit": "100, 100;w=60", "ratelimit-reset": "50"},
        [ObservedLimit(Unit.REQUESTS, 100, None, 50.0)],
    ),
    ({"x-ratelimit-limit-requests": "X-RATELIMIT-XXX", "x-ratelimit-reset-tokens": "1s"}, []),
]


@pytest.mark.parametrize(("headers", "expected"), LIMITS)
def test_stated_limits(headers: dict[str, str], expected: list[ObservedLimit]) -> None:
    """The limits of OpenAI, Anthropic, Mistral, Azure and the IETF draft; junk is left out."""
    assert list(parse_rate_limits(headers)) == expected
