"""The SQL of what attempts contribute to the rollup tables."""

# ruff: noqa: S608 -- SQL is put together from the constants of `tables`; all else is a parameter.

from __future__ import annotations

from collections.abc import Iterable

from services.analytics.rollups.histogram import bin_sql
from services.analytics.rollups.tables import DURATIONS, LEVELS, TABLES, Measure, Slice, Table, Width

#: Columns of an attempt that any sum is made of.
_COLUMNS = (
    "tenant, campaign, content_type, provider, model, started, outcome, error_class, accuracy, cost_micro_usd, "
    "cache_saving_micro_usd, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, "
    "latency_us, ttft_us, streamed, hedge"
)
#: Two tenants may name their requests alike.
REQUEST = "request_id, tenant, campaign, content_type"


#: Attempts of one request id up to which they are looked at together: some callers give every request the same id,
#: and a commit of theirs would read all that went before. With more, each counts as a request of its own.
CROWD = 64


def counted_sql(source: str) -> str:
    """Returns the SELECT of attempts with what they say of their requests. `source` must hold all attempts of each
    request that it holds one of."""
    said = []
    windows = []
    for level, columns in LEVELS.items():
        window = f"{level or 'request_'}window"
        partition = ", ".join((REQUEST, *columns))
        windows.append(
            f"{window} AS (PARTITION BY {partition} ORDER BY started, attempt_number, attempt_id "
            "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
        )
        said += [
            f"first_value(attempt_id) OVER {window} = attempt_id AS {level}first",
            f"bool_or(outcome = 'success') OVER {window} AS {level}answered",
            f"bool_or(outcome = 'failure') OVER {window} AS {level}failed",
            f"bool_or(outcome = 'success' AND attempt_number > 1) OVER {window} AS {level}failed_over",
        ]
    return f"SELECT {_COLUMNS}, {', '.join(said)} FROM {source} WINDOW {', '.join(windows)}"


def counted_alone_sql(source: str) -> str:
    """Returns the same SELECT of attempts that are a request each."""
    said = [
        f"true AS {level}first, outcome = 'success' AS {level}answered, outcome = 'failure' AS {level}failed, "
        f"outcome = 'success' AND attempt_number > 1 AS {level}failed_over"
        for level in LEVELS
    ]
    return f"SELECT {_COLUMNS}, {', '.join(said)} FROM {source}"


def crowded_sql(request_id: str) -> str:
    """Returns the condition that an id has more than CROWD attempts."""
    return f"EXISTS (SELECT FROM analytics.attempts WHERE request_id = {request_id} OFFSET {CROWD})"


#: Those of the request ids $1 (text[]) that have more than CROWD attempts; `before`: without the attempts $2 (text[])
#: too.
CROWDED = f"""
    SELECT id, EXISTS (
        SELECT FROM analytics.attempts WHERE request_id = id AND attempt_id <> ALL($2::text[]) OFFSET {CROWD}
    ) AS before
    FROM unnest($1::text[]) AS asked (id) WHERE {crowded_sql("id")}
"""
_IN_RANGE = "started >= $1 AND started < $2"
_IDS_IN_RANGE = f"SELECT DISTINCT request_id AS id FROM analytics.attempts WHERE {_IN_RANGE}"
_CROWDS_IN_RANGE = f"SELECT id FROM ({_IDS_IN_RANGE}) AS ids WHERE {crowded_sql('id')}"
_OTHERS_IN_RANGE = f"SELECT id FROM ({_IDS_IN_RANGE}) AS ids WHERE NOT {crowded_sql('id')}"
#: The attempts that began in [$1, $2), and all others of their requests. By arrays, which find them by their index; a
#: join would read whole tables.
COUNTED_OF_RANGE = " UNION ALL ".join(
    (
        counted_sql(
            f"(SELECT * FROM analytics.attempts WHERE request_id = ANY(ARRAY({_OTHERS_IN_RANGE}))) AS attempts"
        ),
        counted_alone_sql(
            f"(SELECT * FROM analytics.attempts WHERE {_IN_RANGE} AND request_id = ANY(ARRAY({_CROWDS_IN_RANGE}))) "
            "AS attempts"
        ),
    )
)

_BUCKETS = {
    Width.FIVE_MINUTES: "date_bin('5 minutes', started, timestamptz 'epoch')",
    Width.HOUR: "date_trunc('hour', started, 'UTC')",
    Width.DAY: "date_trunc('day', started, state.zone)",
    Width.MONTH: "date_trunc('month', started, state.zone)",
}
#: A rebuild counts what it has not reached from attempts, so a commit must not.
_REBUILT = "NOT coalesce(started >= state.rebuild_next AND started < state.rebuild_until, false)"
#: The attempts that rows of a width count, by the marks of `rollup_state`.
_COUNTS_IN = {
    Width.FIVE_MINUTES: f"started >= state.kept_from AND {_REBUILT}",
    Width.HOUR: f"started < state.hours_until AND {_REBUILT}",
    Width.DAY: "started < state.days_until",
    Width.MONTH: "started < state.days_until",
}


def add_sql(counted: str, *, sign: str = "1", where: str = "true", widths: Iterable[Width] = Width) -> str:
    """Returns the statement that adds what the attempts of a SELECT (see `counted_sql`) that meet `where` contribute,
    times `sign`, to the rows of all tables that count them now, which is read from `rollup_state`."""
    cells = ", ".join(f"({width}, {_COUNTS_IN[width]}, {_BUCKETS[width]})" for width in widths)
    inserts = ", ".join(f"to_{table.name} AS ({_insert(table, sign)})" for table in TABLES)
    return f"""
        WITH counted AS MATERIALIZED ({counted}),
        placed AS MATERIALIZED (
            SELECT cell.width, cell.bucket, counted.*
            FROM counted, analytics.rollup_state AS state,
                LATERAL (VALUES {cells}) AS cell (width, counts, bucket)
            WHERE cell.counts AND {where}
        ),
        {inserts}
        SELECT count(*) FROM placed
    """


