"""A service that cannot start says why in one sentence on stderr, and by a status that says whose fault it is."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.support.process import spawn

ROOT = Path(__file__).resolve().parents[2]
CATALOG = str(ROOT / "config" / "simulator.yaml")


async def start(service: str, variables: dict[str, str]) -> tuple[int, list[str]]:
    """Status and stderr, without the log lines, of a service that does not come up."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    process = await spawn(
        *(sys.executable, "-m", f"services.{service}"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "POINTSMAN_CONFIG": CATALOG, **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [line for line in errors.decode().splitlines() if not line.startswith("{")]


async def test_a_spool_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """With the variable that names it. Root may write anywhere, so a file stands in the way."""
    (tmp_path / "file").write_text("")
    spool = tmp_path / "file" / "spool"
    variables = {"POINTSMAN_ROUTER_HTTP_LISTEN": "", "POINTSMAN_ROUTER_SPOOL_DIR": str(spool)}
    variables |= {"POINTSMAN_ROUTER_LISTEN": "127.0.0.1:0"}
    status, lines = await start("router", variables)
    sentence = f"{spool} cannot be written: Not a directory"
    assert (status, lines) == (69, [f"router: POINTSMAN_ROUTER_SPOOL_DIR: {sentence}"])


async def test_a_metrics_port_that_is_taken_is_named() -> None:
    """And said to be that of the metrics."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        variables = {
            "POINTSMAN_ANALYTICS_LISTEN": "127.0.0.1:0",
            "POINTSMAN_ANALYTICS_METRICS_LISTEN": address,
            "POINTSMAN_ANALYTICS_POSTGRES_DSN": "postgresql://u:p@127.0.0.1:1/x",
        }
        status, lines = await start("analytics", variables)
    sentence = f"cannot listen on {address} for metrics: Address already in use"
    assert (status, lines) == (69, [f"analytics: {sentence}"])


async def test_a_host_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """It is not the port that is taken."""
    variables = {
        "POINTSMAN_ROUTER_LISTEN": "nobody.invalid:0",
        "POINTSMAN_ROUTER_HTTP_LISTEN": "",
        "POINTSMAN_ROUTER_SPOOL_DIR": str(tmp_path / "spool"),
        "POINTSMAN_ROUTER_LIMITER_WAIT": "0",
    }
    status, lines = await start("router", variables)
    sentence = "cannot listen on nobody.invalid:0: there is no host called nobody.invalid"
    # gRPC writes a line of its own before it.
    assert (status, lines[-1]) == (69, f"router: {sentence}")


@pytest.mark.parametrize("service", ["router", "analytics"])
async def test_junk_for_a_certificate_is_a_fault_of_the_settings(service: str, tmp_path: Path) -> None:
    """One line for each, before anything is opened."""
    (junk := tmp_path / "junk.pem").write_text("junk")
    variables = {f"POINTSMAN_TLS_{name}": str(junk) for name in ("CERTIFICATE", "CA")}
    variables["POINTSMAN_ANALYTICS_POSTGRES_DSN"] = "postgresql://u:p@127.0.0.1:1/x"
    status, lines = await start(service, variables | {f"POINTSMAN_{service.upper()}_LISTEN": "127.0.0.1:0"})
    assert status == 64
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "POINTSMAN_TLS_CERTIFICATE",
        "POINTSMAN_TLS_CA",
    ]
