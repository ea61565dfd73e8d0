"""Measures analytics at millions of attempts: every question of a dashboard, and ingestion, with rollups on.

python -m bench.analytics [--rows 1000000 10000000] [--days 120] [--trace FILE] [--data DIRECTORY]

A real `python -m services.analytics` on a real PostgreSQL. Attempts are generated in SQL over the days that end now,
tenants, campaigns, content types and models; arrivals within an hour, and tokens, are those of the trace (CSV:
TIMESTAMP,ContextTokens,GeneratedTokens), without one of an own shape: bursts, and log-normal tokens. Days have a
daily and weekly rhythm, and 4 % of requests fail over. Rollups are counted by the rebuild that a first start runs.
Prints for each size: seconds to load and to rebuild, milliseconds of each question (p50, p95, and CPU of both
processes), what it was computed from, and attempts a second with CPU a row; then how all of it grows from the
smallest to the largest; last the same as JSON. 1 and 10 million take a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc
from pointsman.types.v1 import types_pb2

from bench.ledger import cpu_seconds, deliver, family_cpu_seconds, service
from bench.support.attempts import (
    CAMPAIGNS_OF_TENANT,
    CONTENT_TYPES,
    MODELS,
    TENANTS,
    Arrival,
    load,
    own_shape,
    prepare,
    read_trace,
)
from dev.engines import Postgres, postgres
from libs.ids import TimeOrderedIds
from services.analytics.database.postgres_database import Database, PoolOptions
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.rollups.postgres_rollups import PostgresRollups

#: PostgreSQL's own settings for a server of this size; the rest are defaults.
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}
ROUNDS = 20


async def rebuild(dsn: str) -> float:
    """Counts the rollups as a first start does; returns the seconds."""
    began = time.perf_counter()
    async with Database(dsn, read_migrations(), PoolOptions(write_timeout=600.0)) as database:
        await database.prepare()
        rollups = PostgresRollups(database)
        await rollups.rebuild()
        while await rollups.rebuild_step():
            pass
        while await rollups.fold(time.time()):
            pass
        while await rollups.forget(time.time()):
            pass
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("VACUUM (ANALYZE, PARALLEL 0)", timeout=3600)
    finally:
        await connection.close()
    return time.perf_counter() - began


Ask: TypeAlias = "Callable[[analytics_pb2_grpc.AnalyticsAsyncStub], Awaitable[pb.Basis]]"


def _costs(query: pb.Query, *, compare: bool = False) -> Ask:
    async def ask(stub: analytics_pb2_grpc.AnalyticsAsyncStub) -> pb.Basis:
        return (await stub.GetCosts(pb.GetCostsRequest(query=query, compare=compare))).basis

    return ask


def _performance(query: pb.Query) -> Ask:
    async def ask(stub: analytics_pb2_grpc.AnalyticsAsyncStub) -> pb.Basis:
        return (await stub.GetPerformance(pb.GetPerformanceRequest(query=query))).basis

    return ask


def _reliability(query: pb.Query) -> Ask:
    async def ask(stub: analytics_pb2_grpc.AnalyticsAsyncStub) -> pb.Basis:
        return (await stub.GetReliability(pb.GetReliabilityRequest(query=query))).basis

    return ask


def questions(now: datetime) -> dict[str, Ask]:
    """Returns what a dashboard asks."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def back(days: int) -> Timestamp:
        return Timestamp(seconds=int((today - timedelta(days=days)).timestamp()))

    month = Timestamp(seconds=int(today.replace(day=1).timestamp()))
    provider, model, tenant = pb.GROUP_BY_PROVIDER, pb.GROUP_BY_MODEL, pb.GROUP_BY_TENANT
    campaign, content_type = pb.GROUP_BY_CAMPAIGN, pb.GROUP_BY_CONTENT_TYPE
    points, hour, day = pb.INTERVAL_FIVE_MINUTES, pb.INTERVAL_HOUR, pb.INTERVAL_DAY
    q = pb.Query
    costs = {
        "of the last 24 hours by provider": q(group_by=[provider]),
        "of the month to date": q(from_time=month),
        "of the month by tenant": q(from_time=month, group_by=[tenant]),
        "of 30 days by provider and day": q(from_time=back(30), group_by=[provider], interval=day),
        "of 30 days by model": q(from_time=back(30), group_by=[model]),
        "of 30 days by content type and day": q(from_time=back(30), group_by=[content_type], interval=day),
        "of 30 days by campaign, a page": q(from_time=back(30), group_by=[campaign], page_size=100),
        "of a campaign over 30 days by day": q(from_time=back(30), campaign="campaign-7-3", interval=day),
        "of a tenant over 30 days by model": q(from_time=back(30), tenant="tenant-7", group_by=[model]),
        "of 30 days by tenant and provider": q(from_time=back(30), group_by=[tenant, provider]),
        "of all by month and tenant": q(from_time=back(400), group_by=[tenant], interval=pb.INTERVAL_MONTH),
        "of 24 hours by 5 minutes and provider": q(group_by=[provider], interval=points),
        "of 7 days by hour and provider": q(from_time=back(7), group_by=[provider], interval=hour),
    }
    performance = {
        "of 24 hours by 5 minutes": q(interval=points),
        "of 24 hours by 5 minutes and provider": q(group_by=[provider], interval=points),
        "of 24 hours by model": q(group_by=[model]),
        "of 30 days by model": q(from_time=back(30), group_by=[model]),
        "of 30 days by provider and day": q(from_time=back(30), group_by=[provider], interval=day),
        "of 30 days by tenant": q(from_time=back(30), group_by=[tenant]),
        "of a tenant over 30 days by day": q(from_time=back(30), tenant="tenant-7", interval=day),
    }
    reliability = {
        "of 24 hours by 5 minutes and provider": q(group_by=[provider], interval=points),
        "of 24 hours by tenant": q(group_by=[tenant]),
        "of 30 days by provider and day": q(from_time=back(30), group_by=[provider], interval=day),
        "of 30 days by model": q(from_time=back(30), group_by=[model]),
    }
    compared = q(from_time=back(30), group_by=[provider])
    return {
        **{f"costs {name}": _costs(query) for name, query in costs.items()},
        "costs of 30 days against those before, by provider": _costs(compared, compare=True),
        **{f"performance {name}": _performance(query) for name, query in performance.items()},
        **{f"reliability {name}": _reliability(query) for name, query in reliability.items()},
    }


