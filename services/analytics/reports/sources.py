"""The sources of an answer: which rows of the rollups, and attempts for the rest, make up a range of time exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from services.analytics.reports.query import Interval, Query
from services.analytics.rollups.state import (
    FIVE_MINUTES,
    HOUR,
    RollupState,
    floor_day,
    floor_five_minutes,
    floor_hour,
    floor_month,
    next_day,
    whole_hours,
)


class Source(StrEnum):
    """The rows that a piece of an answer is computed from."""

    ATTEMPTS = "attempts"
    FIVE_MINUTES = "five_minutes"
    HOURS = "hours"
    DAYS = "days"
    MONTHS = "months"


@dataclass(frozen=True, slots=True)
class Piece:
    """[since, until) of a source. Rows of a rollup belong to it by the beginning of their bucket."""

    source: Source
    since: datetime
    until: datetime


def attempts_of(query: Query) -> Piece:
    """Returns the attempts of the query's whole range."""
    since, until = (_EPOCH + timedelta(microseconds=round(at * 1e6)) for at in (query.since, query.until))
    return Piece(Source.ATTEMPTS, since, until)


def plan_pieces(query: Query, state: RollupState, *, rolled_up: bool) -> tuple[Piece, ...]:
    """Returns pieces that cover the query's range once, in no order, of as few rows as can be. `rolled_up`: a rollup
    table has the query's dimensions."""
    attempts = attempts_of(query)
    since, until = attempts.since, attempts.until
    sources = _sources(query, state, since, until) if rolled_up else ()
    if not sources:
        return (attempts,)
    start, end = state.rebuild_next, state.rebuild_until
    if start is None or end is None or not (start < until and end > since):
        return tuple(_cover(since, until, sources, state))
    return (
        *_cover(since, start, sources, state),
        Piece(Source.ATTEMPTS, max(since, start), min(until, end)),
        *_cover(end, until, sources, state),
    )


_EPOCH = datetime.fromtimestamp(0, UTC)
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_WIDEST_FIRST = (Source.MONTHS, Source.DAYS, Source.HOURS, Source.FIVE_MINUTES)


def _sources(query: Query, state: RollupState, since: datetime, until: datetime) -> Sequence[Source]:
    """Returns the rollups whose rows lie within one bucket of the query, the widest first."""
    if query.interval is Interval.MINUTE:
        return ()
    if query.interval is Interval.FIVE_MINUTES:
        return _WIDEST_FIRST[3:]
    if query.interval is None:
        return _WIDEST_FIRST
    if query.interval is not Interval.HOUR and query.time_zone == state.zone:
        return _WIDEST_FIRST[0 if query.interval is Interval.MONTH else 1 :]
    # There are no attempts outside of this.
    since, until = max(since, _FIRST), min(until, state.hours_until + _DAY)
    return _WIDEST_FIRST[2 if whole_hours(since, until, ZoneInfo(query.time_zone)) else 3 :]


def _cover(
    since: datetime, until: datetime, sources: Sequence[Source], state: RollupState
) -> Iterator[Piece]:
    """Yields the widest rows that fit into [since, until), and what is left at its ends, and beyond the mark up to
    which there are such rows, from the next narrower ones."""
    if since >= until:
        return
    if not sources:
        yield Piece(Source.ATTEMPTS, since, until)
        return
    source, narrower = sources[0], sources[1:]
    begin, mark = _ceiling(source, since, state), _there_until(source, state)
    # The row that the mark lies in holds what began before it, which is all that a range beyond the mark needs of it.
    end = mark if mark is not None and mark <= until else _floor(source, until, state)
    if source is Source.FIVE_MINUTES:
        begin = max(begin, state.kept_from)
    if begin >= end:
        yield from _cover(since, until, narrower, state)
        return
    yield from _cover(since, begin, narrower, state)
    yield Piece(source, begin, _ceiling(source, end, state))
    yield from _cover(end, until, narrower, state)


def _there_until(source: Source, state: RollupState) -> datetime | None:
    """Returns the instant up to which there are rows; None: up to now."""
    if source is Source.FIVE_MINUTES:
        return None
    return state.hours_until if source is Source.HOURS else state.days_until


def _floor(source: Source, instant: datetime, state: RollupState) -> datetime:
    if source is Source.FIVE_MINUTES:
        return floor_five_minutes(instant)
    if source is Source.HOURS:
        return floor_hour(instant)
    zone = ZoneInfo(state.zone)
    if source is Source.DAYS:
        return floor_day(instant, zone).astimezone(UTC)
    return floor_month(instant, zone).astimezone(UTC)


def _ceiling(source: Source, instant: datetime, state: RollupState) -> datetime:
    floor = _floor(source, instant, state)
    if floor == instant:
        return floor
    if source is Source.FIVE_MINUTES:
        return floor + FIVE_MINUTES
    if source is Source.HOURS:
        return floor + HOUR
    if source is Source.MONTHS:
        return _floor(source, floor + timedelta(days=40), state)
    return next_day(instant, ZoneInfo(state.zone))
