"""Queries of the ledger: filters of attempts, groups, time buckets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument, check_count

MAX_GROUPS = 3
MAX_BUCKETS = 2000
DEFAULT_RANGE = 86_400.0
#: 2200-01-01T00:00:00Z; instants are taken from 1970 to here.
MAX_INSTANT = 7_258_118_400.0


class GroupBy(StrEnum):
    """A dimension of the ledger."""

    TENANT = "tenant"
    PROVIDER = "provider"
    MODEL = "model"
    CONTENT_TYPE = "content_type"
    CAMPAIGN = "campaign"
    ERROR_CLASS = "error_class"


class Interval(StrEnum):
    """The width of a time bucket; days and months are calendar ones."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


def default_range(now: float, since: float | None, until: float | None) -> tuple[float, float]:
    """Returns the range with its defaults: until now, and from 24 hours before the end."""
    end = now if until is None else until
    return (max(0.0, end - DEFAULT_RANGE) if since is None else since), end


@dataclass(frozen=True, slots=True)
class Query:
    """Attempts that began in [since, until) epoch seconds. Filters: None takes all.

    Raises InvalidArgument naming each wrong field.
    """

    since: float
    until: float
    group_by: tuple[GroupBy, ...] = ()
    interval: Interval | None = None
    time_zone: str = "UTC"
    tenant: str | None = None
    provider: str | None = None
    model: str | None = None
    content_type: str | None = None
    campaign: str | None = None

    def __post_init__(self) -> None:
        faults = [*self._range_faults(), *self._group_faults(), *self._filter_faults()]
        zone = load_zone(self.time_zone)
        if zone is None:
            faults.append(FieldViolation("query.time_zone", "must be an IANA time zone name"))
        if not faults and zone is not None and self.interval is not None:
            buckets = count_buckets(self.since, self.until, self.interval, zone)
            if buckets > MAX_BUCKETS:
                faults.append(
                    FieldViolation(
                        "query.interval", f"gives {buckets} buckets, at most {MAX_BUCKETS} are allowed"
                    )
                )
        if faults:
            raise InvalidArgument(faults)

    def _range_faults(self) -> list[FieldViolation]:
        faults = [
            FieldViolation(f"query.{name}", "must be from 1970 to 2200")
            for name, instant in (("from_time", self.since), ("to_time", self.until))
            if not 0 <= instant <= MAX_INSTANT
        ]
        if not faults and self.since >= self.until:
            faults.append(FieldViolation("query.to_time", "must be after from_time"))
        return faults

    def _group_faults(self) -> list[FieldViolation]:
        check_count("query.group_by", len(self.group_by), MAX_GROUPS)
        if len(set(self.group_by)) < len(self.group_by):
            return [FieldViolation("query.group_by", "must not name a dimension twice")]
        return []

    def _filter_faults(self) -> list[FieldViolation]:
        filters = {
            "tenant": self.tenant,
            "provider": self.provider,
            "model": self.model,
            "content_type": self.content_type,
            "campaign": self.campaign,
        }
        return [
            FieldViolation(f"query.{name}", f"must have at most {MAX_ID} characters and no NUL")
            for name, value in filters.items()
            if value is not None and (len(value) > MAX_ID or "\0" in value)
        ]


def load_zone(name: str) -> ZoneInfo | None:
    """Returns the time zone of an IANA name; None where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A missing name is a KeyError, a malformed one a ValueError, a directory of zones an OSError.
        return None


def count_buckets(since: float, until: float, interval: Interval, zone: ZoneInfo) -> int:
    """Counts the buckets that [since, until) touches, at most one too many."""
    if interval is Interval.MINUTE:
        return math.ceil((until - since) / 60) + 1
    if interval is Interval.HOUR:
        return math.ceil((until - since) / 3600) + 1
    first, last = datetime.fromtimestamp(since, zone), datetime.fromtimestamp(until, zone)
    if interval is Interval.DAY:
        return (last.date() - first.date()).days + 1
    return (last.year - first.year) * 12 + last.month - first.month + 1
