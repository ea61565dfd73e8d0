"""What the limiter's Lua costs beside a bare INCR, on one Valkey, in one run; JSON with the ratios, last.

python -m bench.limits [--seconds S] [--tenants N]

Server CPU comes from the process's own accounting (INFO cpu), so the client's cost does not
blur it. `call`: every request waits for its answer, as 8 callers' do. `pipelined`: 100 requests per write, which
amortises the system calls that dominate an INCR and so shows the function at its worst. Five dimensions: requests and
tokens per minute and money per day of a tenant, requests and tokens per minute of a provider.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redis.asyncio import Redis

from dev.engines.valkey import Valkey, valkey
from libs.clock import SystemClock
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit, LimitKey, Period, Unit
from services.ratelimit.ports import Admission

CALLERS = 8
PIPELINE = 100
PLENTY = 10**9


def tenant_limits(tenant: int) -> tuple[Limit, ...]:
    """Five dimensions."""
    scope, provider = f"tenant:t{tenant}", "provider:openai"
    return (
        Limit(LimitKey(scope, Unit.REQUESTS, Period.MINUTE), PLENTY),
        Limit(LimitKey(scope, Unit.TOTAL_TOKENS, Period.MINUTE), PLENTY),
        Limit(LimitKey(scope, Unit.MICRO_USD, Period.DAY), PLENTY, time_zone="Europe/Berlin"),
        Limit(LimitKey(provider, Unit.REQUESTS, Period.MINUTE), PLENTY),
        Limit(LimitKey(provider, Unit.TOTAL_TOKENS, Period.MINUTE), PLENTY),
    )


def packed(*parts: str | bytes | int | float) -> bytes:
    """One command of the wire protocol."""
    out = [b"*%d\r\n" % len(parts)]
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

    async def _cpu(self) -> float:
        info = await self._redis.info("cpu")
        return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port, limit=1 << 24)
        writer.write(packed("AUTH", self._password))
        await reader.readline()
        return reader, writer

    async def run(self, commands: Callable[[], Iterator[bytes]], seconds: float, batch: int) -> Cost:
        """`batch` 1: CALLERS connections, each waiting for its answers; else one, `batch` requests per write."""
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

        cpu, begin = await self._cpu(), time.perf_counter()
        await asyncio.gather(*(call(reader, writer, begin + seconds) for reader, writer in streams))
        wall, spent = time.perf_counter() - begin, await self._cpu() - cpu
        for _, writer in streams:
            writer.close()
        return Cost(spent / done * 1e6, wall / done * 1e6)


async def _answer(reader: asyncio.StreamReader) -> None:
    line = await reader.readline()
    if line[:1] == b"$" and line != b"$-1\r\n":
        await reader.readexactly(int(line[1:]) + 2)
    elif line[:1] == b"-":
        raise RuntimeError(line.decode())


def admissions(store: RedisLimitStore, tenants: int) -> Callable[[], Iterator[bytes]]:
    """Endless admissions, round the tenants; each takes a new record."""
    sample = [tenant_limits(i) for i in range(tenants)]

    def endless() -> Iterator[bytes]:
        count = 0
        # The parts that differ between calls are the record's name and the tenant's keys; packing per call is the
        # client's cost, prepared here so that the server is never waiting.
        run = time.monotonic_ns()
        now_ms = int(time.time() * 1000)
        cached: dict[int, tuple[list[str], list[str | bytes | int | float]]] = {}
        while True:
            tenant = count % tenants
            if tenant not in cached:
                ask = Admission(
                    "x",
                    "router-1",
                    "print",
                    sample[tenant],
                    (1, 900, 400, 1, 900),
                    (1, 900, 400, 1, 900),
                    8.0,
                    2,
                    0,
                )
                _, keys, args = store._admit_call(ask, now_ms)
                cached[tenant] = (keys, args)
            keys, args = cached[tenant]
            count += 1
            record = f"{keys[2]}{run}-{count}"
            yield packed("FCALL", "pointsman_v1_admit", len(keys), *keys[:2], record, *keys[3:], *args)

    return endless


def increments() -> Iterator[bytes]:
    """The yardstick."""
    command = packed("INCR", "{bench}counter")
    while True:
        yield command


async def measure(seconds: float, tenants: int) -> dict[str, object]:
    """All of it."""
    async with valkey() as server:
        redis = connect(server.url, 60)
        await redis.config_set("appendonly", "no")
        result: dict[str, object] = {}
        bench = Bench(server, redis)
        store = RedisLimitStore(Functions(redis), "bench", SystemClock(), trust=True)
        await store.beat(())
        for name, batch in (("call", 1), ("pipelined", PIPELINE)):
            incr = await bench.run(increments, seconds, batch)
            few = await bench.run(admissions(store, 10), seconds, batch)
            again = await bench.run(increments, seconds, batch)
            base = Cost((incr.server_cpu + again.server_cpu) / 2, (incr.wall + again.wall) / 2)
            result[name] = {
                "incr_us": round(base.server_cpu, 2),
                "admit_us": round(few.server_cpu, 2),
                "incr_wall_us": round(base.wall, 2),
                "admit_wall_us": round(few.wall, 2),
                "ratio": round(few.server_cpu / base.server_cpu, 2),
            }
        await redis.flushall(asynchronous=False)
        store = RedisLimitStore(Functions(redis), "bench", SystemClock(), trust=True)
        await store.beat(())
        few = await bench.run(admissions(store, 10), seconds, PIPELINE)
        await redis.flushall(asynchronous=False)
        store = RedisLimitStore(Functions(redis), "bench", SystemClock(), trust=True)
        await store.beat(())
        memory = await _idle_tenants(store, redis, tenants)
        many = await bench.run(admissions(store, tenants), seconds, PIPELINE)
        result["tenants"] = {
            "few_us": round(few.server_cpu, 2),
            "many_us": round(many.server_cpu, 2),
            "many": tenants,
            "ratio": round(many.server_cpu / few.server_cpu, 2),
            **memory,
        }
        result["ratio"] = result["call"]["ratio"]  # type: ignore[index]
        await redis.aclose()
        return result


async def _idle_tenants(store: RedisLimitStore, redis: Redis, tenants: int) -> dict[str, float]:
    """Bytes per tenant with counters in use, reservation records left out."""
    before = int((await redis.info("memory"))["used_memory"])
    for first in range(0, tenants, 500):
        asks = [
            Admission(
                f"idle-{i}",
                "router-1",
                "print",
                tenant_limits(i),
                (1, 9, 4, 1, 9),
                (1, 9, 4, 1, 9),
                60.0,
                2,
                0,
            )
            for i in range(first, min(first + 500, tenants))
        ]
        await store.admit(asks)
    used = int((await redis.info("memory"))["used_memory"])
    records = [f"{store._keys.prefix}r:idle-{i}" for i in range(tenants)]
    for first in range(0, tenants, 1000):
        await redis.delete(*records[first : first + 1000])
        await redis.zrem(store._keys.due, *("r" + key for key in records[first : first + 1000]))
    counters = int((await redis.info("memory"))["used_memory"])
    return {
        "bytes_per_tenant_in_use": round((counters - before) / tenants),
        "bytes_per_open_reservation": round((used - counters) / tenants),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--tenants", type=int, default=100_000, help="with counters in use, at the end")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.seconds, options.tenants))))


if __name__ == "__main__":
    main()
