"""The pieces of an answer cover its range once, with the widest rows that fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.reports.query import Interval, Query
from services.analytics.reports.sources import Piece, Source, plan_pieces
from services.analytics.rollups.state import HOUR, RollupState, floor_hour

ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York"]
#: The clocks of Berlin go back on the 25th, those of New York on November 1, those of Lord Howe forward on the 4th.
NOW = datetime(2026, 11, 2, 10, 30, tzinfo=UTC)


def a_state(zone: str = "Europe/Berlin", **fields: datetime) -> RollupState:
    marks = {"hours_until": NOW.replace(minute=0), "days_until": NOW.replace(minute=0)} | fields
    return RollupState(zone, kept_from=marks["hours_until"] - 48 * HOUR, **marks)  # type: ignore[arg-type]


def instants(piece: Piece, state: RollupState) -> tuple[datetime, datetime]:
    """The range of attempts that the rows of a piece count."""
    until = {
        Source.HOURS: state.hours_until,
        Source.DAYS: state.days_until,
        Source.MONTHS: state.days_until,
    }.get(piece.source, piece.until)
    return piece.since, min(piece.until, until)


MINUTES = st.integers(0, 60 * 24 * 70)


@given(
    since=MINUTES,
    length=st.integers(1, 60 * 24 * 70 * 60),
    interval=st.sampled_from([None, *Interval]),
    zone=st.sampled_from(ZONES),
    owners=st.sampled_from(ZONES),
    folded=st.integers(0, 24 * 40),
    behind=st.integers(0, 24 * 40),
    rebuilt=st.none() | st.tuples(st.integers(-24 * 10, 24 * 60), st.integers(1, 24 * 30)),
)
def test_pieces_cover_a_range_once(
    since: int,
    length: int,
    interval: Interval | None,
    zone: str,
    owners: str,
    folded: int,
    behind: int,
    rebuilt: tuple[int, int] | None,
) -> None:
    """Whatever the range, the zones and the marks: no instant is left out or counted twice, nothing that waits for a
    rebuild comes from rollups, and no row lies in two buckets of the question."""
    begin = datetime(2026, 9, 20, tzinfo=UTC)
    start = begin + timedelta(minutes=since)
    end = start + timedelta(seconds=length)
    if interval in (Interval.MINUTE, Interval.FIVE_MINUTES):
        end = min(end, start + timedelta(hours=30))
    elif interval is Interval.HOUR:
        end = min(end, start + timedelta(days=60))
    hours_until = begin + folded * HOUR
    state = a_state(owners, hours_until=hours_until, days_until=min(hours_until, begin + behind * HOUR))
    if rebuilt is not None:
        first = begin + rebuilt[0] * HOUR
        until = min(state.days_until, first)
        state = RollupState(
            *(state.zone, hours_until, until, state.kept_from, first, first + rebuilt[1] * HOUR)
        )
    query = Query(start.timestamp(), end.timestamp(), (), interval, zone)
    pieces = plan_pieces(query, state, rolled_up=True)
    covered = sorted(span for piece in pieces if (span := instants(piece, state))[0] < span[1])
    assert [span[0] for span in covered] == [start, *(span[1] for span in covered[:-1])]
    assert covered[-1][1] == end
    for piece in pieces:
        if piece.source is not Source.ATTEMPTS:
            assert state.trusts(*instants(piece, state))
        assert_in_one_bucket(piece, query, state)


def assert_in_one_bucket(piece: Piece, query: Query, state: RollupState) -> None:
    if piece.source is Source.FIVE_MINUTES:
        assert piece.since >= state.kept_from
        assert piece.since.timestamp() % 300 == piece.until.timestamp() % 300 == 0
    elif piece.source is Source.HOURS:
        assert floor_hour(piece.since) == piece.since
        assert floor_hour(piece.until) == piece.until
    elif piece.source is not Source.ATTEMPTS:
        local = [instant.astimezone(ZoneInfo(state.zone)) for instant in (piece.since, piece.until)]
        assert all((at.hour, at.minute, at.second) == (0, 0, 0) for at in local)
        assert query.interval in (None, Interval.DAY, Interval.MONTH)
        assert query.interval is None or query.time_zone == state.zone
        if piece.source is Source.MONTHS:
            assert all(at.day == 1 for at in local)


@pytest.mark.parametrize(
    ("since", "interval", "zone", "sources"),
    [
        # From the middle of an hour long ago: attempts, then hours, days, a month; recent ones by five minutes.
        (
            datetime(2026, 9, 20, 10, 17, tzinfo=UTC),
            None,
            "UTC",
            {Source.ATTEMPTS, Source.HOURS, Source.DAYS, Source.MONTHS, Source.FIVE_MINUTES},
        ),
        (datetime(2026, 11, 2, 9, 0, tzinfo=UTC), None, "UTC", {Source.HOURS, Source.FIVE_MINUTES}),
        (
            datetime(2026, 10, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            Interval.DAY,
            "Europe/Berlin",
            {Source.DAYS, Source.FIVE_MINUTES},
        ),
        # Days of another zone are made of hours, and where its hours begin elsewhere, of five minutes and attempts.
        (datetime(2026, 10, 1, tzinfo=UTC), Interval.DAY, "UTC", {Source.HOURS, Source.FIVE_MINUTES}),
        (
            datetime(2026, 10, 1, tzinfo=UTC),
            Interval.DAY,
            "Asia/Kathmandu",
            {Source.ATTEMPTS, Source.FIVE_MINUTES},
        ),
        (datetime(2026, 11, 2, 9, 0, tzinfo=UTC), Interval.MINUTE, "UTC", {Source.ATTEMPTS}),
    ],
)
def test_the_widest_rows_that_fit_are_taken(
    since: datetime, interval: Interval | None, zone: str, sources: set[Source]
) -> None:
    """Few rows, and no more of attempts than the ends of a range."""
    query = Query(since.timestamp(), NOW.timestamp(), (), interval, zone)
    assert {piece.source for piece in plan_pieces(query, a_state(), rolled_up=True)} == sources


def test_a_question_without_a_rollup_is_of_attempts() -> None:
    """One piece."""
    query = Query(NOW.timestamp() - 86_400, NOW.timestamp())
    assert [piece.source for piece in plan_pieces(query, a_state(), rolled_up=False)] == [Source.ATTEMPTS]
