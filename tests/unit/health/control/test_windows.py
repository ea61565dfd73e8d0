"""Maintenance windows: when they are in force, and which are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.health.domain.target import Mode, Status, Target
from services.health.domain.window import WEEK, Window, find_overlap
from tests.support.clock import ManualClock
from tests.support.health import FakeHealthStore, Hub, Replica

ACME, LARGE, ZETA = Target("acme"), Target("acme", "large"), Target("zeta")
HOUR = 3600.0
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def replica(clock: ManualClock) -> Replica:
    return Replica(clock, FakeHealthStore(Hub(clock), "a"))


def window(clock: ManualClock, target: Target = ACME, starts: float = HOUR, ends: float = 2 * HOUR) -> Window:
    """A window that begins and ends so many seconds from now."""
    return Window("", target, clock.now() + starts, clock.now() + ends, reason="new racks")


async def test_a_window_drains_takes_out_and_ends(replica: Replica, clock: ManualClock) -> None:
    """By the clock alone."""
    await replica.windows.add(replace(window(clock), drain=600.0), "ann")
    for seconds, mode in ((HOUR - 601, Mode.AUTOMATIC), (2, Mode.DRAIN), (600, Mode.MAINTENANCE)):
        clock.advance(seconds)
        assert replica.state("acme").mode is mode
    assert replica.state("acme").status is Status.MAINTENANCE
    assert replica.state("acme").reason == "maintenance by a window: new racks"
    assert replica.state("acme", "large").mode is Mode.AUTOMATIC
    clock.advance(HOUR)
    assert replica.state("acme").mode is Mode.AUTOMATIC
    assert replica.windows.list() == ()


async def test_a_window_of_a_model_is_its_own(replica: Replica, clock: ManualClock) -> None:
    """Others of the provider are called; a person's word stands above it."""
    await replica.windows.add(window(clock, LARGE, -1.0), "ann")
    assert replica.state("acme", "large").mode is Mode.MAINTENANCE
    assert replica.state("acme", "small").mode is Mode.AUTOMATIC
    await replica.set_mode(LARGE, Mode.BLOCKED)
    assert replica.state("acme", "large").mode is Mode.BLOCKED


def test_a_weekly_window_keeps_the_clocks_time() -> None:
    """In summer as in winter, though the instants differ by an hour; it lasts as long."""
    begin = datetime(2027, 3, 22, 2, 30, tzinfo=BERLIN)  # summer time begins on the 28th
    weekly = Window(
        "w", ACME, begin.timestamp(), begin.timestamp() + HOUR, "Europe/Berlin", 600.0, weekly=True
    )
    for week in range(60):
        local = datetime(2027, 3, 22, 2, 30, tzinfo=UTC).timestamp() + week * WEEK
        naive = datetime.fromtimestamp(local, UTC).replace(tzinfo=BERLIN).timestamp()
        assert weekly.mode_at(naive - 601) is None
        assert weekly.mode_at(naive - 600) is Mode.DRAIN
        assert weekly.mode_at(naive) is Mode.MAINTENANCE
        assert weekly.mode_at(naive + HOUR - 1) is Mode.MAINTENANCE
        assert weekly.mode_at(naive + HOUR) is None
    assert weekly.mode_at(begin.timestamp() - WEEK) is None


@given(
    starts=st.floats(0, 3 * WEEK),
    length=st.floats(60, WEEK / 2),
    drain=st.floats(0, 3600),
    weekly=st.booleans(),
    now=st.floats(0, 6 * WEEK),
)
def test_the_mode_follows_from_the_occurrences(
    starts: float, length: float, drain: float, weekly: bool, now: float
) -> None:
    """In UTC, where a week is a week."""
    one = Window("w", ACME, starts, starts + length, "UTC", drain, weekly)
    since = (now - starts) % WEEK if weekly and now >= starts else now - starts
    ahead = starts - now if now < starts or not weekly else WEEK - since
    due = (now < starts or weekly) and 0 < ahead <= drain
    expected = Mode.MAINTENANCE if 0 <= since < length else Mode.DRAIN if due else None
    if min(abs(since - length), abs(since), abs(ahead), abs(ahead - drain)) > 1e-3:
        assert one.mode_at(now) is expected


