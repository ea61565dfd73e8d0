"""`pointsman generate` over a file of products, with providers that fail and a run that is cut off: no product is
lost and none is generated twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libs.client import Client
from libs.errors import AlreadyExists
from tests.support.process import spawn
from tests.support.stack import ROOT, RunningStack, running_stack

REAL_PRODUCTS = ROOT.parent / "shared" / "data" / "ecommerce" / "products.jsonl"
CODE = "from cli.app import main; raise SystemExit(main())"
CONCURRENCY = 8
INTERRUPTED = 130
A_THIRD_FAILS = [{"kind": "status", "preset": "server_error", "when": {"every": 3}}]
GONE = [{"kind": "reset"}]


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """The catalog of `make run`."""
    async with running_stack(tmp_path_factory.mktemp("products")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Files:
    """One batch."""

    input: Path
    output: Path

    def rows(self) -> list[dict[str, Any]]:
        """The input."""
        return [json.loads(line) for line in self.input.read_bytes().splitlines() if line.strip()]

    def done(self) -> list[dict[str, Any]]:
        """Whole lines of the output so far."""
        if not self.output.exists():
            return []
        lines = self.output.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    async def until_done(self, count: int, process: asyncio.subprocess.Process) -> None:
        """Returns once so many rows have their line. Fails where the command ends before."""
        async with asyncio.timeout(60):
            while len(self.done()) < count:
                assert process.returncode is None, "the command ended early"
                await asyncio.sleep(0.01)


async def start(stack: RunningStack, files: Files) -> asyncio.subprocess.Process:
    """The command as a shell would start it, finding the running stack by itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POINTSMAN_", "OTEL_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    options = ("--concurrency", str(CONCURRENCY), "--json")
    return await spawn(
        *(sys.executable, "-c", CODE, "generate", "--input", str(files.input), "--output", str(files.output)),
        *options,
        env={**clean, "PYTHONPATH": paths, "POINTSMAN_DATA": str(stack.data)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process, code: int) -> dict[str, Any]:
    """The closing figures of a command that ends with that status."""
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == code, err.decode()[-2000:]
    figures: dict[str, Any] = json.loads(out)
    return figures


async def slow(stack: RunningStack, **faults: Sequence[object]) -> None:
    """Every provider takes a tenth of a second; faults by provider."""
    for name in ("openai", "anthropic", "gemini", "local"):
        await stack.simulator.set(name, latency_ms=60, ms_per_token=0.5, faults=faults.get(name, []))


async def assert_each_once(stack: RunningStack, files: Files, most_twice: int = 0) -> str:
    """Every product has one line with an answer, and was answered by a provider once (after a crash that nobody could
    foresee: at most `most_twice` of them twice). Gives the figures."""
    rows, done = files.rows(), files.done()
    assert sorted(record["index"] for record in done) == list(range(len(rows)))
    assert all(record["ok"] and record["text"].strip() for record in done)
    assert {record["index"]: record["id"] for record in done} == {i: str(r["id"]) for i, r in enumerate(rows)}
    run = {record["run_id"] for record in done}
    assert len(run) == 1, "a resumed run goes on under its own name"
    counts = Counter(record["attempts"] for record in done)
    told = sum(record["attempts"] for record in done)
    wanted = {record["request_id"] for record in done}

    def complete(found: Sequence[Any]) -> bool:
        return len(found) >= told and {r["request_id"] for r in found if r["outcome"] == "success"} >= wanted

    ledger = await stack.settled_ledger(f"{run.pop()}-", complete)
    answers = Counter(row["request_id"] for row in ledger if row["outcome"] == "success")
    assert set(answers) == wanted
    twice = sum(count - 1 for count in answers.values())
    assert twice <= most_twice
    spent = sum(row["cost_micro_usd"] for row in ledger)
    charged = sum(record["cost_micro_usd"] for record in done)
    if not most_twice:
        assert (len(ledger), spent) == (told, charged)
    return (
        f"{len(done)} products, {len(ledger)} attempts, rows by attempts {dict(counts)}, answered twice {twice}, "
        f"providers {dict(Counter(record['provider'] for record in done))}, ${spent / 1e6:.4f}"
    )


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_PRODUCTS.exists(), reason="../shared/data/ecommerce/products.jsonl is not there")
async def test_all_real_products_through_faults_and_an_interruption(
    stack: RunningStack, tmp_path: Path
) -> None:
    """One provider fails a third of its calls, another dies a third of the way, and Ctrl-C comes half way: the same
    command again goes on where it ended."""
    await slow(stack, openai=A_THIRD_FAILS)
    files = Files(REAL_PRODUCTS, tmp_path / "texts.jsonl")
    count = len(files.rows())
    first = await start(stack, files)
    await files.until_done(count // 3, first)
    await stack.simulator.set("anthropic", faults=GONE)
    await files.until_done(count // 2, first)
    first.send_signal(signal.SIGINT)
    before = await end(first, INTERRUPTED)
    assert before["succeeded"] == len(files.done()) < count
    assert before["remaining"] == count - before["succeeded"]
    after = await end(await start(stack, files), 0)
    assert (after["skipped"], after["succeeded"], after["failed"]) == (
        before["succeeded"],
        before["remaining"],
        0,
    )
    print(await assert_each_once(stack, files))
    print(
        f"failovers {before['failovers']} + {after['failovers']}, {before['elapsed_seconds']:.1f} s + ",
        end="",
    )
    print(f"{after['elapsed_seconds']:.1f} s")


async def test_products_outlive_dead_processes(stack: RunningStack, tmp_path: Path) -> None:
    """The command is killed with SIGKILL and later the router is: every product has its text in the end. Only rows
    under way at those moments may have been answered twice: nobody was left to write the first answer down."""
    await slow(stack, gemini=A_THIRD_FAILS)
    files = Files(tmp_path / "products.jsonl", tmp_path / "texts.jsonl")
    colours = ("red", "blue", "grün", "黒", "белый")
    products = [
        {
            "id": f"sku-{i}",
            "name": {"en": f"{colours[i % 5]} mug no. {i}"},
            "price": {"value": i, "currency": "EUR"},
        }
        for i in range(80)
    ]
    files.input.write_text("".join(json.dumps(product, ensure_ascii=False) + "\n" for product in products))
    first = await start(stack, files)
    await files.until_done(25, first)
    first.kill()
    await first.communicate()
    kept = len(files.done())
    second = await start(stack, files)
    await files.until_done(kept + 20, second)
    await stack.back("router", stack.kill("router"))
    figures = await end(second, 0)
    assert (figures["skipped"], figures["failed"], figures["remaining"]) == (kept, 0, 0)
    print(await assert_each_once(stack, files, most_twice=2 * CONCURRENCY))


async def test_a_request_id_is_not_paid_for_twice_at_once(stack: RunningStack) -> None:
    """A second call with the id of a running one is told so."""
    await slow(stack)
    async with Client(stack.addresses["router"], stack.addresses["tenant_key"]) as client:
        # Both are on their way before either is answered, however busy the machine is.
        calls = [client.generate("Describe a mug.", request_id="twice", timeout=20) for _ in range(2)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
    (refusal,) = [one for one in ended if isinstance(one, BaseException)]
    assert isinstance(refusal, AlreadyExists)
    assert refusal.reason == "REQUEST_ID_IN_USE"
    assert len(await stack.settled_ledger("twice", lambda found: len(found) == 1)) == 1
