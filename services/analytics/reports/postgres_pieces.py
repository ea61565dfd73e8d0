"""The SQL of the pieces of an answer: each a SELECT of the same keys and sums, from rollups or from attempts. SQL is
put together from closed enums and our own constants only; all else is a parameter."""

# ruff: noqa: S608 -- that rule sees any SQL in an f-string; the sentence above is what keeps it safe.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from services.analytics.reports.query import GroupBy, Interval, Query
from services.analytics.reports.sources import Piece, Source
from services.analytics.rollups.contributions_sql import CROWD, REQUEST, requests_ctes
from services.analytics.rollups.tables import (
    DURATIONS,
    MODELS,
    PAID,
    PROVIDERS,
    SERVED,
    TENANT_PROVIDERS,
    TENANTS,
    Slice,
    Table,
    Width,
)

DIMENSIONS = {
    GroupBy.TENANT: "tenant",
    GroupBy.PROVIDER: "provider",
    GroupBy.MODEL: "provider || '/' || model",
    GroupBy.CONTENT_TYPE: "content_type",
    GroupBy.CAMPAIGN: "campaign",
    GroupBy.ERROR_CLASS: "error_class",
}
_WIDTHS = {
    Source.FIVE_MINUTES: Width.FIVE_MINUTES,
    Source.HOURS: Width.HOUR,
    Source.DAYS: Width.DAY,
    Source.MONTHS: Width.MONTH,
}
#: Attempts of one request begin within so long: those outside of a long range are looked for that far.
REQUEST_SPAN = timedelta(hours=1)
#: Of a range that is no longer, the requests' other attempts are looked for one by one.
_SHORT = timedelta(hours=1)


@dataclass(slots=True)
class Statement:
    """SQL and the values of its $1, $2, …"""

    sql: str = ""
    parameters: list[Any] = field(default_factory=list)

    def bind(self, value: object) -> str:
        """Adds a parameter; returns its placeholder."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"


def dimensions_of(query: Query) -> frozenset[GroupBy]:
    """Returns the dimensions that the query groups or filters by, labels left out."""
    return frozenset(query.group_by) | filters_of(query)


def filters_of(query: Query) -> frozenset[GroupBy]:
    """Returns the dimensions that the query filters by."""
    filters = {
        GroupBy.TENANT: query.tenant,
        GroupBy.PROVIDER: query.provider,
        GroupBy.MODEL: query.model,
        GroupBy.CONTENT_TYPE: query.content_type,
        GroupBy.CAMPAIGN: query.campaign,
    }
    return frozenset(dimension for dimension, value in filters.items() if value is not None)


#: The tables of all sums, those with the fewest rows first, and their dimensions.
_TABLES = (
    (PROVIDERS, {GroupBy.PROVIDER, GroupBy.MODEL}),
    (MODELS, {GroupBy.CONTENT_TYPE, GroupBy.PROVIDER, GroupBy.MODEL}),
    (TENANTS, {GroupBy.TENANT, GroupBy.CONTENT_TYPE}),
    (TENANT_PROVIDERS, {GroupBy.TENANT, GroupBy.PROVIDER}),
    (SERVED, {GroupBy.TENANT, GroupBy.CONTENT_TYPE, GroupBy.PROVIDER, GroupBy.MODEL}),
)
_PAID = {GroupBy.TENANT, GroupBy.CAMPAIGN}


def table_of(query: Query, *, money: bool) -> Table | None:
    """Returns the rollup that has the query's dimensions; None: attempts alone do. `money`: no outcomes are asked
    for."""
    dimensions = dimensions_of(query)
    # A request may have tried two models of one name, which counts once; in a total over all groups too.
    several = (
        query.model is not None and "/" not in query.model and (money or GroupBy.MODEL not in query.group_by)
    )
    if query.by_labels or several:
        return None
    for table, has in _TABLES:
        if dimensions <= has:
            return table
    return PAID if money and dimensions <= _PAID else None


def slice_of(query: Query) -> Slice | None:
    """Returns the histograms that have the query's dimensions; None: attempts alone do."""
    dimensions = dimensions_of(query)
    if dimensions <= {GroupBy.PROVIDER, GroupBy.MODEL} and GroupBy.MODEL in dimensions:
        return Slice.MODEL
    return {
        frozenset[GroupBy](): Slice.ALL,
        frozenset({GroupBy.PROVIDER}): Slice.PROVIDER,
        frozenset({GroupBy.TENANT}): Slice.TENANT,
        frozenset({GroupBy.CONTENT_TYPE}): Slice.CONTENT_TYPE,
    }.get(dimensions)


