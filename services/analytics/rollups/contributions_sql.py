"""The SQL of what attempts contribute to the rollup tables."""

# ruff: noqa: S608 -- SQL is put together from the constants of `tables`; all else is a parameter.

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.analytics.rollups.histogram import bin_sql
from services.analytics.rollups.tables import DURATIONS, LEVELS, SERVED, TABLES, Measure, Slice, Table, Width

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


#: For each of the request ids $1 (text[]) the number of its attempts, counted up to CROWD and one more beyond its
#: share of $2 (integer[]).
ATTEMPTS_OF = f"""
    SELECT id, (
        SELECT count(*) FROM (
            SELECT FROM analytics.attempts WHERE request_id = id LIMIT {CROWD + 1} + written
        ) AS found
    ) AS attempts
    FROM unnest($1::text[], $2::integer[]) AS asked (id, written)
"""
#: More than the attempts of a step of a rebuild, or of an hour that a question reads, unless ids are crowded.
_FOUND = 300_000


def requests_ctes(within: str, most: int = _FOUND) -> str:
    """Returns the CTEs that find the requests which have attempts that meet the condition `within`: `crowds`, the ids
    with more than CROWD attempts, and `of_requests`, all attempts of the others. They are found by an array, which
    their index takes in one go; a join would read whole tables, and to look at each id takes ten times as long.
    `most`: attempts that are read so; where there are more, each id is looked at."""
    attempts = "FROM analytics.attempts WHERE"
    whole = "(SELECT whole FROM is_whole)"
    return f"""
        ids AS MATERIALIZED (SELECT request_id AS id, count(*) AS n {attempts} {within} GROUP BY request_id),
        found AS MATERIALIZED (
            SELECT * {attempts} request_id = ANY(ARRAY(SELECT id FROM ids WHERE n <= {CROWD})) LIMIT {most}
        ),
        is_whole AS MATERIALIZED (SELECT count(*) < {most} AS whole FROM found),
        crowds AS MATERIALIZED (
            SELECT id FROM ids WHERE n > {CROWD}
            UNION SELECT request_id FROM found GROUP BY request_id HAVING count(*) > {CROWD}
            UNION SELECT id FROM ids WHERE NOT {whole} AND {crowded_sql("id")}
        ),
        of_requests AS MATERIALIZED (
            SELECT * FROM found
            WHERE {whole} AND NOT EXISTS (SELECT FROM crowds WHERE id = request_id)
            UNION ALL SELECT * {attempts} NOT {whole} AND request_id = ANY(
                ARRAY(SELECT id FROM ids WHERE NOT EXISTS (SELECT FROM crowds WHERE crowds.id = ids.id))
            )
        )
    """


_IN_RANGE = "started >= $1 AND started < $2"
#: The attempts that began in [$1, $2), and all others of their requests. Most requests have one attempt, which needs
#: no window.
COUNTED_OF_RANGE = f"""
    WITH {requests_ctes(_IN_RANGE)}, shared AS MATERIALIZED (
        SELECT request_id AS id FROM of_requests GROUP BY request_id HAVING count(*) > 1
    )
    {
    counted_sql("(SELECT * FROM of_requests WHERE EXISTS (SELECT FROM shared WHERE id = request_id)) AS one")
}
    UNION ALL {
    counted_alone_sql(
        "(SELECT * FROM of_requests WHERE NOT EXISTS (SELECT FROM shared WHERE id = request_id)) AS one"
    )
}
    UNION ALL {
    counted_alone_sql(
        f"(SELECT * FROM analytics.attempts WHERE {_IN_RANGE} AND EXISTS (SELECT FROM crowds) "
        "AND request_id = ANY(ARRAY(SELECT id FROM crowds))) AS one"
    )
}
"""

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


def add_sql(
    counted: str,
    *,
    sign: str = "1",
    where: str = "true",
    widths: Iterable[Width] = Width,
    into_empty: bool = False,
) -> str:
    """Returns the statement that adds what the attempts of a SELECT (see `counted_sql`) that meet `where` contribute,
    times `sign`, to the rows of all tables that count them now, which is read from `rollup_state`. The tables of all
    sums are added up from those of the one with most dimensions. `into_empty`: there are no rows to add to, which
    takes a fifth less."""
    cells = " UNION ALL ".join(
        # A bucket takes longer to compute than the condition, which few widths meet.
        f"SELECT {width} AS width, {_BUCKETS[width]} AS bucket, counted.* "
        f"FROM counted, analytics.rollup_state AS state WHERE {_COUNTS_IN[width]} AND {where}"
        for width in widths
    )
    inserts = ", ".join(f"to_{table.name} AS ({_insert(table, sign, into_empty)})" for table in TABLES)
    return f"""
        WITH counted AS MATERIALIZED ({counted}), placed AS MATERIALIZED ({cells}),
        served AS MATERIALIZED ({_summed("placed", SERVED, sign)}),
        {inserts}
        SELECT count(*) FROM placed
    """


def _summed(source: str, table: Table, sign: str) -> str:
    """Returns the rows of a table that has sums, times `sign`."""
    keys = ", ".join(("width", "bucket", *table.keys))
    sums = ", ".join(f"{sign} * {sql} AS {name}" for name, sql in table.sums.items())
    return f"SELECT {keys}, {sums} FROM {source} WHERE {table.where} GROUP BY {keys}"


