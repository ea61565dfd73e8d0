"""A test run that is killed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil

from tests.support.process import spawn

ROOT = Path(__file__).resolve().parents[2]
#: Starts a stack with a module's fixture.
FILE = "tests/e2e/test_budgets.py"


def programs(run: psutil.Process) -> dict[psutil.Process, str]:
    """Every process that a run has started, directly or not, with its command line."""
    found = {}
    for process in run.children(recursive=True):
        try:
            found[process] = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    return found


def runs(process: psutil.Process) -> bool:
    """Returns False for one that only waits to be reaped, too."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def kill_a_run(directory: Path, *arguments: str) -> list[str]:
    """The command lines of what outlives a run that is killed while its stack is up, by half a minute."""
    directory.mkdir()
    with (directory / "output").open("wb") as output:
        run = await spawn(
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", FILE, *arguments),
            *("--basetemp", str(directory / "run")),
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            stdout=output,
            stderr=output,
        )
    family: dict[psutil.Process, str] = {}
    async with asyncio.timeout(90):
        while not all(
            any(name in line for line in family.values()) for name in ("services.router", "postgres")
        ):
            assert run.returncode is None, (directory / "output").read_text()
            await asyncio.sleep(0.05)
            family |= programs(psutil.Process(run.pid))
    run.kill()
    await run.wait()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 30
    while (left := [line for process, line in family.items() if runs(process)]) and loop.time() < deadline:
        await asyncio.sleep(0.05)
    return left


async def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """SIGKILL of pytest, or of what commands its workers, ends the stack and its engines by itself."""
    alone, commanding = await asyncio.gather(
        kill_a_run(tmp_path / "alone"), kill_a_run(tmp_path / "commanding", "-n", "1")
    )
    assert (alone, commanding) == ([], [])
