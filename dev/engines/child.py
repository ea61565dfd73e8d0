"""One child process: started under the guard, logged to a file, stopped within a bound."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
LOG_LIMIT = 8 << 20


class EngineError(Exception):
    """A child that cannot be started or kept up; the message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Account:
    """The identity a child runs under."""

    uid: int
    gid: int


@dataclass(slots=True)
class Child:
    """A process of ours. It gets no terminal signals (its own session) and dies with the thread that started it."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path | None = None
    account: Account | None = None
    #: The signal that `stop` sends, and the kernel when the parent dies.
    stop_signal: signal.Signals = signal.SIGTERM
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Returns the process id of the running, or of the last, process."""
        if self._process is None:
            raise EngineError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Returns True if it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; returns once the process exists, not once it serves."""
        if self.running:
            return
        account = "-" if self.account is None else f"{self.account.uid}:{self.account.gid}"
        guard = [str(GUARD), str(os.getpid()), str(int(self.stop_signal)), account]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        rotate(self.log)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                *guard,
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.env),
                cwd=self.cwd or "/",
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Waits until it has ended; returns the exit status, negative for a signal."""
        if self._process is None:
            raise EngineError(f"{self.name} was never started")
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self, grace: float = 4.0) -> None:
        """Ask it to end, and after `grace` seconds make it."""
        if not self.running:
            return
        self.send(signal.SIGCONT)
        self.send(self.stop_signal)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.running:
            self.send(signal.SIGKILL)
            await self.wait()

    def tail(self, lines: int = 12) -> str:
        """Returns the last lines of its log."""
        return tail(self.log, lines)


def tail(path: Path, lines: int) -> str:
    """Returns the last lines of a text file; empty where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def rotate(path: Path) -> None:
    """Move a log above `LOG_LIMIT` bytes to `.1`, replacing the one before."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_name(path.name + ".1"))


#: The ports to choose from, below those that any system gives to outgoing connections by default: what connects to a
#: port of these before its server is up is refused, and cannot be given the very port as its own, nor can a stranger.
PORTS = range(10_000, 16_000)
#: The sockets that keep ports ours: a UDP socket of the same number, which the kernel gives back when this process
#: ends.
_claims: list[socket.socket] = []


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a TCP port nobody listens on, given once: not again by this process, nor by another that asks here
    while this one lives. Raises EngineError where there is none."""
    for port in random.sample(PORTS, len(PORTS)):
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind((host, port))
            with socket.socket() as probe:
                probe.bind((host, port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise EngineError(f"No port from {PORTS.start} to {PORTS.stop - 1} is free.")


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Returns True if a listener could bind this port now; sockets in TIME_WAIT do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