def _insert(table: Table, sign: str, into_empty: bool) -> str:
    keys = ", ".join(("width", "bucket", *table.keys))
    columns = "bins, counts" if table is DURATIONS else ", ".join(table.sums)
    if table is DURATIONS:
        rows = _histograms_of("placed", ("width", "bucket"), sign)
    elif table is SERVED:
        rows = f"SELECT {keys}, {columns} FROM served"
    elif table.sums is SERVED.sums:
        rows = (
            f"SELECT {keys}, {', '.join(f'sum({name})' for name in table.sums)} FROM served GROUP BY {keys}"
        )
    else:
        rows = _summed("placed", table, sign)
    added = "" if into_empty else on_conflict_add(table)
    return f"INSERT INTO analytics.{table.name} AS kept ({keys}, {columns}) {rows} {added}"


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
        recount = _histograms_of("placed", ("bucket",), "1")
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
                    SELECT unnest(kept.bins || excluded.bins) AS bin, unnest(kept.counts || excluded.counts) AS n
                ) AS both_sides GROUP BY bin
            ) AS summed WHERE n <> 0
        )"""
    else:
        added = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in table.sums)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {added}"


def fold_sql(table: Table, source: Width, targets: Sequence[Width]) -> str:
    """Returns the statement that adds the rows of a width in [$1, $2) to those of wider ones, whose buckets are $3
    and following."""
    keys = ", ".join(table.keys)
    rows = f"FROM analytics.{table.name} WHERE width = {source} AND bucket >= $1 AND bucket < $2"
    if table is DURATIONS:
        columns = "bins, counts"
        # Bins are counted by the number of their group: comparing names would take longest.
        summed = f"""
            WITH numbered AS MATERIALIZED (
                SELECT {keys}, bins, counts, dense_rank() OVER (ORDER BY {keys}) AS number {rows}
            ), histograms AS MATERIALIZED (
                SELECT number, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
                FROM (
                    SELECT number, bin, sum(n)::integer AS n
                    FROM (SELECT number, unnest(bins) AS bin, unnest(counts) AS n FROM numbered) AS one
                    GROUP BY number, bin
                ) AS summed WHERE n <> 0 GROUP BY number
            )
            SELECT {keys}, histograms.bins, histograms.counts
            FROM histograms JOIN (SELECT DISTINCT number, {keys} FROM numbered) AS named USING (number)
        """
    else:
        columns = ", ".join(table.sums)
        sums = ", ".join(f"sum({name})::bigint AS {name}" for name in table.sums)
        summed = f"SELECT {keys}, {sums} {rows} GROUP BY {keys}"
    inserts = ", ".join(
        f"to_{target} AS (INSERT INTO analytics.{table.name} AS kept (width, bucket, {keys}, {columns}) "
        f"SELECT {target}, ${i}::timestamptz, {keys}, {columns} FROM summed {on_conflict_add(table)})"
        for i, target in enumerate(targets, 3)
    )
    return f"WITH summed AS MATERIALIZED ({summed}), {inserts} SELECT count(*) FROM summed"


#: The columns that name each slice; a slice comes before those whose columns are among its own.
_SLICES = {
    Slice.MODEL: ("model", "provider"),
    Slice.PROVIDER: ("provider",),
    Slice.TENANT: ("tenant",),
    Slice.CONTENT_TYPE: ("content_type",),
    Slice.ALL: (),
}


def _histograms_of(source: str, keys: Sequence[str], sign: str) -> str:
    """Returns the rows of histograms of a source's attempts by `keys`: those, slice, name, model, measure, bins and
    counts times `sign`. Bins are gathered first and counted group by group: to sort all by names takes longest."""
    sets = ", ".join(f"({', '.join((*keys, *columns))})" for columns in _SLICES.values())
    slices = " ".join(
        f"WHEN GROUPING({columns[0]}) = 0 THEN {slice_}" for slice_, columns in _SLICES.items() if columns
    )
    listed = ", ".join(keys)
    return f"""
        SELECT {listed}, slice, coalesce(provider, tenant, content_type, ''), coalesce(model, ''), measure,
            histogram.bins, histogram.counts
        FROM (
            SELECT {listed}, provider, model, tenant, content_type,
                CASE {slices} ELSE {Slice.ALL} END AS slice,
                array_agg({bin_sql("latency_us")}) FILTER (WHERE latency_us IS NOT NULL) AS latencies,
                array_agg({bin_sql("ttft_us")}) FILTER (WHERE streamed AND ttft_us IS NOT NULL) AS first_tokens
            FROM {source} WHERE outcome = 'success' GROUP BY GROUPING SETS ({sets})
        ) AS gathered,
        LATERAL (
            VALUES ({Measure.LATENCY}, latencies), ({Measure.FIRST_TOKEN}, first_tokens)
        ) AS measured (measure, found),
        LATERAL (
            SELECT array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
            FROM (SELECT bin, {sign} * count(*)::integer AS n FROM unnest(found) AS bin GROUP BY bin) AS one
        ) AS histogram
        WHERE found IS NOT NULL
    """
