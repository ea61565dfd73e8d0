"""Virtual time for asyncio: the loop's clock jumps to the next timer instead of waiting for it.

Hours pass in milliseconds, and one seed gives one history: nothing depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: what it would wait, it adds to the time."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits for something that will never happen")
            self.now += timeout
        return ready


class VirtualClock:
    """Satisfies `libs.clock.Clock`: the time of the running virtual loop."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.monotonic = time

    def now(self) -> float:
        return 1_800_000_000.0 + self.monotonic()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Callable[[VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """Runs it to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(VirtualClock(runner.get_loop().time)))
