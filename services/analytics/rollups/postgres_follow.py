"""Follows a commit: changes the rollups of five minutes, and wider ones for what comes late.

Most requests of a commit are fresh: one attempt, and none before. One look at the index tells them from the others;
they count by themselves, and nothing is there to be subtracted.
"""

# ruff: noqa: S608 -- SQL is put together from the constants of `tables`; all else is a parameter.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.analytics.database.postgres_database import Connection
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_attempts import CASTS, COLUMNS
from services.analytics.ledger.postgres_ledger import Changes, Replaced
from services.analytics.rollups.contributions_sql import (
    ATTEMPTS_OF,
    CROWD,
    add_sql,
    counted_alone_sql,
    counted_sql,
)

_COMMIT = """
    UPDATE analytics.rollup_state SET last_commit = clock_timestamp(),
        last_lag_us = greatest(0, extract(epoch FROM clock_timestamp() - $1::timestamptz) * 1000000)::bigint
"""
_NAMES = [name for name, _, _ in COLUMNS]


def _given(first: int) -> str:
    """Returns the SELECT of attempts that are parameters, an array a column, from the parameter `first` on."""
    arrays = ", ".join(f"${i}::{kind}[]" for i, (_, kind, _) in enumerate(COLUMNS, first))
    columns = ", ".join(f"{CASTS.get(name, name)} AS {name}" for name in _NAMES)
    return f"SELECT {columns} FROM unnest({arrays}) AS given ({', '.join(_NAMES)})"


_OF_REQUESTS = f"SELECT {', '.join(_NAMES)} FROM analytics.attempts WHERE request_id = ANY($1::text[])"
#: Attempts of the requests $1 as they were before those named in $2 were written; from $3 on: the replaced ones.
_BEFORE = f"""(
    {_OF_REQUESTS} AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS written (id) WHERE id = attempt_id)
    UNION ALL {_given(3)}
) AS attempts"""
_SUBTRACT = add_sql(counted_sql(_BEFORE), sign="-1")
_SUBTRACT_ALONE = add_sql(counted_alone_sql(f"({_given(1)}) AS attempts"), sign="-1")
#: The attempts of the requests $1, and as a request each those named in $2, and those of the ids $3. The bounds of
#: what is named choose its partitions.
_ADD = add_sql(
    " UNION ALL ".join(
        (
            counted_sql(f"({_OF_REQUESTS}) AS attempts"),
            counted_alone_sql(
                "(SELECT * FROM analytics.attempts WHERE attempt_id = ANY($2::text[]) "
                "AND attempt_id >= (SELECT min(id) FROM unnest($2::text[]) AS named (id)) "
                "AND attempt_id <= (SELECT max(id) FROM unnest($2::text[]) AS named (id))) AS attempts"
            ),
            counted_alone_sql(
                "(SELECT * FROM analytics.attempts WHERE request_id = ANY($3::text[])) AS attempts"
            ),
        )
    )
)
#: One look at the index for those of the ids $1 that have more than one attempt, and more than CROWD, as far as $2
#: attempts show it.
_SEVERAL = f"""
    WITH found AS MATERIALIZED (
        SELECT request_id FROM analytics.attempts WHERE request_id = ANY($1::text[]) LIMIT $2
    )
    SELECT (SELECT count(*) FROM found) AS seen,
        ARRAY(SELECT request_id FROM found GROUP BY request_id HAVING count(*) > 1) AS several,
        ARRAY(SELECT request_id FROM found GROUP BY request_id HAVING count(*) > {CROWD}) AS crowded
"""
#: Looks at the index for a commit: the first may meet crowded ids, which the next leaves out.
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Requests:
    """The request ids of a commit by how their attempts count."""

    #: One attempt came, and none was there.
    fresh: frozenset[str]
    #: Had attempts before, which counted together.
    known: list[str] = field(default_factory=list)
    #: Their attempts count together now.
    together: list[str] = field(default_factory=list)
    #: Their attempts counted together, and each by itself from now on.
    grown: list[str] = field(default_factory=list)
    #: Their attempts counted each by itself already.
    crowded: set[str] = field(default_factory=set)


async def follow_changes(connection: Connection, changes: Changes) -> None:
    """Subtracts what the requests of a commit contributed before it, and adds what they contribute now. The row of
    the marks is locked first."""
    before = [change.before for change in changes.replaced]
    after = [*changes.inserted, *(change.after for change in changes.replaced)]
    if not after:
        return
    oldest_end = min(attempt.started + (attempt.latency or 0.0) for attempt in after)
    await connection.execute(_COMMIT, datetime.fromtimestamp(oldest_end, UTC))
    requests = await _look_up(connection, changes)
    if requests.known:
        replaced = [attempt for attempt in before if attempt.request_id not in requests.crowded]
        written = [attempt.attempt_id for attempt in after]
        await connection.execute(_SUBTRACT, requests.known, written, *_arrays(replaced))
    replaced_alone = [attempt for attempt in before if attempt.request_id in requests.crowded]
    if replaced_alone:
        await connection.execute(_SUBTRACT_ALONE, *_arrays(replaced_alone))
    alone = requests.crowded | requests.fresh
    written_alone = [attempt.attempt_id for attempt in after if attempt.request_id in alone]
    await connection.execute(_ADD, requests.together, written_alone, requests.grown)


async def _look_up(connection: Connection, changes: Changes) -> Requests:
    """Finds out how many attempts each request of a commit has, and had before."""
    came = Counter(attempt.request_id for attempt in changes.inserted)
    left: Counter[str] = Counter()
    for change in changes.replaced:
        moved = change.before.request_id != change.after.request_id
        came[change.after.request_id] += moved
        left[change.before.request_id] += moved
    found = Requests(await fresh_requests(connection, came, changes.replaced))
    others = sorted((came.keys() | left.keys()) - found.fresh)
    if not others:
        return found
    for row in await connection.fetch(ATTEMPTS_OF, others, [came[request] for request in others]):
        request, attempts = row["id"], row["attempts"]
        attempts_before = attempts - came[request] + left[request]
        if attempts_before > CROWD:
            found.crowded.add(request)
            continue
        if attempts_before:
            found.known.append(request)
        (found.grown if attempts > CROWD else found.together).append(request)
    return found


async def fresh_requests(
    connection: Connection, came: Mapping[str, int], replaced: Sequence[Replaced]
) -> frozenset[str]:
    """Returns ids of which one attempt came, and none was there before: all of them, or none where the index has too
    many more attempts of some."""
    of_replaced = {attempt.request_id for change in replaced for attempt in (change.before, change.after)}
    once = frozenset(request for request, times in came.items() if times == 1) - of_replaced
    for _ in range(_LOOKS):
        if not once:
            break
        most = 2 * len(once) + CROWD
        row = await connection.fetchrow(_SEVERAL, sorted(once), most)
        assert row is not None, "a SELECT without FROM gives a row"
        if row["seen"] < most:
            return once.difference(row["several"])
        once = once.difference(row["crowded"])
    return frozenset()


def _arrays(attempts: Sequence[Attempt]) -> list[list[object]]:
    return [[value(attempt) for attempt in attempts] for _, _, value in COLUMNS]
