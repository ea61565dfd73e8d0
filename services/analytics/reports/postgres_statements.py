"""Turns queries into SQL, and rows into reports. SQL is put together from closed enums only; all else is a
parameter."""

# ruff: noqa: S608 -- that rule sees any SQL in an f-string; the sentence above is what keeps it safe.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg

from libs.errors import FailedPrecondition
from libs.types import ErrorClass, Usage, UsageAccuracy
from services.analytics.reports.postgres_quantiles import quantiles_sql, read_quantiles
from services.analytics.reports.query import GroupBy, Interval, Query
from services.analytics.reports.report import (
    MAX_ROWS,
    CostReport,
    CostRow,
    Group,
    PerformanceRow,
    ReliabilityRow,
)

_DIMENSIONS = {
    GroupBy.TENANT: "tenant",
    GroupBy.PROVIDER: "provider",
    GroupBy.MODEL: "provider || '/' || model",
    GroupBy.CONTENT_TYPE: "content_type",
    GroupBy.CAMPAIGN: "campaign",
    GroupBy.ERROR_CLASS: "error_class",
}
_INTERVALS = {
    Interval.MINUTE: "minute",
    Interval.HOUR: "hour",
    Interval.DAY: "day",
    Interval.MONTH: "month",
}
#: None: failed, and nobody knows how.
_ERRORS: tuple[ErrorClass | None, ...] = (None, *ErrorClass)
_SUCCESS = "outcome = 'success'"
_REQUESTS = "count(DISTINCT request_id)"
_FAILOVER = f"{_SUCCESS} AND attempt_number > 1"
_Row = TypeVar("_Row")


