"""Successes that wait to be taken in: nothing that is decided may miss one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import grpc
import pytest_asyncio

from libs.catalog.model import Model
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.router.adapters.health_client import HEDGE_SAMPLES, SUCCESSES, HealthClient
from services.router.domain.health import Availability
from tests.support.clock import ManualClock

LARGE = Model("acme", "large", "large", 8000, 1000)
SMALL = Model("acme", "small", "small", 8000, 1000)


class Bed:
    """A health client that has never heard of a health service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.clock = ManualClock()
        self.client = HealthClient(channel, "", "me", self.clock, Random(1), Metrics())

    def succeed(self, latency: float = 0.5) -> None:
        """One call gave its answer."""
        ticket = self.client.begin(LARGE)
        assert ticket is not None
        self.client.succeeded(LARGE, ticket, latency, None, 50)

    def fail(self, model: Model = LARGE) -> None:
        """One did not."""
        ticket = self.client.begin(model)
        assert ticket is not None
        self.client.failed(model, ticket, ErrorClass.SERVER_ERROR, None)


@pytest_asyncio.fixture(loop_scope="session")
async def bed() -> AsyncIterator[Bed]:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield Bed(channel)


async def test_a_success_between_failures_counts_although_it_waits(bed: Bed) -> None:
    """Three failures in a row open a circuit; with a success among them they are not in a row."""
    bed.fail()
    bed.fail()
    bed.succeed()
    bed.fail()
    assert bed.client.target(LARGE).availability is Availability.HEALTHY
    for _ in range(3):
        bed.fail(SMALL)
    assert bed.client.target(SMALL).availability is Availability.DOWN


async def test_what_hedges_wait_for_is_learned_from_all_successes(bed: Bed) -> None:
    """The percentile is asked for in the instant of the last sample it needs."""
    for _ in range(HEDGE_SAMPLES - 1):
        bed.succeed()
    assert bed.client.hedge_after(LARGE, stream=False) is None
    bed.succeed()
    learned = bed.client.hedge_after(LARGE, stream=False)
    assert learned is not None
    assert 0.45 < learned < 0.55


async def test_latency_and_success_rate_follow_within_a_tenth_of_a_second(bed: Bed) -> None:
    """Planning sees what waited once it counts anew."""
    bed.client.target(LARGE)
    for _ in range(20):
        bed.succeed(2.0)
    bed.clock.advance(0.11)
    seen = bed.client.target(LARGE)
    assert seen.latency == 2.0
    assert seen.success_rate == 1.0


async def test_no_more_wait_than_are_bounded(bed: Bed) -> None:
    """Where nothing is decided for long, memory does not grow."""
    for _ in range(3 * SUCCESSES):
        bed.succeed()
    (target,) = [target for target in bed.client._targets.values() if target.latency is not None]
    assert len(target.successes) <= SUCCESSES
