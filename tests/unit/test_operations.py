"""The endpoint for Prometheus and the orchestrator: what it answers, and what nobody can make it hold."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from libs.http.operations import HEAD_BYTES, MOST_CONNECTIONS, OperationsServer
from libs.telemetry import Metrics


@contextlib.asynccontextmanager
async def serving(metrics: Metrics | None = None, timeout: float = 60.0) -> AsyncIterator[OperationsServer]:
    """A server on a free port."""
    server = OperationsServer((metrics or Metrics()).registry, timeout)
    await server.start("127.0.0.1:0")
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: OperationsServer, request: bytes) -> bytes:
    """All that the server says until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


async def test_prometheus_gets_every_instrument() -> None:
    """In the format that it asks for."""
    metrics = Metrics()
    metrics.counter("things", "Things", ("kind",)).labels("a").inc(3)
    async with serving(metrics) as server:
        head, _, body = (await ask(server, get("/metrics"))).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/plain" in head
        (family,) = text_string_to_metric_families(body.decode())
        assert [(s.name, s.labels, s.value) for s in family.samples if s.name.endswith("_total")] == [
            ("pointsman_things_total", {"kind": "a"}, 3.0)
        ]
        modern = await ask(server, get("/metrics?x=1", "Accept: application/openmetrics-text; version=1.0.0"))
        assert b"content-type: application/openmetrics-text" in modern
        assert modern.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/livez"), b"200"),
        (get("/"), b"404"),
        (get("/metrics/.."), b"404"),
        (b"POST /metrics HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", b"405"),
        (b"\r\n\r\n", b"404"),
        (b"\xff\x00 / HTTP/9\r\n\r\n", b"404"),
    ],
)
async def test_one_connection_carries_one_answer(request_: bytes, status: bytes) -> None:
    """And ends, whatever was asked."""
    async with serving() as server:
        answer = await ask(server, request_)
        assert answer.split(b" ")[1] == status
        assert b"connection: close\r\n" in answer


@pytest.mark.parametrize(
    "junk", [b"GET /" + b"a" * (2 * HEAD_BYTES), b"X: y\r\n" * HEAD_BYTES], ids=["no end of line", "no end"]
)
async def test_a_head_without_end_is_not_read_on(junk: bytes) -> None:
    """It ends the connection, and the next one is answered."""
    async with serving() as server:
        assert await ask(server, junk) == b""
        assert b" 200 " in await ask(server, get("/livez"))


async def test_silent_connections_are_few_end_and_take_no_thread() -> None:
    """Each held a thread for as long as it liked: beyond a bound they are ended at once, the others in time."""
    async with serving(timeout=0.5) as server:
        threads = threading.active_count()
        silent = [
            await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MOST_CONNECTIONS + 20)
        ]
        assert server.connections <= MOST_CONNECTIONS
        assert threading.active_count() == threads
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionResetError) for end in ends)
        for _, writer in silent:
            writer.close()
        while server.connections:
            await asyncio.sleep(0.01)
        assert b" 200 " in await ask(server, get("/livez"))


async def test_many_scrapes_at_once_are_encoded_once() -> None:
    """Also where the first of them goes away: encoding is what a scrape costs."""
    metrics, collected, go_on = Metrics(), [], threading.Event()

    class Slow:
        def collect(self) -> list[Metric]:
            collected.append(threading.get_ident())
            go_on.wait(30)
            return []

    metrics.registry.register(Slow())
    collected.clear()
    async with serving(metrics) as server:
        _, first = await asyncio.open_connection("127.0.0.1", server.port)
        first.write(get("/metrics"))
        async with asyncio.timeout(30):
            while not collected:
                await asyncio.sleep(0.01)
            first.close()
            others = [asyncio.create_task(ask(server, get("/metrics"))) for _ in range(10)]
            while server.connections < 1 + len(others):
                await asyncio.sleep(0.01)
            # By when this is answered, all those before it have been read.
            assert b" 200 " in await ask(server, get("/livez"))
            go_on.set()
            answers = await asyncio.gather(*others)
    assert all(b" 200 " in answer for answer in answers)
    assert len(collected) == 1
    assert collected[0] != threading.get_ident()


async def test_who_does_not_read_the_answer_is_not_waited_for() -> None:
    """A connection whose answer does not fit into the buffers ends in time too."""
    metrics = Metrics()
    wide = metrics.counter("wide", "x", ("kind",))
    for number in range(100_000):
        wide.labels(f"{number:0100d}")
    async with serving(metrics, timeout=2.0) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(get("/metrics"))
        async with asyncio.timeout(60):
            while not server.connections:
                await asyncio.sleep(0.01)
            while server.connections:
                await asyncio.sleep(0.01)
        writer.close()
        assert b" 200 " in await ask(server, get("/livez"))


async def test_an_address_that_cannot_be_had_is_a_sentence() -> None:
    """For a port that is taken and a host that does not exist."""
    async with serving() as server:
        second = OperationsServer(Metrics().registry)
        with pytest.raises(
            OSError, match=r"^cannot listen on 127.0.0.1:\d+ for metrics: Address already in use$"
        ):
            await second.start(f"127.0.0.1:{server.port}")
        with pytest.raises(OSError, match=r"^cannot listen on nobody.invalid:0 for metrics: \S"):
            await second.start("nobody.invalid:0")
        await second.stop()
