"""Gathers the evidence of a window from reports, alerts and details."""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

from libs.errors import FailedPrecondition
from libs.types import PROVIDER_FAULTS
from services.analytics.alerts.alert import Alert, AlertKind
from services.analytics.alerts.store import AlertFilter, AlertStore
from services.analytics.recommendations.evidence import (
    DetailReader,
    Evidence,
    ExhaustedQuota,
    ModelUse,
    ProviderCalls,
    TenantUse,
    Window,
)
from services.analytics.recommendations.saving import WINDOW_DAYS
from services.analytics.reports.query import MAX_ROWS, Group, GroupBy, Interval, Query
from services.analytics.reports.report import CostRow, ReliabilityRow
from services.analytics.reports.reports import Reports

#: Pages of one report: 100,000 rows.
MAX_PAGES: Final = 10
MAX_ALERTS: Final = 1000
_DAY: Final = 86_400.0

_Row_co = TypeVar("_Row_co", covariant=True)


class _Report(Protocol[_Row_co]):
    @property
    def rows(self) -> tuple[_Row_co, ...]: ...

    @property
    def next_after(self) -> Group | None: ...


def window_at(now: float, zone: ZoneInfo) -> Window:
    """Returns the last whole days of a zone."""
    today = datetime.fromtimestamp(now, zone).date()
    midnights = [
        datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp()
        for day in (today - timedelta(days=back) for back in range(WINDOW_DAYS, -1, -1))
    ]
    return Window(tuple(midnights[:-1]), midnights[-1], zone.key)


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of evidence."""

    reports: Reports
    details: DetailReader
    alerts: AlertStore


async def gather(sources: Sources, window: Window) -> Evidence:
    """Returns the evidence. Raises Unavailable, DeadlineExceeded, and FailedPrecondition where there are too many
    rows."""
    query = Query(window.starts[0], window.end, interval=Interval.DAY, time_zone=window.time_zone)
    models = [
        ModelUse(_day(row, window), *_names(row), row.attempts, row.cost_micro_usd, row.usage)
        for row in await _pages(
            sources.reports.costs, replace(query, group_by=(GroupBy.CONTENT_TYPE, GroupBy.MODEL))
        )
    ]
    providers = [
        _calls(_day(row, window), row)
        for row in await _pages(
            sources.reports.reliability, replace(query, group_by=(GroupBy.CONTENT_TYPE, GroupBy.PROVIDER))
        )
    ]
    tenants = [
        TenantUse(
            _day(row, window),
            *_names(row),
            row.requests,
            row.usage.input_tokens,
            row.usage.output_tokens,
            row.cost_micro_usd,
        )
        for row in await _pages(
            sources.reports.costs, replace(query, group_by=(GroupBy.TENANT, GroupBy.CONTENT_TYPE))
        )
    ]
    hourly = await sources.reports.costs(replace(query, interval=Interval.HOUR))
    hours: defaultdict[int, int] = defaultdict(int)
    zone = ZoneInfo(window.time_zone)
    for row in hourly.rows:
        hours[datetime.fromtimestamp(row.group.bucket or 0.0, zone).hour] += row.cost_micro_usd
    used_up = AlertFilter(frozenset({AlertKind.EXHAUSTED}))
    alerts = await sources.alerts.find(used_up, window.end, window.starts[0], MAX_ALERTS)
    details = await sources.details.details(window)
    return Evidence(
        len(window.starts),
        models,
        providers,
        tenants,
        exhausted([kept.alert for kept in alerts], window),
        details,
        dict(hours),
        hourly.total.cache_saving_micro_usd,
    )


def exhausted(alerts: list[Alert], window: Window) -> list[ExhaustedQuota]:
    """Returns the quotas that alerts say were used up, each on the days from then to the end of its window."""
    by_quota: defaultdict[tuple[str, str, str], list[Alert]] = defaultdict(list)
    for alert in alerts:
        if alert.kind is AlertKind.EXHAUSTED:
            (kind, name), *_ = alert.subject
            by_quota[f"{kind}:{name}", alert.unit, dict(alert.subject)["period"]].append(alert)
    found = []
    for (scope, unit, period), raised in sorted(by_quota.items()):
        days: set[int] = set()
        for alert in raised:
            ends = min(alert.cleared or window.end, _quota_end(alert, period), window.end)
            days.update(
                place
                for place, start in enumerate(window.starts)
                if alert.raised < start + _DAY and start < ends
            )
        latest = max(raised, key=lambda alert: alert.as_of)
        found.append(ExhaustedQuota(scope, unit, period, latest.limit or 0, len(raised), frozenset(days)))
    return found


def _quota_end(alert: Alert, period: str) -> float:
    """Returns the end of the quota's window, to the hour: where clocks change, it is one off."""
    if period == "day":
        return alert.episode + _DAY
    middle = datetime.fromtimestamp(alert.episode + 15 * _DAY, UTC)
    return alert.episode + monthrange(middle.year, middle.month)[1] * _DAY


async def _pages(read: Callable[[Query], Awaitable[_Report[_Row_co]]], query: Query) -> list[_Row_co]:
    found: list[_Row_co] = []
    page = replace(query, page_size=MAX_ROWS)
    for _ in range(MAX_PAGES):
        report = await read(page)
        found += report.rows
        if report.next_after is None:
            return found
        page = replace(page, after=report.next_after)
    raise FailedPrecondition(
        f"There are more than {MAX_PAGES * MAX_ROWS} groups and days to look at", reason="TOO_MANY_ROWS"
    )


def _day(row: CostRow | ReliabilityRow, window: Window) -> int:
    """Returns the place of a row's day, by its noon: midnights that clocks leave out are nobody's instant."""
    assert row.group.bucket is not None, "asked for by day"
    return bisect_right(window.starts, row.group.bucket + _DAY / 2) - 1


def _names(row: CostRow | ReliabilityRow) -> tuple[str, str]:
    first, second = row.group.values
    return first, second


def _calls(day: int, row: ReliabilityRow) -> ProviderCalls:
    faults = sum(count for error, count in row.errors.items() if error in PROVIDER_FAULTS)
    return ProviderCalls(day, *_names(row), row.successes + faults, faults)
