"""Measures what a Generate costs the router, against a bare pass-through on the same transport, in one run.

python -m bench.generate [--calls N] [--rounds N] [--trace-ratio R]

Starts the whole stack (limits, budget, ledger and tracing on: spans go to a collector) and a bare grpc.aio
pass-through (bench/support/passthrough.py), both calling the same simulated provider. Slices of calls to the one and
the other alternate: first to the router as shipped, which records a tenth of the traces that begin with it; then to
the router within traces that the caller records, so that every call is traced (`traced`); then to the router's HTTP
door with OpenAI's chat completions (`http`), as shipped too. Each figure is CPU time of
the server process (user and system, from the kernel) per call, so the load generator and the provider do not count.
The ratio to the pass-through of the same round is taken and their median printed. Unary and streamed. Last comes
`ratio`, that of unary calls as shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import psutil
import uvloop
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from libs.rpc.channel import metadata
from tests.support.otlp import running_collector
from tests.support.stack import ROOT, RunningStack, running_stack

CONCURRENCY = 16
#: Calls after which the other side has its turn: a machine that gets slower for a second slows both alike.
SLICE = 100
TOKENS = 60
#: A little longer than spans wait for their export (OpenTelemetry's default is 5 s).
EXPORT_SECONDS = 6.0
#: Streams come a token at a time, at 200 tokens a second.
TOKEN_MS = 5.0
PROMPT = (
    "Write a product description of about 80 words for the Fjord pour-over kettle, brushed steel, 0.9 litres. "
    * 4
)

#: One provider, so that both sides call the same; limits and a budget on every scope the router asks for.
CATALOG = """\
version: 1
domain: bench
providers:
  openai:
    base_url: ${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}/openai/v1
    api_key_env: ""
    limits:
      - {unit: requests, period: minute, limit: 1_000_000}
      - {unit: total_tokens, period: minute, limit: 900_000_000}
models:
  openai/gpt-4.1-mini:
    context_window: 1_047_576
    max_output_tokens: 32_768
    capabilities: [streaming, system, json, json_schema, tools, seed, stop]
policies:
  default:
    tiers: [[openai/gpt-4.1-mini]]
content_types:
  general: {max_output_tokens: 300}
tenants:
  demo:
    key_sha256: [c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c]
    limits:
      - {unit: requests, period: minute, limit: 1_000_000}
      - {unit: total_tokens, period: minute, limit: 900_000_000}
      - {unit: concurrency, limit: 1_000}
      - {unit: usd, period: day, limit: 100_000}
"""

Send = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Side:
    """A process under test, and how it is called."""

    process: psutil.Process
    send: Send


def cpu(process: psutil.Process) -> float:
    """Returns the user and system seconds so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def load(send: Send, calls: int, concurrency: int) -> float:
    """Makes the calls and returns the seconds they took."""
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await send()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return time.perf_counter() - began


@asynccontextmanager
async def passthrough(provider: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Starts the bare server as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.support.passthrough", "--provider", provider),
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        yield psutil.Process(process.pid), f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def calls(channel: grpc.aio.Channel, key: str, *, traced: bool = False) -> dict[str, Send]:
    """Returns a function for each kind of call. `traced`: each within a trace of its own that the caller records."""
    stub = router_pb2_grpc.RouterStub(channel)
    generation = pb.Generation(
        content_type="general",
        messages=[pb.Message(role=pb.ROLE_USER, text=PROMPT)],
        max_output_tokens=TOKENS,
    )
    identity = metadata(key)

    def sent() -> tuple[tuple[str, str], ...]:
        if not traced:
            return identity
        return (*identity, ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"))

    async def unary() -> None:
        answer = await stub.Generate(pb.GenerateRequest(generation=generation), metadata=sent())
        assert answer.result.text

    async def stream() -> None:
        text = ""
        call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=generation), metadata=sent())
        async for event in call:
            text += event.delta.text
        assert text

    return {"unary": unary, "stream": stream}


def http_calls(session: aiohttp.ClientSession, url: str, key: str) -> dict[str, Send]:
    """Returns functions for the same calls as OpenAI's clients make them."""
    headers = {"authorization": f"Bearer {key}"}
    body = {
        "model": "pointsman/general",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
    }

    async def unary() -> None:
        async with session.post(url, json=body, headers=headers) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"]

    async def stream() -> None:
        async with session.post(url, json={**body, "stream": True}, headers=headers) as answer:
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")

    return {"unary": unary, "stream": stream}


