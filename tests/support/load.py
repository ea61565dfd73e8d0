"""Generate under continuous load, and a book of what callers got, to be compared with the ledger.

async with under_load({"demo": client}, "kill-health") as load:
    stack.kill("health")
    await load.until(more=100)
assert not load.failures
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from libs.client import Attempt, Client, Result, TextAssembler
from libs.errors import PointsmanError

#: Seconds a call may take before it counts as failed; and a worker rests between two calls, so that what is started
#: again meanwhile finds a core.
CALL_TIMEOUT = 20.0
REST = 0.03
WORDS = ["mug", "kettle", "lamp", "chair", "towel", "shovel", "scarf", "clock", "basket", "candle"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave no answer."""

    tenant: str
    request_id: str
    error: PointsmanError
    #: Monotonic seconds.
    at: float


@dataclass
class Load:
    """The answers that callers got so far."""

    prefix: str
    results: dict[str, list[Result]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    longest: float = 0.0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answers(self) -> list[Result]:
        """Of all tenants."""
        return [result for found in self.results.values() for result in found]

    @property
    def attempts(self) -> dict[str, Attempt]:
        """Every attempt that an answer accounts for, by id. Fails where two answers name the same one."""
        found = [attempt for result in self.answers for attempt in result.attempts]
        by_id = {attempt.attempt_id: attempt for attempt in found}
        assert len(by_id) == len(found), "an attempt id was given twice"
        return by_id

    async def until(self, *, more: int, tenants: Collection[str] = (), timeout: float = 30.0) -> None:
        """Returns once each of these tenants (none named: every one) has got this many more answers."""
        goal = {tenant: len(self.results[tenant]) + more for tenant in tenants or self.results}
        try:
            async with asyncio.timeout(timeout):
                while any(len(self.results[tenant]) < count for tenant, count in goal.items()):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"no {more} more answers within {timeout:g} s: {self.story()}") from None

    async def until_failed(self, *, tenant: str, timeout: float = 30.0) -> None:
        """Returns once another call of that tenant has failed."""
        count = len(self.failures)
        async with asyncio.timeout(timeout):
            while not any(failure.tenant == tenant for failure in self.failures[count:]):
                await asyncio.sleep(0.01)

    def story(self) -> str:
        """The figures on one line."""
        why = Counter(f"{f.tenant}: {f.error.reason}" for f in self.failures)
        answered = {tenant: len(found) for tenant, found in self.results.items()}
        return (
            f"{self.prefix}: answered {answered}, attempts {len(self.attempts)}, failed {dict(why)}, "
            f"longest call {self.longest:.2f} s"
        )


@asynccontextmanager
async def under_load(
    clients: Mapping[str, Client], prefix: str, *, workers: int = 4, seed: int = 1
) -> AsyncIterator[Load]:
    """`workers` callers for each tenant, each with one call at a time, every other one streamed. Request ids begin
    with `prefix`. Leaving the block lets running calls end."""
    load = Load(prefix, {tenant: [] for tenant in clients})
    tasks = [
        asyncio.create_task(_work(load, tenant, client, worker, random.Random(f"{seed} {tenant} {worker}")))
        for tenant, client in clients.items()
        for worker in range(workers)
    ]
    try:
        yield load
    finally:
        load.stopping.set()
        for task in tasks:
            await task


async def _work(load: Load, tenant: str, client: Client, worker: int, rng: random.Random) -> None:
    number = 0
    while not load.stopping.is_set():
        number += 1
        request_id = f"{load.prefix}-{tenant}-{worker}-{number}"
        prompt = f"Describe a {rng.choice(WORDS)} in {rng.randrange(20, 80)} words."
        began = time.monotonic()
        try:
            result = await one(client, prompt, request_id, streamed=bool((worker + number) % 2))
        except PointsmanError as error:
            load.failures.append(Failure(tenant, request_id, error, time.monotonic()))
        else:
            load.results[tenant].append(result)
        load.longest = max(load.longest, time.monotonic() - began)
        await asyncio.sleep(REST)


async def one(client: Client, prompt: str, request_id: str, *, streamed: bool) -> Result:
    """One answer, text included. Raises PointsmanError."""
    if not streamed:
        return await client.generate(prompt, request_id=request_id, timeout=CALL_TIMEOUT)
    assembler = TextAssembler()
    async for event in client.stream(prompt, request_id=request_id, timeout=CALL_TIMEOUT):
        assembler.feed(event)
    assert assembler.result is not None, "the client raises where a stream ends without Completed"
    return assembler.result
