"""The router's view of its targets: nothing that is decided may miss what was heard or seen."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from libs.catalog.model import Model
from libs.resilience.circuit import BreakerState
from libs.types import ErrorClass
from services.router.health.answer_times import CONTRADICTED
from services.router.health.exchanged import Judgement
from services.router.health.probes import PermitsUnavailable, ProbePermit
from services.router.health.target_health import Availability
from services.router.health.targets import SUCCESSES, Targets
from tests.support.clock import ManualClock

LARGE = Model("acme", "large", "large", 8000, 1000)
SMALL = Model("acme", "small", "small", 8000, 1000)


class Permits:
    """Satisfies `PermitSource`: grants as it is told, and counts who asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.grants = True
        self.gone = False
        #: Set: the answer is on its way.
        self.delay: asyncio.Event | None = None

    async def acquire_permit(self, model: Model) -> ProbePermit | None:
        self.asked += 1
        if self.delay is not None:
            await self.delay.wait()
        if self.gone:
            raise PermitsUnavailable("gone")
        return ProbePermit(f"0.0.{self.asked}", 2e9) if self.grants else None


class Bed:
    """Targets of which no health service has said anything."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.permits = Permits()
        self.targets = Targets(self.clock, Random(1), self.permits)

    async def half_open(self) -> None:
        """Fails until the circuit opens, and waits until it is half-open."""
        # By then nobody was answered so lately that the failures were held back.
        self.clock.advance(CONTRADICTED + 1)
        while not self.targets.health_of(LARGE).reason:
            await self.fail()
        while self.targets.health_of(LARGE).availability is Availability.DOWN:
            self.clock.advance(0.5)
        assert self.targets.health_of(LARGE).availability is Availability.PROBING

    async def succeed(self, latency: float = 0.5, tenant: str = "acme") -> None:
        """One call gave its answer."""
        ticket = await self.targets.begin_call(LARGE, tenant)
        assert ticket is not None
        self.targets.record_success(LARGE, ticket, latency, None, 50, tenant)

    async def fail(self, model: Model = LARGE, tenant: str = "acme") -> None:
        """One did not."""
        ticket = await self.targets.begin_call(model, tenant)
        assert ticket is not None
        self.targets.record_failure(model, ticket, ErrorClass.SERVER_ERROR, None, tenant)


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def test_a_success_between_failures_counts_although_it_waits(bed: Bed) -> None:
    """Three failures in a row open a circuit; with a success among them they are not in a row."""
    await bed.fail()
    await bed.fail()
    await bed.succeed()
    await bed.fail()
    assert bed.targets.health_of(LARGE).availability is Availability.HEALTHY
    for _ in range(3):
        await bed.fail(SMALL)
    assert bed.targets.health_of(SMALL).availability is Availability.DOWN


async def test_latency_and_success_rate_follow_within_a_tenth_of_a_second(bed: Bed) -> None:
    """Planning sees what waited once it counts anew."""
    bed.targets.health_of(LARGE)
    for _ in range(20):
        await bed.succeed(2.0)
    bed.clock.advance(0.11)
    seen = bed.targets.health_of(LARGE)
    assert seen.latency == 2.0
    assert seen.success_rate == 1.0


async def test_no_more_wait_than_are_bounded(bed: Bed) -> None:
    """Memory does not grow while nothing is decided."""
    for _ in range(3 * SUCCESSES):
        await bed.succeed()
    (target,) = [target for target in bed.targets._targets.values() if target.latency is not None]
    assert len(target.uncounted) <= SUCCESSES


def test_a_judgement_is_heard_at_once(bed: Bed) -> None:
    """Although it was judged a moment ago: of the model, and of its provider, and back."""
    assert bed.targets.health_of(LARGE).availability is Availability.HEALTHY
    bed.targets.apply_judgement("acme", "large", Judgement(BreakerState(), degraded_share=0.2))
    assert bed.targets.health_of(LARGE).availability is Availability.DEGRADED
    assert bed.targets.health_of(SMALL).availability is Availability.HEALTHY
    bed.targets.apply_judgement("acme", "", Judgement(BreakerState(), taken_out="maintenance"))
    for model in (LARGE, SMALL):
        seen = bed.targets.health_of(model)
        assert (seen.availability, seen.reason) == (Availability.DOWN, "maintenance")
    bed.targets.apply_judgement("acme", "", Judgement(BreakerState()))
    assert bed.targets.health_of(SMALL).ramp == 1.0
    assert bed.targets.health_of(LARGE).ramp == 0.2


async def test_evidence_is_told_once_and_by_ticket(bed: Bed) -> None:
    """Calls that began under one ticket are one tally, whatever became of them."""
    for latency in (0.5, 1.5):
        await bed.succeed(latency)
    await bed.fail()
    ((provider, model, ticket),) = evidence = bed.targets.take_evidence()
    tally = evidence[provider, model, ticket]
    assert (provider, model, tally.successes, tally.tokens) == ("acme", "large", 2, 100)
    assert (tally.latency_sum, tally.latency_max) == (2.0, 1.5)
    assert tally.failures == {ErrorClass.SERVER_ERROR: 1}
    assert bed.targets.take_evidence() == {}


async def test_failures_and_probes_are_pressing_and_mere_successes_are_not(bed: Bed) -> None:
    """Others act on the first two; the third only says that nothing has changed."""
    assert not bed.targets.has_urgent_evidence
    await bed.succeed()
    assert not bed.targets.has_urgent_evidence
    await bed.fail()
    assert bed.targets.has_urgent_evidence
    bed.targets.take_evidence()
    await bed.half_open()
    bed.targets.take_evidence()
    assert not bed.targets.has_urgent_evidence
    await bed.succeed()
    assert bed.targets.has_urgent_evidence
