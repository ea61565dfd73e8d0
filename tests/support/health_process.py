"""The health service as a process of its own, on a small catalog."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pointsman.health.v1 import health_pb2_grpc

from libs.rpc.channel import connect
from tests.support.address import fresh_address
from tests.support.process import spawn

Stub: TypeAlias = "health_pb2_grpc.ProviderHealthAsyncStub"
ROOT = Path(__file__).resolve().parents[2]
CATALOG = """\
version: 1
domain: {domain}
providers:
  acme:
    kind: openai_compatible
    base_url: http://127.0.0.1:1/v1
models:
  acme/large:
    context_window: 8000
    max_output_tokens: 1000
    price: {{input: 1, output: 1}}
content_types:
  general: {{max_output_tokens: 500}}
"""


@dataclass
class Running:
    """A process, and what it logs."""

    child: asyncio.subprocess.Process
    log: Path

    async def address(self) -> str:
        """Its address, once the log says on which port it serves."""
        async with asyncio.timeout(60):
            while not (found := re.search(r'"port": (\d+)', self.log.read_text())):
                assert self.child.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)
        return f"127.0.0.1:{found[1]}"

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Stub]:
        """A stub, once it serves."""
        async with connect(await self.address()) as channel:
            yield health_pb2_grpc.ProviderHealthStub(channel)


@asynccontextmanager
async def process(
    catalog: Path, variables: Mapping[str, str], name: str = "health", **shared: str
) -> AsyncIterator[Running]:
    """A replica that logs beside the catalog. `variables`: those of the service; `shared`: any others."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("POINTSMAN_", "OTEL_"))}
    environ |= {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
        "POINTSMAN_CONFIG": str(catalog),
        "POINTSMAN_HEALTH_LISTEN": fresh_address(),
        **{f"POINTSMAN_HEALTH_{key.upper()}": value for key, value in variables.items()},
        **shared,
    }
    log = catalog.with_name(f"{name}.log")
    with log.open("wb") as file:
        child = await spawn(sys.executable, "-m", "services.health", env=environ, cwd=ROOT, stderr=file)
    try:
        yield Running(child, log)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
