"""Measures what the limiter's Lua costs beside a bare INCR, on one Valkey, in one run; JSON with the ratios, last.

python -m bench.limits [--seconds S] [--tenants N]

Server CPU comes from the process's own accounting (INFO cpu), so the client's cost does not
blur it. `call`: every request waits for its answer, as 8 callers' do. `pipelined`: 100 requests per write, which
amortises the system calls that dominate an INCR and so shows the function at its worst. Five dimensions: requests and
tokens per minute and money per day of a tenant, requests and tokens per minute of a provider.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from redis.asyncio import Redis

from dev.engines.valkey import Valkey, valkey
from libs.clock import SystemClock
from libs.limits import LimitKey, Period, Unit, scope_of
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.ratelimit.ports import Admission, Granted

CALLERS = 8
PIPELINE = 100
PLENTY = 10**9
FEW = 10
LEAST_SECONDS = 0.1
ROUNDS = 8
#: Rounds before, in which the server takes memory again that it gave back when the first records were deleted.
WARM_UP = 2
#: Seconds after which the minutes' limits are idle; the day's not.
IDLE_SECONDS = 120


def tenant_limits(tenant: int) -> tuple[Limit, ...]:
    """Returns the limits of a tenant: five dimensions."""
    scope, provider = scope_of(f"tenant:t{tenant}"), scope_of("provider:openai")
    return (
        Limit(LimitKey(scope, Unit.REQUESTS, Period.MINUTE), PLENTY),
        Limit(LimitKey(scope, Unit.TOTAL_TOKENS, Period.MINUTE), PLENTY),
        Limit(LimitKey(scope, Unit.MICRO_USD, Period.DAY), PLENTY, time_zone="Europe/Berlin"),
        Limit(LimitKey(provider, Unit.REQUESTS, Period.MINUTE), PLENTY),
        Limit(LimitKey(provider, Unit.TOTAL_TOKENS, Period.MINUTE), PLENTY),
    )


def packed(*parts: str | bytes | int | float) -> bytes:
    """Returns one command of the wire protocol."""
    return b"*%d\r\n" % len(parts) + arguments(*parts)


def arguments(*parts: str | bytes | int | float) -> bytes:
    """Returns some arguments of a command."""
    out = []
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(out)


@dataclass(slots=True)
class Cost:
    """Per request, in microseconds."""

    server_cpu: float
    wall: float


class Bench:
    """Sends prepared commands and reads the server's own CPU."""

    def __init__(self, server: Valkey, redis: Redis) -> None:
        self._server = server
        self._redis = redis
        self._password = server.url.split(":")[2].split("@")[0]

    async def cpu(self) -> float:
        """Returns the seconds that the server's main thread has used."""
        info = await self._redis.info("cpu")
        return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port, limit=1 << 24)
        writer.write(packed("AUTH", self._password))
        await reader.readline()
        return reader, writer

    async def run(self, commands: Callable[[], Iterator[bytes]], seconds: float, batch: int) -> Cost:
        """Sends commands for so many seconds. `batch` 1: CALLERS connections, each waiting for its answers; else one,
        `batch` requests per write."""
        source = commands()
        done = 0
        callers = CALLERS if batch == 1 else 1
        streams = [await self._connect() for _ in range(callers)]
        marker = packed("ECHO", "end-of-batch")

        async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                if batch == 1:
                    writer.write(next(source))
                    await _answer(reader)
                else:
                    writer.write(b"".join(next(source) for _ in range(batch)) + marker)
                    await reader.readuntil(b"end-of-batch\r\n")
                done += batch

        cpu, begin = await self.cpu(), time.perf_counter()
        await asyncio.gather(*(call(reader, writer, begin + seconds) for reader, writer in streams))
        wall, spent = time.perf_counter() - begin, await self.cpu() - cpu
        for _, writer in streams:
            writer.close()
        return Cost(spent / done * 1e6, wall / done * 1e6)


async def _answer(reader: asyncio.StreamReader) -> None:
    line = await reader.readline()
    if line[:1] == b"$" and line != b"$-1\r\n":
        await reader.readexactly(int(line[1:]) + 2)
    elif line[:1] == b"-":
        raise RuntimeError(line.decode())


def admission_of(tenant: int, record: str) -> Admission:
    """Returns an admission of five dimensions, kept open to the end of the benchmark: nothing expires in it."""
    return Admission(
        record, "router-1", "print", tenant_limits(tenant), (1, 9, 4, 1, 9), (1, 9, 4, 1, 9), 3600.0, 2, 0
    )


def admissions(store: RedisLimitStore, tenants: int) -> Callable[[], Iterator[bytes]]:
    """Returns endless admissions, round the tenants; each takes a new record. All but the record's name is packed
    beforehand, so that the client costs the same for ten tenants as for many, and the server does not wait for it."""
    now_ms = int(time.time() * 1000)
    prepared = []
    for tenant in range(tenants):
        name, keys, args = store._admit_call(admission_of(tenant, ""), now_ms)
        head = b"*%d\r\n" % (3 + len(keys) + len(args)) + arguments("FCALL", name, len(keys), *keys[:2])
        prepared.append((head, arguments(*keys[3:], *args)))
    prefix = store._keys.record("")

    def endless() -> Iterator[bytes]:
        run = time.monotonic_ns()
        for count in itertools.count():
            head, tail = prepared[count % tenants]
            yield head + arguments(f"{prefix}{run}-{count}") + tail

    return endless


