"""The whole stack as real processes, for end-to-end tests and benchmarks.

async with running_stack(directory, catalog_yaml) as stack:
    async with stack.client() as client: ...
    stack.kill("health")          # SIGKILL; `dev up` brings it back
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg
import httpx
import psutil

from dev.engines import Postgres
from dev.members import Probe, grpc_serving, http_serving
from libs.client import Client
from tests.support.process import spawn
from tests.support.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 15.0


async def _accepting(address: str) -> None:
    """Returns once something accepts connections there."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


#: The probes of members that answer no grpc.health.v1.
PROBES: Mapping[str, Probe] = {
    "valkey": _accepting,
    "postgres": _accepting,
    "simulator": http_serving("/_control"),
}


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack under `dev up`."""

    data: Path
    addresses: Mapping[str, str]
    supervisor: psutil.Process
    simulator: Simulator

    def client(self, key: str = "", **more: object) -> Client:
        """A client of the router; by default as the demo tenant."""
        return Client(self.addresses["router"], key or self.addresses["tenant_key"], **more)  # type: ignore[arg-type]

    def process(self, name: str) -> psutil.Process:
        """The process of a service or engine. Raises LookupError while there is none."""
        marks = {"valkey": "valkey-server", "postgres": "postgres", "simulator": "dev.simulator"}
        mark = marks.get(name, f"services.{name}")
        for child in self.supervisor.children(recursive=True):
            try:
                line = child.cmdline()
                parent = child.parent()
            except psutil.NoSuchProcess:
                continue
            if any(mark in part for part in line[:3]) and not _is_of(parent, mark):
                return child
        raise LookupError(f"no process of {name} is running")

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to a service or engine and returns its pid."""
        process = self.process(name)
        process.send_signal(number)
        return int(process.pid)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stops a service or engine with all its processes for the length of the block: sockets stay open, nothing
        answers."""
        leader = self.process(name)
        family = [leader, *leader.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    async def back(self, name: str, pid: int, timeout: float = 30.0) -> float:
        """Returns once another process than `pid` serves in its place; how many seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(timeout):
            while True:
                with suppress(LookupError):
                    if self.process(name).pid != pid:
                        break
                await asyncio.sleep(0.02)
            await PROBES.get(name, grpc_serving)(self.addresses[name])
            while name == "postgres":
                # It accepts connections long before it takes them.
                with suppress(asyncpg.CannotConnectNowError):
                    await self.ledger(prefix="nobody's")
                    break
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    @property
    def postgres_dsn(self) -> str:
        """Of the ledger's database."""
        port = int(self.addresses["postgres"].rpartition(":")[2])
        return Postgres(self.data / "postgres", port).dsn

    async def ledger(
        self, prefix: str = "", table: Literal["attempts", "requests"] = "attempts"
    ) -> list[asyncpg.Record]:
        """Rows of the ledger whose request id begins with `prefix`, straight from PostgreSQL."""
        connection = await asyncpg.connect(self.postgres_dsn)
        try:
            return await connection.fetch(
                f"SELECT * FROM analytics.{table} WHERE starts_with(request_id, $1) ORDER BY started",
                prefix,
            )
        finally:
            await connection.close()

    async def settled_ledger(
        self, prefix: str, enough: Callable[[list[asyncpg.Record]], bool], timeout: float = 20.0
    ) -> list[asyncpg.Record]:
        """The rows as soon as `enough` of them are there; after `timeout` seconds whatever is there."""
        deadline = time.monotonic() + timeout
        while not enough(rows := await self.ledger(prefix)) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return rows

    def logs(self) -> str:
        """The last lines of every log."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted((self.data / "logs").glob("*.log"))
        )


def _is_of(parent: psutil.Process | None, mark: str) -> bool:
    """Returns True if a process belongs to another of the same program (PostgreSQL's workers)."""
    try:
        return parent is not None and any(mark in part for part in parent.cmdline()[:3])
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def running_stack(
    data: Path, catalog: str = "", environment: Mapping[str, str] | None = None, *, strict: bool = True
) -> AsyncIterator[RunningStack]:
    """Starts `dev up` on free ports with the simulator; `catalog` is YAML, empty for the simulator's own. `strict`:
    the simulator refuses what the vendors refuse."""
    data.mkdir(parents=True, exist_ok=True)
    arguments = ["--data", str(data / "stack"), "--port-base", "0", "--simulator"]
    if catalog:
        (data / "catalog.yaml").write_text(catalog)
        arguments += ["--catalog", str(data / "catalog.yaml")]
    output = (data / "up.log").open("wb")
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    process = await spawn(
        *(sys.executable, "-m", "dev", "up", *arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
    )
    state = data / "stack" / "stack.json"
    try:
        async with asyncio.timeout(START_SECONDS):
            while not state.exists():
                if process.returncode is not None:
                    raise RuntimeError(f"dev up ended:\n{(data / 'up.log').read_text()}")
                await asyncio.sleep(0.05)
        addresses = json.loads(state.read_text())
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            simulator = Simulator(f"http://{addresses['simulator']}", 0, http)
            if not strict:
                await simulator.set_strict(False)
            yield RunningStack(data / "stack", addresses, psutil.Process(process.pid), simulator)
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        output.close()
