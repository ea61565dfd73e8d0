"""Refusals of the virtual providers, and how each wire says so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.support.simulator import Seen, Simulator, ask, running_simulator

CHAT = "v1/chat/completions"


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


async def fault(simulator: Simulator, name: str, kind: str, /, **fields: Any) -> None:
    await simulator.set(name, tokens=60, faults=[{"kind": kind, **fields}])


async def test_key_is_checked(simulator: Simulator) -> None:
    """Only the expected key passes; each wire says no in its own way; no key is ever told."""
    await simulator.set("keyed", expect_key="right")
    post = simulator.client.post
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    url = simulator.base("keyed") + "/" + CHAT
    right = await post(url, json=body, headers={"authorization": "Bearer right"})
    wrong = await post(url, json=body, headers={"authorization": "Bearer wrong"})
    assert (right.status_code, wrong.status_code) == (200, 401)
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    gemini = simulator.base("keyed") + "/v1beta/models/g:generateContent"
    bad = await post(
        gemini, json={"contents": [{"parts": [{"text": "x"}]}]}, headers={"x-goog-api-key": "wrong"}
    )
    assert bad.status_code == 400
    assert bad.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    signed = {
        "authorization": "AWS4-HMAC-SHA256 Credential=right/20260101/us-east-1/bedrock/aws4_request, Signature=0"
    }
    converse = {"messages": [{"role": "user", "content": [{"text": "x"}]}]}
    path = simulator.base("keyed") + "/model/m/converse"
    assert (await post(path, json=converse, headers=signed)).status_code == 200
    report = await simulator.report("keyed")
    assert "right" not in json.dumps(report["last_headers"])
    assert report["last_headers"]["authorization"] == "redacted"


@pytest.mark.parametrize(
    ("preset", "statuses"),
    [
        # OpenAI, Anthropic, Gemini, Cohere, Bedrock, Azure, Bedrock's invoke, Ollama
        ("invalid_request", [400, 400, 400, 400, 400, 400, 400, 400]),
        ("context_length", [400, 400, 400, 400, 400, 400, 400, 400]),
        ("content_filter", [400, 400, 200, 400, 400, 400, 400, 400]),
        ("authentication", [401, 401, 400, 401, 403, 401, 403, 401]),
        ("permission", [403, 403, 403, 403, 403, 403, 403, 403]),
        ("model_not_found", [404, 404, 404, 404, 404, 404, 404, 404]),
        ("timeout", [408, 408, 504, 504, 408, 408, 408, 504]),
        ("too_large", [413, 413, 413, 413, 413, 413, 413, 413]),
        ("rate_limited", [429, 429, 429, 429, 429, 429, 429, 429]),
        ("quota", [429, 400, 429, 402, 400, 429, 400, 402]),
        ("server_error", [500, 500, 500, 500, 500, 500, 500, 500]),
        ("bad_gateway", [502, 502, 502, 502, 502, 502, 502, 502]),
        ("unavailable", [503, 503, 503, 503, 503, 503, 503, 503]),
        ("overloaded", [503, 529, 503, 503, 503, 503, 503, 503]),
    ],
)
async def test_presets_have_each_wires_status(simulator: Simulator, preset: str, statuses: list[int]) -> None:
    """A preset is what that provider really answers, body included."""
    await fault(simulator, "preset", "status", preset=preset)
    paths = [
        CHAT,
        "v1/messages",
        "v1beta/models/g:generateContent",
        "v2/chat",
        "model/m/converse",
        "openai/deployments/d/chat/completions?api-version=1",
        "model/m/invoke",
        "api/chat",
    ]
    seen = [await ask(simulator, "preset", path=path) for path in paths]
    assert [answer.status for answer in seen] == statuses
    for answer in seen:
        if answer.status >= 400 and answer.headers["content-type"].startswith("application/json"):
            assert {"message", "error"} & set(json.loads(answer.rest))
    if preset == "content_filter":
        assert json.loads(seen[2].rest)["promptFeedback"] == {"blockReason": "SAFETY"}
    if preset == "bad_gateway":
        assert all(answer.headers["content-type"] == "text/html" for answer in seen)
    if preset == "unavailable":
        assert seen[0].headers["content-type"] == "text/plain"


async def test_waits_are_said_in_every_way(simulator: Simulator) -> None:
    """Retry-After in seconds, milliseconds, as a date, in Gemini's body; none unless asked for."""
    limited = {"kind": "status", "preset": "rate_limited"}

    async def headers(path: str = CHAT, **fields: Any) -> Seen:
        await simulator.set("wait", faults=[{**limited, **fields}])
        return await ask(simulator, "wait", path=path)

    assert "retry-after" not in (await headers()).headers
    assert (await headers(retry_after=2)).headers["retry-after"] == "2"
    quick = (await headers(retry_after=0.66, retry_after_as="milliseconds")).headers
    assert quick["retry-after-ms"] == "660"
    assert "retry-after" not in quick
    assert parsedate_to_datetime(
        (await headers(retry_after=30, retry_after_as="date")).headers["retry-after"]
    )
    assert b"try again in 2s" in (await headers(retry_after=2, retry_after_as="body")).rest
    gemini = await headers("v1beta/models/g:generateContent", retry_after=7)
    assert "retry-after" not in gemini.headers
    assert json.loads(gemini.rest)["error"]["details"][-1]["retryDelay"] == "7s"


async def test_status_body_and_headers_can_be_given(simulator: Simulator) -> None:
    """Any status with any body and headers."""
    await fault(simulator, "own", "status", status=418, body={"code": "tea"}, headers={"X-Pot": "short"})
    seen = await ask(simulator, "own")
    assert (seen.status, json.loads(seen.rest), seen.headers["x-pot"]) == (418, {"code": "tea"}, "short")
    await fault(simulator, "own", "status", status=503, body="gone fishing")
    seen = await ask(simulator, "own")
    assert (seen.rest, seen.headers["content-type"]) == (b"gone fishing", "text/plain; charset=utf-8")
