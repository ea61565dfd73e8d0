"""Every fault does what it says, seen from a bare socket."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.simulator import Simulator, ask, events, running_simulator

CHAT = "v1/chat/completions"


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


async def fault(simulator: Simulator, name: str, kind: str, /, **fields: Any) -> None:
    await simulator.set(name, tokens=60, faults=[{"kind": kind, **fields}])


async def test_reset_before_headers(simulator: Simulator) -> None:
    """RST and not one byte; the next request is answered where only the first was struck."""
    await fault(simulator, "reset", "reset", when={"first": 1})
    first, second = await ask(simulator, "reset"), await ask(simulator, "reset")
    assert (first.raw, first.end) == (b"", "reset")
    assert second.status == 200
    assert [attempt["outcome"] for attempt in (await simulator.report("reset"))["attempts"]] == [
        "reset",
        "finished",
    ]


async def test_silence_is_bounded(simulator: Simulator) -> None:
    """No byte, then the connection is closed; more than 300 s is refused."""
    await fault(simulator, "silent", "silence", seconds=0.05)
    seen = await ask(simulator, "silent")
    assert (seen.raw, seen.end) == (b"", "eof")
    with pytest.raises(ValueError, match=r"<= 300"):
        await fault(simulator, "silent", "silence", seconds=301)


async def test_a_raw_answer_is_what_was_told_and_nothing_else(simulator: Simulator) -> None:
    """Status, headers and pieces in their order, packed where that is asked; only requests that hold the text."""
    pieces = [{"text": "<a>", "times": 40_000}, {"base64": "/w=="}, {"text": "é"}]
    told = {"status": 418, "content_type": "text/odd", "headers": {"x-odd": "1"}, "body": pieces}
    for packed in (False, True):
        await fault(simulator, "raw", "raw", **told, gzip=packed, when={"contains": "teapot"})
        answer = await simulator.client.post(
            f"{simulator.base('raw')}/{CHAT}", json={"messages": [{"role": "user", "content": "teapot"}]}
        )
        assert (answer.status_code, answer.headers["x-odd"]) == (418, "1")
        assert answer.content == b"<a>" * 40_000 + b"\xff" + "é".encode()
        assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (await ask(simulator, "raw")).status == 200


async def test_an_endless_answer_ends_when_the_client_leaves(simulator: Simulator) -> None:
    """It goes on for longer than any buffer holds, and the provider notices."""
    await fault(simulator, "endless", "raw", body=[{"text": "data: x\n\n"}], endless=True)
    request = {"messages": [{"role": "user", "content": "mug"}]}
    async with simulator.client.stream("POST", f"{simulator.base('endless')}/{CHAT}", json=request) as answer:
        read = 0
        async for block in answer.aiter_raw():
            read += len(block)
            if read > 8_000_000:
                break
    await simulator.wait_for("endless", lambda report: report["counters"]["concurrent"] == 0)


async def test_cut_stream_lacks_its_last_chunk(simulator: Simulator) -> None:
    """Exactly 40 tokens, no finish reason, no terminating chunk, FIN."""
    await fault(simulator, "cut", "cut", after_tokens=40)
    seen = await ask(simulator, "cut", stream=True)
    assert len(seen.words) == 40
    assert seen.chunks[1] is False
    assert b'"finish_reason":"stop"' not in seen.raw
    assert seen.end == "eof"
    counters = await simulator.counters("cut")
    assert counters["streams_started"] == 1
    assert counters["streams_finished"] == 0
    assert counters["output_tokens"] == 40


async def test_cut_by_reset(simulator: Simulator) -> None:
    """The same by RST."""
    await fault(simulator, "cut-reset", "cut", after_tokens=5, how="reset")
    assert (await ask(simulator, "cut-reset", stream=True)).end == "reset"


async def test_cut_unary_body_is_shorter_than_declared(simulator: Simulator) -> None:
    """Content-Length is not reached."""
    await fault(simulator, "cut-unary", "cut", after_tokens=30)
    seen = await ask(simulator, "cut-unary")
    assert 0 < len(seen.rest) < int(seen.headers["content-length"])


async def test_stall_then_close_or_continue(simulator: Simulator) -> None:
    """20 tokens, silence, then the end without terminator, or the rest."""
    await fault(simulator, "stall", "stall", after_tokens=20, seconds=0.05)
    seen = await ask(simulator, "stall", stream=True)
    assert (len(seen.words), seen.chunks[1]) == (20, False)
    await fault(simulator, "stall", "stall", after_tokens=20, seconds=0.05, then="continue")
    seen = await ask(simulator, "stall", stream=True)
    assert (len(seen.words), seen.chunks[1]) == (60, True)
    await fault(simulator, "stall", "stall", seconds=0.05)
    seen = await ask(simulator, "stall")
    assert (seen.status, seen.rest) == (200, b"")


async def test_slow_first_token_sends_headers_first(simulator: Simulator) -> None:
    """The headers arrive while the first token is still out."""
    await fault(simulator, "slow", "slow_first_token", seconds=60)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with simulator.client.stream("POST", simulator.base("slow") + "/" + CHAT, json=body) as answer:
        assert answer.status_code == 200
        report = await simulator.report("slow")
        assert report["counters"]["concurrent"] == 1
        assert report["attempts"][0]["tokens_sent"] == 0
    # Leaving the block hung up.
    report = await simulator.wait_for("slow", lambda seen: seen["counters"]["cancelled_by_client"] == 1)
    assert report["attempts"][0]["outcome"] == "cancelled"
    assert report["counters"]["concurrent"] == 0


@pytest.mark.parametrize("replace", [False, True])
async def test_malformed_chunk_is_followed_by_the_rest(simulator: Simulator, replace: bool) -> None:
    """One event is not JSON; around it the answer is whole, or lacks that one token; [DONE] comes."""
    await fault(simulator, "bad", "malformed", at_token=10, replace=replace)
    body, complete = (await ask(simulator, "bad", stream=True)).chunks
    good, broken = [], 0
    for block in body.decode().split("\n\n"):
        if block.startswith("data: {"):
            try:
                good.append(json.loads(block[6:])["choices"][0]["delta"].get("content"))
            except json.JSONDecodeError:
                broken += 1
    assert broken == 1
    assert len([word for word in good if word]) == (59 if replace else 60)
    assert body.endswith(b"data: [DONE]\n\n")
    assert complete


async def test_malformed_unary_body(simulator: Simulator) -> None:
    """200, the declared length, not JSON."""
    await fault(simulator, "bad", "malformed")
    seen = await ask(simulator, "bad")
    assert len(seen.rest) == int(seen.headers["content-length"])
    with pytest.raises(json.JSONDecodeError):
        json.loads(seen.rest)


async def test_malformed_bedrock_frame_fails_its_checksum(simulator: Simulator) -> None:
    """The length is right, the CRC is not, and good frames follow."""
    await fault(simulator, "bad-frame", "malformed", at_token=0)
    path = "model/x/converse-stream"
    data, _ = (await ask(simulator, "bad-frame", path=path)).chunks
    valid = []
    while data:
        size = struct.unpack(">I", data[:4])[0]
        valid.append(zlib.crc32(data[: size - 4]) == struct.unpack(">I", data[size - 4 : size])[0])
        data = data[size:]
    assert valid.count(False) == 1
    assert valid[-1]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (CHAT, {}, b'data: {"error":{"message":"The engine is currently overloaded'),
        (
            "v1/messages",
            {"max_tokens": 500},
            b'event: error\ndata: {"type":"error","error":{"details":null,"type":"ov',
        ),
        (
            "v1/responses",
            {},
            b'event: error\ndata: {"type":"error","code":"overloaded"',
        ),
        ("v2/chat", {}, b'"finish_reason":"ERROR"'),
    ],
)
async def test_error_event_inside_the_200(simulator: Simulator, path: str, body: Any, said: bytes) -> None:
    """Tokens, then each wire's own error, then a clean end without finish and terminator."""
    await fault(simulator, "event", "error_event", after_tokens=5)
    seen = await ask(simulator, "event", path=path, stream=True, **body)
    data, complete = seen.chunks
    assert seen.status == 200
    assert said in data
    assert complete
    assert not any(word in data for word in (b"[DONE]", b"message_stop", b"response.completed"))


