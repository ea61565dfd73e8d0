"""Measures the live summary: what watchers of `WatchSummary` cost under traffic.

python -m bench.summary [--rows 100000] [--watchers 0 1 100] [--seconds 10]

A real `python -m services.analytics` on a real PostgreSQL with so many attempts of the last 7 days, made as
`bench.analytics` makes them; a commit of 20 attempts comes ten times a second. Prints for each number of watchers the
CPU of both processes a second (0 watchers: traffic alone), updates a watcher and second, and
kilobytes an update; last the same as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from bench.analytics import SETTINGS, batches, rebuild
from bench.ledger import cpu_seconds, family_cpu_seconds, service
from bench.support.attempts import Arrival, load, own_shape, prepare
from dev.engines import postgres
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations

COMMITS_A_SECOND, ATTEMPTS_A_COMMIT = 10, 20
#: Over which the attempts lie.
DAYS = 7


async def send(stub: analytics_pb2_grpc.AnalyticsAsyncStub, seconds: float, arrivals: list[Arrival]) -> None:
    """Sends the traffic, one commit after the other."""
    call = stub.RecordUsage()
    end = time.monotonic() + seconds
    stream = random.randrange(2**31)
    while time.monotonic() < end:
        began, stream = time.monotonic(), stream + 1
        (batch,) = batches(stream, ATTEMPTS_A_COMMIT, ATTEMPTS_A_COMMIT, arrivals)
        await call.write(batch)
        await call.read()
        await asyncio.sleep(max(0.0, began + 1 / COMMITS_A_SECOND - time.monotonic()))
    await call.done_writing()


@dataclass(slots=True)
class Told:
    """Counts updates of all watchers, and their bytes."""

    updates: int = 0
    size: int = 0


async def watch(stub: analytics_pb2_grpc.AnalyticsAsyncStub, told: Told) -> None:
    """Reads updates until it is cancelled."""
    async for update in stub.WatchSummary(pb.WatchSummaryRequest()):
        told.updates += 1
        told.size += update.ByteSize()


async def cost_of(
    watchers: int, seconds: float, channel: grpc.aio.Channel, cpu: list[int], arrivals: list[Arrival]
) -> dict[str, float]:
    """Returns the figures of so many watchers; `cpu` are the processes whose time counts."""
    stub = analytics_pb2_grpc.AnalyticsStub(channel)
    told = Told()
    tasks = [asyncio.create_task(watch(stub, told)) for _ in range(watchers)]
    await send(stub, 2.0, arrivals)
    told.updates = told.size = 0
    before = [cpu_seconds(cpu[0]), family_cpu_seconds(cpu[1])]
    began = time.perf_counter()
    await send(stub, seconds, arrivals)
    took = time.perf_counter() - began
    used = [cpu_seconds(cpu[0]) - before[0], family_cpu_seconds(cpu[1]) - before[1]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "service_cpu_ms_a_second": round(used[0] / took * 1000, 1),
        "postgres_cpu_ms_a_second": round(used[1] / took * 1000, 1),
        "updates_a_watcher_and_second": round(told.updates / watchers / took, 2) if watchers else 0,
        "kilobytes_an_update": round(told.size / told.updates / 1000, 2) if told.updates else 0,
    }


async def measure(rows: int, numbers: list[int], seconds: float) -> dict[str, dict[str, float]]:
    """Returns the figures of each number of watchers."""
    arrivals = own_shape(random.Random(1))
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(days=DAYS)
    found = {}
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as directory:
        async with postgres(Path(directory), settings=SETTINGS) as server:
            async with Database(server.dsn, read_migrations()) as database:
                await database.prepare()
            await prepare(server.dsn, start, end)
            await load(server.dsn, arrivals, start, end, 0, rows)
            await rebuild(server.dsn)
            async with service(server) as (pid, channel):
                for watchers in numbers:
                    figures = await cost_of(watchers, seconds, channel, [pid, server.pid], arrivals)
                    print(f"{watchers:>5} watchers: {figures}", flush=True)
                    found[str(watchers)] = figures
    return found


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="attempts before the traffic begins")
    parser.add_argument("--watchers", type=int, nargs="+", default=[0, 1, 100], help="one or more numbers")
    parser.add_argument("--seconds", type=float, default=10, help="for each number")
    given = parser.parse_args()
    print(json.dumps({"summary": asyncio.run(measure(given.rows, given.watchers, given.seconds))}))


if __name__ == "__main__":
    main()
