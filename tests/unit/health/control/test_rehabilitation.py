"""Rehabilitation in steps: the evidence that is asked, and who takes them."""

from __future__ import annotations

from math import comb
from random import Random

import pytest

from libs.types import ErrorClass
from services.health.domain.rehabilitation import (
    FALSE_PASS,
    LEAST_CALLS,
    STEPS,
    SUCCESS_RATE,
    Trial,
    has_proved_itself,
    next_setting,
)
from services.health.domain.setting import ModeSetting
from services.health.domain.target import Mode, Status, Target
from tests.support.clock import ManualClock
from tests.support.health import FakeHealthStore, Hub, Replica

ACME = Target("acme")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def replica(clock: ManualClock) -> Replica:
    return Replica(clock, FakeHealthStore(Hub(clock), "a"))


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    """29 calls without a failure are enough and 28 are not; with failures as the exact binomial sum says."""
    assert has_proved_itself(0, LEAST_CALLS)
    assert not has_proved_itself(0, LEAST_CALLS - 1)
    for calls in (30, 60, 200, 900):
        for failures in range(calls // 8):
            chance = sum(
                comb(calls, k) * (1 - SUCCESS_RATE) ** k * SUCCESS_RATE ** (calls - k)
                for k in range(failures + 1)
            )
            assert has_proved_itself(failures, calls) == (chance <= FALSE_PASS)
    assert has_proved_itself(50_000, 1_000_000)


def test_a_target_that_is_too_bad_seldom_passes_a_step() -> None:
    """Looked at once, at any number of calls: at most one in twenty at the rate that is asked."""
    rng = Random(7)
    calls = 120
    passed = sum(
        has_proved_itself(sum(rng.random() < 1 - SUCCESS_RATE for _ in range(calls)), calls)
        for _ in range(4000)
    )
    assert passed / 4000 <= FALSE_PASS


def test_each_step_follows_from_the_calls_of_the_one_before() -> None:
    """5, 25, 50, 100 %, then the evidence decides; too many failures block it again, few calls say nothing."""
    setting = ModeSetting(Mode.REHABILITATING, STEPS[0])
    for share in STEPS[1:]:
        following = next_setting(setting, Trial(1, 0, LEAST_CALLS))
        assert following == ModeSetting(Mode.REHABILITATING, share)
        setting = following
    assert next_setting(setting, Trial(1, 0, LEAST_CALLS)) == ModeSetting(Mode.AUTOMATIC)
    assert next_setting(setting, Trial(1, 10, 12)) == ModeSetting(Mode.BLOCKED)
    assert next_setting(setting, Trial(1, 1, 20)) is None


async def test_a_blocked_provider_comes_back_in_steps(replica: Replica) -> None:
    """By rule; each step is a change with the evidence as its reason."""
    await replica.set_mode(ACME, Mode.BLOCKED, "bad key")
    state, _ = await replica.set_mode(ACME, Mode.REHABILITATING, "new key", share=STEPS[0])
    for share in STEPS:
        state = replica.state("acme")
        assert (state.status, state.mode, state.ramp) == (Status.RECOVERING, Mode.REHABILITATING, share)
        await replica.rehabilitation.look()
        assert replica.state("acme") == state
        replica.succeed("acme", "large", 20)
        replica.succeed("acme", "small", 9)
        await replica.rehabilitation.look()
    assert replica.state("acme").mode is Mode.AUTOMATIC
    (change,) = [c for c in replica.fleet.controls.changes if c.name == "acme"]
    assert (change.author, change.version) == ("rule:rehabilitation", 6)
    assert "0 of 29 calls failed" in change.reason


async def test_one_that_fails_is_blocked_again(replica: Replica) -> None:
    """A refused key counts; a rate limit and the caller's own mistakes do not."""
    await replica.set_mode(ACME, Mode.REHABILITATING, share=STEPS[0])
    for error in (ErrorClass.RATE_LIMITED, ErrorClass.INVALID_REQUEST, ErrorClass.CANCELLED):
        replica.fail("acme", "large", 50, error)
    await replica.rehabilitation.look()
    assert replica.state("acme").mode is Mode.REHABILITATING
    replica.fail("acme", "large", 5, ErrorClass.AUTHENTICATION)
    await replica.rehabilitation.look()
    assert replica.state("acme").mode is Mode.BLOCKED
    assert "5 of 5 calls failed, which is too many" in replica.state("acme").reason


async def test_a_step_by_hand_is_a_persons(replica: Replica) -> None:
    """The rule leaves it alone."""
    await replica.set_mode(ACME, Mode.REHABILITATING, share=STEPS[0], by_hand=True)
    replica.succeed("acme", "large", 100)
    await replica.rehabilitation.look()
    assert replica.state("acme").ramp == STEPS[0]
    await replica.set_mode(ACME, Mode.REHABILITATING, share=STEPS[1], by_hand=True)
    assert replica.state("acme").ramp == STEPS[1]


async def test_one_replica_takes_a_step_for_all(clock: ManualClock) -> None:
    """Both have the evidence; the step is taken once."""
    hub = Hub(clock)
    a, b = (Replica(clock, FakeHealthStore(hub, name), name=name) for name in "ab")
    await a.set_mode(ACME, Mode.REHABILITATING, share=STEPS[0])
    await b.sharer.exchange()
    a.succeed("acme", "large", 29)
    for replica in (a, b):
        await replica.sharer.exchange()
    for replica in (b, a, b):
        await replica.rehabilitation.look()
        await replica.sharer.exchange()
    assert {replica.state("acme").ramp for replica in (a, b)} == {STEPS[1]}
    assert a.fleet.controls.standing(("mode", "acme")) == b.fleet.controls.standing(("mode", "acme"))


async def test_calls_of_an_earlier_step_do_not_count(replica: Replica) -> None:
    """Nor those from before it was blocked."""
    replica.succeed("acme", "large", 100)
    await replica.set_mode(ACME, Mode.REHABILITATING, share=STEPS[0])
    await replica.rehabilitation.look()
    assert replica.state("acme").ramp == STEPS[0]
