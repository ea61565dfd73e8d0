"""Probes of a half-open target: who may make them, with which permit, and what becomes of it."""

from __future__ import annotations

import asyncio

import pytest

from libs.resilience.evidence import BreakerSettings
from libs.types import ErrorClass
from services.router.health.probes import PROBE_INTERVAL, ProbeTurns
from services.router.health.target_health import Availability
from tests.unit.router.health.test_targets import LARGE, Bed

OPEN_SECONDS = BreakerSettings().open_seconds


@pytest.fixture
async def bed() -> Bed:
    """Its large model is half-open."""
    bed = Bed()
    await bed.half_open()
    return bed


async def test_a_lease_taken_before_there_is_work_for_it(bed: Bed) -> None:
    """Named regression: a permit was leased when a call was planned, and expired before there was a call to use it,
    so that at light traffic a target never came back. Looking at the target asks for nothing; the call that begins
    takes the permit, whenever it comes."""
    for _ in range(100):
        assert bed.targets.health_of(LARGE).availability is Availability.PROBING
        bed.clock.advance(35)
    assert bed.permits.asked == 0
    ticket = await bed.targets.begin_call(LARGE, "acme")
    assert ticket is not None
    assert (ticket.permit, bed.permits.asked) == ("0.0.1", 1)
    bed.targets.record_success(LARGE, ticket, 0.5, None, 50, "acme")
    assert bed.targets.health_of(LARGE).availability is Availability.HEALTHY


async def test_one_call_asks_while_others_go_on(bed: Bed) -> None:
    """A thousand callers of one instant are one message to the health service, and one probe."""
    bed.permits.delay = asyncio.Event()
    calls = [asyncio.create_task(bed.targets.begin_call(LARGE, "acme")) for _ in range(1000)]
    await asyncio.sleep(0)
    assert bed.targets.health_of(LARGE).availability is Availability.DOWN
    bed.permits.delay.set()
    tickets = await asyncio.gather(*calls)
    assert sum(ticket is not None for ticket in tickets) == 1
    assert bed.permits.asked == 1
    bed.clock.advance(1.0)
    assert await bed.targets.begin_call(LARGE, "acme") is None


async def test_a_refused_permit_is_asked_for_again_soon(bed: Bed) -> None:
    """Another router probes; until it knows, this one calls others."""
    bed.permits.grants = False
    assert await bed.targets.begin_call(LARGE, "acme") is None
    assert bed.targets.health_of(LARGE).availability is Availability.DOWN
    bed.clock.advance(PROBE_INTERVAL)
    assert bed.targets.health_of(LARGE).availability is Availability.PROBING


@pytest.mark.parametrize("gone", [False, True])
async def test_a_probe_without_a_verdict_lets_the_next_try_at_once(bed: Bed, gone: bool) -> None:
    """Its caller left, or was refused for the rate; with the fleet's permits, and with the router's own."""
    bed.permits.gone = gone
    for error in (ErrorClass.CANCELLED, ErrorClass.RATE_LIMITED, ErrorClass.INVALID_REQUEST):
        ticket = await bed.targets.begin_call(LARGE, "acme")
        assert ticket is not None
        assert ticket.permit
        assert await bed.targets.begin_call(LARGE, "acme") is None
        bed.targets.record_failure(LARGE, ticket, error, None, "acme")
    await bed.succeed()
    assert bed.targets.health_of(LARGE).availability is Availability.HEALTHY


