"""Questions for a forecast: of which use, until when, against which limits, under which plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument
from libs.limits import LimitKey, ScopeKind, Unit
from libs.zones import load_zone
from services.analytics.forecasts.history import HISTORY_DAYS, HOUR, Filters, Measure, Part
from services.analytics.forecasts.what_if import WhatIf
from services.analytics.reports.query import MAX_INSTANT

#: Days that may be forecast, and limits that may be compared, some 50 ms each.
MAX_DAYS: Final = 92
MAX_LIMITS: Final = 100
#: Measures that may be forecast by themselves.
MEASURES: Final = (Measure.COST, Measure.TOKENS, Measure.REQUESTS)
#: The kinds of scopes whose use the ledger tells apart.
_KINDS = (ScopeKind.TENANT, ScopeKind.PROVIDER, ScopeKind.MODEL)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit to compare use with, in its unit per period, whose day or month is of a `time_zone`; "": of the
    question's."""

    key: LimitKey
    limit: int
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question at `now` (epoch seconds). `until` None: the end of the present month in `time_zone`. `by` None: all
    in one. The history ends with the last whole hour.

    Raises InvalidArgument naming each wrong field.
    """

    now: float
    measure: Measure = Measure.COST
    by: Part | None = None
    filters: Filters = field(default_factory=Filters)
    time_zone: str = "UTC"
    until: float | None = None
    limits: tuple[Limit, ...] = ()
    what_if: WhatIf | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.measure not in MEASURES:
            faults.append(FieldViolation("measure", f"must be one of {', '.join(MEASURES)}"))
        if load_zone(self.time_zone) is None:
            faults.append(FieldViolation("time_zone", "must be an IANA time zone name"))
        if self.until is not None and not self.now < self.until <= min(
            MAX_INSTANT, self.now + MAX_DAYS * 86_400
        ):
            faults.append(FieldViolation("until", f"must be after now and at most {MAX_DAYS} days ahead"))
        for name in ("tenant", "provider", "model"):
            value: str | None = getattr(self.filters, name)
            if value is not None and (len(value) > MAX_ID or "\0" in value):
                faults.append(FieldViolation(name, f"must have at most {MAX_ID} characters and no NUL"))
        if len(self.limits) > MAX_LIMITS:
            raise InvalidArgument([FieldViolation("limits", f"must have at most {MAX_LIMITS} entries")])
        for i, limit in enumerate(self.limits):
            if limit.key.scope.kind not in _KINDS:
                faults.append(FieldViolation(f"limits[{i}].scope", f"must be of one of {', '.join(_KINDS)}"))
            if limit.key.unit is Unit.CONCURRENCY:
                faults.append(FieldViolation(f"limits[{i}].unit", "must be counted per period"))
            if limit.limit < 1:
                faults.append(FieldViolation(f"limits[{i}].limit", "must be at least 1"))
            if limit.time_zone and load_zone(limit.time_zone) is None:
                faults.append(FieldViolation(f"limits[{i}].time_zone", "must be an IANA time zone name"))
            if not self.filters.take_all(limit.key.scope):
                faults.append(
                    FieldViolation(
                        f"limits[{i}].scope", "must be one whose use tenant, provider and model leave whole"
                    )
                )
        if faults:
            raise InvalidArgument(faults)

    @property
    def zone(self) -> ZoneInfo:
        """Returns the zone of days and months."""
        return _checked(self.time_zone)

    def zone_of(self, limit: Limit) -> ZoneInfo:
        """Returns the zone of a limit's day or month."""
        return _checked(limit.time_zone or self.time_zone)

    @property
    def hours(self) -> tuple[int, int]:
        """Returns the history's first hour since the epoch, and the one that it ends before."""
        end = int(self.now // HOUR)
        return end - HISTORY_DAYS * 24, end

    @property
    def read_filters(self) -> Filters:
        """Returns the filters of what is read: a plan that moves use from one model to another needs both."""
        moved = self.what_if is not None and self.what_if.by_model
        return Filters(tenant=self.filters.tenant) if moved else self.filters

    @property
    def end(self) -> float:
        """Returns the instant until which is forecast."""
        return month_end(self.now, self.zone) if self.until is None else self.until

    @property
    def parts(self) -> frozenset[Part]:
        """Returns the parts that the history must be split by."""
        found = {self.by} if self.by is not None else set()
        kinds = {limit.key.scope.kind for limit in self.limits}
        if ScopeKind.TENANT in kinds:
            found.add(Part.TENANT)
        if ScopeKind.PROVIDER in kinds:
            found.add(Part.PROVIDER)
        if ScopeKind.MODEL in kinds or (self.what_if is not None and self.what_if.by_model):
            found.add(Part.MODEL)
        return frozenset(found)


def _checked(name: str) -> ZoneInfo:
    zone = load_zone(name)
    assert zone is not None, "checked when the question was made"
    return zone


def month_start(at: float, zone: ZoneInfo) -> float:
    """Returns the beginning of the month that an instant is in."""
    return (
        datetime.fromtimestamp(at, zone)
        .replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
        .timestamp()
    )


def month_end(at: float, zone: ZoneInfo) -> float:
    """Returns the beginning of the next month."""
    first = datetime.fromtimestamp(month_start(at, zone), zone)
    return month_start((first + timedelta(days=32)).timestamp(), zone)


def day_start(at: float, zone: ZoneInfo) -> float:
    """Returns the beginning of the day that an instant is in."""
    return (
        datetime.fromtimestamp(at, zone)
        .replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        .timestamp()
    )


def day_ends(at: float, until: float, zone: ZoneInfo) -> list[float]:
    """Returns the ends of the days after an instant, the last one `until` itself."""
    day = datetime.fromtimestamp(day_start(at, zone), zone)
    found: list[float] = []
    while True:
        day += timedelta(days=1)
        if day.timestamp() >= until:
            return [*found, until]
        if day.timestamp() > at:
            found.append(day.timestamp())
