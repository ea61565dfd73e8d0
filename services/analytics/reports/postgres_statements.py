"""Turns queries and the pieces of their answers into statements."""

# ruff: noqa: S608 -- SQL is put together from closed enums and our own constants only; all else is a parameter.

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.analytics.reports.postgres_pieces import (
    Statement,
    attempts_piece,
    attempts_sql,
    dimensions_of,
    filters_of,
    histograms_piece,
    keys_of,
    level_of,
    rollup_piece,
    slice_of,
    table_of,
    union,
)
from services.analytics.reports.query import MAX_ROWS, GroupBy, Query
from services.analytics.reports.sources import Piece, Source
from services.analytics.rollups.contributions_sql import histograms_sql
from services.analytics.rollups.histogram import bin_sql
from services.analytics.rollups.tables import (
    COUNTS,
    FAILURES,
    MODEL_FAILURES,
    MONEY,
    OUTCOMES,
    SPEED,
    TOKENS,
    Measure,
    Table,
    request_sums,
)

#: The shares of `Quantiles`.
SHARES = (0.5, 0.9, 0.95, 0.99)
_REQUESTS = request_sums("")
_COSTS = {**MONEY, **TOKENS, **COUNTS, "requests": _REQUESTS["requests"]}
_PERFORMANCE = {
    "attempts": COUNTS["attempts"],
    "successes": OUTCOMES["successes"],
    **SPEED,
    "requests": _REQUESTS["requests"],
    "failovers": _REQUESTS["failovers"],
}
_RELIABILITY = {"attempts": COUNTS["attempts"], **OUTCOMES, **_REQUESTS}
_TOTAL_REQUESTS = {"total_requests": "count(*) FILTER (WHERE total_first)::integer"}


def costs_rolled_up(query: Query) -> bool:
    """Returns True if a rollup has what `cost_statement` needs."""
    return table_of(query, money=True) is not None


def performance_rolled_up(query: Query) -> bool:
    """Returns True if rollups have what `performance_statement` and `quantiles_statement` need."""
    return table_of(query, money=False) is not None and slice_of(query) is not None


def reliability_rolled_up(query: Query) -> bool:
    """Returns True if rollups have what `reliability_statement` and `errors_statement` need."""
    return table_of(query, money=False) is not None


def cost_statement(query: Query, pieces: Sequence[Piece], dearest: int | None = None) -> Statement:
    """Returns the statement for rows of the groups, and one of the whole (`is_total` not 0) that comes first.
    `dearest`: see `Reports.costs`."""
    statement = Statement()
    keys = keys_of(query)
    source = _summed(query, statement, pieces, table_of(query, money=True), _COSTS, total=True)
    sums = _sums([*_COSTS, *_TOTAL_REQUESTS])
    if not keys:
        statement.sql = f"SELECT 1 AS is_total, {sums} FROM {source}"
        return statement
    listed = ", ".join(keys)
    statement.sql = f"""
        SELECT * FROM (
            SELECT {listed}, GROUPING({listed}) AS is_total, {sums} FROM {source}
            GROUP BY GROUPING SETS (({listed}), ())
        ) AS summed
        WHERE is_total <> 0 OR (attempts <> 0 AND {after_sql(query, statement)})
        ORDER BY is_total DESC, {"cost DESC, " if dearest is not None else ""}{listed}
        LIMIT {limit_of(query) if dearest is None else dearest} + 1
    """
    return statement


def performance_statement(query: Query, pieces: Sequence[Piece]) -> Statement:
    """Returns the statement for one row per group, quantiles left out."""
    return _rows_statement(query, pieces, _PERFORMANCE)


def reliability_statement(query: Query, pieces: Sequence[Piece]) -> Statement:
    """Returns the statement for one row per group, classes of errors left out."""
    return _rows_statement(query, pieces, _RELIABILITY)


def _rows_statement(query: Query, pieces: Sequence[Piece], sums: Mapping[str, str]) -> Statement:
    statement = Statement()
    source = _summed(query, statement, pieces, table_of(query, money=False), sums)
    listed = ", ".join(keys_of(query))
    grouped = f"GROUP BY {listed}" if listed else ""
    statement.sql = f"""
        SELECT * FROM (SELECT {listed + "," if listed else ""} {_sums(sums)} FROM {source} {grouped}) AS summed
        WHERE attempts <> 0 AND {after_sql(query, statement)}
        {f"ORDER BY {listed}" if listed else ""} LIMIT {limit_of(query)}
    """
    return statement


