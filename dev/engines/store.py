"""A data directory of ours: held by one process at a time, with its password, free of what a crash left running."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.engines.child import EngineError


@contextmanager
def held(path: Path, sentence: str) -> Iterator[None]:
    """Hold an exclusive lock on a file for as long as the block runs; the kernel lets go when this process dies.

    Raises EngineError(sentence) where another process holds it, or naming the path where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"The data directory {path.parent} cannot be written: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(sentence) from error
        yield
    finally:
        os.close(descriptor)


def password(path: Path) -> str:
    """The random password kept in this file, made on the first call; readable by its owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Replace a file's content at once; nobody else can read it at any moment."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


async def evict(directory: Path, program: str, number: signal.Signals, grace: float = 10.0) -> None:
    """End every `program` still working in this directory: the leftovers of a killed parent.

    Only call this while holding the directory's lock, else it would end somebody's live server. Without /proc (macOS)
    it finds none, and the engine's own check refuses to start beside a leftover.
    """
    for pid in working_in(directory, program):
        _send(pid, number)
    deadline = asyncio.get_running_loop().time() + grace
    while left := working_in(directory, program):
        if asyncio.get_running_loop().time() > deadline:
            for pid in left:
                _send(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)


def working_in(directory: Path, program: str) -> list[int]:
    """Returns the live processes of that name whose working directory is this one (both engines chdir into their
    data)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == program and (
                process / "cwd"
            ).readlink() == directory:
                found.append(int(process.name))
        except OSError:
            continue  # gone meanwhile, a zombie, or somebody else's: not ours to end
    return found


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
