"""Changes of operators: made one after another, shared, kept in the history, taken back."""

from __future__ import annotations

import pytest

from libs.change import Change
from libs.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from libs.resilience.circuit import CircuitState, TripCause
from services.health.domain.target import Mode, Status, Target
from services.health.judge import MAX_UNRECORDED
from tests.support.clock import ManualClock
from tests.support.health import FakeChangeLog, FakeHealthStore, Hub, Replica

ACME, LARGE = Target("acme"), Target("acme", "large")


class Bed:
    """Replicas on one store and one history."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.hub = Hub(self.clock)
        self.log = FakeChangeLog()
        self.a, self.b = self.replica("a"), self.replica("b")

    def replica(self, name: str) -> Replica:
        return Replica(self.clock, FakeHealthStore(self.hub, name), name=name, history=self.log)

    async def share(self) -> None:
        for replica in (self.a, self.b, self.a):
            await replica.sharer.exchange()

    def lose_store(self) -> None:
        """As an empty Valkey in place of the old one."""
        self.hub.changes.clear()
        self.hub.unrecorded.clear()
        self.hub.circuits.clear()


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def test_a_change_says_who_why_before_and_after(bed: Bed) -> None:
    """And so it arrives in the history."""
    _, first = await bed.a.set_mode(ACME, Mode.DRAIN, "moving")
    bed.clock.advance(5)
    _, second = await bed.b.set_mode(ACME, Mode.BLOCKED, "moved")
    assert (second.author, second.reason, second.at) == ("ann", "moved", round(bed.clock.now(), 6))
    assert (second.before, second.after) == (first.after, '{"mode":"blocked"}')
    assert (first.version, second.version, first.before) == (1, 2, "")
    await bed.b.history.send()
    assert await bed.log.standing() == [second]


async def test_of_two_people_at_one_version_the_second_is_told(bed: Bed) -> None:
    """Whichever replica they speak to; the state stays the first one's, and a version of another life is none."""
    await bed.a.set_mode(ACME, Mode.DRAIN, version=0)
    for version in (0, 7):
        with pytest.raises(Aborted) as told:
            await bed.b.set_mode(ACME, Mode.BLOCKED, version=version)
        assert (told.value.reason, told.value.metadata["version"]) == ("VERSION_MISMATCH", "1")
    await bed.share()
    assert {bed.a.state("acme").mode, bed.b.state("acme").mode} == {Mode.DRAIN}
    assert len(bed.hub.unrecorded) == 1


async def test_a_change_follows_one_that_it_has_not_heard_of(bed: Bed) -> None:
    """Without a version the later word stands, and says what it replaced."""
    await bed.b.sharer.exchange()
    _, first = await bed.a.set_mode(ACME, Mode.DRAIN)
    _, second = await bed.b.set_mode(ACME, Mode.BLOCKED)
    assert (second.version, second.before) == (2, first.after)


async def test_wrong_changes_change_nothing(bed: Bed) -> None:
    """Unknown targets, no reason, a share that is no step."""
    for target in (Target("nobody"), Target("acme", "nothing")):
        with pytest.raises(NotFound):
            await bed.a.set_mode(target, Mode.DRAIN)
    with pytest.raises(InvalidArgument):
        await bed.a.set_mode(ACME, Mode.DRAIN, " ")
    with pytest.raises(InvalidArgument):
        await bed.a.set_mode(ACME, Mode.REHABILITATING, share=0.3)
    assert (list(bed.a.fleet.controls.changes), bed.hub.changes, bed.hub.unrecorded) == ([], {}, {})


async def test_undo_restores_what_was_and_is_a_change(bed: Bed) -> None:
    """From any replica; undone twice it is as it was."""
    await bed.a.set_mode(ACME, Mode.DRAIN, "moving")
    _, blocked = await bed.a.set_mode(ACME, Mode.BLOCKED, "bad")
    undone = await bed.b.operators.undo(blocked.change_id, "bob", "was right")
    assert (undone.undoes, undone.before, undone.after) == (blocked.change_id, blocked.after, blocked.before)
    assert bed.b.state("acme").mode is Mode.DRAIN
    await bed.b.operators.undo(undone.change_id, "bob", "was wrong")
    await bed.share()
    assert {bed.a.state("acme").mode, bed.b.state("acme").mode} == {Mode.BLOCKED}