async def ask_all(
    stub: analytics_pb2_grpc.AnalyticsAsyncStub, pids: Callable[[], float]
) -> dict[str, dict[str, Any]]:
    """Asks each question some times, round after round; returns milliseconds and sources of each."""
    asked = questions(datetime.now(UTC))
    walls: dict[str, list[float]] = {name: [] for name in asked}
    cpu: dict[str, float] = dict.fromkeys(asked, 0.0)
    sources: dict[str, list[str]] = {}
    for round_ in range(ROUNDS + 2):
        for name, ask in asked.items():
            before, began = pids(), time.perf_counter()
            basis = await ask(stub)
            # The first rounds fill the caches, as those of a dashboard that is open are.
            if round_ >= 2:
                walls[name].append((time.perf_counter() - began) * 1000)
                cpu[name] += pids() - before
            sources[name] = [
                pb.Source.Name(source).removeprefix("SOURCE_").lower() for source in basis.computed_from
            ]
    return {
        name: {
            "p50_ms": round(statistics.median(times), 1),
            "p95_ms": round(statistics.quantiles(times, n=20, method="inclusive")[-1], 1),
            "cpu_ms": round(cpu[name] / ROUNDS * 1000, 1),
            "from": sources[name],
        }
        for name, times in walls.items()
    }


