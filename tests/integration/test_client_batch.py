"""Many rows through the client against a router on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pointsman.router.v1 import router_pb2 as pb

from cli import batch as batch_module
from cli.batch import Batch, Pace
from cli.failure import CliError
from cli.journal import Journal
from cli.rows import Row
from cli.tally import Tally
from libs.client import Client, Options
from libs.errors import FailedPrecondition, PointsmanError, ResourceExhausted, Unauthenticated, Unavailable
from tests.support.router import KEY, FakeRouter, fake_router, result

ROWS = [Row(n, n + 1, f"p{n % 10}", f"prompt {n}", "blog" if n == 0 else "") for n in range(30)]


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    async with fake_router() as running:
        yield running


@pytest.fixture
async def client(router: FakeRouter) -> AsyncIterator[Client]:
    async with Client(router.address, key=KEY) as connected:
        yield connected


class Bench:
    """One run over an output file."""

    def __init__(self, client: Client, path: Path, *, max_wait: float = 30.0, concurrency: int = 4) -> None:
        self.path = path
        self.journal = Journal.open(path, ROWS, random.Random(5))
        self.tally = Tally()
        pace = Pace(concurrency, 20.0, max_wait, ready=0.5)
        options: Options = {"campaign": "spring"}
        self.batch = Batch(client, self.journal, options, pace, random.Random(5), self.tally.add)

    async def run(self) -> list[dict[str, Any]]:
        try:
            await self.batch.run(ROWS)
        finally:
            self.journal.close()
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


def index_of(generation: pb.Generation) -> int:
    return int(generation.request_id.rsplit("-", 1)[1])


async def test_every_row_once(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """One line and one request per row; repeated ids are rows of their own; options and request ids arrive."""
    bench = Bench(client, tmp_path / "out.jsonl")
    lines = await bench.run()
    assert Counter(line["index"] for line in lines) == Counter(range(30))
    assert all(line["ok"] and line["text"] == f"About: prompt {line['index']}" for line in lines)
    ids = [f"{bench.journal.run_id}-{n}" for n in range(30)]
    assert sorted(r.request_id for r in router.requests) == sorted(ids)
    assert {r.campaign for r in router.requests} == {"spring"}
    assert [r.request_id for r in router.requests if r.content_type == "blog"] == [ids[0]]


async def test_concurrency_is_reached_and_not_exceeded(
    router: FakeRouter, client: Client, tmp_path: Path
) -> None:
    """Exactly that many calls are under way while there is work."""
    running, most, full = 0, 0, asyncio.Event()

    async def answer(generation: pb.Generation) -> pb.Result:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1
        return result(generation.request_id, "x")

    router.answer = answer
    await Bench(client, tmp_path / "out.jsonl").run()
    assert most == 4


async def test_limits_and_outages_are_waited_for(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """A row that is told when to come back comes back, under the same request id, and succeeds."""
    tries: Counter[str] = Counter()

    async def answer(generation: pb.Generation) -> pb.Result:
        tries[generation.request_id] += 1
        if tries[generation.request_id] == 1 and index_of(generation) < 3:
            raise ResourceExhausted("full", retry_after=0.01)
        if tries[generation.request_id] == 2 and index_of(generation) == 1:
            raise Unavailable("all down", retry_after=0.01)
        return result(generation.request_id, "x")

    router.answer = answer
    bench = Bench(client, tmp_path / "out.jsonl")
    lines = await bench.run()
    assert all(line["ok"] for line in lines)
    assert [tries[f"{bench.journal.run_id}-{n}"] for n in range(4)] == [2, 3, 2, 1]


async def test_patience_ends(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """A wait beyond --max-wait is a failure at once, with its details in the line."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise ResourceExhausted("full", retry_after=3600)

    router.answer = answer
    bench = Bench(client, tmp_path / "out.jsonl")
    lines = await bench.run()
    assert len(lines) == len(router.requests) == 30
    assert {(line["ok"], line["error"]["retry_after"]) for line in lines} == {(False, 3600.0)}
    assert (bench.tally.failed, bench.tally.errors) == (30, Counter({"RESOURCE_EXHAUSTED": 30}))


async def test_a_failed_row_does_not_stop_the_others(
    router: FakeRouter, client: Client, tmp_path: Path
) -> None:
    """And the next run tries only the failed one, under its old request id."""
    refuse = True

    async def answer(generation: pb.Generation) -> pb.Result:
        if refuse and index_of(generation) == 7:
            raise FailedPrecondition("refused", reason="CONTENT_REFUSED")
        return result(generation.request_id, "x", failed=("beta",) if index_of(generation) == 8 else ())

    router.answer = answer
    first = Bench(client, tmp_path / "out.jsonl")
    lines = await first.run()
    assert [line["index"] for line in lines if not line["ok"]] == [7]
    assert (first.tally.succeeded, first.tally.failed, first.tally.failovers) == (29, 1, 1)
    assert first.tally.providers["beta"].failed_attempts == 1
    refuse = False
    router.requests.clear()
    lines = await Bench(client, tmp_path / "out.jsonl").run()
    assert Counter(line["index"] for line in lines) == Counter(range(30))
    assert all(line["ok"] for line in lines)
    assert [r.request_id for r in router.requests] == [f"{first.journal.run_id}-7"]