@dataclass(slots=True)
class Statement:
    """SQL and the values of its $1, $2, …"""

    sql: str = ""
    parameters: list[Any] = field(default_factory=list)

    def bind(self, value: object) -> str:
        """Adds a parameter; returns its placeholder."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"


def cost_statement(query: Query) -> Statement:
    """Returns the statement for rows of the groups, and one of the whole (`is_total` not 0) that comes first."""
    statement = Statement()
    keys = _keys(query)
    # Without a group the whole is all there is.
    is_total = f"GROUPING({', '.join(keys)})" if keys else "1"
    grouping = f"GROUP BY GROUPING SETS (({', '.join(keys)}), ())" if keys else ""
    statement.sql = f"""
        SELECT {_listed(keys)} {is_total} AS is_total,
            sum(cost_micro_usd) AS cost,
            sum(cost_micro_usd) FILTER (WHERE accuracy = 'estimated') AS estimated,
            sum(cost_micro_usd) FILTER (WHERE accuracy = 'uncertain') AS uncertain,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
            sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
            sum(reasoning_tokens) AS reasoning_tokens,
            bool_or(accuracy = 'estimated') AS any_estimated, bool_or(accuracy = 'uncertain') AS any_uncertain,
            count(*) AS attempts, {_REQUESTS} AS requests
        FROM {_source(query, statement)} AS rows
        {grouping}
        ORDER BY {", ".join(["is_total DESC", *keys])}
        LIMIT {MAX_ROWS + 2}
    """
    return statement


def cost_report(query: Query, records: Sequence[asyncpg.Record]) -> CostReport:
    """Reads the rows of `cost_statement`."""
    total = next((_cost_row(query, r, Group()) for r in records if r["is_total"]), _NOTHING)
    if not _keys(query):
        return CostReport((total,) if total.attempts else (), total)
    rows = [_cost_row(query, record, _group(query, record)) for record in records if not record["is_total"]]
    return CostReport(tuple(_check_row_count(rows)), total)


def performance_statement(query: Query) -> Statement:
    """Returns the statement for one row per group."""
    statement = Statement()
    keys = _keys(query)
    timed = f"{_SUCCESS} AND latency_us IS NOT NULL"
    statement.sql = f"""
        SELECT {_listed(keys)}
            count(*) AS attempts, count(*) FILTER (WHERE {_SUCCESS}) AS successes,
            {_REQUESTS} AS requests, {_REQUESTS} FILTER (WHERE {_FAILOVER}) AS failovers,
            {quantiles_sql("latency_us", _SUCCESS)} AS latency,
            {quantiles_sql("ttft_us", f"{_SUCCESS} AND streamed")} AS ttft,
            sum(output_tokens) FILTER (WHERE {timed}) AS timed_tokens,
            sum(latency_us) FILTER (WHERE {timed}) AS timed_us
        FROM {_source(query, statement)} AS rows
        {_grouped_and_ordered(keys)}
    """
    return statement


def performance_rows(query: Query, records: Sequence[asyncpg.Record]) -> tuple[PerformanceRow, ...]:
    """Reads the rows of `performance_statement`."""
    return tuple(
        PerformanceRow(
            group=_group(query, record),
            attempts=record["attempts"],
            successes=record["successes"],
            requests=record["requests"],
            failovers=record["failovers"],
            latency=read_quantiles(record["latency"]),
            time_to_first_token=read_quantiles(record["ttft"]),
            output_tokens_per_second=(
                float(record["timed_tokens"]) / (float(record["timed_us"]) / 1e6)
                if record["timed_us"]
                else None
            ),
        )
        for record in _check_row_count(records)
        if record["attempts"]
    )


def reliability_statement(query: Query) -> Statement:
    """Returns the statement for one row per group, counted over one row per group and request."""
    statement = Statement()
    # A request belongs to the bucket of its first attempt, so the bucket is not a key of the inner grouping.
    groups = _group_keys(query)
    keys = _keys(query)
    per_request = ", ".join([*groups, "request_id"])
    bucket = "min(bucket) AS bucket," if query.interval is not None else ""
    outcomes = {"successes": "success", "failures": "failure", "cancelled": "cancelled", "unknown": "unknown"}
    counts = [f"count(*) FILTER (WHERE outcome = '{value}') AS {name}" for name, value in outcomes.items()]
    errors = [
        f"count(*) FILTER (WHERE outcome = 'failure' AND error_class = '{error or ''}') AS {_error_column(error)}"
        for error in _ERRORS
    ]
    summed = [f"sum({name}) AS {name}" for name in ("attempts", *outcomes, *map(_error_column, _ERRORS))]
    statement.sql = f"""
        SELECT {_listed(keys)} {", ".join(summed)},
            count(*) AS requests,
            count(*) FILTER (WHERE successes > 0) AS answered,
            count(*) FILTER (WHERE successes = 0 AND failures > 0) AS unanswered,
            count(*) FILTER (WHERE failed_over) AS failovers
        FROM (
            SELECT {per_request}, {bucket} count(*) AS attempts, bool_or({_FAILOVER}) AS failed_over,
                {", ".join([*counts, *errors])}
            FROM {_source(query, statement)} AS rows
            GROUP BY {per_request}
        ) AS requests
        {_grouped_and_ordered(keys)}
    """
    return statement


def reliability_rows(query: Query, records: Sequence[asyncpg.Record]) -> tuple[ReliabilityRow, ...]:
    """Reads the rows of `reliability_statement`."""
    return tuple(
        ReliabilityRow(
            group=_group(query, record),
            attempts=int(record["attempts"]),
            successes=int(record["successes"]),
            failures=int(record["failures"]),
            cancelled=int(record["cancelled"]),
            unknown=int(record["unknown"]),
            errors={error: n for error in _ERRORS if (n := int(record[_error_column(error)]))},
            requests=record["requests"],
            answered=record["answered"],
            unanswered=record["unanswered"],
            failovers=record["failovers"],
        )
        for record in _check_row_count(records)
        if record["requests"]
    )


def _source(query: Query, statement: Statement) -> str:
    """Returns the SQL of the attempts queried, with the keys of their group."""
    columns = [f"{_DIMENSIONS[dimension]} AS g{i}" for i, dimension in enumerate(query.group_by)]
    if query.interval is not None:
        zone = statement.bind(query.time_zone)
        columns.append(f"date_trunc('{_INTERVALS[query.interval]}', started, {zone}::text) AS bucket")
    since, until = (
        f"timestamptz 'epoch' + {statement.bind(round(instant * 1e6))}::bigint * interval '1 microsecond'"
        for instant in (query.since, query.until)
    )
    conditions = [f"started >= {since}", f"started < {until}"]
    for column, value in (
        ("tenant", query.tenant),
        ("provider", query.provider),
        ("content_type", query.content_type),
        ("campaign", query.campaign),
    ):
        if value is not None:
            conditions.append(f"{column} = {statement.bind(value)}::text")
    if query.model is not None:
        model = f"{statement.bind(query.model)}::text"
        conditions.append(f"(model = {model} OR provider || '/' || model = {model})")
    selected = ", ".join([*columns, "*"])
    return f"(SELECT {selected} FROM analytics.attempts WHERE {' AND '.join(conditions)})"


def _group_keys(query: Query) -> list[str]:
    return [f"g{i}" for i in range(len(query.group_by))]


def _keys(query: Query) -> list[str]:
    return [*(["bucket"] if query.interval is not None else []), *_group_keys(query)]


def _listed(keys: Iterable[str]) -> str:
    return "".join(f"{key}, " for key in keys)


def _grouped_and_ordered(keys: Sequence[str]) -> str:
    listed = ", ".join(keys)
    return f"GROUP BY {listed} ORDER BY {listed} LIMIT {MAX_ROWS + 1}" if keys else ""


def _error_column(error: ErrorClass | None) -> str:
    return f"error_{error.value if error is not None else 'unspecified'}"


def _group(query: Query, record: asyncpg.Record) -> Group:
    bucket = record["bucket"].timestamp() if query.interval is not None else None
    return Group(tuple(record[key] for key in _group_keys(query)), bucket)


def _check_row_count(rows: Sequence[_Row]) -> Sequence[_Row]:
    if len(rows) > MAX_ROWS:
        raise FailedPrecondition(
            f"The answer has more than {MAX_ROWS} rows: ask for a shorter range, wider buckets or fewer groups",
            reason="TOO_MANY_ROWS",
        )
    return rows


def _cost_row(query: Query, record: asyncpg.Record, group: Group) -> CostRow:
    accuracy = UsageAccuracy.EXACT
    if record["any_uncertain"]:
        accuracy = UsageAccuracy.UNCERTAIN
    elif record["any_estimated"]:
        accuracy = UsageAccuracy.ESTIMATED
    return CostRow(
        group=group,
        cost_micro_usd=int(record["cost"] or 0),
        estimated_micro_usd=int(record["estimated"] or 0),
        uncertain_micro_usd=int(record["uncertain"] or 0),
        usage=Usage(
            input_tokens=int(record["input_tokens"] or 0),
            output_tokens=int(record["output_tokens"] or 0),
            cache_read_tokens=int(record["cache_read_tokens"] or 0),
            cache_write_tokens=int(record["cache_write_tokens"] or 0),
            reasoning_tokens=int(record["reasoning_tokens"] or 0),
            accuracy=accuracy,
        ),
        attempts=record["attempts"],
        requests=record["requests"],
    )


_NOTHING = CostRow(Group(), 0, 0, 0, Usage(), 0, 0)
