"""A blocked event loop says where it is blocked."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator, Sequence

from libs.watchdog import Watchdog

SECRET = "sk-never-in-a-log"


class Reports:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.stacks: list[list[str]] = []

    def __call__(self, stack: Sequence[str]) -> None:
        self.stacks.append(list(stack))

    def of(self, function: str) -> list[list[str]]:
        """Those of a loop held by a function; a busy machine may hold it too."""
        return [stack for stack in self.stacks if stack[0].endswith(function)]


@contextlib.contextmanager
def watched(blocked: float = 0.1) -> Iterator[Reports]:
    """The running loop, watched closely."""
    reports = Reports()
    watchdog = Watchdog(reports, blocked=blocked, pause=0.01)
    watchdog.start()
    try:
        yield reports
    finally:
        watchdog.stop()


async def test_a_loop_that_waits_is_reported_once_with_the_place() -> None:
    """The innermost frame first; a longer block is still one; the next is another. No value is told."""
    with watched() as reports:

        def hold_the_loop(key: str, times: int) -> None:
            while len(reports.of("hold_the_loop")) < times:
                time.sleep(0.01)
            time.sleep(0.5)
            assert key

        for times in (1, 2):
            hold_the_loop(SECRET, times)
            assert len(reports.of("hold_the_loop")) == times
            await asyncio.sleep(0.1)
    for stack in reports.of("hold_the_loop"):
        assert re.fullmatch(r".*test_watchdog\.py:\d+ .*hold_the_loop", stack[0])
        assert any("test_a_loop_that_waits" in frame for frame in stack)
        assert SECRET not in str(stack)


async def test_a_regular_expression_that_holds_the_interpreter_is_found() -> None:
    """No other thread runs while it searches: the watchdog runs next, and sees the line that it was called in."""
    with watched() as reports:

        def search() -> None:
            for length in range(15, 60):
                re.match("(a+)+$", "a" * length + "b")
                if reports.stacks:
                    break

        search()
    assert any(frame.endswith("search") for frame in reports.stacks[0])


async def test_a_loop_that_turns_is_not_reported() -> None:
    """However busy it is with short pieces of work."""
    with watched(blocked=1.0) as reports:
        ended = time.monotonic() + 1.5
        while time.monotonic() < ended:
            sum(range(1000))
            await asyncio.sleep(0)
    assert reports.stacks == []


async def test_it_ends_without_the_loop() -> None:
    """A loop that is closed while it is watched ends the thread."""

    def run() -> Watchdog:
        async def watch() -> Watchdog:
            watchdog = Watchdog(Reports(), blocked=0.1, pause=0.01)
            watchdog.start()
            return watchdog

        return asyncio.run(watch())

    watchdog = await asyncio.to_thread(run)
    async with asyncio.timeout(30):
        while watchdog._thread.is_alive():
            await asyncio.sleep(0.01)
