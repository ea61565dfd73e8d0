"""The supervisor, with small real processes in the places of services."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from dev.engines import EngineError
from dev.engines.child import tail
from dev.members import Process, http_serving
from dev.supervisor import MAX_DEATHS, StackError, Supervisor
from libs.clock import SystemClock

FOREVER = ["/bin/sh", "-c", "echo up; while :; do sleep 1; done"]


class Book:
    """Keeps what the supervisor says, and lets a test wait for it."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, sentence: str) -> None:
        self.sentences.append(sentence)
        self._news.set()

    async def count(self, word: str, times: int = 1) -> None:
        """Returns once that many sentences hold the word."""
        while sum(word in sentence for sentence in self.sentences) < times:
            self._news.clear()
            await self._news.wait()


def member(tmp_path: Path, name: str, argv: list[str], *, serving: str = "up") -> Process:
    """A process that serves once its log ends with the word `serving`."""
    log = tmp_path / f"{name}.log"

    async def probe(_: str) -> None:
        while True:
            if tail(log, 1) == serving:
                return
            await asyncio.sleep(0.01)

    return Process(name, "127.0.0.1:1", argv, {"PATH": "/usr/bin:/bin"}, cwd=tmp_path, log=log, probe=probe)


async def test_a_member_that_is_killed_comes_back_and_the_others_stay(tmp_path: Path) -> None:
    """SIGKILL of one leads to a new process for it alone."""
    book = Book()
    one, two = member(tmp_path, "one", FOREVER), member(tmp_path, "two", FOREVER)
    supervisor = Supervisor([[one], [two]], SystemClock(), book, lambda: True)
    await supervisor.start()
    keeping = asyncio.create_task(supervisor.keep_running())
    first, other = one.child.pid, two.child.pid
    os.kill(first, signal.SIGKILL)
    await book.count("one serves", times=2)
    assert one.child.pid != first
    assert two.child.pid == other
    assert [status.restarts for status in supervisor.statuses] == [1, 0]
    keeping.cancel()
    await supervisor.stop([2.0, 2.0])


async def test_a_member_that_cannot_stay_up_ends_the_watch_with_its_last_words(tmp_path: Path) -> None:
    """Dying again and again is an error that shows the log, not an endless loop."""
    book = Book()
    broken = member(
        tmp_path, "broken", ["/bin/sh", "-c", "echo up; sleep 0.1; echo the disk is on fire; exit 3"]
    )
    supervisor = Supervisor([[broken]], SystemClock(), book, lambda: True)
    await supervisor.start()
    with pytest.raises(StackError, match="broken cannot stay up") as caught:
        await supervisor.keep_running()
    assert "the disk is on fire" in str(caught.value)
    assert supervisor.statuses[0].restarts == MAX_DEATHS - 1


async def test_a_member_without_room_on_the_disk_is_tried_until_there_is(tmp_path: Path) -> None:
    """A store that cannot write ended the whole stack, with the services that do without it."""
    book, tries = Book(), tmp_path / "tries"
    script = f"echo >>{tries}; test -e {tmp_path}/full && exit 1; echo up; while :; do sleep 1; done"
    store = member(tmp_path, "store", ["/bin/sh", "-c", script])
    supervisor = Supervisor([[store]], SystemClock(), book, lambda: not (tmp_path / "full").exists())
    await supervisor.start()
    keeping = asyncio.create_task(supervisor.keep_running())
    (tmp_path / "full").touch()
    os.kill(store.child.pid, signal.SIGKILL)
    while len(tries.read_text()) <= MAX_DEATHS + 1:
        assert not keeping.done()
        await asyncio.sleep(0.02)
    (tmp_path / "full").unlink()
    await book.count("store serves", times=2)
    assert sum("no room" in sentence for sentence in book.sentences) == 1
    keeping.cancel()
    await supervisor.stop([2.0])


async def test_a_member_that_dies_before_it_serves_fails_the_start(tmp_path: Path) -> None:
    """The first start gets no second try: what is wrong is shown at once."""
    dying = member(tmp_path, "dying", ["/bin/sh", "-c", "echo no such table >&2; exit 69"])
    supervisor = Supervisor([[dying]], SystemClock(), Book(), lambda: True)
    with pytest.raises(StackError, match=r"dying did not start \(status 69\)") as caught:
        await supervisor.start()
    assert "no such table" in str(caught.value)


async def test_members_stop_in_reverse_order_of_their_layers(tmp_path: Path) -> None:
    """Members that others depend on stop last."""
    journal = tmp_path / "journal"
    script = "trap 'echo {0} >> journal; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    members = [
        member(tmp_path, name, ["/bin/sh", "-c", script.format(name)]) for name in ("store", "service")
    ]
    supervisor = Supervisor([[m] for m in members], SystemClock(), Book(), lambda: True)
    await supervisor.start()
    await supervisor.stop([5.0, 5.0])
    assert journal.read_text().split() == ["service", "store"]


async def test_a_member_that_ignores_the_request_to_stop_is_made_to(tmp_path: Path) -> None:
    """After its grace it is killed, so stopping is bounded."""
    deaf = member(tmp_path, "deaf", ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"])
    supervisor = Supervisor([[deaf]], SystemClock(), Book(), lambda: True)
    await supervisor.start()
    await supervisor.stop([0.1])
    assert not deaf.child.running
    assert await deaf.child.wait() == -signal.SIGKILL


async def test_a_stranger_on_the_port_is_not_taken_for_the_member(tmp_path: Path) -> None:
    """A stack came up with PostgreSQL in the simulator's place: it accepts, and hangs up without a word."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as stranger:
        address = f"127.0.0.1:{stranger.sockets[0].getsockname()[1]}"
        argv = ["/bin/sh", "-c", "sleep 0.3; echo the port is taken; exit 1"]
        probe = http_serving("/_control")
        late = Process("late", address, argv, {}, cwd=tmp_path, log=tmp_path / "log", probe=probe)
        with pytest.raises(EngineError, match="the port is taken"):
            await late.start()


async def test_a_server_that_answers_serves() -> None:
    """Once its answer is 200."""
    answers = iter([b"503 Service Unavailable", b"200 OK"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"GET /there ")
        writer.write(b"HTTP/1.1 " + next(answers) + b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await http_serving("/there")(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert next(answers, None) is None