async def test_wrong_windows_are_refused_by_their_fields(replica: Replica, clock: ManualClock) -> None:
    """Reversed, in the past, too long, too far, of no zone; of nobody."""
    good = window(clock)
    for wrong, field in (
        (replace(good, ends=good.starts), "ends"),
        (replace(good, ends=good.starts - 1), "ends"),
        (window(clock, starts=-2 * HOUR, ends=-HOUR), "ends"),
        (replace(good, ends=good.starts + 32 * 86_400), "ends"),
        (replace(good, ends=good.starts + 6.5 * 86_400, weekly=True), "ends"),
        (window(clock, starts=400 * 86_400, ends=400 * 86_400 + 60), "starts"),
        (replace(good, drain=-1.0), "drain"),
        (replace(good, drain=90_000.0), "drain"),
        (replace(good, zone="Middle/Earth"), "time_zone"),
        (replace(good, reason=""), "reason"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await replica.windows.add(wrong, "ann")
        assert [v.field for v in refused.value.violations] == [field]
    with pytest.raises(NotFound):
        await replica.windows.add(replace(good, target=Target("nobody")), "ann")
    assert replica.windows.list() == ()


async def test_overlapping_windows_are_refused_wherever_they_are_added(clock: ManualClock) -> None:
    """Of a provider and its model too, drains included; others' are not in the way."""
    hub = Hub(clock)
    a, b = (Replica(clock, FakeHealthStore(hub, name), name=name) for name in "ab")
    first, _ = await a.windows.add(window(clock), "ann")
    for other in (
        window(clock, ACME, 1.5 * HOUR, 3 * HOUR),
        window(clock, LARGE, 0.0, 1.1 * HOUR),
        replace(window(clock, ACME, 2 * HOUR + 60, 3 * HOUR), drain=61.0),
        replace(window(clock, ACME, HOUR - WEEK, 1.5 * HOUR - WEEK), weekly=True),
    ):
        with pytest.raises(AlreadyExists) as refused:
            await b.windows.add(other, "bob")
        assert refused.value.metadata == {"window_id": first.window_id}
    await b.windows.add(window(clock, ACME, 2 * HOUR, 3 * HOUR), "bob")
    await b.windows.add(window(clock, ZETA), "bob")
    assert len(b.windows.list()) == 3
    assert len(b.windows.list("zeta")) == 1


def test_weekly_windows_of_two_zones_overlap_where_summer_time_makes_them() -> None:
    """Half a year ahead."""
    winter = datetime(2027, 1, 4, 2, 0, tzinfo=BERLIN).timestamp()
    berlin = Window("b", ACME, winter, winter + HOUR, "Europe/Berlin", weekly=True)
    utc = replace(berlin, window_id="u", starts=winter - HOUR, ends=winter, zone="UTC")
    later = replace(utc, starts=winter + HOUR, ends=winter + 2 * HOUR)
    assert find_overlap(utc, [berlin], winter - 86_400) == berlin
    assert find_overlap(later, [berlin], winter - 86_400) is None


async def test_a_window_is_removed_and_that_is_undone(replica: Replica, clock: ManualClock) -> None:
    """One in force ends; what is no window is told."""
    added, _ = await replica.windows.add(window(clock, starts=-1.0), "ann")
    assert replica.state("acme").mode is Mode.MAINTENANCE
    change = await replica.windows.remove(added.window_id, "bob", "done early")
    assert replica.state("acme").mode is Mode.AUTOMATIC
    with pytest.raises(NotFound):
        await replica.windows.remove(added.window_id, "bob", "again")
    await replica.operators.undo(change.change_id, "ann", "not done")
    assert replica.windows.list() == (added,)


async def test_windows_of_a_provider_are_bounded(replica: Replica, clock: ManualClock) -> None:
    """Those that are over make room."""
    for number in range(50):
        await replica.windows.add(window(clock, starts=number * 60, ends=number * 60 + 60), "ann")
    with pytest.raises(FailedPrecondition):
        await replica.windows.add(window(clock, starts=HOUR, ends=2 * HOUR), "ann")
    clock.advance(61)
    await replica.windows.add(window(clock, starts=HOUR, ends=2 * HOUR), "ann")
