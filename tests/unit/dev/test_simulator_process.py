"""The process: ready line, control API, limits over the wire, and its end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.simulator import ROOT, Simulator, running_simulator, start, stop

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Blue mug"}]}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


async def post(simulator: Simulator, name: str, **more: Any) -> httpx.Response:
    return await simulator.client.post(simulator.base(name) + "/v1/chat/completions", json={**BODY, **more})


async def test_counters_and_last_request(simulator: Simulator) -> None:
    """Requests, statuses, tokens, attempts with times, and the body as it came."""
    await simulator.set("count", tokens=10, faults=[{"kind": "status", "status": 500, "when": {"first": 1}}])
    answers = [await post(simulator, "count") for _ in range(2)]
    await post(simulator, "count", stream=True)
    assert [answer.status_code for answer in answers] == [500, 200]
    report = await simulator.report("count")
    counters = report["counters"]
    assert counters["requests"] == 3
    assert counters["by_status"] == {"500": 1, "200": 2}
    assert counters["by_outcome"] == {"error": 1, "finished": 2}
    assert (counters["streams_started"], counters["streams_finished"]) == (1, 1)
    assert (counters["output_tokens"], counters["input_tokens"]) == (20, 4)
    assert counters["faults"] == {"status": 1}
    assert report["last_request"] == {**BODY, "stream": True}
    times = [attempt["at"] for attempt in report["attempts"]]
    assert times == sorted(times)
    await simulator.reset("count")
    assert (await simulator.counters("count"))["requests"] == 0
    assert (await post(simulator, "count")).status_code == 500


async def test_virtual_providers_are_independent(simulator: Simulator) -> None:
    """A fault on one does not reach another; all are listed; forgetting one brings the default back."""
    await simulator.set("down", faults=[{"kind": "status", "preset": "overloaded"}])
    assert (await post(simulator, "down")).status_code == 503
    assert (await post(simulator, "up")).status_code == 200
    assert {"down", "up"} <= set(await simulator.all())
    answer = await simulator.client.delete(simulator.url + "/_control/down")
    assert answer.status_code == 200
    assert (await post(simulator, "down")).status_code == 200


async def test_concurrency_is_counted(simulator: Simulator) -> None:
    """The most requests in flight at once."""
    await simulator.set("many", latency_ms=300)
    waiting = [asyncio.create_task(post(simulator, "many")) for _ in range(5)]
    await simulator.wait_for("many", lambda report: report["counters"]["concurrent"] == 5)
    await asyncio.gather(*waiting)
    counters = await simulator.counters("many")
    assert (counters["concurrent"], counters["concurrent_max"]) == (0, 5)


async def test_a_client_that_hangs_up_is_seen(simulator: Simulator) -> None:
    """In the middle of a stream and while waiting for a unary answer."""
    await simulator.set("left", tokens=1000, ms_per_token=20)
    url = simulator.base("left") + "/v1/chat/completions"
    async with simulator.client.stream("POST", url, json={**BODY, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if '"content":"' in line and '"role"' not in line:
                break
    report = await simulator.wait_for("left", lambda seen: seen["counters"]["cancelled_by_client"] == 1)
    assert 1 <= report["attempts"][0]["tokens_sent"] < 1000
    assert report["counters"]["output_tokens"] == report["attempts"][0]["tokens_sent"]
    with pytest.raises(httpx.ReadTimeout):
        await simulator.client.post(url, json=BODY, timeout=0.05)
    await simulator.wait_for("left", lambda seen: seen["counters"]["cancelled_by_client"] == 2)


async def test_own_limits_give_authentic_429s(simulator: Simulator) -> None:
    """The virtual provider enforces its limit itself, says when to come back, and its headers count down."""
    await simulator.set("limited", limits={"rpm": 2})
    first, second, third = [await post(simulator, "limited") for _ in range(3)]
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, third)] == [
        "1",
        "0",
        "0",
    ]
    assert int(third.headers["retry-after"]) == 30
    assert third.json()["error"]["code"] == "rate_limit_exceeded"
    assert "Limit 2" in third.json()["error"]["message"]
    assert (await simulator.counters("limited"))["limited"] == 1


async def test_control_refuses_what_it_does_not_know(simulator: Simulator) -> None:
    """A wrong field is named; unknown paths are 404; reserved names are refused."""
    put = simulator.client.put
    wrong = await put(simulator.url + "/_control/x", json={"latency_ms": "soon"})
    assert wrong.status_code == 400
    assert "latency_ms" in wrong.json()["error"]
    assert (await put(simulator.url + "/_control/_x", json={})).status_code == 400
    assert (await simulator.client.get(simulator.url + "/_control/x/y")).status_code == 404
    assert (await simulator.client.get(simulator.url + "/nothing/here")).status_code == 404
    assert (await simulator.client.get(simulator.url + "/")).status_code == 404


async def test_unicode_and_large_prompts(simulator: Simulator) -> None:
    """Ten megabytes, any script, control characters and lone surrogates are answered or refused, never a 500."""
    for content in ("x" * 10_000_000, "漆の器 🍵\u0000\u2028", 'naïve “quotes” \\ " {s}'):
        messages = [{"role": "user", "content": content}]
        assert (await post(simulator, "wide", messages=messages, stream=True)).status_code == 200
    url = simulator.base("wide") + "/v1/chat/completions"
    for raw in (b"\xff\xfe", b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', b"", b"[]"):
        assert (await simulator.client.post(url, content=raw)).status_code in (200, 400)


async def test_scenario_file_and_default(tmp_path: Path) -> None:
    """Behaviours by name, and one for every other name."""
    file = tmp_path / "scenario.json"
    broken = {"faults": [{"kind": "status", "status": 500}]}
    file.write_text(json.dumps({"default": {"tokens": 3}, "providers": {"down": broken}}))
    async with running_simulator(file) as one:
        assert (await post(one, "down")).status_code == 500
        assert (await post(one, "other")).json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None])
async def test_it_ends_promptly_with_hanging_requests(how: signal.Signals | None) -> None:
    """SIGTERM, Ctrl-C or the parent's end (standard input closed) stop it though requests hang, with status 0."""
    process, url = await start("--listen", "127.0.0.1:0")
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            one = Simulator(url, process.pid, client)
            await one.set("silent", faults=[{"kind": "silence"}])
            await one.set("slow", tokens=1000, ms_per_token=100)
            hanging = [asyncio.create_task(post(one, "silent")) for _ in range(20)]
            hanging += [asyncio.create_task(post(one, "slow", stream=True)) for _ in range(20)]
            for name in ("silent", "slow"):
                await one.wait_for(name, lambda report: report["counters"]["concurrent"] == 20)
            if how is None:
                assert process.stdin is not None
                process.stdin.close()
            else:
                process.send_signal(how)
            # It takes 0.3 s; the hanging requests would take 300.
            assert await asyncio.wait_for(process.wait(), 5.0) == 0
            results = await asyncio.gather(*hanging, return_exceptions=True)
            assert all(isinstance(result, httpx.TransportError) for result in results)
    finally:
        await stop(process)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dev.simulator", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


async def test_wrong_arguments_and_a_taken_port_end_with_one_sentence(
    simulator: Simulator, tmp_path: Path
) -> None:
    """64 for arguments and scenario files, 1 for the port; one line, no traceback."""
    file = tmp_path / "bad.json"
    file.write_text('{"providers": {"a": {"tokens": "many"}}}')
    taken = simulator.url.removeprefix("http://")
    cases = [
        (64, "not host:port", ["--listen", "nowhere"]),
        (64, "tokens", ["--scenario", str(file)]),
        (64, "cannot read", ["--scenario", str(tmp_path / "missing.json")]),
        (1, "cannot listen", ["--listen", taken]),
    ]
    for status, said, arguments in cases:
        ended = await asyncio.to_thread(run, *arguments)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (status, 1), ended.stderr
        assert said in ended.stderr
