"""More routers beside the one of a running stack."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from dev.members import grpc_serving
from tests.support.address import fresh_address
from tests.support.stack import ROOT, RunningStack


@dataclass
class Router:
    """One router beside the stack's own."""

    address: str
    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it serves."""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.router"),
                cwd=ROOT,
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        async with asyncio.timeout(60):
            await grpc_serving(self.address)

    async def stop(self) -> int:
        """By SIGTERM; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def end(self) -> None:
        """At the end of the test, whatever became of it."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


def router_beside(stack: RunningStack, name: str, **environment: str) -> Router:
    """As the stack's own, with an address and a spool of its own, and what is given of the environment."""
    address = fresh_address()
    own = {
        "POINTSMAN_ROUTER_LISTEN": address,
        "POINTSMAN_ROUTER_HTTP_LISTEN": "",
        "POINTSMAN_ROUTER_METRICS_LISTEN": fresh_address(),
        "POINTSMAN_ROUTER_SPOOL_DIR": str(stack.data / name),
        "POINTSMAN_ROUTER_DRAIN_SECONDS": "10",
    }
    return Router(
        address, stack.process("router").environ() | own | environment, stack.data / "logs" / f"{name}.log"
    )