async def test_a_key_that_is_refused_ends_the_run(router: FakeRouter, tmp_path: Path) -> None:
    """No row can succeed, so none is recorded as failed."""
    async with Client(router.address, key="wrong") as client:
        bench = Bench(client, tmp_path / "out.jsonl")
        with pytest.raises(Unauthenticated):
            await bench.run()
    assert bench.lines() == []


async def test_an_unexpected_error_of_the_server_is_a_failed_row(
    router: FakeRouter, client: Client, tmp_path: Path
) -> None:
    """INTERNAL is recorded, not retried."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise PointsmanError("broken")

    router.answer = answer
    lines = await Bench(client, tmp_path / "out.jsonl").run()
    assert {line["error"]["reason"] for line in lines} == {"INTERNAL"}
    assert len(router.requests) == 30


async def test_stop_lets_rows_under_way_finish(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """Rows that have begun are recorded, and no other row begins."""
    go = asyncio.Event()

    async def answer(generation: pb.Generation) -> pb.Result:
        await go.wait()
        return result(generation.request_id, "x")

    router.answer = answer
    bench = Bench(client, tmp_path / "out.jsonl")
    run = asyncio.create_task(bench.run())
    await router.until(lambda r: len(r.requests) == 4)
    bench.batch.stop()
    go.set()
    assert sorted(line["index"] for line in await run) == [0, 1, 2, 3]
    assert len(router.requests) == 4


async def test_a_second_stop_drops_rows_under_way(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """They are cancelled at the router and leave no line."""

    async def answer(generation: pb.Generation) -> pb.Result:
        await asyncio.Event().wait()
        raise AssertionError

    router.answer = answer
    bench = Bench(client, tmp_path / "out.jsonl")
    run = asyncio.create_task(bench.run())
    await router.until(lambda r: len(r.requests) == 4)
    bench.batch.stop()
    bench.batch.stop()
    assert await run == []
    await router.until(lambda r: len(r.cancelled) == 4)


async def test_stop_ends_a_wait_for_a_limit(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """A row that waits to be tried again is not begun, so it is left for the next run."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise ResourceExhausted("full", retry_after=20)

    router.answer = answer
    bench = Bench(client, tmp_path / "out.jsonl")
    run = asyncio.create_task(bench.run())
    await router.until(lambda r: len(r.requests) == 4)
    bench.batch.stop()
    assert await run == []


async def test_a_router_that_restarts_costs_no_row(tmp_path: Path) -> None:
    """Rows that meet a dead channel wait for it, within their patience."""
    path = tmp_path / "out.jsonl"
    async with fake_router() as first:
        address = first.address
        half = asyncio.Event()

        async def answer(generation: pb.Generation) -> pb.Result:
            if index_of(generation) >= 15:
                half.set()
                await asyncio.Event().wait()
            return result(generation.request_id, "x")

        first.answer = answer
        client = await Client(address, key=KEY).__aenter__()
        bench = Bench(client, path)
        run = asyncio.create_task(bench.run())
        await half.wait()
    try:
        async with fake_router(listen=address):
            lines = await run
    finally:
        await client.__aexit__(None, None, None)
    assert Counter(line["index"] for line in lines) == Counter(range(30))
    assert [line["error"] for line in lines if not line["ok"]] == []


async def test_a_router_that_stays_away_ends_the_run(tmp_path: Path) -> None:
    """The rows left are not recorded as failed one by one, each after its own wait: they are for the next run."""
    async with fake_router() as router:
        last = asyncio.Event()

        async def answer(generation: pb.Generation) -> pb.Result:
            if index_of(generation) >= 10:
                last.set()
                await asyncio.Event().wait()
            return result(generation.request_id, "x")

        router.answer = answer
        client = await Client(router.address, key=KEY).__aenter__()
        bench = Bench(client, tmp_path / "out.jsonl", max_wait=0.3)
        run = asyncio.create_task(bench.run())
        await last.wait()
    with pytest.raises(Unavailable) as caught:
        await run
    await client.__aexit__(None, None, None)
    assert caught.value.reason == "UNREACHABLE"
    lines = bench.lines()
    assert {line["index"] for line in lines} == set(range(10))
    assert all(line["ok"] for line in lines)


async def test_a_row_that_breaks_every_call_fails_alone(
    router: FakeRouter, client: Client, tmp_path: Path
) -> None:
    """The other rows go on, since the router itself is there."""

    async def answer(generation: pb.Generation) -> pb.Result:
        if index_of(generation) == 3:
            raise Unavailable("the connection broke", reason="TRANSPORT_UNAVAILABLE")
        return result(generation.request_id, "x")

    router.answer = answer
    lines = await Bench(client, tmp_path / "out.jsonl", max_wait=0.3).run()
    assert [(line["index"], line["error"]["reason"]) for line in lines if not line["ok"]] == [
        (3, "TRANSPORT_UNAVAILABLE")
    ]
    assert len(lines) == 30


async def test_an_output_that_breaks_ends_the_run(router: FakeRouter, client: Client, tmp_path: Path) -> None:
    """A full disk stops spending at once."""
    bench = Bench(client, tmp_path / "out.jsonl", concurrency=1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, bench.journal._descriptor)
    with pytest.raises(CliError, match="No space left"):
        await bench.batch.run(ROWS)
    assert len(router.requests) == 1
    os.close(full)
    os.close(bench.journal._descriptor)


def test_the_grace_period_is_short() -> None:
    """Ctrl-C is answered within a few seconds."""
    assert batch_module.GRACE <= 5.0
