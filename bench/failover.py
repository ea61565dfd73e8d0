"""Measures what switching to another provider costs, over a plain request, in one run.

python -m bench.failover [--requests N]

Starts the whole stack. One provider fails every twelfth call in a way that shows at once: a 503, whole or
streamed, or a stream that is cut after half of its text; too seldom to open its circuit or to count as
degraded. Requests go one at a time, so that nothing waits for anything else. Two figures for each kind:
`between`, from the end of the failed attempt to the begin of the next, by the router's own account; and
`added`, the caller's time over the median of the plain requests of the same run, which also holds the failed
call itself and the noise of the machine (`noise`: the same of plain requests).
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from dev.catalog import PUBLISHED_HASH
from libs.client import Client, Result, TextAssembler
from tests.support.stack import RunningStack, running_stack

PROMPT = "Describe the Fjord pour-over kettle, brushed steel, 0.9 litres."
EVERY = 12
#: The bounds that must hold, in milliseconds: of `added` at the 99th percentile, on a machine without much noise; and
#: in total.
OWN_MS, TOTAL_MS = 10.0, 1000.0
KINDS: dict[str, tuple[bool, dict[str, Any]]] = {
    "unary_503": (False, {"kind": "status", "preset": "overloaded"}),
    "stream_503": (True, {"kind": "status", "preset": "overloaded"}),
    "stream_cut": (True, {"kind": "cut", "after_tokens": 15}),
}


def catalog() -> str:
    """Returns the catalog: two providers in two tiers; JSON is YAML."""
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    providers = {n: {"kind": "openai", "base_url": f"{url}/{n}/v1", "api_key_env": ""} for n in ("a", "b")}
    model = {
        "context_window": 100_000,
        "max_output_tokens": 4096,
        "capabilities": ["streaming", "system"],
        "price": {"input": 1, "output": 2},
    }
    limits = [
        {"unit": "requests", "period": "minute", "limit": 1_000_000},
        {"unit": "usd", "period": "day", "limit": 100_000},
    ]
    return json.dumps(
        {
            "version": 1,
            "domain": "bench",
            "providers": providers,
            "models": {"a/m": model, "b/m": model},
            "policies": {"default": {"tiers": [["a/m"], ["b/m"]]}},
            "content_types": {"general": {"max_output_tokens": 100}},
            "tenants": {"demo": {"key_sha256": [PUBLISHED_HASH], "limits": limits}},
        }
    )


async def timed_call(client: Client, request_id: str, *, stream: bool) -> tuple[float, Result]:
    """Makes one call; returns its seconds and the answer's account."""
    began = time.perf_counter()
    if not stream:
        result = await client.generate(PROMPT, request_id=request_id)
        return time.perf_counter() - began, result
    assembler = TextAssembler()
    async for event in client.stream(PROMPT, request_id=request_id):
        assembler.feed(event)
    assert assembler.result is not None
    return time.perf_counter() - began, assembler.result


def percentile(values: list[float], q: float) -> float:
    """Returns the smallest value that a share of `q` does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def spread(values: list[float]) -> dict[str, float]:
    """Returns the median and other quantiles of seconds, in milliseconds."""
    return {
        "p50_ms": round(1000 * percentile(values, 0.5), 2),
        "p99_ms": round(1000 * percentile(values, 0.99), 2),
        "max_ms": round(1000 * max(values), 2),
    }


async def measure(stack: RunningStack, requests: int) -> dict[str, Any]:
    """Returns all figures."""
    figures: dict[str, Any] = {}
    numbers = itertools.count(1)
    async with stack.client() as client:
        for kind, (stream, fault) in KINDS.items():
            for name, faults in (("a", [{**fault, "when": {"every": EVERY}}]), ("b", [])):
                await stack.simulator.set(name, tokens=30, faults=faults)
            plain: list[float] = []
            switched: list[float] = []
            between: list[float] = []
            for number in range(requests):
                seconds, result = await timed_call(client, f"{kind}-{next(numbers)}", stream=stream)
                if number < requests // 10:
                    continue  # warms up
                attempts = result.attempts
                if len(attempts) == 1:
                    plain.append(seconds)
                    continue
                first, second = attempts
                assert first.started is not None
                assert second.started is not None
                switched.append(seconds)
                between.append(max(0.0, second.started - first.started - first.latency))
            usual = percentile(plain, 0.5)
            figures[kind] = {
                "switched": len(switched),
                "between": spread(between),
                "added": spread([seconds - usual for seconds in switched]),
                "noise": spread([seconds - usual for seconds in plain]),
                "total": spread(switched),
            }
            print(f"{kind:>11}: {figures[kind]}")
    figures["ok"] = all(
        found["added"]["p99_ms"] < OWN_MS and found["total"]["max_ms"] < TOTAL_MS
        for found in figures.values()
    )
    return figures


async def main(requests: int) -> None:
    """Runs it."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(Path(directory), catalog()) as stack:
            print(json.dumps(await measure(stack, requests)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=4000, help="of each kind")
    options = parser.parse_args()
    uvloop.run(main(options.requests))
