"""Paced limits from the limiter's script to the router's queue: a real Valkey, a real lease stream, a clock in the
test's hand for the store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from libs.answer import Result
from libs.clock import SystemClock
from libs.errors import ResourceExhausted
from libs.selection import Degradation
from libs.telemetry import Metrics
from libs.types import Priority
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from tests.support.engines import RedisServer
from tests.support.leasing import admission_at, limiter_on
from tests.support.limits import limit
from tests.support.routing import TENANT, Harness, catalog, generation, model

#: One call a quarter of a second, one at once.
FOUR = limit("requests", "second", 4, burst=1)
PACED = limit("requests", "second", 4, burst=1, pace=True)
STEP_MS = 250
BURST = 8


@dataclass
class Bed:
    """A router whose policy never waits, in front of a limiter whose time stands still until the test moves it."""

    harness: Harness
    metrics: Metrics
    now_ms: list[int]

    def call(self, number: int, deadline: float = 1060.0) -> asyncio.Task[Result]:
        h = self.harness
        request = generation(request_id=f"r{number}", deadline=deadline)
        return asyncio.create_task(h.generate.whole(h.catalog, TENANT, request))

    def waiting(self) -> int:
        found = [
            self.metrics.registry.get_sample_value("pointsman_queue_waiting", {"class": str(p)})
            for p in Priority
        ]
        return round(sum(value or 0.0 for value in found))


@asynccontextmanager
async def bed(server: RedisServer, bound: Limit) -> AsyncIterator[Bed]:
    now_ms = [1_800_000_000_000]
    client = connect(server.url)
    store = RedisLimitStore(
        Functions(client), uuid.uuid4().hex, SystemClock(), trust=True, test_now=lambda: now_ms[0]
    )
    try:
        async with (
            limiter_on(store, [bound]) as limiter,
            admission_at(limiter.address) as admission,
        ):
            metrics = Metrics()
            queue = QueuedAdmission(admission, SystemClock(), metrics, QueueBounds())
            harness = Harness(catalog([model("a/m")], degradation=()), {"a/m": ["a"]}, queue=queue)
            yield Bed(harness, metrics, now_ms)
    finally:
        await client.aclose()


async def until(condition: object) -> None:
    """Returns once it holds."""
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_burst_over_a_paced_limit_is_answered_one_by_one(valkey_server: RedisServer) -> None:
    """All of it, one call each time the bucket has refilled by one, never two; the answers say that they waited."""
    async with bed(valkey_server, PACED) as b:
        tasks = [b.call(i) for i in range(BURST)]

        def done() -> int:
            return sum(task.done() for task in tasks)

        await until(lambda: done() == 1 and b.waiting() == BURST - 1)
        for answered in range(2, BURST + 1):
            b.now_ms[0] += STEP_MS
            await until(lambda answered=answered: done() >= answered)
            assert done() == answered
        results = [await task for task in tasks]
        assert [r.text for r in results] == ["a"] * BURST
        assert sum(r.degradation is Degradation.QUEUED for r in results) == BURST - 1
        assert b.waiting() == 0


async def test_the_same_burst_over_a_limit_that_is_not_paced_is_refused(valkey_server: RedisServer) -> None:
    """All but the one that fits, at once, with when to come back."""
    async with bed(valkey_server, FOUR) as b:
        outcomes = await asyncio.gather(*(b.call(i) for i in range(BURST)), return_exceptions=True)
        refused = [o for o in outcomes if isinstance(o, ResourceExhausted)]
        assert len(refused) == BURST - 1
        assert all(error.retry_after and error.retry_after <= 1.0 for error in refused)


async def test_a_caller_without_the_time_to_wait_its_turn_is_refused_at_once(
    valkey_server: RedisServer,
) -> None:
    """Behind seven others at four a second, half a second is too little; RetryInfo says how much it takes."""
    async with bed(valkey_server, PACED) as b:
        tasks = [b.call(i) for i in range(BURST)]
        await until(lambda: b.waiting() == BURST - 1)
        with pytest.raises(ResourceExhausted) as caught:
            await b.call(99, deadline=b.harness.clock.monotonic() + 0.5)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= (BURST - 2) * STEP_MS / 1000
        assert b.waiting() == BURST - 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