async def test_a_caller_that_leaves_while_the_permit_is_on_its_way_blocks_nobody(bed: Bed) -> None:
    """The next may ask after the usual interval."""
    bed.permits.delay = asyncio.Event()
    call = asyncio.create_task(bed.targets.begin_call(LARGE, "acme"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    bed.permits.delay = None
    bed.clock.advance(PROBE_INTERVAL)
    await bed.succeed()


async def test_a_permit_for_a_circuit_that_opened_again_is_given_back(bed: Bed) -> None:
    """Another router's probe failed while it was on its way: it goes back with the next report."""
    bed.permits.delay = asyncio.Event()
    call = asyncio.create_task(bed.targets.begin_call(LARGE, "acme"))
    await asyncio.sleep(0)
    breaker = bed.targets._target("acme", "large").breaker
    breaker.trip(bed.clock.now(), breaker.state.cause)
    bed.permits.delay.set()
    assert await call is None
    permits = {ticket.permit: tally.failures for (_, _, ticket), tally in bed.targets.take_evidence().items()}
    assert permits["0.0.1"] == {ErrorClass.CANCELLED: 1}


async def test_a_tenant_whose_own_requests_fail_does_not_use_up_the_probes() -> None:
    """Named regression: one tenant made every probe, and each failed for what it sent. Where another is known to be
    answered there, it has the first turn; alone, a tenant never waits."""
    bed = Bed()
    await bed.succeed(tenant="patient")
    await bed.half_open()
    await bed.fail(tenant="poison")
    while bed.targets.health_of(LARGE).availability is Availability.DOWN:
        bed.clock.advance(0.5)
    assert await bed.targets.begin_call(LARGE, "poison") is None
    bed.clock.advance(OPEN_SECONDS / 8)
    assert await bed.targets.begin_call(LARGE, "poison") is None
    await bed.succeed(tenant="patient")
    assert bed.targets.health_of(LARGE).availability is Availability.HEALTHY


async def test_a_turn_that_nobody_takes_passes(bed: Bed) -> None:
    """The other tenant may have gone for good; and where nobody else was ever answered there is no turn."""
    await bed.fail(tenant="poison")
    while bed.targets.health_of(LARGE).availability is Availability.DOWN:
        bed.clock.advance(0.5)
    ticket = await bed.targets.begin_call(LARGE, "poison")
    assert ticket is not None
    bed.targets.record_success(LARGE, ticket, 0.5, None, 50, "patient")
    await bed.half_open()
    await bed.fail(tenant="poison")
    while bed.targets.health_of(LARGE).availability is Availability.DOWN:
        bed.clock.advance(0.5)
    assert await bed.targets.begin_call(LARGE, "poison") is None
    bed.clock.advance(OPEN_SECONDS / 4)
    assert await bed.targets.begin_call(LARGE, "poison") is not None


def test_the_turn_of_others_grows_with_every_probe_that_the_same_tenant_wasted() -> None:
    """So that somebody who calls now and then gets one, and nobody waits for long for somebody who is gone."""
    turns, settings, now, waits = ProbeTurns(), BreakerSettings(), 1_800_000_000.0, []
    for _ in range(5):
        turns.end("poison")
        assert turns.may_ask(now, "patient", now, now, settings)
        waits.append(next(s for s in range(60) if turns.may_ask(now + s, "poison", now, now, settings)))
    assert waits == [3, 6, 12, 24, 24]
    turns.end("patient")
    assert turns.may_ask(now, "poison", now, now, settings)
    assert not turns.may_ask(now, "patient", now, now, settings)
    assert turns.may_ask(now, "patient", now, now - 601, settings)


async def test_a_recovered_target_is_ramped_up_from_the_floor_without_a_word_of_the_service(bed: Bed) -> None:
    """Named regression: until the health service had heard of it, all calls went there at once; and while it said so,
    none did."""
    await bed.succeed()
    seen = []
    for _ in range(11):
        seen.append(bed.targets.health_of(LARGE).ramp)
        bed.clock.advance(1.0)
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(0.1)
    assert seen[5] == pytest.approx(0.55)
    assert seen[10] == 1.0


def test_the_fleets_word_on_whose_probe_failed_is_taken() -> None:
    """A probe without a verdict changes nothing, and neither does a service that was started anew; a success of
    anybody's, which closes the circuit, does."""
    turns, settings, now = ProbeTurns(), BreakerSettings(), 1_800_000_000.0

    def waits(tenant: str) -> bool:
        return not turns.may_ask(now, tenant, now, now, settings)

    turns.learn("poison", 2, closed=False)
    assert (waits("poison"), waits("patient"), turns.times) == (True, False, 2)
    turns.end(None)
    turns.learn("", 0, closed=False)
    assert waits("poison")
    turns.end("poison")
    turns.learn("poison", 2, closed=False)
    assert turns.times == 3
    turns.learn("", 0, closed=True)
    assert not waits("poison")
