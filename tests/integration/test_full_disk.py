"""A disk without room: the router starts on one, sends what it has there, and keeps records again once there is room.

On a real file system of a few hundred kB, which only root may mount: skipped where that is not permitted.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dev.engines.child import free_port
from dev.members import grpc_serving
from libs.telemetry import Metrics
from services.router.ledger.file_spool import RETRY, FileSpool
from services.router.ledger.usage_record import UsageRecord
from tests.support.clock import ManualClock
from tests.unit.router.ledger.test_spool_metrics import record

ROOT = Path(__file__).resolve().parents[2]
SEGMENT = 64 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 512 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


@dataclass(slots=True)
class Life:
    """A spool of one process's life, and what it counts."""

    spool: FileSpool
    metrics: Metrics
    clock: ManualClock

    def count(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"pointsman_spool_{name}")

    def sent(self) -> list[str]:
        """The attempts that the ledger gets, acknowledged."""
        records, position = self.spool.read()
        self.spool.acknowledge(position)
        return [r.attempt_id for r in records if isinstance(r, UsageRecord)]

    def die(self) -> None:
        """Lets go of the directory without the tidy end of `close`."""
        assert self.spool._lock is not None
        os.close(self.spool._lock)
        for segment in self.spool._segments.values():
            segment.map.close()  # It holds the room.


def begin(directory: Path) -> Life:
    metrics, clock = Metrics(), ManualClock()
    return Life(FileSpool(directory, metrics, clock, segment_bytes=SEGMENT), metrics, clock)


def padded(name: str) -> UsageRecord:
    made = record(name)
    made.labels = {"k": "v" * 1000}
    return made


def test_what_is_there_is_sent_and_makes_room(disk: Path) -> None:
    """The next life starts, sends ended and cut-off attempts, drops and counts new ones as long as there is no room,
    and keeps them in the room that the acknowledged ones leave."""
    first = begin(disk / "spool")
    for name in ("ended", "cut"):
        first.spool.begin(record(name))
    first.spool.end(record("ended"))
    first.die()
    fill(disk)

    second = begin(disk / "spool")
    assert second.count("writable") == 0
    second.spool.begin(record("unkept"))
    second.spool.end(record("unkept"))
    assert second.count("dropped_records_total") == 2
    assert sorted(second.sent()) == ["cut", "ended"]
    assert not list((disk / "spool").glob("*.usage"))
    assert second.count("bytes") == 0
    second.spool.begin(record("kept"))
    second.spool.end(record("kept"))
    assert second.count("writable") == 1
    assert second.sent() == ["kept"]
    assert second.count("dropped_records_total") == 2
    second.spool.close()


def test_a_disk_that_fills_up_while_it_serves_is_tried_again(disk: Path) -> None:
    """Once a second and not for every record; nothing that was kept is lost, and what is not kept is counted."""
    life = begin(disk / "spool")
    filler = fill(disk)
    names = [str(i) for i in range(200)]
    for name in names:
        life.spool.end(padded(name))
    kept = life.sent()
    assert kept == names[: len(kept)]
    assert life.count("dropped_records_total") == len(names) - len(kept) > 0
    assert life.count("writable") == 0
    filler.write_bytes(b"")
    life.clock.advance(RETRY)
    life.spool.end(record("again"))
    assert life.count("writable") == 1
    assert life.sent() == ["again"]
    life.spool.close()


def test_a_first_start_on_a_full_disk(disk: Path) -> None:
    """Not even the directory can be made; once it can, records are kept, and the directory is this process's."""
    filler = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        (disk / "probe").write_bytes(b"x")
    (disk / "probe").unlink(missing_ok=True)
    directory = disk / "a" / "spool"
    life = begin(directory)
    life.spool.end(record("unkept"))
    filler.write_bytes(b"")
    life.clock.advance(RETRY)
    life.spool.end(record("kept"))
    assert "kept" in life.sent()
    with pytest.raises(OSError, match="another router uses"):
        begin(directory)
    life.spool.close()


@asynccontextmanager
async def router(disk: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A router of its own process, with spool and log on the disk, and the port of its metrics."""
    port, metrics = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")]),
        "POINTSMAN_CONFIG": str(ROOT / "config" / "simulator.yaml"),
        "POINTSMAN_ROUTER_LISTEN": f"127.0.0.1:{port}",
        "POINTSMAN_ROUTER_HTTP_LISTEN": "",
        "POINTSMAN_ROUTER_METRICS_LISTEN": str(metrics),
        "POINTSMAN_ROUTER_SPOOL_DIR": str(disk / "spool"),
        "POINTSMAN_ROUTER_DRAIN_SECONDS": "0",
        # There is none.
        "POINTSMAN_ROUTER_LIMITER_WAIT": "0",
    }
    with (disk / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.router"), cwd=ROOT, env=environment, stderr=log
        )
        try:
            async with asyncio.timeout(60):
                await grpc_serving(f"127.0.0.1:{port}")
            yield process, metrics
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def samples(port: int) -> dict[str, float]:
    """The router's metrics without labels."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    text = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name: sample.value for sample in found if not sample.labels}


async def test_a_router_serves_with_spool_and_log_on_a_full_disk(disk: Path) -> None:
    """It ended with status 69, and the usage in its spool stayed there. Lines of its log that cannot be written are
    counted, and fail nobody."""
    first = begin(disk / "spool")
    first.spool.end(record("left"))
    first.die()
    (disk / "log").touch()
    fill(disk)
    async with router(disk) as (process, port):
        found = await samples(port)
        assert found["pointsman_spool_writable"] == 0
        assert found["pointsman_spool_bytes"] > 0
        assert found["pointsman_log_lines_lost"] > 0
    assert process.returncode == 0
    assert begin(disk / "spool").sent() == ["left"]
