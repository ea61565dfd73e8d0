"""Blacklisting by rule: what is blocked, for what reason, and the way back."""

from __future__ import annotations

import pytest

from libs.types import ErrorClass
from services.health.domain.blacklist import LEAST_REFUSALS, SPAN
from services.health.domain.evidence import ProbeResult
from services.health.domain.rehabilitation import STEPS
from services.health.domain.target import Mode, Target
from tests.support.clock import ManualClock
from tests.support.health import FakeHealthStore, Hub, Replica

ACME, LARGE = Target("acme"), Target("acme", "large")
REFUSED, SPENT, GONE = ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED, ErrorClass.MODEL_NOT_FOUND


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def replica(clock: ManualClock) -> Replica:
    return Replica(clock, FakeHealthStore(Hub(clock), "a"))


async def refuse(
    replica: Replica, clock: ManualClock, error: ErrorClass, times: int = LEAST_REFUSALS
) -> None:
    """Refusals over the whole span."""
    for number in range(times):
        if number:
            clock.advance(SPAN / (times - 1))
        replica.fail("acme", "large", 1, error)
    await replica.blacklist.look()


@pytest.mark.parametrize(
    ("error", "target", "words"),
    [
        (REFUSED, ACME, "its key was refused 5 times in 10 minutes"),
        (SPENT, ACME, "our quota there was spent 5 times"),
        (GONE, LARGE, "it does not know the model 5 times"),
    ],
)
async def test_what_is_refused_for_long_is_blocked(
    replica: Replica, clock: ManualClock, error: ErrorClass, target: Target, words: str
) -> None:
    """With the reason, in the name of the rule; a key and a quota are of the provider, a name of the model."""
    await refuse(replica, clock, error)
    blocked = [t for t in replica.fleet.targets if replica.judge.state(t).mode is Mode.BLOCKED]
    assert blocked == [target]
    assert words in replica.judge.state(target).reason
    change = replica.fleet.controls.standing(("mode", str(target)))
    assert change is not None
    assert change.author == "rule:blacklist"


async def test_what_is_answered_now_and_then_is_not(replica: Replica, clock: ManualClock) -> None:
    """Nor what was refused a few times, or for a few minutes, or as it should be."""
    await refuse(replica, clock, REFUSED, LEAST_REFUSALS - 1)
    replica.succeed("acme", "small")
    await refuse(replica, clock, REFUSED, LEAST_REFUSALS - 1)
    replica.succeed("acme", "small")
    replica.fail("acme", "large", 500, REFUSED)
    await replica.blacklist.look()
    replica.succeed("acme", "large")
    await refuse(replica, clock, ErrorClass.INVALID_REQUEST)
    await refuse(replica, clock, ErrorClass.CONTENT_REFUSED)
    assert replica.state("acme").mode is Mode.AUTOMATIC
    assert replica.state("acme", "large").mode is Mode.AUTOMATIC


async def test_a_key_that_the_free_endpoint_accepts_is_not_blamed(
    replica: Replica, clock: ManualClock
) -> None:
    """Somebody's requests may provoke such words; a quota is not disproved by it."""
    for error, mode in ((REFUSED, Mode.AUTOMATIC), (SPENT, Mode.BLOCKED)):
        replica.succeed("acme", "large")
        replica.fail("acme", "large", 1, error)
        replica.judge.record_probe(ProbeResult("acme", 0.1))
        await refuse(replica, clock, error)
        assert replica.state("acme").mode is mode


async def test_one_that_a_person_restored_has_ten_minutes(clock: ManualClock) -> None:
    """The refusals of before count no more, on whatever replica."""
    hub = Hub(clock)
    a, b = (Replica(clock, FakeHealthStore(hub, name), name=name) for name in "ab")
    for _ in range(6):
        a.fail("acme", "large", 1, REFUSED)
        for each in (a, b):
            await each.sharer.exchange()
        clock.advance(SPAN / 5)
    await a.blacklist.look()
    await a.set_mode(ACME, Mode.AUTOMATIC)
    for each in (b, a):
        await each.sharer.exchange()
        await each.blacklist.look()
    assert {each.state("acme").mode for each in (a, b)} == {Mode.AUTOMATIC}


async def test_a_persons_word_stands(replica: Replica, clock: ManualClock) -> None:
    """A drain stays a drain, and a person's block has no way back by rule."""
    await replica.set_mode(ACME, Mode.DRAIN)
    await refuse(replica, clock, REFUSED)
    assert replica.state("acme").mode is Mode.DRAIN
    await replica.set_mode(ACME, Mode.BLOCKED)
    clock.advance(100 * 86_400)
    replica.judge.record_probe(ProbeResult("acme", 0.1))
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.BLOCKED


async def test_a_key_that_is_accepted_again_brings_it_back_in_steps(
    replica: Replica, clock: ManualClock
) -> None:
    """Not at once, and not for a probe from before; it is probed for that. Still refused, it is blocked for the same
    cause again, and so may come back again."""
    replica.judge.record_probe(ProbeResult("acme", 0.1))
    clock.advance(1)
    await refuse(replica, clock, REFUSED)
    clock.advance(601)
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.BLOCKED
    await replica.prober.probe_due()
    assert "acme" in replica.endpoints.asked
    await replica.blacklist.look()
    state = replica.state("acme")
    assert (state.mode, state.ramp) == (Mode.REHABILITATING, STEPS[0])
    replica.fail("acme", "large", 5, REFUSED)
    await replica.rehabilitation.look()
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.BLOCKED
    clock.advance(601)
    replica.judge.record_probe(ProbeResult("acme", 0.1))
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.REHABILITATING


async def test_a_quota_is_tried_again_after_a_day(replica: Replica, clock: ManualClock) -> None:
    """Whatever the free endpoint says; and by a person at any time."""
    await refuse(replica, clock, SPENT)
    clock.advance(86_000)
    replica.judge.record_probe(ProbeResult("acme", 0.1))
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.BLOCKED
    clock.advance(401)
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.REHABILITATING
    await replica.set_mode(ACME, Mode.AUTOMATIC)
    await replica.blacklist.look()
    assert replica.state("acme").mode is Mode.AUTOMATIC


async def test_one_replica_blocks_for_all(clock: ManualClock) -> None:
    """On evidence that came to several."""
    hub = Hub(clock)
    a, b = (Replica(clock, FakeHealthStore(hub, name), name=name) for name in "ab")
    for number in range(6):
        (a, b)[number % 2].fail("acme", "large", 1, REFUSED)
        for replica in (a, b, a):
            await replica.sharer.exchange()
        clock.advance(SPAN / 5)
    for replica in (a, b):
        await replica.blacklist.look()
    for replica in (a, b):
        await replica.sharer.exchange()
    assert {replica.state("acme").mode for replica in (a, b)} == {Mode.BLOCKED}
    assert a.fleet.controls.standing(("mode", "acme")) == b.fleet.controls.standing(("mode", "acme"))
    assert b.state("acme").mode_version == 1
