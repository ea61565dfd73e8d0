"""All providers are gone at once while Generate is under load: providers see no storm, callers an honest answer, the
router does not grow, and the first provider to return is used within seconds.

POINTSMAN_OUTAGE_SECONDS (20) says how long each outage lasts; a minute is what the claim is about.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dev.catalog import PUBLISHED_HASH
from libs.client import Client
from libs.errors import PointsmanError, Unavailable
from tests.support.load import one
from tests.support.stack import RunningStack, running_stack

SECONDS = float(os.environ.get("POINTSMAN_OUTAGE_SECONDS", "20"))
#: Requests a second, whether or not earlier ones are answered; half of them streamed.
RATE = 30.0
#: Attempts beyond the first that requests may cost their providers in vain: a share of the requests of a minute, so
#: that an outage that is shorter may also spend what the requests before it left.
EXTRA, MINUTE = 0.1, 60.0
#: Seconds within which the first answer comes after the outage, and bytes by which the router may grow in it.
BACK, GROWTH = 5.0, 8_000_000
PROVIDERS = {"openai": "openai", "gemini": "gemini", "local": "openai_compatible"}
OUTAGES: dict[str, dict[str, Any]] = {
    "overloaded": {"kind": "status", "preset": "overloaded"},
    "reset": {"kind": "reset"},
    #: Opens no circuit: the retry budget alone holds.
    "rate_limited": {"kind": "status", "preset": "rate_limited"},
    "silence": {"kind": "silence"},
}


def _catalog() -> str:
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    timeouts = {"first_byte": 1, "idle": 1, "total": 4}
    providers = {
        name: {
            "kind": kind,
            "base_url": f"{url}/{name}" + ("" if kind == "gemini" else "/v1"),
            "api_key_env": "",
            "timeouts": timeouts,
        }
        for name, kind in PROVIDERS.items()
    }
    model = {
        "context_window": 100_000,
        "max_output_tokens": 4096,
        "capabilities": ["streaming", "system"],
        "price": {"input": 1, "output": 2},
    }
    catalog = {
        "version": 1,
        "domain": "outage",
        "providers": providers,
        "models": {f"{name}/m": model for name in PROVIDERS},
        "policies": {"default": {"tiers": [[f"{name}/m"] for name in PROVIDERS]}},
        "content_types": {"general": {"max_output_tokens": 100}},
        "tenants": {"demo": {"key_sha256": [PUBLISHED_HASH]}},
    }
    return json.dumps(catalog)


@dataclass
class Steady:
    """Calls at a steady rate, however long they take. `times` is when each was asked, by whichever of these."""

    client: Client
    prefix: str
    times: list[float]
    asked: int = 0
    answered: list[float] = field(default_factory=list)
    failures: list[PointsmanError] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seconds: float, until_answered: int | None = None) -> None:
        """Asks for so long, or until there are so many answers."""
        began = time.monotonic()
        for number in itertools.count():
            due = began + number / RATE
            if due - began >= seconds or (until_answered and len(self.answered) >= until_answered):
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.asked += 1
            self.times.append(time.monotonic())
            task = asyncio.create_task(self._one(self.asked))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def _one(self, number: int) -> None:
        try:
            await one(self.client, "Describe a mug", f"{self.prefix}-{number}", streamed=bool(number % 2))
            self.answered.append(time.monotonic())
        except PointsmanError as error:
            self.failures.append(error)

    async def finish(self) -> None:
        """Returns when every call has ended."""
        while self.running:
            await asyncio.wait(self.running)


async def attempts(stack: RunningStack) -> int:
    """Generations that providers have seen since their behaviour was set."""
    return sum(report["counters"]["requests"] for report in (await stack.simulator.all()).values())


async def behave(stack: RunningStack, *faults: dict[str, Any]) -> None:
    """All providers at once, on every endpoint."""
    everywhere = [{**fault, "when": {"endpoint": "any"}} for fault in faults]
    for name in PROVIDERS:
        await stack.simulator.set(name, tokens=20, latency_ms=20, faults=everywhere)


@dataclass(frozen=True, slots=True)
class Outage:
    """The course of one outage. `minute`: requests of the minute before its end; `attempts`: generations that
    providers saw during it; `grown`: bytes by which the router grew; `back`: seconds from its end to the first
    answer."""

    during: Steady
    minute: int
    attempts: int
    grown: int
    back: float
    failures_after: int


async def outage(directory: Path, kind: str) -> Outage:
    """Brings a stack of its own under load, lets all its providers fail, and lets them return."""
    times: list[float] = []
    async with running_stack(directory, _catalog()) as stack, stack.client() as client:
        await behave(stack)
        warm = Steady(client, f"{kind}-warm", times)
        await warm.run(30.0, until_answered=60)
        await warm.finish()
        await behave(stack, OUTAGES[kind])
        router = stack.process("router")
        during = Steady(client, kind, times)
        await during.run(SECONDS / 3)
        before = router.memory_info().rss
        await during.run(SECONDS * 2 / 3)
        minute = sum(asked > times[-1] - MINUTE for asked in times)
        await during.finish()
        grown = router.memory_info().rss - before
        seen = await attempts(stack)
        await behave(stack)
        began = time.monotonic()
        after = Steady(client, f"{kind}-after", times)
        await after.run(30.0, until_answered=60)
        await after.finish()
    return Outage(during, minute, seen, grown, min(after.answered) - began, len(after.failures))


@pytest.fixture(scope="module")
async def outages(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, asyncio.Task[Outage]]]:
    """All of them at once, which takes no longer than one."""
    tasks = {
        kind: asyncio.create_task(outage(tmp_path_factory.mktemp(f"outage-{kind}"), kind)) for kind in OUTAGES
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("kind", OUTAGES)
async def test_a_total_outage_is_no_storm_and_ends_at_once(
    outages: dict[str, asyncio.Task[Outage]], kind: str
) -> None:
    """At most 1.1 attempts a request over a minute, UNAVAILABLE with RetryInfo, flat memory, and answers within
    seconds of the first provider's return."""
    found = await outages[kind]
    during = found.during
    print(
        f"{kind}: {during.asked} requests, {found.attempts} attempts ({found.attempts / during.asked:.3f} each, "
        f"{found.minute} requests in the minute), "
        f"grown by {found.grown / 1e6:.1f} MB, first answer {found.back:.2f} s after the outage, "
        f"{found.failures_after} failures until all was well"
    )
    assert during.answered == []
    assert found.attempts <= during.asked + EXTRA * found.minute
    for failure in during.failures:
        assert isinstance(failure, Unavailable), failure
        assert failure.retry_after is not None, failure
    assert found.grown < GROWTH
    assert found.back < BACK
