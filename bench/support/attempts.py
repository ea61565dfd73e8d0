"""Makes attempts by the million, in SQL: arrivals within an hour, and tokens, of a trace or of an own shape."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from services.analytics.database.postgres_partitions import ATTEMPTS, BEHIND, WEEK, keep_partitions

TENANTS, CAMPAIGNS_OF_TENANT = 50, 20
CONTENT_TYPES = ("product_description", "seo", "translation", "support_reply", "email")
MODELS = (
    *(("openai", name) for name in ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "o4-mini")),
    *(("anthropic", name) for name in ("claude-sonnet", "claude-haiku", "claude-opus")),
    *(("gemini", name) for name in ("pro", "flash", "flash-lite")),
    *(("mistral", name) for name in ("large", "small")),
)

#: Attempts $1 to $2, of which every 25th is the second one of the request before; $3 and $4 are hours and the ends of
#: their shares of the load, $5 to $7 arrivals: seconds, input and output tokens, $8 content types, $9 models.
_LOAD = f"""
    WITH numbered AS (
        SELECT i, i / 25 * 24 + least(i % 25, 23) AS request, i % 25 = 24 AS retry, i % 25 = 23 AS fails,
            (hashint8(i) & 65535) / 65536.0 + (hashint8(i + 1000) & 65535) / 65536.0
                + (hashint8(i + 2000) & 65535) / 65536.0 - 1.5 AS spread
        FROM generate_series($1::bigint, $2::bigint) AS i
    ), placed AS (
        SELECT *, (request * 0.6180339887498949)::numeric % 1 AS share,
            1 + (request % cardinality($5::float8[]))::integer AS arrival,
            (hashint8(request) & 2147483647) % {TENANTS} AS tenant,
            (hashint8(request + 7) & 2147483647) % {CAMPAIGNS_OF_TENANT} AS campaign
        FROM numbered
    ), timed AS (
        SELECT *, ($3::timestamptz[])[1 + width_bucket(share::float8, $4::float8[])]
            + interval '1 second' * ($5::float8[])[arrival] AS began,
            interval '1 second' * CASE WHEN retry THEN 2 ELSE 0 END AS later,
            ($6::bigint[])[arrival] AS input, ($7::bigint[])[arrival] AS output,
            string_to_array(($9::text[])[1 + (hashint8(i + 11) & 65535) % cardinality($9::text[])], '/') AS model
        FROM placed
    )
    INSERT INTO analytics.attempts (attempt_id, request_id, attempt_number, tenant, campaign, content_type, provider,
        model, started, latency_us, ttft_us, outcome, error_class, http_status, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, accuracy, cost_micro_usd, finish_reason, streamed,
        hedge, trace_id, rank)
    SELECT 't' || lpad((extract(epoch FROM began + later) * 1000)::bigint::text, 13, '0') || lpad(to_hex(i), 18, '0'),
        't' || lpad((extract(epoch FROM began) * 1000)::bigint::text, 13, '0') || lpad(to_hex(request), 18, '0'),
        CASE WHEN retry THEN 2 ELSE 1 END,
        'tenant-' || tenant, 'campaign-' || tenant || '-' || campaign,
        ($8::text[])[1 + (hashint8(request + 3) & 65535) % cardinality($8::text[])], model[1], model[2],
        began + later,
        (1000000 * exp(spread) * (0.3 + output / 100.0))::bigint, (300000 * exp(spread))::bigint,
        CASE WHEN fails THEN 'failure' WHEN i % 97 = 0 THEN 'cancelled' ELSE 'success' END,
        CASE WHEN fails THEN (ARRAY['overloaded', 'rate_limited', 'timeout'])[1 + i % 3] ELSE '' END,
        CASE WHEN fails THEN 503 ELSE 200 END, input, CASE WHEN fails THEN 0 ELSE output END,
        input / 3, 0, 0, 'exact',
        CASE WHEN fails THEN 0 ELSE input * 2 + output * 8 END, CASE WHEN fails THEN '' ELSE 'stop' END,
        i % 3 <> 0, i % 211 = 0, '', 7
    FROM timed ORDER BY began + later ON CONFLICT DO NOTHING
"""
#: Attempts in one statement.
_CHUNK = 250_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """The second within an hour at which a request comes, and its tokens."""

    second: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> list[Arrival]:
    """Reads arrivals and tokens of a trace, its first hour alone."""
    found: list[Arrival] = []
    first: datetime | None = None
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            # Seven digits of a second; Python reads six.
            instant = datetime.fromisoformat(row["TIMESTAMP"][:26])
            first = first or instant
            second = (instant - first).total_seconds()
            if second >= 3600:
                break
            found.append(Arrival(second, int(row["ContextTokens"]), int(row["GeneratedTokens"])))
    return found


def own_shape(rng: random.Random, size: int = 20_000) -> list[Arrival]:
    """Returns arrivals in bursts, and log-normal tokens."""
    found: list[Arrival] = []
    second = 0.0
    while len(found) < size:
        second += rng.expovariate(1) * 3600 / size * 20
        for _ in range(rng.randrange(1, 40)):
            tokens = round(rng.lognormvariate(6.6, 0.8)), round(rng.lognormvariate(4.9, 0.9))
            found.append(Arrival((second + rng.random()) % 3600, *tokens))
    return found


def hours_of(start: datetime, end: datetime) -> list[tuple[datetime, float, float]]:
    """Returns each hour with its share of the load, a range of [0, 1): more by day, less on Saturday and Sunday."""
    hours = [start + timedelta(hours=n) for n in range(int((end - start) / timedelta(hours=1)))]
    weights = [
        (1.0 if 7 <= hour.hour < 19 else 0.35) * (0.5 if hour.weekday() >= 5 else 1.0) for hour in hours
    ]
    total, passed = sum(weights), 0.0
    found: list[tuple[datetime, float, float]] = []
    for hour, weight in zip(hours, weights, strict=True):
        found.append((hour, passed / total, (passed + weight) / total))
        passed += weight
    return found


async def prepare(dsn: str, start: datetime, end: datetime) -> None:
    """Makes partitions for the past, as they would be there."""
    connection = await asyncpg.connect(dsn)
    try:
        at = start.timestamp() + BEHIND
        while at < end.timestamp() + BEHIND:
            await keep_partitions(connection, [ATTEMPTS], at, None)
            at += WEEK
    finally:
        await connection.close()


async def load(
    dsn: str, arrivals: Sequence[Arrival], start: datetime, end: datetime, first: int, last: int
) -> float:
    """Generates attempts number `first` to `last` - 1; returns the seconds."""
    hours = hours_of(start, end)
    parameters = (
        [hour for hour, _, _ in hours],
        [high for _, _, high in hours[:-1]],
        [a.second for a in arrivals],
        [a.input_tokens for a in arrivals],
        [a.output_tokens for a in arrivals],
        list(CONTENT_TYPES),
        ["/".join(model) for model in MODELS],
    )
    began = time.perf_counter()
    connection = await asyncpg.connect(dsn)
    try:
        for at in range(first, last, _CHUNK):
            await connection.execute(_LOAD, at, min(at + _CHUNK, last) - 1, *parameters, timeout=3600)
        await connection.execute("VACUUM (ANALYZE, PARALLEL 0) analytics.attempts", timeout=3600)
    finally:
        await connection.close()
    return time.perf_counter() - began
