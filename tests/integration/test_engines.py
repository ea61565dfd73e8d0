"""The real Valkey and the real PostgreSQL under our own lifecycle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from dev.engines import EngineError, Postgres, Valkey, postgres, valkey
from tests.support.process import spawn

ROOT = Path(__file__).resolve().parents[2]


async def write_both(v: Valkey, p: Postgres) -> None:
    """Put one value into each."""
    client = redis.from_url(v.url)
    await client.set("k", "1")
    await client.waitaof(1, 0, 10_000)  # a crash may take what is not yet on disk
    await client.aclose()
    connection = await asyncpg.connect(p.dsn)
    await connection.execute("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    await connection.close()


async def read_valkey(v: Valkey) -> object:
    """The value, or None."""
    client = redis.from_url(v.url)
    value = await client.get("k")
    await client.aclose()
    return value


async def read_postgres(p: Postgres) -> int:
    """Returns the number of rows."""
    connection = await asyncpg.connect(p.dsn)
    count: int = await connection.fetchval("SELECT count(*) FROM t")
    await connection.close()
    return count


async def test_data_outlives_a_crash_and_a_restart_on_the_same_port(tmp_path: Path) -> None:
    """After SIGKILL and after a stop, both come back with the data, the address and the password of before."""
    async with valkey(tmp_path / "v") as v, postgres(tmp_path / "p") as p:
        addresses = v.url, p.dsn
        await write_both(v, p)
        await v.kill()
        await p.kill()
        await v.start()
        await p.start()
        assert (v.url, p.dsn) == addresses
        assert (await read_valkey(v), await read_postgres(p)) == (b"1", 1)
        await v.restart()
        await p.restart()
        assert (await read_valkey(v), await read_postgres(p)) == (b"1", 1)


async def test_no_process_is_left_behind(tmp_path: Path) -> None:
    """The processes are gone at the end of the block, and others may use the directories at once."""
    for _ in range(2):
        async with valkey(tmp_path / "v") as v, postgres(tmp_path / "p") as p:
            pids = v.pid, p.pid
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """A second server on the same data is refused in one sentence, and the first goes on."""
    async with valkey(tmp_path / "v") as v, postgres(tmp_path / "p") as p:
        with pytest.raises(EngineError, match="Another process runs Valkey"):
            await Valkey(tmp_path / "v").start()
        with pytest.raises(EngineError, match="Another process runs PostgreSQL"):
            await Postgres(tmp_path / "p").start()
        await write_both(v, p)


async def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    """Loopback is shared with every user of the machine."""
    async with valkey(tmp_path / "v") as v, postgres(tmp_path / "p") as p:
        with pytest.raises(redis.AuthenticationError):
            await redis.Redis(port=v.port, retry=Retry(NoBackoff(), 0)).get("k")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(
                host="127.0.0.1", port=p.port, user="pointsman", password="x", database="postgres"
            )


async def test_a_port_in_use_is_reported_with_the_engines_own_words(tmp_path: Path) -> None:
    """The last log lines say what is wrong."""
    async with valkey(tmp_path / "v") as v:
        with pytest.raises(EngineError, match="did not start") as caught:
            await Valkey(tmp_path / "w", v.port).start()
        assert "in use" in str(caught.value)


CHILD_SCRIPT = """
import asyncio, sys
from pathlib import Path
from dev.engines import postgres, valkey
async def main():
    base = Path(sys.argv[1])
    async with valkey(base / "v") as v, postgres(base / "p") as p:
        print(v.pid, p.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_the_engines_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL of the process that runs them ends both, and the next one takes the directories over."""
    parent = await spawn(
        sys.executable, "-c", CHILD_SCRIPT, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(word) for word in (await parent.stdout.readline()).split()]
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    # No waiting here: taking over is the engines' own job.
    async with valkey(tmp_path / "v") as v, postgres(tmp_path / "p") as p:
        await write_both(v, p)
        assert {v.pid, p.pid}.isdisjoint(pids)
        assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    """Returns True if the process exists and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
