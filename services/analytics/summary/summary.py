"""The figures of a dashboard's first page, and how two readings differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from services.analytics.reports.query import MAX_ROWS, Group, GroupBy, Query
from services.analytics.reports.report import (
    Basis,
    CostReport,
    CostRow,
    PerformanceReport,
    PerformanceRow,
    ReliabilityReport,
    ReliabilityRow,
)
from services.analytics.reports.reports import Reports

#: Rows of models and of tenants: those that cost most today.
MODELS = 100
TENANTS = 20
_FIVE_MINUTES = 300
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class SummaryPeriods:
    """Epoch seconds. All end at `until`, which is at the end of the five minutes that run: sums are kept by these."""

    month: float
    today: float
    hour: float
    until: float


@dataclass(frozen=True, slots=True)
class SummaryKey:
    """A row's dimension (None: everything) and its value there."""

    by: GroupBy | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """Cost of today, and performance and reliability of the last hour; None: there were no attempts, or it is not
    told for this dimension. Their groups are empty."""

    today: CostRow | None = None
    performance: PerformanceRow | None = None
    reliability: ReliabilityRow | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures as they were at `as_of` (epoch seconds)."""

    as_of: float
    time_zone: str
    periods: SummaryPeriods
    month: CostRow
    standing_alerts: int
    basis: Basis
    rows: Mapping[SummaryKey, SummaryRow]


@dataclass(frozen=True, slots=True)
class SummaryUpdate:
    """A summary as told to someone: `rows` are all there are (`snapshot`), or those that are new or other than told
    before; `gone` are no more."""

    summary: Summary
    snapshot: bool
    rows: Mapping[SummaryKey, SummaryRow]
    gone: frozenset[SummaryKey] = field(default_factory=frozenset)


def periods_at(now: float, time_zone: str) -> SummaryPeriods:
    """Returns the periods at an instant; days and months are the zone's."""
    midnight = datetime.fromtimestamp(now, ZoneInfo(time_zone)).replace(
        hour=0, minute=0, second=0, microsecond=0, fold=0
    )
    until = (math.floor(now / _FIVE_MINUTES) + 1.0) * _FIVE_MINUTES
    return SummaryPeriods(
        midnight.replace(day=1).timestamp(), midnight.timestamp(), max(0.0, until - _HOUR), until
    )


async def summarise(
    reports: Reports, now: float, time_zone: str, standing_alerts: int, last_commit: float | None
) -> Summary:
    """Reads all figures. Raises as `Reports`."""
    periods = periods_at(now, time_zone)
    reading = _Reading(reports, periods)
    month = await reports.costs(Query(periods.month, periods.until))
    bases = [month.basis]
    rows: dict[SummaryKey, SummaryRow] = {}
    for by, dearest in ((None, 1), (GroupBy.PROVIDER, MODELS), (GroupBy.MODEL, MODELS)):
        costs = await reading.costs(by, dearest)
        performance, reliability = await reading.performance(by), await reading.reliability(by)
        bases += [costs.basis, performance.basis, reliability.basis]
        rows |= _joined(by, costs, performance, reliability)
    tenants = await reading.costs(GroupBy.TENANT, TENANTS)
    rows |= _joined(GroupBy.TENANT, tenants, PerformanceReport(()), ReliabilityReport(()))
    sources = frozenset(source for basis in (*bases, tenants.basis) for source in basis.sources)
    basis = Basis(sources, last_commit, month.basis.lag)
    return Summary(now, time_zone, periods, month.total, standing_alerts, basis, rows)


def difference(before: Summary | None, now: Summary) -> SummaryUpdate:
    """Returns what one who was told `before` (None: nothing yet) has to be told."""
    if before is None:
        return SummaryUpdate(now, True, now.rows)
    changed = {key: row for key, row in now.rows.items() if before.rows.get(key) != row}
    return SummaryUpdate(now, False, changed, frozenset(before.rows.keys() - now.rows.keys()))


class _Reading:
    """Questions about the periods. Pages bound the rows: a store with more models than fit is cut, not refused."""

    def __init__(self, reports: Reports, periods: SummaryPeriods) -> None:
        self._reports = reports
        self._periods = periods

    async def costs(self, by: GroupBy | None, dearest: int) -> CostReport:
        return await self._reports.costs(self._query(self._periods.today, by), dearest=dearest)

    async def performance(self, by: GroupBy | None) -> PerformanceReport:
        return await self._reports.performance(self._query(self._periods.hour, by, MAX_ROWS))

    async def reliability(self, by: GroupBy | None) -> ReliabilityReport:
        return await self._reports.reliability(self._query(self._periods.hour, by, MAX_ROWS))

    def _query(self, since: float, by: GroupBy | None, page_size: int | None = None) -> Query:
        return Query(since, self._periods.until, () if by is None else (by,), page_size=page_size)


class _Grouped(Protocol):
    @property
    def group(self) -> Group: ...


_Row = TypeVar("_Row", bound=_Grouped)


def _joined(
    by: GroupBy | None, costs: CostReport, performance: PerformanceReport, reliability: ReliabilityReport
) -> dict[SummaryKey, SummaryRow]:
    """Returns the rows of the groups that cost something today, then of others that the last hour knows, `MODELS` at
    most."""
    today, speed, success = _by_name(costs.rows), _by_name(performance.rows), _by_name(reliability.rows)
    names = list(dict.fromkeys((*today, *speed, *success)))[:MODELS]
    return {
        SummaryKey(by, name): SummaryRow(today.get(name), speed.get(name), success.get(name))
        for name in names
    }


def _by_name(rows: Iterable[_Row]) -> dict[str, _Row]:
    return {row.group.values[0] if row.group.values else "": row for row in rows}