def _insert(table: Table, sign: str) -> str:
    keys = ", ".join(("width", "bucket", *table.keys))
    if table is DURATIONS:
        rows = histograms_sql(keys, f"SELECT {keys}, bin, {sign} AS n FROM {_measured_sql('placed')}")
        columns = "bins, counts"
    else:
        sums = ", ".join(f"{sign} * {sql}" for sql in table.sums.values())
        rows = f"SELECT {keys}, {sums} FROM placed WHERE {table.where} GROUP BY {keys}"
        columns = ", ".join(table.sums)
    return f"INSERT INTO analytics.{table.name} AS kept ({keys}, {columns}) {rows} {on_conflict_add(table)}"


def histograms_sql(keys: str, source: str) -> str:
    """Returns the SELECT of keys, bins and counts; `source` is one of keys, `bin` and `n`, the attempts to add."""
    return f"""
        SELECT {keys}, array_agg(bin ORDER BY bin), array_agg(n ORDER BY bin)
        FROM (SELECT {keys}, bin, sum(n)::integer AS n FROM ({source}) AS one GROUP BY {keys}, bin) AS summed
        WHERE n <> 0 GROUP BY {keys}
    """


def difference_sql(table: Table, width: Width) -> str:
    """Returns the statement that counts the rows of a width in which a table and a recount of [$1, $2) differ."""
    keys = ", ".join(("bucket", *table.keys))
    if table is DURATIONS:
        recount = histograms_sql(keys, f"SELECT {keys}, bin, 1 AS n FROM {_measured_sql('placed')}")
        columns = "bins, counts"
    else:
        sums = ", ".join(table.sums.values())
        recount = f"SELECT {keys}, {sums} FROM placed WHERE {table.where} GROUP BY {keys}"
        columns = ", ".join(table.sums)
    stored = f"""
        SELECT {keys}, {columns} FROM analytics.{table.name}
        WHERE width = {width} AND bucket >= $1 AND bucket < $2 AND {table.filled} > 0
    """
    return f"""
        WITH placed AS MATERIALIZED (
            SELECT {width} AS width, {_BUCKETS[width]} AS bucket, counted.*
            FROM ({COUNTED_OF_RANGE}) AS counted WHERE {_IN_RANGE}
        ), recount AS ({recount}), stored AS ({stored})
        SELECT count(*) FROM (
            (SELECT * FROM recount EXCEPT ALL SELECT * FROM stored)
            UNION ALL (SELECT * FROM stored EXCEPT ALL SELECT * FROM recount)
        ) AS differing
    """


def on_conflict_add(table: Table) -> str:
    """Returns the clause that adds to a row that is there."""
    keys = ", ".join(("width", "bucket", *table.keys))
    if table is DURATIONS:
        added = """(bins, counts) = (
            SELECT coalesce(array_agg(bin ORDER BY bin), '{}'), coalesce(array_agg(n ORDER BY bin), '{}')
            FROM (
                SELECT bin, sum(n)::integer AS n
                FROM (
                    SELECT unnest(kept.bins) AS bin, unnest(kept.counts) AS n
                    UNION ALL SELECT unnest(excluded.bins), unnest(excluded.counts)
                ) AS both_sides GROUP BY bin
            ) AS summed WHERE n <> 0
        )"""
    else:
        added = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in table.sums)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {added}"


def fold_sql(table: Table, source: Width, target: Width, bucket: str) -> str:
    """Returns the statement that adds the rows of a width in [$1, $2) to those of a wider one; `bucket` is the SQL of
    their buckets there."""
    keys = ", ".join(table.keys)
    rows = f"FROM analytics.{table.name} WHERE width = {source} AND bucket >= $1 AND bucket < $2"
    if table is DURATIONS:
        one = f"SELECT {bucket} AS wider, {keys}, unnest(bins) AS bin, unnest(counts) AS n {rows}"
        histograms = histograms_sql(f"wider, {keys}", one)
        summed = f"SELECT {target}, histograms.* FROM ({histograms}) AS histograms"
        columns = "bins, counts"
    else:
        sums = ", ".join(f"sum({name})" for name in table.sums)
        summed = f"SELECT {target}, {bucket} AS wider, {keys}, {sums} {rows} GROUP BY wider, {keys}"
        columns = ", ".join(table.sums)
    into = f"analytics.{table.name} AS kept (width, bucket, {keys}, {columns})"
    return f"INSERT INTO {into} {summed} {on_conflict_add(table)}"


def _measured_sql(source: str) -> str:
    """Returns the successful attempts of a source by slice and measure, with their bins."""
    slices = ", ".join(
        (
            f"({Slice.MODEL}, provider, model)",
            f"({Slice.TENANT}, tenant, '')",
            f"({Slice.CONTENT_TYPE}, content_type, '')",
        )
    )
    return f"""(
        SELECT width, bucket, sliced.slice, sliced.name, sliced.model, measured.measure, measured.bin
        FROM {source},
            LATERAL (VALUES
                ({Measure.LATENCY}, {bin_sql("latency_us")}, latency_us IS NOT NULL),
                ({Measure.FIRST_TOKEN}, {bin_sql("ttft_us")}, streamed AND ttft_us IS NOT NULL)
            ) AS measured (measure, bin, known),
            LATERAL (VALUES {slices}) AS sliced (slice, name, model)
        WHERE outcome = 'success' AND measured.known
    ) AS measured"""
