"""Measures who gets what when three times more comes than the provider takes, of all classes and from several
tenants.

python -m bench.overload [--seconds S] [--slots N] [--overload X]

Starts the whole stack. The provider may be called `slots` times at once (a limit in the catalog) and takes half a
second a call on average, by the length of the answer, so its capacity is known. First interactive requests come
alone, at the rate they have in the mix; then the mix, a quarter of it interactive, at `overload` times the capacity.
Arrivals are random and do not wait for answers. Printed: goodput and latency of each class, interactive ones as
ratios to being alone, and Jain's fairness index over the tenants of each class.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from libs.client import Client
from libs.errors import DeadlineExceeded, ResourceExhausted
from libs.types import Priority
from tests.support.stack import RunningStack, running_stack

#: The seconds of one token at the provider, and the bounds of an answer's tokens.
TOKEN = 0.01
TOKENS = (25, 75)
#: The seconds of one call on average.
SERVICE = TOKEN * sum(TOKENS) / 2
#: The deadline of a call, in seconds.
DEADLINE = 15.0
TENANTS = ("north", "south", "east", "west")

CATALOG = """\
version: 1
domain: overload
providers:
  openai:
    base_url: ${{POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}}/openai/v1
    api_key_env: ""
    limits:
      - {{unit: concurrency, limit: {slots}}}
models:
  openai/gpt-4.1-mini:
    context_window: 1_047_576
    max_output_tokens: 32_768
    capabilities: [streaming, system, json, json_schema, tools, seed, stop]
policies:
  default:
    tiers: [[openai/gpt-4.1-mini]]
    degradation: [queue, refuse]
content_types:
  general: {{max_output_tokens: 100}}
tenants:
{tenants}
"""


def catalog(slots: int) -> str:
    """Returns the catalog: one provider with so many slots, and equal tenants."""
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in TENANTS}
    tenants = "\n".join(f"  {name}: {{key_sha256: [{digest}]}}" for name, digest in hashes.items())
    return CATALOG.format(slots=slots, tenants=tenants)


@dataclass
class Results:
    """The results that callers got."""

    offered: Counter[tuple[Priority, str]] = field(default_factory=Counter)
    answered: Counter[tuple[Priority, str]] = field(default_factory=Counter)
    queued: Counter[Priority] = field(default_factory=Counter)
    latencies: dict[Priority, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)
    without_retry_info: int = 0
    #: Seconds from the first arrival to the last answer.
    elapsed: float = 0.0

    def goodput(self, priority: Priority) -> float:
        """Returns the answered of the offered, 0 to 1."""
        return self._sum(self.answered, priority) / max(1, self._sum(self.offered, priority))

    def quantile(self, priority: Priority, share: float) -> float:
        """Returns a quantile of the latency in seconds; 0 where nothing was answered."""
        found = sorted(self.latencies[priority])
        return found[int(share * len(found))] if found else 0.0

    def fairness(self, priority: Priority) -> float:
        """Returns Jain's index over the tenants' answers: 1 where all get the same, 1/n where one gets all."""
        shares = [self.answered[priority, tenant] for tenant in TENANTS]
        return sum(shares) ** 2 / max(1, len(shares) * sum(x * x for x in shares))

    @staticmethod
    def _sum(counts: Mapping[tuple[Priority, str], int], priority: Priority) -> int:
        return sum(n for (p, _), n in counts.items() if p is priority)


async def call_once(client: Client, tenant: str, priority: Priority, tokens: int, results: Results) -> None:
    """Makes one call."""
    results.offered[priority, tenant] += 1
    began = time.perf_counter()
    try:
        result = await client.generate(
            "Describe a blue mug.", timeout=DEADLINE, priority=priority, max_output_tokens=tokens
        )
    except ResourceExhausted as error:
        results.refused[error.reason] += 1
        results.without_retry_info += error.retry_after is None
    except DeadlineExceeded as error:
        results.refused[error.reason] += 1
    else:
        results.latencies[priority].append(time.perf_counter() - began)
        results.answered[priority, tenant] += 1
        results.queued[priority] += result.degradation == "queued"


async def offer(clients: Mapping[str, Client], rates: Mapping[Priority, float], seconds: float) -> Results:
    """Makes calls at so many a second of each class, evenly from the tenants, until the time is over; then waits for
    the last answers."""
    results, began = Results(), time.monotonic()

    async def arrivals(tenant: str, priority: Priority, rate: float, group: asyncio.TaskGroup) -> None:
        rng = random.Random(f"{tenant} {priority}")
        end = due = time.monotonic()
        end += seconds
        while (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(call_once(clients[tenant], tenant, priority, rng.randint(*TOKENS), results))

    async with asyncio.TaskGroup() as group:
        for priority, rate in rates.items():
            for tenant in TENANTS:
                group.create_task(arrivals(tenant, priority, rate / len(TENANTS), group))
    results.elapsed = time.monotonic() - began
    return results


async def measure(stack: RunningStack, slots: int, overload: float, seconds: float) -> dict[str, object]:
    """Returns all figures."""
    capacity = slots / SERVICE
    each = capacity * overload / len(Priority)
    top = Priority.INTERACTIVE
    await stack.simulator.set("openai", tokens=TOKENS[1], ms_per_token=TOKEN * 1000)
    async with AsyncExitStack() as held:
        clients = {name: await held.enter_async_context(stack.client(name)) for name in TENANTS}
        await offer(clients, {top: each}, 3.0)
        alone = await offer(clients, {top: each}, seconds)
        mixed = await offer(clients, dict.fromkeys(Priority, each), seconds)
    for priority in Priority:
        print(
            f"{priority:>11}: goodput {mixed.goodput(priority):6.1%}, p50 {mixed.quantile(priority, 0.5):5.2f} s, "
            f"p99 {mixed.quantile(priority, 0.99):5.2f} s, fairness {mixed.fairness(priority):.3f}, "
            f"queued {mixed.queued[priority]}"
        )
    print(f"interactive alone: goodput {alone.goodput(top):.1%}, p99 {alone.quantile(top, 0.99):.2f} s")
    return {
        "offered_of_capacity": round(sum(mixed.offered.values()) / seconds / capacity, 2),
        "answered_of_capacity": round(sum(mixed.answered.values()) / mixed.elapsed / capacity, 2),
        "interactive_goodput_ratio": round(mixed.goodput(top) / alone.goodput(top), 4),
        "interactive_p99_ratio": round(mixed.quantile(top, 0.99) / alone.quantile(top, 0.99), 2),
        "interactive_p99_alone_s": round(alone.quantile(top, 0.99), 3),
        "goodput": {str(p): round(mixed.goodput(p), 3) for p in Priority},
        "fairness": {str(p): round(mixed.fairness(p), 3) for p in Priority},
        "refused": dict(mixed.refused),
        "refusals_without_retry_info": mixed.without_retry_info,
    }


async def main(slots: int, overload: float, seconds: float) -> None:
    """Runs it."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_stack(Path(directory), catalog(slots)) as stack:
            print(json.dumps(await measure(stack, slots, overload, seconds)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the two phases")
    parser.add_argument("--slots", type=int, default=16, help="calls the provider takes at a time")
    parser.add_argument("--overload", type=float, default=3.0, help="times the capacity")
    options = parser.parse_args()
    uvloop.run(main(options.slots, options.overload, options.seconds))