async def test_no_terminator_and_no_finish(simulator: Simulator) -> None:
    """Without [DONE] the finish reason is there; without finish neither is; the HTTP body ends well in both."""
    await fault(simulator, "end", "no_terminator")
    body, complete = (await ask(simulator, "end", stream=True)).chunks
    assert (complete, b'"finish_reason":"stop"' in body, b"[DONE]" in body) == (True, True, False)
    await fault(simulator, "end", "no_finish", after_tokens=12)
    seen = await ask(simulator, "end", stream=True)
    body, complete = seen.chunks
    assert (complete, b'"finish_reason":"stop"' in body, b"[DONE]" in body) == (True, False, False)
    assert len(seen.words) == 12


async def test_content_filter_finish(simulator: Simulator) -> None:
    """The answer stops with the wire's filter reason; usage counts what was sent."""
    await fault(simulator, "filter", "content_filter", after_tokens=7)
    choice = json.loads((await ask(simulator, "filter")).rest)
    assert choice["choices"][0]["finish_reason"] == "content_filter"
    assert choice["usage"]["completion_tokens"] == 7
    answer = json.loads((await ask(simulator, "filter", path="v1/messages", max_tokens=50)).rest)
    assert answer["stop_reason"] == "refusal"


async def test_prefill_rejection(simulator: Simulator) -> None:
    """400 only where the assistant has the last word."""
    await fault(simulator, "prefill", "prefill_rejection")
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    seen = await ask(simulator, "prefill", messages=turns)
    assert seen.status == 400
    assert "prefill" in json.loads(seen.rest)["error"]["message"]
    assert (await ask(simulator, "prefill")).status == 200
    assert [attempt["prefill"] for attempt in (await simulator.report("prefill"))["attempts"]] == [
        True,
        False,
    ]


async def test_empty_and_wrong_content_type(simulator: Simulator) -> None:
    """A 200 of no bytes; a 200 that is a web page."""
    await fault(simulator, "odd", "empty")
    seen = await ask(simulator, "odd")
    assert (seen.status, seen.rest, seen.headers["content-length"]) == (200, b"", "0")
    await fault(simulator, "odd", "content_type")
    seen = await ask(simulator, "odd", stream=True)
    assert seen.headers["content-type"].startswith("text/html")
    assert seen.rest.startswith(b"<html>")


async def test_brownout_multiplies_times(simulator: Simulator) -> None:
    """The attempt took at least the multiplied latency."""
    await simulator.set("brown", latency_ms=5, tokens=5, faults=[{"kind": "brownout", "factor": 20}])
    await ask(simulator, "brown")
    assert (await simulator.report("brown"))["attempts"][0]["seconds"] >= 0.09


async def test_nothing_of_it_harms_the_process(simulator: Simulator) -> None:
    """After all these faults a healthy stream is whole."""
    await simulator.set("well", tokens=3)
    body, complete = (await ask(simulator, "well", path="v1/messages", stream=True, max_tokens=50)).chunks
    assert complete
    assert [name for name, _ in events(body.decode())].count("content_block_delta") == 3