def batches(stream: int, events: int, size: int, arrivals: Sequence[Arrival]) -> list[pb.RecordUsageRequest]:
    """Returns the batches of one router's stream, of attempts that begin now."""
    rng = random.Random(stream)
    ids, now = TimeOrderedIds(rng), time.time()
    made = []
    for start in range(0, events, size):
        batch = pb.RecordUsageRequest(reporter_id=f"bench-{stream}", sequence=start // size + 1)
        for number in range(start, min(start + size, events)):
            tenant, (provider, model) = rng.randrange(TENANTS), rng.choice(MODELS)
            arrival = arrivals[number % len(arrivals)]
            latency, started = rng.lognormvariate(0.5, 0.6), now + number / 1e5
            event = batch.events.add(
                attempt_id=ids.make(started),
                request_id=ids.make(started),
                attempt_number=1,
                tenant=f"tenant-{tenant}",
                campaign=f"campaign-{tenant}-{rng.randrange(CAMPAIGNS_OF_TENANT)}",
                content_type=rng.choice(CONTENT_TYPES),
                provider=provider,
                model=model,
                started=Timestamp(seconds=int(started), nanos=int(started % 1 * 1e6) * 1000),
                latency=Duration(seconds=int(latency), nanos=int(latency % 1 * 1e6) * 1000),
                outcome=pb.OUTCOME_SUCCESS,
                http_status=200,
                usage=types_pb2.Usage(
                    input_tokens=arrival.input_tokens,
                    output_tokens=arrival.output_tokens,
                    accuracy=types_pb2.USAGE_ACCURACY_EXACT,
                ),
                cost=types_pb2.Money(micro_usd=arrival.input_tokens * 2 + arrival.output_tokens * 8),
                finish_reason=types_pb2.FINISH_REASON_STOP,
                streamed=True,
            )
            event.time_to_first_token.nanos = int(min(0.999, latency / 4) * 1e9)
        made.append(batch)
    return made


async def ingest(
    stub: analytics_pb2_grpc.AnalyticsAsyncStub,
    service_pid: int,
    server: Postgres,
    arrivals: Sequence[Arrival],
) -> dict[str, object]:
    """Sends what four routers have, as fast as it is taken; returns the rate and CPU a row."""
    streams, events = 4, 25_000
    await deliver(stub, batches(99, 4000, 500, arrivals))
    work = [batches(stream, events, 500, arrivals) for stream in range(streams)]
    cpu, database = cpu_seconds(service_pid), family_cpu_seconds(server.pid)
    began = time.perf_counter()
    await asyncio.gather(*(deliver(stub, mine) for mine in work))
    seconds, sent = time.perf_counter() - began, streams * events
    cpu, database = cpu_seconds(service_pid) - cpu, family_cpu_seconds(server.pid) - database
    return {
        "attempts_per_second": round(sent / seconds),
        "service_cpu_us_per_attempt": round(cpu / sent * 1e6, 1),
        "postgres_cpu_us_per_attempt": round(database / sent * 1e6, 1),
        "attempts_per_second_by_cpu_of_2_cores": round(2 / ((cpu + database) / sent)),
    }


async def measure(
    sizes: Sequence[int], days: int, arrivals: Sequence[Arrival], directory: Path
) -> dict[str, Any]:
    """Returns all figures of each size."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(days=days)
    found: dict[str, object] = {}
    async with postgres(directory, settings=SETTINGS) as server:
        async with Database(server.dsn, read_migrations()) as database:
            await database.prepare()
        await prepare(server.dsn, start, end)
        loaded = 0
        for size in sorted(sizes):
            figures: dict[str, Any] = {
                "load_seconds": round(await load(server.dsn, arrivals, start, end, loaded, size))
            }
            before = cpu_seconds(server.pid)
            figures["rebuild_seconds"] = round(await rebuild(server.dsn))
            # That of its connections, which have ended.
            spent = cpu_seconds(server.pid) - before
            figures["rebuild_cpu_us_per_attempt"] = round(spent / size * 1e6, 1)
            loaded = size
            print(f"{size} attempts over {days} days: {figures}", flush=True)
            async with service(server) as (pid, channel):
                stub = analytics_pb2_grpc.AnalyticsStub(channel)

                def cpu(pid: int = pid) -> float:
                    return cpu_seconds(pid) + family_cpu_seconds(server.pid)

                asked = await ask_all(stub, cpu)
                figures["ingestion"] = await ingest(stub, pid, server, arrivals)
            figures["questions"] = asked
            slow = [name for name, times in asked.items() if times["p95_ms"] >= 100]
            print(f"  {len(slow)} of {len(asked)} questions at 100 ms or more (p95)")
            for name, times in asked.items():
                sources = ", ".join(map(str, times["from"]))
                print(
                    f"  {name:52} p50 {times['p50_ms']:>7} ms  p95 {times['p95_ms']:>7} ms  "
                    f"CPU {times['cpu_ms']:>6} ms  {sources}"
                )
            print(f"  ingestion: {figures['ingestion']}", flush=True)
            found[str(size)] = figures
    return found


def growth(figures: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of the largest ledger over those of the smallest."""
    few, many = (figures[str(size)] for size in (min(map(int, figures)), max(map(int, figures))))
    return {
        "of": int(max(map(int, figures)) / min(map(int, figures))),
        "postgres_cpu_per_attempt": _ratio(many, few, "ingestion", "postgres_cpu_us_per_attempt"),
        "service_cpu_per_attempt": _ratio(many, few, "ingestion", "service_cpu_us_per_attempt"),
        "rebuild_cpu_per_attempt": _ratio(many, few, "rebuild_cpu_us_per_attempt"),
        "question_cpu": {name: _ratio(many, few, "questions", name, "cpu_ms") for name in few["questions"]},
        "question_cpu_of_all": round(
            sum(q["cpu_ms"] for q in many["questions"].values())
            / sum(q["cpu_ms"] for q in few["questions"].values()),
            2,
        ),
    }


def _ratio(many: Any, few: Any, *path: str) -> float | None:
    """Returns None where the smaller one is too small to be measured."""
    for name in path:
        many, few = many[name], few[name]
    return round(many / few, 2) if few else None


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1_000_000], help="attempts, one or more sizes"
    )
    parser.add_argument("--days", type=int, default=120, help="over which they lie")
    parser.add_argument("--trace", type=Path, help="CSV with TIMESTAMP,ContextTokens,GeneratedTokens")
    parser.add_argument(
        "--data", type=Path, help="directory for PostgreSQL's data; kept. Default: a temporary one"
    )
    given = parser.parse_args()
    arrivals = read_trace(given.trace) if given.trace else own_shape(random.Random(1))
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as temporary:
        directory = given.data or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        figures = asyncio.run(measure(given.rows, given.days, arrivals, directory))
        if len(figures) > 1:
            print(f"growth: {growth(figures)}")
        print(json.dumps({"analytics": figures}))


if __name__ == "__main__":
    main()
