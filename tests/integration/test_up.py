"""`python -m dev` as a person at a terminal meets it: real processes, started, broken and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.addresses import find
from cli.failure import CliError
from dev.engines.child import port_is_free
from dev.members import grpc_serving
from dev.stack import OFFSETS
from tests.support.process import spawn

ROOT = Path(__file__).resolve().parents[2]
KEYS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "MISTRAL_API_KEY",
    "GROQ_API_KEY",
    "DEEPSEEK_API_KEY",
)


async def dev(*arguments: str, environ: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """Starts `python -m dev ...` without any provider key of this machine."""
    env = {name: value for name, value in os.environ.items() if name not in KEYS and "POINTSMAN" not in name}
    return await spawn(
        sys.executable,
        "-m",
        "dev",
        *arguments,
        cwd=ROOT,
        env={**env, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@dataclass(frozen=True, slots=True)
class Up:
    """A running stack: the supervisor, and what it wrote for programs."""

    process: asyncio.subprocess.Process
    state: dict[str, str]
    data: Path


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[Up]:
    """`dev up` on free ports; ended with the block if the test did not end it."""
    process = await dev("up", "--port-base", "0", "--data", str(data))
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if b"Ctrl-C stops everything" in line:
                break
        else:
            assert process.stderr is not None
            pytest.fail((await process.stderr.read()).decode())
        yield Up(process, json.loads((data / "stack.json").read_text()), data)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


def children(parent: int) -> dict[str, int]:
    """The processes that a process started, pid by a word that tells them apart."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            command = (folder / "cmdline").read_bytes().decode().split("\0")
            program = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if int(status[1]) == parent and status[0] != "Z":
            module = command[command.index("-m") + 1] if "-m" in command else program
            found[module.rpartition(".")[2]] = int(folder.name)
    return found


def alive(pid: int) -> bool:
    """Returns True if the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_replaced(parent: int, name: str, pid: int) -> None:
    """Returns once the parent has another process in that place."""
    while True:
        if children(parent).get(name, pid) != pid:
            return
        await asyncio.sleep(0.05)


async def until_gone(pids: list[int]) -> None:
    """Returns once none of them runs."""
    while True:
        if not any(alive(pid) for pid in pids):
            return
        await asyncio.sleep(0.05)


async def test_whatever_ends_a_stack_leaves_nothing_running_and_keeps_the_data(tmp_path: Path) -> None:
    """A signal: within five seconds no process and no port is left, and the status is 0. A killed supervisor: every
    child ends by itself, and the command line says so. The next start takes the directory over each time. The last is
    `make run ARGS=--once`: it shows for both answers who gave them, why, how fast, at what price, and that they are
    simulated."""
    for number in (signal.SIGINT, signal.SIGTERM):
        async with running(tmp_path) as up:
            pids = list(children(up.process.pid).values())
            assert len(pids) >= 7
            up.process.send_signal(number)
            async with asyncio.timeout(5.0):
                assert await up.process.wait() == 0
            assert not any(alive(pid) for pid in pids)
            addresses = [address for address in up.state.values() if address.startswith("127.")]
            assert all(port_is_free(int(address.rpartition(":")[2])) for address in addresses)
            assert not (tmp_path / "stack.json").exists()
    async with running(tmp_path) as up:
        pids = list(children(up.process.pid).values())
        assert find("router", None, None, places=(tmp_path,)).target == up.state["router"]
        up.process.kill()
        await up.process.wait()
        with pytest.raises(CliError, match="was killed"):
            find("router", None, None, places=(tmp_path,))
        async with asyncio.timeout(10):
            await until_gone(pids)
    process = await dev("demo", "--once", "--port-base", "0", "--data", str(tmp_path))
    output, errors = await process.communicate()
    assert process.returncode == 0, errors
    text = output.decode()
    assert "simulator" in text
    for word in ("provider", "reason", "attempts", "latency", "tokens", "cost"):
        assert text.count(word) >= 2, word


@pytest.mark.parametrize(
    "name", ["router", "health", "ratelimit", "analytics", "postgres", "valkey-server", "simulator"]
)
async def test_whatever_is_killed_comes_back_by_itself(stack: Up, name: str) -> None:
    """SIGKILL of any process leads to a new one that serves at the same address; the others stay."""
    before = children(stack.process.pid)
    os.kill(before[name], signal.SIGKILL)
    async with asyncio.timeout(30):
        await until_replaced(stack.process.pid, name, before[name])
        for service in ("router", "health", "ratelimit", "analytics"):
            await grpc_serving(stack.state[service])
    after = children(stack.process.pid)
    assert {n for n in before if after.get(n) != before[n]} == {name}


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """One stack for the tests that leave it as they found it."""
    async with running(tmp_path_factory.mktemp("stack")) as up:
        yield up


async def test_the_state_file_is_private_and_names_every_address(stack: Up) -> None:
    """It holds the service token, so nobody else may read it."""
    assert (stack.data / "stack.json").stat().st_mode & 0o777 == 0o600
    assert {"router", "health", "ratelimit", "analytics", "tenant_key", "service_token"} <= set(stack.state)


async def test_a_second_stack_on_the_same_data_is_refused(stack: Up) -> None:
    """One sentence, a non-zero status, and the first goes on."""
    second = await dev("up", "--port-base", "0", "--data", str(stack.data))
    _, errors = await second.communicate()
    assert second.returncode == 1
    assert b"Another stack runs on" in errors
    assert errors.count(b"\n") == 1
    assert stack.process.returncode is None


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """With what to do about it, and before anything was started."""
    base = next(
        b for b in range(20_000, 30_000, 200) if all(port_is_free(b + offset) for offset in OFFSETS.values())
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 1))  # health's
        taken.listen()
        process = await dev("up", "--port-base", str(base), "--data", str(tmp_path))
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"Port {base + 1} (health) is taken".encode() in errors
    assert errors.count(b"\n") == 1


async def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Root may write anywhere, so a file stands in the way of the directory."""
    (tmp_path / "file").write_text("")
    process = await dev("up", "--port-base", "0", "--data", str(tmp_path / "file"))
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"cannot be written" in errors
    assert errors.count(b"\n") == 1


