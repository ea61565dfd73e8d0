"""The engines' handling of files: locks, passwords and places, without a server."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dev.engines import EngineError
from dev.engines.child import GUARD, PORTS, free_port, rotate, tail
from dev.engines.postgres_home import Home, reachable
from dev.engines.store import held, password, write_private

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone may run PostgreSQL as somebody else")


def test_a_directory_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """A second holder is refused with the given sentence, and admitted once the first has let go."""
    lock = tmp_path / "data" / "lock"
    with held(lock, "taken"), pytest.raises(EngineError, match="taken"), held(lock, "taken"):
        pass
    with held(lock, "taken"):
        pass


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error is one sentence naming the path, not a traceback from the operating system."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"file cannot be written"), held(tmp_path / "file" / "lock", ""):
        pass


def test_the_password_is_private_and_kept(tmp_path: Path) -> None:
    """The same password comes back every time, and only its owner may read it."""
    first = password(tmp_path / "password")
    assert first == password(tmp_path / "password")
    assert len(first) >= 24
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    """Replacing a file that others could read leaves one that they cannot."""
    target = tmp_path / "secret"
    target.write_text("old")
    target.chmod(0o644)
    write_private(target, "new")
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_path_below_a_private_directory_is_out_of_reach(tmp_path: Path) -> None:
    """One directory on the way that others may not enter is enough."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    assert not reachable(private / "data")


@as_root
def test_root_under_a_private_directory_keeps_the_cluster_elsewhere(tmp_path: Path) -> None:
    """The stand-in is the same every time, and no permission of the private directory is widened."""
    directory = tmp_path / "private" / "pg"
    directory.mkdir(parents=True)
    directory.parent.chmod(0o700)
    outside = tmp_path / "outside"
    home = Home.of(directory, outside)
    assert home.data.is_relative_to(outside)
    assert stat.S_IMODE(home.data.parent.stat().st_mode) == 0o711
    assert home == Home.of(directory, outside)
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700


@as_root
def test_a_directory_made_anew_has_a_cluster_of_its_own(tmp_path: Path) -> None:
    """Whoever removes the data directory and starts again had the old cluster, which does not take the new password:
    nothing reached the ledger. The old one is kept; its password may be all that was lost."""
    outside, directory = tmp_path / "outside", tmp_path / "private" / "pg"
    directory.mkdir(parents=True)
    directory.parent.chmod(0o700)
    home = Home.of(directory, outside)
    (home.data / "base").mkdir(parents=True)
    assert Home.of(directory, outside).data.exists()
    shutil.rmtree(directory)
    directory.mkdir()
    assert not Home.of(directory, outside).data.exists()
    assert len([*outside.glob("clusters/*/data/base")]) == 1


@as_root
def test_stand_ins_of_temporary_directories_that_are_gone_are_removed(tmp_path: Path) -> None:
    """A test run's clusters do not pile up outside its own directory."""
    outside = tmp_path / "outside"
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    first, second = private / "a", private / "b"
    first.mkdir()
    second.mkdir()
    gone = Home.of(first, outside).data.parent
    shutil.rmtree(first)
    Home.of(second, outside)
    assert not gone.exists()


def test_the_guard_refuses_when_the_parent_is_already_gone() -> None:
    """Between fork and the kernel's promise the parent may die: then the program is never started."""
    command = [sys.executable, "-I", "-S", str(GUARD), "1", "15", "-", "/bin/echo", "started"]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=20)
    assert ended.returncode == 1
    assert ended.stdout == b""


def test_a_free_port_is_given_once_and_not_from_where_strangers_are_given_theirs() -> None:
    """A port of the system's own range was somebody else's by the time that its member wanted it. Another process,
    which may ask at the same moment, is not given it either."""
    mine = [free_port() for _ in range(200)]
    command = "from dev.engines.child import free_port; print(*(free_port() for _ in range(200)))"
    root = str(Path(__file__).resolve().parents[3])
    others = subprocess.run(
        [sys.executable, "-c", command], cwd=root, capture_output=True, check=True, timeout=60
    )
    given = mine + [int(port) for port in others.stdout.split()]
    assert len(set(given)) == len(given) == 400
    assert set(given) <= set(PORTS)


def test_a_port_that_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever took it; where all are, a sentence says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr("dev.engines.child.PORTS", range(port, port + 1))
        with pytest.raises(EngineError, match=f"No port from {port} to {port} is free"):
            free_port()


def test_a_long_log_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the log starts anew and one older one is kept."""
    monkeypatch.setattr("dev.engines.child.LOG_LIMIT", 4)
    log = tmp_path / "x.log"
    log.write_text("12345")
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "x.log.1").read_text() == "12345"


def test_tail_gives_the_last_lines_and_nothing_for_no_file(tmp_path: Path) -> None:
    """Broken UTF-8 does not break it."""
    log = tmp_path / "x.log"
    assert tail(log, 2) == ""
    log.write_bytes(b"one\ntwo\xff\nthree\n")
    assert tail(log, 2) == "two�\nthree"
