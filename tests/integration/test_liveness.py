"""A blocked event loop is found out: the liveness probe is not answered, and the log says where it is blocked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from dev.engines.child import free_port

ROOT = Path(__file__).resolve().parents[2]
#: A service that blocks its loop at SIGUSR1.
BLOCKS = """
import asyncio, contextlib, signal
from pydantic_settings import SettingsConfigDict
from libs.lifecycle import run
from libs.settings import ServiceSettings

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="POINTSMAN_X_")

def hold_the_loop():
    while True:
        pass

@contextlib.asynccontextmanager
async def assemble(settings, runtime):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, hold_the_loop)
    yield ()

raise SystemExit(run("x", Settings, assemble))
"""


async def alive(port: int) -> bool:
    """Returns whether GET /livez is answered within a second, as an orchestrator asks."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return answer.startswith(b"HTTP/1.1 200 ")


async def test_a_blocked_loop_is_not_alive_and_says_where_it_is_blocked() -> None:
    """A TCP connect went on being answered by the kernel, so the process was never restarted; and SIGTERM, which the
    loop would take, does nothing."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BLOCKS),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")]),
            "POINTSMAN_X_LISTEN": "127.0.0.1:0",
            "POINTSMAN_X_METRICS_LISTEN": str(port),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            logged: list[dict[str, object]] = []
            while not logged or logged[-1]["event"] != "serving":
                logged.append(json.loads(await process.stderr.readline()))
            assert [line["event"] for line in logged] == ["no_service_token", "serving"]
            assert await alive(port)
            process.send_signal(signal.SIGUSR1)
            while await alive(port):
                pass
            line = json.loads(await process.stderr.readline())
        assert line["event"] == "event_loop_blocked"
        assert line["stack"][0].endswith(" hold_the_loop")
        process.terminate()
        assert not await alive(port)
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()
