"""Savings and costs of failovers, from attempts in PostgreSQL.

Rollups do not have them: an answer is compared with the attempts before it, and its price with what was estimated for
the target that was left. So the requests with a failed attempt are looked at one by one, of a month at most.
"""

# ruff: noqa: S608 -- SQL is put together from closed enums and our own constants only; all else is a parameter.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from libs.errors import FieldViolation, InvalidArgument
from services.analytics.reports.postgres_pieces import (
    REQUEST_SPAN,
    Statement,
    attempt_conditions,
    attempt_keys,
    keys_of,
)
from services.analytics.reports.postgres_rows import group_of, page_of
from services.analytics.reports.postgres_statements import SHARES, after_sql, limit_of
from services.analytics.reports.query import Query
from services.analytics.reports.report import Basis, FailoverReport, FailoverRow, Quantiles
from services.analytics.reports.sources import Piece, attempts_of
from services.analytics.rollups.contributions_sql import CROWD, REQUEST

#: The longest range, seconds.
MAX_RANGE: Final = 31 * 86_400.0
_COLUMNS: Final = (
    "attempt_id, attempt_number, request_id, tenant, campaign, content_type, labels, provider, model, started, "
    "outcome, error_class, cost_micro_usd"
)
_TARGET: Final = "provider || '/' || model"


def failover_piece(query: Query) -> Piece:
    """Returns the piece of an answer. Raises InvalidArgument for a range of more than MAX_RANGE."""
    if query.until - query.since > MAX_RANGE:
        raise InvalidArgument(
            [FieldViolation("query.from_time", "must be at most 31 days before to_time for failovers")]
        )
    return attempts_of(query)


def failover_statement(query: Query, piece: Piece) -> Statement:
    """Returns the statement for one row per group of the requests whose first attempt failed."""
    statement = Statement()
    begin, end = (f"{statement.bind(at)}::timestamptz" for at in (piece.since, piece.until))
    margin = f"{statement.bind(REQUEST_SPAN)}::interval"
    reach = f"started >= {begin} - {margin} AND started < {end} + {margin}"
    # Of a request all attempts are looked at, of whatever provider.
    whole = replace(query, provider=None, model=None)
    of_first = replace(query, tenant=None, content_type=None, campaign=None, labels={})
    where = "".join(f" AND {condition}" for condition in attempt_conditions(whole, statement))
    first = "".join(f" AND {condition}" for condition in attempt_conditions(of_first, statement))
    keys = keys_of(query)
    listed = ", ".join(keys)
    shares = ", ".join(map(str, SHARES))
    statement.sql = f"""
        WITH failing AS MATERIALIZED (
            SELECT DISTINCT request_id FROM analytics.attempts WHERE {reach} AND outcome = 'failure'{where}
        ), near AS (
            SELECT {_COLUMNS}, count(*) OVER (PARTITION BY request_id) AS times
            FROM analytics.attempts WHERE {reach} AND request_id IN (SELECT request_id FROM failing)
        ), told AS (
            SELECT *, {_TARGET} AS target, first_value(attempt_id) OVER of_request AS first
            FROM near WHERE times <= {CROWD}{where}
            WINDOW of_request AS (PARTITION BY {REQUEST} ORDER BY started, attempt_number, attempt_id)
        ), firsts AS (
            SELECT * FROM told
            WHERE attempt_id = first AND outcome = 'failure' AND started >= {begin} AND started < {end}{first}
        ), answers AS (
            SELECT DISTINCT ON ({REQUEST}) {REQUEST}, target, started, cost_micro_usd AS cost FROM told
            WHERE outcome = 'success' ORDER BY {REQUEST}, started, attempt_number, attempt_id
        ), failed AS (
            SELECT {REQUEST}, sum(cost_micro_usd) AS cost, array_agg(target) AS targets,
                coalesce(sum(cost_micro_usd) FILTER (WHERE attempt_id <> first), 0) AS cost_beyond
            FROM told WHERE outcome = 'failure' GROUP BY {REQUEST}
        ), seen AS (
            SELECT firsts.*, failed.cost AS failed_cost, failed.cost_beyond, answers.cost AS answer_cost,
                answers.target AS answered_by, answers.started - firsts.started AS added,
                coalesce(answers.target <> ALL(failed.targets), false) AS saved,
                answers.target IS NULL AND firsts.target <> ANY(failed.targets) AS in_vain
            FROM firsts JOIN failed USING ({REQUEST}) LEFT JOIN answers USING ({REQUEST})
        ), priced AS (
            SELECT seen.*, CASE WHEN estimated.there > 0 AND estimated.here > 0
                THEN answer_cost - answer_cost * estimated.there / estimated.here END AS dearer
            FROM seen LEFT JOIN LATERAL (
                SELECT max((one->>8)::numeric) FILTER (WHERE one->>0 = seen.target) AS there,
                    max((one->>8)::numeric) FILTER (WHERE one->>0 = seen.answered_by) AS here
                FROM (
                    SELECT candidates FROM analytics.requests
                    WHERE request_id = seen.request_id AND tenant = seen.tenant AND started <= seen.started
                    ORDER BY started DESC LIMIT 1
                ) AS decided, jsonb_array_elements(decided.candidates) AS one
            ) AS estimated ON seen.saved
        ), keyed AS (SELECT {", ".join([*attempt_keys(query, statement), "priced.*"])} FROM priced)
        SELECT * FROM (
            SELECT {listed + "," if listed else ""} count(*) AS requests,
                count(*) FILTER (WHERE saved) AS saved, count(*) FILTER (WHERE in_vain) AS in_vain,
                coalesce(sum(CASE WHEN saved THEN failed_cost WHEN in_vain THEN cost_beyond END), 0) AS failed_cost,
                coalesce(extract(epoch FROM sum(added) FILTER (WHERE saved)), 0) AS added_latency,
                percentile_disc(ARRAY[{shares}]) WITHIN GROUP (ORDER BY extract(epoch FROM added))
                    FILTER (WHERE saved) AS added,
                coalesce(round(sum(dearer)), 0) AS dearer, count(dearer) AS compared
            FROM keyed {f"GROUP BY {listed}" if listed else ""}
        ) AS summed
        WHERE requests <> 0 AND {after_sql(query, statement)}
        {f"ORDER BY {listed}" if listed else ""} LIMIT {limit_of(query)}
    """
    return statement


def failover_report(query: Query, records: Sequence[asyncpg.Record], basis: Basis) -> FailoverReport:
    """Reads the rows of `failover_statement`."""
    shown, following = page_of(query, [_row(query, record) for record in records])
    return FailoverReport(shown, basis, following)


def _row(query: Query, record: asyncpg.Record) -> FailoverRow:
    return FailoverRow(
        group=group_of(query, record),
        requests=record["requests"],
        saved=record["saved"],
        in_vain=record["in_vain"],
        failed_micro_usd=int(record["failed_cost"]),
        added_latency=float(record["added_latency"]),
        added=None if record["added"] is None else Quantiles(*map(float, record["added"])),
        dearer_micro_usd=int(record["dearer"]),
        compared=record["compared"],
    )
