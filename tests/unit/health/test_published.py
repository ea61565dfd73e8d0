"""The published picture and those who watch it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.resilience.circuit import BreakerState
from libs.telemetry import Metrics
from services.health.domain.published import PublishedStates, Update
from services.health.domain.target import Mode, Status, Target, TargetState
from services.health.watch import Publisher


def state(name: str, calls: int = 0, status: Status = Status.HEALTHY) -> TargetState:
    return TargetState(Target(name), status, BreakerState(), Mode.AUTOMATIC, "", 1.0, calls=calls)


def test_a_watcher_is_told_only_what_changed() -> None:
    """A snapshot first; then the changed targets; then nothing."""
    published = PublishedStates("e")
    published.publish([state("a"), state("b")], all_changes=True)
    first = published.since("", 0)
    assert first == Update("e", 1, True, (state("a"), state("b")))
    published.publish([state("a"), state("b", status=Status.DOWN)], all_changes=False)
    assert published.since("e", 1) == Update("e", 2, False, (state("b", status=Status.DOWN),))
    assert published.since("e", 2) == Update("e", 2, False)


def test_figures_alone_do_not_make_a_version_until_asked() -> None:
    """A call count is not worth a message of its own; a change of status is."""
    published = PublishedStates("e")
    published.publish([state("a")], all_changes=True)
    assert not published.publish([state("a", calls=5)], all_changes=False)
    assert published.publish([state("a", calls=5)], all_changes=True)
    assert not published.publish([state("a", calls=5)], all_changes=True)


@pytest.mark.parametrize(("epoch", "version"), [("", 0), ("other", 3), ("e", 99), ("e", -1)])
def test_what_cannot_be_resumed_gets_a_snapshot(epoch: str, version: int) -> None:
    """Another replica's epoch, a restart, or a version that never was."""
    published = PublishedStates("e")
    published.publish([state("a")], all_changes=True)
    assert published.since(epoch, version) == Update("e", 1, True, (state("a"),))


def test_a_removed_target_needs_a_snapshot() -> None:
    """A delta cannot say that something is gone."""
    published = PublishedStates("e")
    published.publish([state("a"), state("b")], all_changes=True)
    published.remove([Target("b"), Target("never was")])
    assert published.since("e", 1) == Update("e", 2, True, (state("a"),))
    assert published.since("e", 2) == Update("e", 2, False)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.integers(0, 2)),
            st.tuples(st.just("look"), st.integers(0, 2)),
            st.tuples(st.just("remove"), st.sampled_from("abcd")),
        ),
        max_size=60,
    )
)
def test_every_watcher_ends_with_the_whole_picture(steps: list[tuple[str, int | str]]) -> None:
    """Three watchers ask whenever they like; applying what they get always gives the published states."""
    published = PublishedStates("e")
    seen: list[tuple[str, int]] = [("", 0)] * 3
    pictures: list[dict[Target, TargetState]] = [{}, {}, {}]

    def look(index: int) -> None:
        update = published.since(*seen[index])
        if update.snapshot:
            pictures[index] = {}
        pictures[index].update({s.target: s for s in update.states})
        assert update.version >= seen[index][1]
        seen[index] = (update.epoch, update.version)

    for what, value in steps:
        if what == "look":
            look(int(value))
        elif what == "remove":
            published.remove([Target(str(value))])
        else:
            published.publish([state(what, calls=int(value))], all_changes=True)
    for index in range(3):
        look(index)
        assert pictures[index] == dict(published.states)


async def test_a_slow_watcher_costs_nothing_and_catches_up_in_one_update() -> None:
    """Ten thousand changes while it does not listen are one update of the targets as they are now."""
    publisher = Publisher(PublishedStates("e"), Metrics())
    publisher.publish([state("a"), state("b")], all_changes=True)
    updates = publisher.updates("", 0, heartbeat=30.0)
    assert (await anext(updates)).snapshot
    for calls in range(10_000):
        publisher.publish([state("a", calls=calls + 1)], all_changes=True)
    update = await anext(updates)
    assert update == Update("e", 10_001, False, (state("a", calls=10_000),))
    await updates.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_hears_at_once_and_otherwise_a_heartbeat() -> None:
    """A change wakes it without waiting for the heartbeat; silence gives an empty update of the same version."""
    publisher = Publisher(PublishedStates("e"), Metrics())
    publisher.publish([state("a")], all_changes=True)
    quiet = publisher.updates("e", 1, heartbeat=0.01)
    assert await anext(quiet) == Update("e", 1, False)
    assert await anext(quiet) == Update("e", 1, False)
    await quiet.aclose()  # type: ignore[attr-defined]
    eager = publisher.updates("e", 1, heartbeat=3600.0)
    await anext(eager)
    waiting = asyncio.ensure_future(anext(eager))
    await asyncio.sleep(0)
    publisher.publish([replace(state("a"), status=Status.DOWN)], all_changes=False)
    assert (await waiting).states[0].status is Status.DOWN
    await eager.aclose()  # type: ignore[attr-defined]