def level_of(dimensions: frozenset[GroupBy]) -> str:
    """Returns the level (of `tables.LEVELS`) at which requests are counted once for these dimensions."""
    if GroupBy.MODEL in dimensions:
        return "model_"
    return "provider_" if GroupBy.PROVIDER in dimensions else ""


def keys_of(query: Query) -> list[str]:
    """Returns the names of the key columns: bucket, then groups."""
    return [*(["bucket"] if query.interval is not None else []), *group_keys(query)]


def group_keys(query: Query) -> list[str]:
    """Returns the names of the columns of groups."""
    return [f"g{i}" for i in range(len(query.group_by) + (query.group_by_label is not None))]


def rollup_piece(
    query: Query,
    statement: Statement,
    piece: Piece,
    table: Table,
    sums: Mapping[str, str],
    *,
    more_keys: Sequence[str] = (),
) -> str:
    """Returns the SELECT of a piece from a rollup; `sums` maps names to its columns, `more_keys` are keys beside the
    query's."""
    keys = [*_key_columns(query, statement, "bucket", {}), *more_keys]
    selected = ", ".join([*keys, *(f"sum({column})::bigint AS {name}" for name, column in sums.items())])
    return f"SELECT {selected} {_rollup_rows(query, statement, piece, table, {})}{_group_by(len(keys))}"


def histograms_piece(query: Query, statement: Statement, piece: Piece, slice_: Slice) -> str:
    """Returns the SELECT of a piece's histograms: keys, measure, bins and counts, several rows for a group."""
    columns = {GroupBy.TENANT: "name", GroupBy.CONTENT_TYPE: "name", GroupBy.PROVIDER: "name"}
    if slice_ is Slice.MODEL:
        columns[GroupBy.MODEL] = "name || '/' || model"
    keys = ", ".join([*_key_columns(query, statement, "bucket", columns), "measure"])
    rows = _rollup_rows(query, statement, piece, DURATIONS, columns)
    return f"SELECT {keys}, bins, counts {rows} AND slice = {slice_.value}"


def _rollup_rows(
    query: Query, statement: Statement, piece: Piece, table: Table, columns: Mapping[GroupBy, str]
) -> str:
    conditions = [
        f"width = {_WIDTHS[piece.source]}",
        f"bucket >= {statement.bind(piece.since)}::timestamptz",
        f"bucket < {statement.bind(piece.until)}::timestamptz",
        *_conditions(query, statement, columns),
    ]
    return f"FROM analytics.{table.name} WHERE {' AND '.join(conditions)}"


def attempts_piece(query: Query, statement: Statement, piece: Piece, sums: Mapping[str, str]) -> str:
    """Returns the SELECT of a piece from attempts; `sums` maps names to aggregates of `attempts_sql`."""
    summed = [f"{aggregate} AS {name}" for name, aggregate in sums.items()]
    selected = ", ".join([*keys_of(query), *summed])
    source = attempts_sql(query, statement, piece, said=any("first" in sql for sql in sums.values()))
    return f"SELECT {selected} FROM {source} AS rows{_group_by(len(keys_of(query)))}"


