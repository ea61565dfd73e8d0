"""Two routers behind one balancing client are drained and restarted in turn, as an orchestrator rolls out a release,
while the limiter is slow to answer a new connection: no call is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from libs.client import Client
from libs.ids import PROCESS_DIGITS
from tests.e2e.catalogs import BUDGETED_KEY, CRASHES
from tests.support.load import Load, under_load
from tests.support.router_beside import router_beside
from tests.support.stack import running_stack

#: How long the limiter takes to answer a new connection, seconds.
SLOW = 3.0
#: Answers of each tenant before, and from each router once it is back.
ANSWERS = 40


@asynccontextmanager
async def slow_to_connect(address: str) -> AsyncIterator[str]:
    """A proxy in front of the address that passes nothing on for the first seconds of a connection; its own."""
    host, _, port = address.rpartition(":")
    running: set[asyncio.Task[None]] = set()

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        ends = [writer]
        try:
            await asyncio.sleep(SLOW)
            back, forth = await asyncio.open_connection(host, int(port))
            ends.append(forth)
            ways = [
                asyncio.create_task(passed_on(reader, forth)),
                asyncio.create_task(passed_on(back, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except asyncio.CancelledError:
            # The proxy ends; a handler that raised would be logged as a fault.
            return
        finally:
            running.discard(task)
            for end in ends:
                end.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in [*running]:
            task.cancel()


def lives(load: Load) -> set[str]:
    """The routers' lives that have answered: each ends its attempts' ids in its own way."""
    return {attempt_id[-PROCESS_DIGITS:] for attempt_id in load.attempts}


async def test_a_rolling_restart_loses_no_call_although_the_limiter_is_slow_to_connect(
    tmp_path: Path,
) -> None:
    """Of a tenant with rates alone and of one with a budget, which nobody but the limiter can admit. Each router is
    given back its share of the calls before the next one goes."""
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(running_stack(tmp_path, CRASHES))
        await stack.simulator.set("openai", latency_ms=20, ms_per_token=0.3)
        await stack.simulator.set("gemini", latency_ms=20, ms_per_token=0.3)
        limiter = await opened.enter_async_context(slow_to_connect(stack.addresses["ratelimit"]))
        routers = [
            router_beside(stack, name, POINTSMAN_ROUTER_RATELIMIT_TARGET=limiter) for name in ("one", "two")
        ]
        for router in routers:
            opened.push_async_callback(router.end)
        await asyncio.gather(*(router.start() for router in routers))
        target = "ipv4:" + ",".join(router.address for router in routers)
        clients = {
            "demo": await opened.enter_async_context(Client(target, stack.addresses["tenant_key"])),
            "budgeted": await opened.enter_async_context(Client(target, BUDGETED_KEY)),
        }
        async with under_load(clients, "rolling") as load:
            await load.until(more=ANSWERS)
            for router in routers:
                before = lives(load)
                assert await router.stop() == 0
                await router.start()
                async with asyncio.timeout(60):
                    while not lives(load) - before:
                        await asyncio.sleep(0.1)
                await load.until(more=ANSWERS)
        assert not load.failures, f"{load.story()}\n{load.failures[0]}"
        assert len(lives(load)) == 2 * len(routers)