async def test_undo_of_the_first_change_leaves_the_evidence_to_decide(bed: Bed) -> None:
    """Its mode is AUTOMATIC, and evidence is not forgotten."""
    bed.a.fail("acme", "large")
    _, change = await bed.a.set_mode(LARGE, Mode.BLOCKED)
    await bed.a.operators.undo(change.change_id, "ann", "too hasty")
    assert (bed.a.state("acme", "large").mode, bed.a.state("acme", "large").status) == (
        Mode.AUTOMATIC,
        Status.DOWN,
    )


async def test_what_was_changed_since_is_not_undone(bed: Bed) -> None:
    """Nor what never was; nobody says either while that cannot be known."""
    _, first = await bed.a.set_mode(ACME, Mode.DRAIN)
    _, second = await bed.a.set_mode(ACME, Mode.BLOCKED)
    await bed.a.history.send()
    with pytest.raises(FailedPrecondition) as since:
        await bed.b.operators.undo(first.change_id, "bob", "x")
    assert (since.value.reason, since.value.metadata) == ("CHANGED_SINCE", {"change_id": second.change_id})
    with pytest.raises(NotFound) as unknown:
        await bed.b.operators.undo("t0", "bob", "x")
    assert unknown.value.reason == "CHANGE_NOT_FOUND"
    bed.log.down = True
    with pytest.raises(Unavailable):
        await bed.b.operators.undo("t0", "bob", "x")
    assert bed.b.state("acme").mode is Mode.BLOCKED


async def test_a_change_that_is_kept_elsewhere_is_not_undone_here(bed: Bed) -> None:
    """Said so, rather than that there is none."""
    bed.log.kept["l1"] = Change("l1", "limit", "tenant:a", 1, bed.clock.now(), "ann", "x", "", "{}")
    with pytest.raises(FailedPrecondition) as refused:
        await bed.a.operators.undo("l1", "bob", "x")
    assert refused.value.reason == "CHANGE_NOT_UNDOABLE"


async def test_the_history_gone_changes_wait_and_arrive_once(bed: Bed) -> None:
    """Whoever made them may be dead by then."""
    bed.log.down = True
    _, change = await bed.a.set_mode(ACME, Mode.BLOCKED)
    with pytest.raises(Unavailable):
        await bed.a.history.send()
    late = bed.replica("late")
    await late.sharer.exchange()
    bed.log.down = False
    await late.history.send()
    await bed.a.history.send()
    assert bed.log.kept == {change.change_id: change}
    await bed.share()
    assert (bed.hub.unrecorded, late.judge.unrecorded) == ({}, {})


async def test_an_empty_store_is_told_again_by_whoever_lives(bed: Bed) -> None:
    """Waiting changes too."""
    bed.log.down = True
    _, change = await bed.a.set_mode(ACME, Mode.BLOCKED)
    bed.lose_store()
    bed.hub.down = True
    await bed.a.sharer.exchange()
    bed.hub.down = False
    await bed.a.sharer.exchange()
    assert bed.hub.changes == {change.thing: change}


async def test_store_and_replicas_lost_the_history_says_what_stands(bed: Bed) -> None:
    """Modes, windows and failovers; a new replica obeys before its first call."""
    await bed.a.set_mode(ACME, Mode.BLOCKED, "bad key")
    await bed.a.fail_over(Target("zeta"), "region", 600.0)
    await bed.a.fail_over(Target("zeta", "one"), "slow", 600.0, tenants=("north",))
    await bed.a.history.send()
    before = {state.target: state for state in bed.a.fleet.states(bed.clock.now())}
    bed.lose_store()
    fresh = bed.replica("fresh")
    await fresh.sharer.exchange()
    await fresh.history.start(1.0)
    for state in fresh.fleet.states(bed.clock.now()):
        assert (state.mode, state.failovers, state.mode_version) == (
            before[state.target].mode,
            before[state.target].failovers,
            before[state.target].mode_version,
        )
    assert fresh.state("zeta").circuit.cause is TripCause.OPERATOR
    await fresh.sharer.exchange()
    assert len(bed.hub.changes) == 3


async def test_a_history_that_lost_its_data_is_told_what_stands(bed: Bed) -> None:
    """At the next comparison."""
    await bed.a.set_mode(ACME, Mode.DRAIN)
    _, change = await bed.a.set_mode(ACME, Mode.BLOCKED)
    await bed.a.history.send()
    bed.log.kept.clear()
    await bed.a.history.compare()
    await bed.a.history.send()
    assert bed.log.kept == {change.change_id: change}


