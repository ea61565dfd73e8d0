"""Calendar windows: where a day or a month begins and ends for people in a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from libs.limits import Period


@dataclass(frozen=True, slots=True)
class Windows:
    """Two windows side by side: [start, middle) holds the instant asked for, [middle, end) is the next.
    Milliseconds since the epoch."""

    start: int
    middle: int
    end: int


def windows(period: Period, zone: str, now_ms: int) -> Windows:
    """Returns the window that holds `now_ms` and the one after. A day with a change of the clocks has 23 or 25 hours;
    a midnight that the clocks skip begins when they go on."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(zone)).date()
    # Where the clocks are turned back over midnight, the second midnight's hour still belongs to the day that its
    # wall clock names; bounds come from dates alone, so they are found by looking at both neighbours.
    for first in (_first(period, local), _next(period, _first(period, local)), _before(period, local)):
        found = _bounds(period, zone, first)
        if found.start <= now_ms < found.middle:
            return found
    raise AssertionError(f"no {period.name} of {zone} holds {now_ms}")


@lru_cache(maxsize=4096)
def _bounds(period: Period, zone: str, first: date) -> Windows:
    second = _next(period, first)
    return Windows(_begin(zone, first), _begin(zone, second), _begin(zone, _next(period, second)))


def _begin(zone: str, day: date) -> int:
    """Returns the first instant of a local date."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    # fold=0 is the first of two midnights. A midnight that does not exist is read with the offset from before the
    # gap, which is the instant the clocks went on.
    return int(midnight.timestamp() * 1000)


def _first(period: Period, day: date) -> date:
    return day.replace(day=1) if period is Period.MONTH else day


def _next(period: Period, first: date) -> date:
    if period is Period.MONTH:
        return (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=1)


def _before(period: Period, day: date) -> date:
    return _first(period, _first(period, day) - timedelta(days=1))
