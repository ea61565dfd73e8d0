"""A provider's outage under calls at different rates, on a stack with a second router.

Calls go to both routers in turn; each rate has a primary of its own, and all run at once. The primary answers 503 for
the outage, a fallback answers always.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.catalog import PUBLISHED_HASH
from libs.client import Client
from libs.errors import PointsmanError
from tests.support.router_beside import router_beside
from tests.support.stack import RunningStack, running_stack

PROMPT = "Describe a mug."


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: of the outage, of calls before it, and of calls from the first answer after it. Where calls are
    `seldom` or more apart, three come at the outage's begin, so that its circuit opens."""

    outage: float = 60.0
    warm: float = 10.0
    after: float = 20.0
    seldom: float = 20.0


@dataclass
class Flap:
    """One rate, as observed. Instants in seconds since the outage began."""

    interval: float
    outage: float
    #: From the first answer after the outage, calls came for so long.
    after: float
    #: Calls: their end, and whether the primary answered; None: nobody did.
    calls: list[tuple[float, bool | None]] = field(default_factory=list)
    wasted: int = 0

    @property
    def back(self) -> float | None:
        """Returns the instant of the primary's first answer after the outage; None: it never came back."""
        return next((at for at, primary in self.calls if at >= self.outage and primary), None)

    def figures(self) -> dict[str, Any]:
        """Returns the figures."""
        back = self.back
        found: dict[str, Any] = {
            "every_s": self.interval,
            "wasted": self.wasted,
            "unanswered": sum(primary is None for _, primary in self.calls),
        }
        if back is None:
            return {**found, "back_s": None}
        found["back_s"] = round(back - self.outage, 1)
        found["back_calls"] = sum(self.outage <= at <= back for at, _ in self.calls)
        shares = []
        for second in range(0, int(self.after), 2):
            answers = [primary for at, primary in self.calls if second <= at - back < second + 2]
            shares.append(round(answers.count(True) / len(answers), 2) if answers else None)
        return {**found, "share": shares}


def catalog(intervals: Sequence[float]) -> str:
    """Returns the catalog: a primary for each rate, and the fallback; JSON is YAML."""
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    names = [*map(name_of, intervals), "fallback"]
    model = {
        "context_window": 100_000,
        "max_output_tokens": 4096,
        "capabilities": ["streaming", "system"],
        "price": {"input": 1, "output": 2},
    }
    return json.dumps(
        {
            "version": 1,
            "domain": "flap",
            "providers": {
                name: {"kind": "openai", "base_url": f"{url}/{name}/v1", "api_key_env": ""} for name in names
            },
            "models": {f"{name}/m": model for name in names},
            "policies": {"default": {"tiers": [["fallback/m"]]}},
            "content_types": {"general": {"max_output_tokens": 100}},
            "tenants": {"demo": {"key_sha256": [PUBLISHED_HASH]}},
        }
    )


def name_of(interval: float) -> str:
    """Returns the name of the rate's primary."""
    return f"every-{round(interval * 1000)}-ms"


async def flap(stack: RunningStack, client: Client, interval: float, times: Times) -> Flap:
    """Breaks the rate's primary under calls, and watches it come back."""
    outage = times.outage
    name, found = name_of(interval), Flap(interval, outage, times.after)
    began = time.monotonic() + times.warm

    async def ask() -> None:
        answered: bool | None = None
        try:
            result = await client.generate(PROMPT, models=[f"{name}/m", "fallback/m"], timeout=20)
            answered = result.selection.provider == name
        except PointsmanError as error:
            print(f"{name}: {error}")
        found.calls.append((time.monotonic() - began, answered))

    async def ask_steadily(until: float) -> None:
        while (now := time.monotonic()) < until:
            await ask()
            await asyncio.sleep(max(0.0, now + interval - time.monotonic()))

    await stack.simulator.set(name, tokens=10)
    if interval < times.seldom:
        await ask_steadily(began)
    began = time.monotonic()
    fault = {"kind": "status", "preset": "overloaded", "when": {"until_seconds": outage}}
    await stack.simulator.set(name, tokens=10, faults=[fault])
    if interval >= times.seldom:
        for _ in range(3):
            await ask()
    await ask_steadily(began + outage)
    while found.back is None and time.monotonic() < began + outage + max(outage, 4 * interval):
        await ask_steadily(time.monotonic() + interval)
    await ask_steadily(time.monotonic() + times.after)
    report = await stack.simulator.report(name)
    found.wasted = sum(attempt["status"] != 200 for attempt in report["attempts"])
    return found


async def measure(
    directory: Path, intervals: Sequence[float], times: Times, environment: Mapping[str, str] | None = None
) -> list[Flap]:
    """Returns what was seen at each rate, in the order of the intervals."""
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(running_stack(directory, catalog(intervals), environment))
        await stack.simulator.set("fallback", tokens=10)
        second = router_beside(stack, "second")
        opened.push_async_callback(second.end)
        await second.start()
        both = "ipv4:" + ",".join((stack.addresses["router"], second.address))
        client = await opened.enter_async_context(Client(both, stack.addresses["tenant_key"]))
        return await asyncio.gather(*(flap(stack, client, interval, times) for interval in intervals))
