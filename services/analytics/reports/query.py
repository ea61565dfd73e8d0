"""Queries of the ledger: filters of attempts, groups, time buckets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.zones import load_zone

MAX_GROUPS = 3
#: Labels that a query may filter by.
MAX_LABELS = 4
MAX_LABEL_VALUE = 512
#: Seconds: 31 days. Labels are in attempts only, which take a second or more for a million.
MAX_LABEL_RANGE = 31 * 86_400.0
MAX_BUCKETS = 2000
DEFAULT_RANGE = 86_400.0
#: 2200-01-01T00:00:00Z; instants are taken from 1970 to here.
MAX_INSTANT = 7_258_118_400.0


#: More rows than this are refused rather than cut: a cut table looks like a whole one.
MAX_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Group:
    """`values` in the order of the query's group_by ("provider/model" for a model, "" where an attempt has none),
    then that of the label; `bucket` is its beginning in epoch seconds, None where no interval was asked for."""

    values: tuple[str, ...] = ()
    bucket: float | None = None


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
    FIVE_MINUTES = "five_minutes"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


def default_range(now: float, since: float | None, until: float | None) -> tuple[float, float]:
    """Returns the range with its defaults: until the end of the five minutes of `now`, and from 24 hours before the
    end."""
    end = math.ceil(now / 300) * 300.0 if until is None else until
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
    #: Attempts that have all of these labels.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: A label whose values are the last dimension to group by; "" where an attempt has none.
    group_by_label: str | None = None
    #: Rows of a page; None: all, and more than `MAX_ROWS` are refused.
    page_size: int | None = None
    #: The page's rows come after this one.
    after: Group | None = None

    def __post_init__(self) -> None:
        faults = [
            *self._range_faults(),
            *self._group_faults(),
            *self._filter_faults(),
            *self._label_faults(),
            *self._page_faults(),
        ]
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
        # The ledger's instants are of microseconds.
        if not faults and round(self.since * 1e6) >= round(self.until * 1e6):
            faults.append(FieldViolation("query.to_time", "must be a microsecond or more after from_time"))
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

    @property
    def by_labels(self) -> bool:
        """Returns True if the answer depends on labels."""
        return bool(self.labels) or self.group_by_label is not None

    def _label_faults(self) -> list[FieldViolation]:
        check_count("query.labels", len(self.labels), MAX_LABELS)
        keys = [*self.labels, *([] if self.group_by_label is None else [self.group_by_label])]
        faults = [
            FieldViolation("query.labels", f"keys must have 1 to {MAX_ID} characters and no NUL")
            for key in keys
            if not key or len(key) > MAX_ID or "\0" in key
        ]
        faults += [
            FieldViolation(
                "query.labels", f"values must have at most {MAX_LABEL_VALUE} characters and no NUL"
            )
            for value in self.labels.values()
            if len(value) > MAX_LABEL_VALUE or "\0" in value
        ]
        if self.by_labels and self.until - self.since > MAX_LABEL_RANGE:
            faults.append(
                FieldViolation("query.from_time", "must be at most 31 days before to_time for labels")
            )
        return faults

    def _page_faults(self) -> list[FieldViolation]:
        faults = []
        if self.page_size is not None and not 1 <= self.page_size <= MAX_ROWS:
            faults.append(FieldViolation("query.page_size", f"must be from 1 to {MAX_ROWS}"))
        if self.after is not None:
            groups = len(self.group_by) + (self.group_by_label is not None)
            fits = len(self.after.values) == groups and (self.after.bucket is None) == (self.interval is None)
            in_time = self.after.bucket is None or 0 <= self.after.bucket <= MAX_INSTANT
            if not (fits and in_time) or any("\0" in value for value in self.after.values):
                faults.append(FieldViolation("query.page_token", "must be a token of this query"))
        return faults


def count_buckets(since: float, until: float, interval: Interval, zone: ZoneInfo) -> int:
    """Counts the buckets that [since, until) touches, at most one too many."""
    if interval is Interval.MINUTE:
        return math.ceil((until - since) / 60) + 1
    if interval is Interval.FIVE_MINUTES:
        return math.ceil((until - since) / 300) + 1
    if interval is Interval.HOUR:
        return math.ceil((until - since) / 3600) + 1
    first, last = datetime.fromtimestamp(since, zone), datetime.fromtimestamp(until, zone)
    if interval is Interval.DAY:
        return (last.date() - first.date()).days + 1
    return (last.year - first.year) * 12 + last.month - first.month + 1