def errors_statement(query: Query, pieces: Sequence[Piece]) -> Statement:
    """Returns the statement for the failed attempts of each group and class of error."""
    statement = Statement()
    keys = ", ".join([*keys_of(query), "class"])
    table = MODEL_FAILURES if dimensions_of(query) <= {GroupBy.PROVIDER, GroupBy.MODEL} else FAILURES
    parts = []
    for piece in pieces:
        if piece.source is Source.ATTEMPTS:
            parts.append(
                f"SELECT {_listed(query)} error_class AS class, count(*) AS failures "
                f"FROM {attempts_sql(query, statement, piece)} AS rows WHERE outcome = 'failure' GROUP BY {keys}"
            )
        else:
            sums = {"failures": "failures"}
            parts.append(
                rollup_piece(query, statement, piece, table, sums, more_keys=("error_class AS class",))
            )
    statement.sql = f"""
        SELECT {keys}, sum(failures)::bigint AS failures FROM {union(parts)}
        WHERE {after_sql(query, statement)} GROUP BY {keys} HAVING sum(failures) <> 0
    """
    return statement


def quantiles_statement(query: Query, pieces: Sequence[Piece]) -> Statement:
    """Returns the statement for the distributions of each group and measure: where the only piece is of attempts,
    `values` are the quantiles in microseconds, else `bins` and `counts` are histograms to add up, which takes a
    fifth of the time outside of the database."""
    statement = Statement()
    keys = ", ".join([*keys_of(query), "measure"])
    measured = (
        f"(VALUES ({Measure.LATENCY}, latency_us, latency_us IS NOT NULL), "
        f"({Measure.FIRST_TOKEN}, ttft_us, streamed AND ttft_us IS NOT NULL)) AS measured (measure, value, known)"
    )
    known = "outcome = 'success' AND known"
    if exact_quantiles(pieces):
        shares = ", ".join(map(str, SHARES))
        statement.sql = f"""
            SELECT {keys}, percentile_disc(ARRAY[{shares}]) WITHIN GROUP (ORDER BY value) AS values
            FROM {attempts_sql(query, statement, pieces[0])} AS rows, LATERAL {measured}
            WHERE {known} AND {after_sql(query, statement)} GROUP BY {keys}
        """
        return statement
    slice_ = slice_of(query)
    parts = []
    for piece in pieces:
        if piece.source is Source.ATTEMPTS:
            one = (
                f"SELECT {keys}, {bin_sql('value')} AS bin, 1 AS n "
                f"FROM {attempts_sql(query, statement, piece)} AS rows, LATERAL {measured} WHERE {known}"
            )
            parts.append(histograms_sql(keys, one))
        else:
            assert slice_ is not None, "only questions with a slice have pieces of rollups"
            parts.append(histograms_piece(query, statement, piece, slice_))
    statement.sql = f"""
        SELECT * FROM ({" UNION ALL ".join(parts)}) AS pieces ({keys}, bins, counts)
        WHERE {after_sql(query, statement)}
    """
    return statement


def exact_quantiles(pieces: Sequence[Piece]) -> bool:
    """Returns True if `quantiles_statement` gives values that occurred."""
    return len(pieces) == 1 and pieces[0].source is Source.ATTEMPTS


def _summed(
    query: Query,
    statement: Statement,
    pieces: Sequence[Piece],
    table: Table | None,
    sums: Mapping[str, str],
    *,
    total: bool = False,
) -> str:
    """Returns the source of all pieces' sums."""
    parts = []
    level = level_of(dimensions_of(query))
    for piece in pieces:
        if piece.source is Source.ATTEMPTS:
            parts.append(
                attempts_piece(query, statement, piece, {**sums, **(_TOTAL_REQUESTS if total else {})})
            )
        else:
            assert table is not None, "only questions with a table have pieces of rollups"
            columns = {name: f"{level}{name}" if name in _REQUESTS else name for name in sums}
            if total:
                columns["total_requests"] = f"{level_of(filters_of(query))}requests"
            parts.append(rollup_piece(query, statement, piece, table, columns))
    return union(parts)


def _sums(names: Mapping[str, str] | Sequence[str]) -> str:
    return ", ".join(f"coalesce(sum({name}), 0)::bigint AS {name}" for name in names)


def _listed(query: Query) -> str:
    return "".join(f"{key}, " for key in keys_of(query))


def limit_of(query: Query) -> int:
    """Returns one row more than there may be, which tells that there are more."""
    return (MAX_ROWS if query.page_size is None else query.page_size) + 1


def after_sql(query: Query, statement: Statement) -> str:
    """Returns the condition for rows of this page and later ones."""
    after = query.after
    keys = keys_of(query)
    if after is None or not keys:
        return "true"
    values = [f"{statement.bind(value)}::text" for value in after.values]
    if after.bucket is not None:
        micros = statement.bind(round(after.bucket * 1e6))
        values.insert(0, f"timestamptz 'epoch' + {micros}::bigint * interval '1 microsecond'")
    return f"({', '.join(keys)}) > ({', '.join(values)})"