def increments() -> Iterator[bytes]:
    """Yields endless INCRs, the yardstick."""
    command = packed("INCR", "{bench}counter")
    while True:
        yield command


@dataclass(slots=True)
class EmptyServer:
    """A server of its own, empty at first, that keeps nothing on disk."""

    redis: Redis
    bench: Bench
    store: RedisLimitStore


@asynccontextmanager
async def empty_server() -> AsyncIterator[EmptyServer]:
    """Starts such a server; ends it afterwards."""
    async with valkey() as server:
        redis = connect(server.url, 60)
        await redis.config_set("appendonly", "no")
        store = RedisLimitStore(Functions(redis), "bench", SystemClock(), trust=True)
        await store.beat(())
        yield EmptyServer(redis, Bench(server, redis), store)
        await redis.aclose()


async def measure(seconds: float, tenants: int) -> dict[str, object]:
    """Returns all figures."""
    result: dict[str, object] = {}
    async with empty_server() as server:
        admit = admissions(server.store, FEW)
        for name, batch in (("call", 1), ("pipelined", PIPELINE)):
            incr = await server.bench.run(increments, seconds, batch)
            few = await server.bench.run(admit, seconds, batch)
            again = await server.bench.run(increments, seconds, batch)
            base = Cost((incr.server_cpu + again.server_cpu) / 2, (incr.wall + again.wall) / 2)
            result[name] = {
                "incr_us": round(base.server_cpu, 2),
                "admit_us": round(few.server_cpu, 2),
                "incr_wall_us": round(base.wall, 2),
                "admit_wall_us": round(few.wall, 2),
                "ratio": round(few.server_cpu / base.server_cpu, 2),
            }
    result["tenants"] = await measure_many_tenants(seconds, tenants)
    result["ratio"] = result["call"]["ratio"]  # type: ignore[index]
    return result


async def measure_many_tenants(seconds: float, tenants: int) -> dict[str, float | None]:
    """Measures the same admissions with few tenants and with many, on two servers in turns, so that both see the same
    machine (medians); then with all of the many fallen idle at once, and what it takes to forget them."""
    async with empty_server() as small, empty_server() as large:
        await _use(small.store, FEW)
        memory = await _memory(large, tenants)
        few, many = admissions(small.store, FEW), admissions(large.store, tenants)
        sides: tuple[list[float], list[float]] = ([], [])
        for turn in range(WARM_UP + ROUNDS):
            for side, bench, commands in ((0, small.bench, few), (1, large.bench, many)):
                cost = await bench.run(commands, seconds / 2, PIPELINE)
                if turn >= WARM_UP:
                    sides[side].append(cost.server_cpu)
        few_us, many_us = (median(side) for side in sides)
        later = int((time.time() + IDLE_SECONDS) * 1000)
        store = RedisLimitStore(
            Functions(large.redis), "bench", SystemClock(), trust=True, test_now=lambda: later
        )
        await store.beat(())
        idle = await large.bench.run(admissions(store, tenants), seconds, PIPELINE)
        cpu = await large.bench.cpu()
        before = await large.redis.dbsize()
        while (await store.beat(())).backlog:
            pass
        forgotten = before - await large.redis.dbsize()
        spent = await large.bench.cpu() - cpu
    return {
        "few": FEW,
        "few_us": round(few_us, 2),
        "many": tenants,
        "many_us": round(many_us, 2),
        "ratio": round(many_us / few_us, 2),
        "many_idle_us": round(idle.server_cpu, 2),
        # None: those that admit have forgotten all there was, as they do a few at a time.
        "forget_us": round(spent / forgotten * 1e6, 2) if forgotten else None,
        **memory,
    }


async def _use(store: RedisLimitStore, tenants: int) -> list[str]:
    """Makes every tenant's counters. Returns the records' keys."""
    for first in range(0, tenants, 500):
        asks = [admission_of(i, f"first-{i}") for i in range(first, min(first + 500, tenants))]
        for answer in await store.admit(asks):
            if not isinstance(answer, Granted):
                raise RuntimeError(f"not admitted: {answer}")
    return [store._keys.record(f"first-{i}") for i in range(tenants)]


async def _memory(large: EmptyServer, tenants: int) -> dict[str, float]:
    """Returns the bytes per tenant with counters in use, reservation records left out."""

    async def used() -> int:
        return int((await large.redis.info("memory"))["used_memory"])

    empty = await used()
    records = await _use(large.store, tenants)
    full = await used()
    for first in range(0, tenants, 1000):
        await large.redis.delete(*records[first : first + 1000])
        await large.redis.zrem(large.store._keys.due, *("r" + key for key in records[first : first + 1000]))
    counters = await used()
    return {
        "bytes_per_tenant_in_use": round((counters - empty) / tenants),
        "bytes_per_open_reservation": round((full - counters) / tenants),
    }


def _seconds(text: str) -> float:
    """Reads a length of time in which something can be measured: the server accounts its CPU in milliseconds."""
    value = float(text)
    if not LEAST_SECONDS <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be at least {LEAST_SECONDS} seconds, not {text}")
    return value


def _tenants(text: str) -> int:
    value = int(text)
    if value < FEW:
        raise argparse.ArgumentTypeError(f"must be at least {FEW}, which many are compared with, not {text}")
    return value


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=2.0, help="length of each measurement, at least 0.1"
    )
    parser.add_argument(
        "--tenants", type=_tenants, default=100_000, help=f"with counters in use, at the end; at least {FEW}"
    )
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.seconds, options.tenants))))


if __name__ == "__main__":
    main()