def attempts_sql(query: Query, statement: Statement, piece: Piece, *, said: bool = False) -> str:
    """Returns the attempts of a piece with their keys, and where `said` is True with what they say of their requests:
    `first` is the one that a request is counted by in its group, `total_first` over all groups."""
    since, until = (f"{statement.bind(at)}::timestamptz" for at in (piece.since, piece.until))
    in_piece = f"started >= {since} AND started < {until}"
    conditions = _conditions(query, statement, {})
    keys = ", ".join([*_key_columns(query, statement, "started", {}), "*"])
    if not said:
        return f"(SELECT {keys} FROM analytics.attempts WHERE {' AND '.join([in_piece, *conditions])})"
    all_attempts = "FROM analytics.attempts WHERE"
    where = "".join(f" AND {condition}" for condition in conditions)
    if piece.until - piece.since <= _SHORT:
        with_requests = f"WITH {requests_ctes(f'{in_piece}{where}')}"
        attempts = (
            f"SELECT {keys}, NULL AS alone FROM of_requests WHERE true{where} UNION ALL "
            f"SELECT {keys}, attempt_id {all_attempts} {in_piece}{where} "
            "AND request_id = ANY(ARRAY(SELECT id FROM crowds))"
        )
    else:
        margin = f"{statement.bind(REQUEST_SPAN)}::interval"
        reach = f"started >= {since} - {margin} AND started < {until} + {margin}"
        crowds = f"SELECT request_id {all_attempts} {reach} GROUP BY request_id HAVING count(*) > {CROWD}"
        alone = f"CASE WHEN request_id = ANY(ARRAY({crowds})) THEN attempt_id END AS alone"
        with_requests = ""
        attempts = f"SELECT {keys}, {alone} {all_attempts} {reach}{where}"
    order = "ORDER BY started, attempt_number, attempt_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
    of_group = ", ".join([REQUEST, "alone", *group_keys(query)])
    return f"""({with_requests}
        SELECT * FROM (
            SELECT *,
                first_value(attempt_id) OVER of_group = attempt_id AS first,
                first_value(attempt_id) OVER of_all = attempt_id AS total_first,
                bool_or(outcome = 'success') OVER of_group AS answered,
                bool_or(outcome = 'failure') OVER of_group AS failed,
                bool_or(outcome = 'success' AND attempt_number > 1) OVER of_group AS failed_over
            FROM ({attempts}) AS attempts
            WINDOW of_group AS (PARTITION BY {of_group} {order}), of_all AS (PARTITION BY {REQUEST}, alone {order})
        ) AS said WHERE {in_piece}
    )"""


def attempt_keys(query: Query, statement: Statement) -> list[str]:
    """Returns the key columns of an attempt, with their names."""
    return _key_columns(query, statement, "started", {})


def attempt_conditions(query: Query, statement: Statement) -> list[str]:
    """Returns the conditions of the query's filters on an attempt."""
    return _conditions(query, statement, {})


def union(pieces: Sequence[str]) -> str:
    """Returns the rows of all pieces as a source."""
    return f"({' UNION ALL '.join(pieces)}) AS pieces"


def _key_columns(
    query: Query, statement: Statement, instant: str, columns: Mapping[GroupBy, str]
) -> list[str]:
    found = []
    if query.interval is Interval.FIVE_MINUTES:
        found.append(f"date_bin('5 minutes', {instant}, timestamptz 'epoch') AS bucket")
    elif query.interval is not None:
        zone = statement.bind(query.time_zone)
        found.append(f"date_trunc('{query.interval.value}', {instant}, {zone}::text) AS bucket")
    groups = [columns.get(dimension, DIMENSIONS[dimension]) for dimension in query.group_by]
    if query.group_by_label is not None:
        groups.append(f"coalesce(labels ->> {statement.bind(query.group_by_label)}::text, '')")
    return [*found, *(f"{sql} AS g{i}" for i, sql in enumerate(groups))]


def _group_by(keys: int) -> str:
    # By place: the name of a key may be that of a column as well.
    return f" GROUP BY {', '.join(str(i) for i in range(1, keys + 1))}" if keys else ""


def _conditions(query: Query, statement: Statement, columns: Mapping[GroupBy, str]) -> list[str]:
    found = []
    for dimension, value in (
        (GroupBy.TENANT, query.tenant),
        (GroupBy.PROVIDER, query.provider),
        (GroupBy.CONTENT_TYPE, query.content_type),
        (GroupBy.CAMPAIGN, query.campaign),
    ):
        if value is not None:
            column = columns.get(dimension, DIMENSIONS[dimension])
            found.append(f"{column} = {statement.bind(value)}::text")
    if query.model is not None:
        model = f"{statement.bind(query.model)}::text"
        qualified = columns.get(GroupBy.MODEL, DIMENSIONS[GroupBy.MODEL])
        found.append(f"(model = {model} OR {qualified} = {model})")
    for key, value in query.labels.items():
        found.append(f"labels ->> {statement.bind(key)}::text = {statement.bind(value)}::text")
    return found