async def test_a_catalog_whose_keys_are_missing_is_named_with_the_variables(tmp_path: Path) -> None:
    """POINTSMAN_CONFIG asks for real providers: the simulator does not step in."""
    catalog = {"POINTSMAN_CONFIG": str(ROOT / "config" / "pointsman.yaml")}
    process = await dev("up", "--port-base", "0", "--data", str(tmp_path), environ=catalog)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"OPENAI_API_KEY" in errors
    assert errors.count(b"\n") == 1


#: With a content type of its own only, and a provider that the format names.
CATALOG = """\
version: 1
providers:
  openai: {{base_url: "{url}", api_key_env: ""}}
models:
  openai/gpt-4.1-mini:
    context_window: 1_047_576
    max_output_tokens: 32_768
    capabilities: [streaming, system]
policies:
  default: {{tiers: [[openai/gpt-4.1-mini]]}}
default_content_type: letter
content_types:
  letter: {{max_output_tokens: 100}}
tenants:
  demo: {{key_sha256: [c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c]}}
"""


async def test_a_catalog_without_the_demonstrations_content_type_shows_its_own(tmp_path: Path) -> None:
    """The router refused `product_description`, and that took the stack down."""
    (tmp_path / "own.yaml").write_text(
        CATALOG.format(url="${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:9}/openai/v1")
    )
    arguments = ("--catalog", str(tmp_path / "own.yaml"), "--simulator", "--once", "--port-base", "0")
    process = await dev("demo", *arguments, "--data", str(tmp_path / "data"))
    output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Router.Generate, as letter:" in output
    assert output.count(b"cost") >= 2


async def test_a_demonstration_that_fails_leaves_the_stack_up(tmp_path: Path) -> None:
    """The sentence says why, and the addresses follow; told to show and end, it ends with a status."""
    (tmp_path / "own.yaml").write_text(CATALOG.format(url="http://127.0.0.1:9/v1"))
    arguments = (
        "--catalog",
        str(tmp_path / "own.yaml"),
        "--port-base",
        "0",
        "--data",
        str(tmp_path / "data"),
    )
    process = await dev("demo", *arguments)
    assert process.stdout is not None
    async with asyncio.timeout(100):
        said = [line async for line in _until(process.stdout, b"Ctrl-C stops everything")]
    assert any(line.startswith(b"The router answered ") for line in said)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    once = await dev("demo", "--once", *arguments)
    _, errors = await once.communicate()
    assert once.returncode == 1
    assert errors.startswith(b"error: The router answered ")
    assert errors.count(b"\n") == 1


async def _until(stream: asyncio.StreamReader, words: bytes) -> AsyncIterator[bytes]:
    """Lines up to the first with these words."""
    async for line in stream:
        yield line
        if words in line:
            return


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_data_directory_on_a_full_disk_is_a_sentence(tiny_disk: Path) -> None:
    """No database can start there: the directory is named, and what to do."""
    data = tiny_disk / "data"
    process = await dev("up", "--port-base", "0", "--data", str(data))
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.startswith(b"error: ")
    assert f"The disk of the data directory {data} has 0 MiB left" in errors.decode()
    assert b"--data" in errors
    assert b"Traceback" not in errors
