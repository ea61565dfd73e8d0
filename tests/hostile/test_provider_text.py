"""Providers that answer with an error made to hurt: its words, its size, its secrets."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from libs.errors import PointsmanError, Unavailable
from tests.hostile.conftest import SEED
from tests.hostile.ground import PROVIDER_KEY, WIRES, Ground, attack

TEXTS = {
    "a title without end": "<html><title>" + " " * 2000,
    "4,000 titles": "<title>" * 4000,
    "65,000 tags": "<" * 65_000,
    "a title in a title": "<title><title " * 5000 + "</title",
    "request too large": "request too large " * 2700,
    "resource_exhausted": "resource_exhausted " * 2500,
    "limit and requested": "limit 1 requested " * 2500,
    "an integer of 5,000 digits": "limit 1 requested " + "9" * 5000,
    "try again": "try again in " * 3500 + "9" * 300 + "s",
    "keys": "Bearer sk-" * 4000 + "a" * 20_000,
    "quotes": "'\"`" * 20_000,
    "escapes": "\\" * 60_000,
    "accents": "e\u0301" * 20_000,
    "a megabyte": "context length maximum tokens quota " * 30_000,
}
#: What rules and scrubbers look for, and what surrounds it.
FRAGMENTS = [
    *(
        "<title>",
        "</title>",
        "<",
        ">",
        "<!--",
        "-->",
        "<br/>",
        "&lt;",
        " ",
        "\n",
        "\t",
        "\0",
        "'",
        '"',
        "`",
        "\\",
    ),
    *(
        "{",
        "[",
        "request too large ",
        "resource_exhausted ",
        "limit ",
        "requested ",
        "per minute ",
        "tpm",
        "quota ",
    ),
    *("exceeded ", "try again in ", "retry after ", "please wait ", "seconds", "1h", "9", "0.", "-", "1e9"),
    *(
        "2026-11-30T00:00:00Z",
        "context ",
        "maximum ",
        "length ",
        "tokens ",
        "account ",
        "disabled ",
        "billing ",
    ),
    *("api key ", "Bearer ", "sk-", "https://", "@", ".", ":", "=", "%2B", "é", "错误", "😀", "\u202e"),
]
STATUSES = (400, 401, 402, 403, 404, 413, 422, 429, 500, 503, 529)
KINDS_OF_BODY = ("html", "text", "message", "code", "event")


def body_of(kind: str, text: str) -> tuple[str, str]:
    """Content type and body that carry the text."""
    if kind == "html":
        return "text/html", text
    if kind == "text":
        return "text/plain", text
    if kind == "code":
        said: Any = {"error": {"message": "no", "type": text, "code": text, "status": text, "param": text}}
    else:
        said = {
            "type": "error",
            "error": {"message": text, "details": [{"reason": text, "retryDelay": text}]},
        }
    if kind == "event":
        return "text/event-stream", f"event: error\ndata: {json.dumps(said)}\n\n"
    return "application/json", json.dumps(said)


async def answer_with(ground: Ground, wire: str, status: int, kind: str, text: str) -> list[PointsmanError]:
    """Returns the errors that the attacker gets of a provider that says this, whole and streamed."""
    content_type, body = body_of(kind, text)
    name = ground.evil(wire)
    fault = {
        "kind": "raw",
        "status": 200 if kind == "event" else status,
        "content_type": content_type,
        "body": [{"text": body}],
    }
    await ground.stack.simulator.set(name, faults=[fault])
    told = []
    for stream in (False, True):
        reply = await ground.ask([f"{name}/m"], stream=stream)
        assert reply.error is not None, (wire, status, kind)
        assert type(reply.error) is not PointsmanError, reply
        told.append(reply.error)
    await ground.assert_called(name, 2)
    return told


@pytest.mark.parametrize("wire", WIRES)
async def test_the_words_of_an_error_hold_nobody_up(ground: Ground, wire: str) -> None:
    """Known texts that are costly to search, in every place of an error."""
    async with attack(ground, f"costly errors of {wire}"):
        for number, text in enumerate(TEXTS.values()):
            await answer_with(ground, wire, STATUSES[number % len(STATUSES)], "html", text)
            kind = KINDS_OF_BODY[number % len(KINDS_OF_BODY)]
            await answer_with(ground, wire, (429, 503, 400)[number % 3], kind, text)


adversarial = st.lists(
    st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from([1, 2, 50, 3000])), min_size=1, max_size=5
).map(lambda parts: "".join(text * times for text, times in parts)[:200_000])


async def test_no_words_of_an_error_hold_anybody_up(ground: Ground) -> None:
    """Texts made of what rules look for, repeated, in any place and with any status."""
    found: list[tuple[str, int, str, str]] = []

    @seed(SEED)
    @settings(settings.get_profile("hostile"))
    @given(
        st.tuples(
            st.sampled_from(list(WIRES)),
            st.sampled_from(STATUSES),
            st.sampled_from(KINDS_OF_BODY),
            adversarial,
        )
    )
    def collect(one: tuple[str, int, str, str]) -> None:
        found.append(one)

    collect()
    async with attack(ground, "errors made of what rules look for"):
        for wire, status, kind, text in found:
            await answer_with(ground, wire, status, kind, text)


@pytest.mark.parametrize("size", [300, 700, 1000, 5000])
async def test_long_errors_in_any_script_keep_their_status(ground: Ground, size: int) -> None:
    """Four failures, each told in Chinese, stay UNAVAILABLE whatever their bytes."""
    async with attack(ground, f"four errors of {size} Chinese characters"):
        for number in range(3):
            names = [ground.evil(wire) for wire in WIRES]
            for name in names:
                _, body = body_of("message", "错误信息，请稍后再试。" * (size // 10) + str(number))
                fault = {
                    "kind": "raw",
                    "status": 503,
                    "content_type": "application/json",
                    "body": [{"text": body}],
                }
                await ground.stack.simulator.set(name, faults=[fault])
            for stream in (False, True):
                reply = await ground.ask([f"{name}/m" for name in names], stream=stream, max_attempts=4)
                assert isinstance(reply.error, Unavailable), reply
            for name in names:
                await ground.assert_called(name, 2)


def encodings(key: str) -> set[str]:
    """A key as it may stand in a text."""
    found = {key, json.dumps(key)[1:-1], quote(key, safe=""), quote(key), key.encode().hex()}
    for around in ("", "Bearer ", "user:", "x"):
        found.add(b64encode((around + key).encode()).decode().rstrip("="))
    return found


@pytest.mark.parametrize("wire", WIRES)
async def test_a_providers_key_reaches_nobody(ground: Ground, wire: str) -> None:
    """A provider that repeats its key, in any usual encoding, tells neither the tenant nor a log."""
    async with attack(ground, f"keys in errors of {wire}"):
        for number, leak in enumerate(sorted(encodings(PROVIDER_KEY))):
            status = (200, 400, 401, 429, 503)[number % 5]
            text = f"Headers were: Authorization: Bearer {leak}; seen '{leak}', call={leak}#{number}"
            for error in await answer_with(
                ground, wire, status, "event" if status == 200 else "message", text
            ):
                said = " ".join([error.message, *error.metadata.values()])
                assert not [known for known in encodings(PROVIDER_KEY) if known in said], said
    for log in (ground.stack.data / "logs").glob("*.log"):
        # The simulator is the provider.
        if log.stem != "simulator":
            written = log.read_text(errors="replace")
            assert not [known for known in encodings(PROVIDER_KEY) if known in written], log.name
