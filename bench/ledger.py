"""Measures how many usage events a second the ledger takes.

python -m bench.ledger [--events N] [--batch N] [--streams N]

A real `python -m services.analytics` on a real PostgreSQL; routers' streams come from this process. Prints JSON last:
events per second of wall clock, per second of the service's CPU (one core), and of PostgreSQL's CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc
from pointsman.types.v1 import types_pb2

from dev.engines import Postgres, postgres
from dev.engines.child import free_port
from libs.ids import TimeOrderedIds
from libs.rpc.channel import connect

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Returns the user and system time of a process and of its children that have ended (proc(5), fields 14 to
    17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def family_cpu_seconds(pid: int) -> float:
    """Returns the same with the children that live."""
    found = 0.0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        # One that ends meanwhile is counted with its parent, which is read last.
        with suppress(FileNotFoundError, ProcessLookupError):
            found += cpu_seconds(int(child))
    return found + cpu_seconds(pid)


@asynccontextmanager
async def service(server: Postgres) -> AsyncIterator[tuple[int, grpc.aio.Channel]]:
    """Starts the service; yields its process id and a channel to it."""
    port = free_port()
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([".", "gen"]),
        "POINTSMAN_ANALYTICS_LISTEN": f"127.0.0.1:{port}",
        "POINTSMAN_ANALYTICS_POSTGRES_DSN": server.dsn,
        "POINTSMAN_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.analytics", env=environment
    )
    channel = connect(f"127.0.0.1:{port}")
    try:
        await asyncio.wait_for(channel.channel_ready(), 30)
        yield process.pid, channel
    finally:
        await channel.close()
        process.terminate()
        await process.wait()


def requests_of(stream: int, events: int, batch: int) -> list[pb.RecordUsageRequest]:
    """Returns the requests of one stream, made beforehand: what is measured is the service."""
    now, ids = int(time.time()), TimeOrderedIds(Random())
    made = []
    for start in range(0, events, batch):
        request = pb.RecordUsageRequest(reporter_id=f"bench-{stream}", sequence=start // batch + 1)
        for number in range(start, min(start + batch, events)):
            request.events.add(
                attempt_id=ids.make(now + number / 1000),
                request_id=ids.make(now + number / 1000),
                attempt_number=1,
                tenant=f"tenant-{number % 50}",
                content_type="product_description",
                provider=("openai", "anthropic", "gemini")[number % 3],
                model="model-1",
                started=Timestamp(seconds=now, nanos=number * 1000 % 1_000_000_000),
                latency=Duration(seconds=1, nanos=number),
                time_to_first_token=Duration(nanos=200_000_000),
                outcome=pb.OUTCOME_SUCCESS,
                http_status=200,
                usage=types_pb2.Usage(
                    input_tokens=812, output_tokens=240, accuracy=types_pb2.USAGE_ACCURACY_EXACT
                ),
                cost=types_pb2.Money(micro_usd=4430),
                finish_reason=types_pb2.FINISH_REASON_STOP,
                streamed=True,
                trace_id=os.urandom(16).hex(),
            )
        made.append(request)
    return made


async def deliver(stub: analytics_pb2_grpc.AnalyticsAsyncStub, requests: list[pb.RecordUsageRequest]) -> None:
    """Sends one router's stream: the next batch goes out when the last one is acknowledged."""
    call = stub.RecordUsage()
    for request in requests:
        await call.write(request)
        response = await call.read()
        assert isinstance(response, pb.RecordUsageResponse)
        assert not response.rejected, response.rejected[0]
    await call.done_writing()


async def measure(events: int, batch: int, streams: int) -> dict[str, float | int]:
    """Returns all figures of one run."""
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as directory:
        async with postgres(Path(directory)) as server, service(server) as (pid, channel):
            stub = analytics_pb2_grpc.AnalyticsStub(channel)
            await deliver(stub, requests_of(0, 2000, batch))
            work = [requests_of(stream, events // streams, batch) for stream in range(streams)]
            cpu, database_cpu, began = cpu_seconds(pid), family_cpu_seconds(server.pid), time.perf_counter()
            await asyncio.gather(*(deliver(stub, requests) for requests in work))
            seconds = time.perf_counter() - began
            cpu, database_cpu = cpu_seconds(pid) - cpu, family_cpu_seconds(server.pid) - database_cpu
            total = (await stub.GetCosts(pb.GetCostsRequest())).total
            sent = events // streams * streams
            assert total.attempts == sent + 2000, (
                f"{total.attempts} in the ledger, {sent + 2000} acknowledged"
            )
            return {
                "events": sent,
                "batch": batch,
                "streams": streams,
                "events_per_second": round(sent / seconds),
                "events_per_service_core_second": round(sent / cpu),
                "service_cpu_us_per_event": round(cpu / sent * 1e6, 1),
                "postgres_cpu_us_per_event": round(database_cpu / sent * 1e6, 1),
            }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=60_000, help="of all streams together")
    parser.add_argument("--batch", type=int, default=200, help="events in a message")
    parser.add_argument("--streams", type=int, default=4, help="routers that report at the same time")
    given = parser.parse_args()
    print(json.dumps({"ledger": asyncio.run(measure(given.events, given.batch, given.streams))}))


if __name__ == "__main__":
    main()
