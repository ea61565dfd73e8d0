"""Rows of the statements → reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

import asyncpg

from libs.errors import FailedPrecondition
from libs.types import ErrorClass, Usage, UsageAccuracy
from services.analytics.reports.postgres_pieces import keys_of
from services.analytics.reports.postgres_statements import SHARES
from services.analytics.reports.query import MAX_ROWS, Group, Query
from services.analytics.reports.report import (
    Basis,
    CostReport,
    CostRow,
    FailoverRow,
    PerformanceReport,
    PerformanceRow,
    Quantiles,
    ReliabilityReport,
    ReliabilityRow,
    Waste,
)
from services.analytics.rollups.histogram import quantiles, quantiles_of_row
from services.analytics.rollups.tables import Measure

_Row = TypeVar("_Row", CostRow, FailoverRow, PerformanceRow, ReliabilityRow)


def cost_report(query: Query, records: Sequence[asyncpg.Record], basis: Basis) -> CostReport:
    """Reads the rows of `cost_statement`."""
    total = next(
        (_cost_row(record, Group(), "total_requests") for record in records if record["is_total"]), _NOTHING
    )
    if not keys_of(query):
        return CostReport((total,) if total.attempts else (), total, basis)
    rows = [
        _cost_row(record, group_of(query, record), "requests") for record in records if not record["is_total"]
    ]
    shown, following = page_of(query, rows)
    return CostReport(shown, total, basis, following)


def performance_report(
    query: Query,
    records: Sequence[asyncpg.Record],
    distributions: Sequence[asyncpg.Record],
    basis: Basis,
    *,
    exact: bool,
) -> PerformanceReport:
    """Reads the rows of `performance_statement` and `quantiles_statement`."""
    found = _exact(query, distributions) if exact else _from_histograms(query, distributions)
    keys = len(keys_of(query))
    rows = []
    for record in records:
        group = group_of(query, record)
        timed_us = int(record["timed_us"])
        rows.append(
            PerformanceRow(
                group=group,
                attempts=int(record["attempts"]),
                successes=int(record["successes"]),
                requests=int(record["requests"]),
                failovers=int(record["failovers"]),
                latency=found.get((*record[:keys], Measure.LATENCY)),
                time_to_first_token=found.get((*record[:keys], Measure.FIRST_TOKEN)),
                output_tokens_per_second=int(record["timed_tokens"]) / (timed_us / 1e6) if timed_us else None,
            )
        )
    shown, following = page_of(query, rows)
    return PerformanceReport(shown, basis, following)


def reliability_report(
    query: Query, records: Sequence[asyncpg.Record], errors: Sequence[asyncpg.Record], basis: Basis
) -> ReliabilityReport:
    """Reads the rows of `reliability_statement` and `errors_statement`."""
    classes: defaultdict[Group, dict[ErrorClass | None, int]] = defaultdict(dict)
    for record in errors:
        error = ErrorClass(record["class"]) if record["class"] else None
        classes[group_of(query, record)][error] = record["failures"]
    rows = []
    for record in records:
        group = group_of(query, record)
        rows.append(
            ReliabilityRow(
                group=group,
                attempts=int(record["attempts"]),
                successes=int(record["successes"]),
                failures=int(record["failures"]),
                cancelled=int(record["cancelled"]),
                unknown=int(record["unknown"]),
                errors=classes[group],
                requests=int(record["requests"]),
                answered=int(record["answered"]),
                unanswered=int(record["unanswered"]),
                failovers=int(record["failovers"]),
            )
        )
    shown, following = page_of(query, rows)
    return ReliabilityReport(shown, basis, following)


def group_of(query: Query, record: asyncpg.Record) -> Group:
    """Returns the group of a row, whose keys come first."""
    groups = len(query.group_by) + (query.group_by_label is not None)
    if query.interval is None:
        return Group(record[:groups])
    return Group(record[1 : groups + 1], record[0].timestamp())


def page_of(query: Query, rows: Sequence[_Row]) -> tuple[tuple[_Row, ...], Group | None]:
    """Returns the rows of the page, and the last one's group where there are more. Raises FailedPrecondition."""
    if query.page_size is None:
        if len(rows) > MAX_ROWS:
            raise FailedPrecondition(
                f"The answer has more than {MAX_ROWS} rows: ask for pages, a shorter range, wider buckets or fewer "
                "groups",
                reason="TOO_MANY_ROWS",
            )
        return tuple(rows), None
    shown = tuple(rows[: query.page_size])
    return shown, shown[-1].group if len(rows) > len(shown) else None


#: By the keys of a row and the measure.
_Found = Mapping[tuple[object, ...], Quantiles | None]


def _exact(query: Query, records: Sequence[asyncpg.Record]) -> _Found:
    keys = len(keys_of(query)) + 1
    return {record[:keys]: _in_seconds(record["values"]) for record in records}


def _from_histograms(query: Query, records: Sequence[asyncpg.Record]) -> _Found:
    """Adds up the histograms of each group. Most groups have one, of which nothing is made but its quantiles."""
    keys = len(keys_of(query)) + 1
    single: dict[tuple[object, ...], asyncpg.Record] = {}
    added: dict[tuple[object, ...], dict[int, int]] = {}
    for record in records:
        key = record[:keys]
        first = single.setdefault(key, record)
        if first is record:
            continue
        total = added.get(key)
        if total is None:
            total = added[key] = dict(zip(*first[keys:], strict=True))
        for number, attempts in zip(*record[keys:], strict=True):
            total[number] = total.get(number, 0) + attempts
    return {
        key: _in_seconds(
            quantiles(added[key], SHARES)
            if key in added
            else quantiles_of_row(record[keys], record[keys + 1], SHARES)
        )
        for key, record in single.items()
    }


def _in_seconds(values: Sequence[float] | None) -> Quantiles | None:
    return None if values is None else Quantiles(*[value / 1e6 for value in values])


def _cost_row(record: asyncpg.Record, group: Group, requests: str) -> CostRow:
    accuracy = UsageAccuracy.EXACT
    if record["uncertain"]:
        accuracy = UsageAccuracy.UNCERTAIN
    elif record["estimated"]:
        accuracy = UsageAccuracy.ESTIMATED
    return CostRow(
        group=group,
        cost_micro_usd=int(record["cost"]),
        estimated_micro_usd=int(record["estimated_cost"]),
        uncertain_micro_usd=int(record["uncertain_cost"]),
        usage=Usage(
            input_tokens=int(record["input_tokens"]),
            output_tokens=int(record["output_tokens"]),
            cache_read_tokens=int(record["cache_read_tokens"]),
            cache_write_tokens=int(record["cache_write_tokens"]),
            reasoning_tokens=int(record["reasoning_tokens"]),
            accuracy=accuracy,
        ),
        attempts=int(record["attempts"]),
        requests=int(record[requests]),
        waste=Waste(
            failed=int(record["failed_cost"]),
            cancelled=int(record["cancelled_cost"]),
            unknown=int(record["unknown_cost"]),
            hedges=int(record["hedge_cost"]),
        ),
        cache_saving_micro_usd=int(record["cache_saving"]),
        hedges=int(record["hedges"]),
    )


_NOTHING = CostRow(Group(), 0, 0, 0, Usage(), 0, 0)