async def test_a_start_does_not_wait_for_the_history(bed: Bed) -> None:
    """Nor fail for it."""
    bed.log.down = True
    await bed.a.history.start(1.0)


async def test_changes_apart_merge_to_one(bed: Bed) -> None:
    """Both made while the store was gone: the later stands on both, and both are in the history."""
    bed.hub.down = True
    await bed.a.set_mode(ACME, Mode.DRAIN)
    bed.clock.advance(1)
    await bed.b.set_mode(ACME, Mode.BLOCKED)
    bed.hub.down = False
    await bed.share()
    await bed.b.sharer.exchange()
    assert {bed.a.state("acme").mode, bed.b.state("acme").mode} == {Mode.BLOCKED}
    await bed.a.history.send()
    assert len(bed.log.kept) == 2


async def test_waiting_changes_are_bounded(bed: Bed) -> None:
    """The oldest is given up."""
    bed.log.down = True
    for _ in range(MAX_UNRECORDED + 2):
        bed.clock.advance(0.1)
        await bed.a.set_mode(ACME, Mode.DRAIN)
    assert len(bed.a.judge.unrecorded) == MAX_UNRECORDED
    assert min(change.version for change in bed.a.judge.unrecorded.values()) == 3


async def test_a_failover_is_undone_and_ended_by_hand(bed: Bed) -> None:
    """Its circuit closes on every replica, by undo or by AUTOMATIC, and does not open again."""
    for end in ("undo", "restore"):
        _, change = await bed.a.fail_over(ACME, "region trouble", 600.0)
        await bed.share()
        assert bed.b.state("acme").circuit.state is CircuitState.OPEN
        assert "region trouble" in bed.b.state("acme").reason
        if end == "undo":
            await bed.b.operators.undo(change.change_id, "bob", "over")
        else:
            await bed.b.set_mode(ACME, Mode.AUTOMATIC)
        await bed.share()
        fresh = bed.replica(end)
        await fresh.sharer.exchange()
        circuits = {replica.state("acme").circuit for replica in (bed.a, bed.b, fresh)}
        assert len(circuits) == 1
        assert circuits.pop().state is CircuitState.CLOSED


async def test_a_failover_of_some_leaves_the_circuit_and_ends_by_itself(bed: Bed) -> None:
    """It is shown with its scope and its end."""
    state, _ = await bed.a.fail_over(
        ACME, "contract", 60.0, Target("zeta"), tenants=("north",), content_types=("general",)
    )
    assert state.circuit.state is CircuitState.CLOSED
    (failover,) = state.failovers
    assert (failover.to, failover.tenants, failover.content_types) == (
        Target("zeta"),
        ("north",),
        ("general",),
    )
    assert failover.until == pytest.approx(bed.clock.now() + 60.0)
    assert "contract" in state.reason
    bed.clock.advance(60.1)
    assert bed.a.state("acme").failovers == ()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"to": Target("nobody")}, NotFound),
        ({"to": Target("zeta", "nothing")}, NotFound),
        ({"to": ACME}, InvalidArgument),
        ({"to": LARGE}, InvalidArgument),
        ({"tenants": ("nobody",)}, NotFound),
        ({"content_types": ("poem",)}, NotFound),
    ],
)
async def test_a_failover_to_or_of_nobody_is_refused(
    bed: Bed, more: dict[str, object], error: type[Exception]
) -> None:
    """Nothing has happened."""
    with pytest.raises(error):
        await bed.a.fail_over(ACME, "x", 60.0, **more)  # type: ignore[arg-type]
    assert bed.a.state("acme").failovers == ()
    assert not bed.hub.changes


async def test_failovers_from_one_target_are_bounded(bed: Bed) -> None:
    """Those that have ended do not count."""
    for _ in range(20):
        await bed.a.fail_over(ACME, "x", 60.0, tenants=("north",))
    with pytest.raises(FailedPrecondition):
        await bed.a.fail_over(ACME, "x", 60.0, tenants=("north",))
    bed.clock.advance(61)
    await bed.a.fail_over(ACME, "x", 60.0, tenants=("north",))
    assert len(bed.a.state("acme").failovers) == 1
