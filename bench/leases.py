"""Measures how much of its limits a router holds for its calls, and what that costs in messages to the limiter.

python -m bench.leases [--calls N] [--workers N] [--rounds N]

Starts the whole stack. Bursts of product descriptions, as many at once as there are workers, with pauses in between,
under limits far above what they need: all that is held beyond what is used is stranded. Sampled ten times a second:
what is leased or reserved of the tenant's daily budget and of its concurrency. Printed: the most of each beside what
was really spent and how many calls ran, and messages on the lease stream per call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from pathlib import Path

import httpx
import uvloop

from libs.client import QuotaClient
from tests.support.stack import RunningStack, running_stack

#: Seconds until slices of a burst have gone back.
PAUSE = 3.0
#: Nobody's shop has fewer.
WORDS = "Describe a hammer with a handle of ash wood, forged head, 600 g, for carpenters."


class Sampler:
    """Watches what is outstanding of each of the tenant's limits."""

    def __init__(self, client: QuotaClient) -> None:
        self._client = client
        self.most: dict[str, int] = {}

    async def run(self) -> None:
        """Samples ten times a second. Never returns."""
        while True:
            for state in await self._client.list_quotas(["tenant:demo"]):
                now = max(self.most.get(state.unit, 0), state.outstanding)
                self.most[state.unit] = now
            await asyncio.sleep(0.1)


async def messages(stack: RunningStack) -> float:
    """Returns the messages sent to the limiter so far."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://{stack.addresses['router metrics']}/metrics")).text
    found = re.findall(r'^pointsman_lease_messages_total\{kind="(?:acquire|report)"\} (\S+)', text, re.M)
    return sum(map(float, found))


async def burst(stack: RunningStack, calls: int, workers: int) -> int:
    """Makes the calls; returns what they cost in micro-USD."""
    spent = 0
    left = iter(range(calls))

    async def work() -> None:
        nonlocal spent
        for _ in left:
            result = await client.generate(WORDS, content_type="product_description")
            spent += result.cost_micro_usd

    async with stack.client() as client:
        await asyncio.gather(*(work() for _ in range(workers)))
    return spent


async def measure(calls: int, workers: int, rounds: int) -> dict[str, float]:
    """Runs all rounds on one stack; returns the figures."""
    with tempfile.TemporaryDirectory(prefix="pointsman-leases-") as directory:
        async with (
            running_stack(Path(directory)) as stack,
            QuotaClient(stack.addresses["ratelimit"], stack.addresses["service_token"]) as quotas,
        ):
            sampler = Sampler(quotas)
            watching = asyncio.create_task(sampler.run())
            spent = 0
            for _ in range(rounds):
                spent += await burst(stack, calls, workers)
                await asyncio.sleep(PAUSE)
            watching.cancel()
            total = await messages(stack)
    return {
        "calls": calls * rounds,
        "at_once": workers,
        "spent_micro_usd": spent,
        "most_held_micro_usd": sampler.most.get("micro_usd", 0),
        "most_held_concurrency": sampler.most.get("concurrency", 0),
        "lease_messages_per_call": round(total / (calls * rounds), 4),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=222)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(json.dumps(uvloop.run(measure(given.calls, given.workers, given.rounds)), indent=2))


if __name__ == "__main__":
    main()