async def rounds_of(ours: Side, theirs: Side, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Returns the CPU seconds per call of both in each round. Their slices alternate; what a process does after its
    slice (usage and traces are sent a little later) is its own all the same."""
    samples: tuple[list[float], list[float]] = ([], [])
    slices = max(1, count // SLICE)
    calls_a_slice = count // slices
    for number in range(rounds + 1):
        before = cpu(ours.process), cpu(theirs.process)
        for _ in range(slices):
            await load(ours.send, calls_a_slice, CONCURRENCY)
            await load(theirs.send, calls_a_slice, CONCURRENCY)
        if number > 0:  # the first round warms up
            for used, process, began in zip(samples, (ours.process, theirs.process), before, strict=True):
                used.append((cpu(process) - began) / (slices * calls_a_slice))
    return samples


async def measure(stack: RunningStack, calls_a_round: int, rounds: int) -> dict[str, dict[str, float]]:
    """Returns all figures of unary and of streamed calls."""
    router = stack.process("router")
    key = stack.addresses["tenant_key"] or "demo-key"
    figures: dict[str, dict[str, float]] = {}
    async with (
        passthrough(f"{stack.simulator.url}/openai/v1") as (bare, address),
        grpc.aio.insecure_channel(stack.addresses["router"]) as ours,
        grpc.aio.insecure_channel(address) as theirs,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://{stack.addresses['router http']}/v1/chat/completions"
        for kind, pace, count in (("unary", 0.0, calls_a_round), ("stream", TOKEN_MS, calls_a_round // 4)):
            await stack.simulator.set("openai", tokens=TOKENS, latency_ms=0, ms_per_token=pace, unary_ms=0)
            shipped = Side(router, calls(ours, key)[kind])
            traced = Side(router, calls(ours, key, traced=True)[kind])
            through = Side(bare, calls(theirs, key)[kind])
            over_http = Side(router, http_calls(session, url, key)[kind])
            mine, bares = await rounds_of(shipped, through, count, rounds)
            sequential = [
                1000 * await load(side.send, count // 8, 1) / (count // 8) for side in (shipped, through)
            ]
            traces, beside = await rounds_of(traced, through, count, rounds)
            # Spans that wait are exported before anything else is measured.
            await asyncio.sleep(EXPORT_SECONDS)
            https, beside_http = await rounds_of(over_http, through, count, rounds)
            await asyncio.sleep(EXPORT_SECONDS)
            ratios = [a / b for a, b in zip(mine, bares, strict=True)]
            figures[kind] = {
                "router_cpu_ms": round(1000 * statistics.median(mine), 3),
                "traced_cpu_ms": round(1000 * statistics.median(traces), 3),
                "http_cpu_ms": round(1000 * statistics.median(https), 3),
                "passthrough_cpu_ms": round(1000 * statistics.median(bares), 3),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_min": round(min(ratios), 2),
                "ratio_max": round(max(ratios), 2),
                "ratio_traced": round(
                    statistics.median(a / b for a, b in zip(traces, beside, strict=True)), 2
                ),
                "ratio_http": round(
                    statistics.median(a / b for a, b in zip(https, beside_http, strict=True)), 2
                ),
                "http_to_grpc": round(statistics.median(https) / statistics.median(mine), 2),
                "requests_per_second_per_core": round(1 / statistics.median(mine)),
                "added_latency_ms_sequential": round(sequential[0] - sequential[1], 2),
            }
            print(f"{kind:>6}: {figures[kind]}")
    return figures


async def main(count: int, rounds: int, trace_ratio: float) -> None:
    """Runs it."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_collector() as collector:
            environment = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "POINTSMAN_TRACE_SAMPLE_RATIO": str(trace_ratio),
            }
            async with running_stack(Path(directory), CATALOG, environment) as stack:
                figures = await measure(stack, count, rounds)
        more = {"trace_ratio": trace_ratio, "spans_collected": len(collector.spans)}
        unary = figures["unary"]
        beside = {"http_ms": unary["http_cpu_ms"], "http_ratio": unary["ratio_http"]}
        print(json.dumps({**figures, **more, **beside, "ratio": unary["ratio"]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1000, help="calls a round")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of rounds, after one that warms up")
    parser.add_argument(
        "--trace-ratio", type=float, default=0.1, help="share of the router's own traces that are recorded"
    )
    options = parser.parse_args()
    uvloop.run(main(options.calls, options.rounds, options.trace_ratio))
