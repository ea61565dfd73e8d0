"""The marks up to which rollups are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
FIVE_MINUTES = timedelta(minutes=5)
#: Rows of five minutes are kept for so long.
KEPT = timedelta(hours=48)
#: An hour is added to the rows of hours when it has been over for so long: most of what comes later comes once.
SETTLED = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class RollupState:
    """The row `rollup_state`: see its migration. `last_lag` in seconds."""

    zone: str
    hours_until: datetime
    days_until: datetime
    kept_from: datetime
    rebuild_next: datetime | None = None
    rebuild_until: datetime | None = None
    last_commit: datetime | None = None
    last_lag: float | None = None

    def hours_due(self, now: datetime) -> datetime | None:
        """Returns the end of the hour to add to the rows of hours next; None where none is over."""
        end = self.hours_until + HOUR
        return end if end + SETTLED <= now else None

    def days_due(self) -> datetime | None:
        """Returns the end of the next stretch, of one day of the zone, to add to the rows of days; None: there is
        none."""
        end = min(self.hours_until, next_day(self.days_until, ZoneInfo(self.zone)))
        if self.rebuild_next is not None:
            end = min(end, self.rebuild_next)
        return end if end > self.days_until else None

    def trusts(self, start: datetime, end: datetime) -> bool:
        """Returns True if no part of [start, end) waits for a rebuild."""
        if self.rebuild_next is None or self.rebuild_until is None:
            return True
        return end <= self.rebuild_next or start >= self.rebuild_until


def floor_hour(instant: datetime) -> datetime:
    """Returns the beginning of the hour of UTC."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def floor_five_minutes(instant: datetime) -> datetime:
    """Returns the beginning of the five minutes of UTC."""
    instant = instant.astimezone(UTC)
    return instant.replace(minute=instant.minute // 5 * 5, second=0, microsecond=0)


def floor_day(instant: datetime, zone: ZoneInfo) -> datetime:
    """Returns the beginning of the zone's day."""
    return instant.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def next_day(instant: datetime, zone: ZoneInfo) -> datetime:
    """Returns the beginning of the zone's following day."""
    following = instant.astimezone(zone).date() + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)


def floor_month(instant: datetime, zone: ZoneInfo) -> datetime:
    """Returns the beginning of the zone's month."""
    return instant.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)


def whole_hours(start: datetime, end: datetime, zone: ZoneInfo) -> bool:
    """Returns True if every hour of UTC that [start, end) touches lies in one day of the zone. Offsets are looked up
    once a day: no zone has had another for less since attempts are kept."""
    days = (end - start) // _DAY + 1
    for instant in (*(start + n * _DAY for n in range(days)), end):
        offset = instant.astimezone(zone).utcoffset()
        if offset is None or offset % HOUR:
            return False
    return True
