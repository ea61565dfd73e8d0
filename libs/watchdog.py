"""Reports where an event loop is stuck.

Whatever holds the loop's thread for long holds everybody's calls, and leaves no trace of itself: no call of its own
has ended, no probe is answered, and the orchestrator ends the process. A thread asks the loop for an answer every
`PAUSE`; where none comes within `blocked` seconds it reports the stack of the loop's thread, once a block: files,
lines and names of functions, never a value.

Code that holds the interpreter itself (a regular expression) lets no other thread run until it is done; then the
thread runs next, before the loop's thread goes on from that line, and sees it there. Time in which the process was
stopped (SIGSTOP, a suspended machine) is not counted.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

#: Seconds after which a loop counts as blocked.
BLOCKED = 1.0
#: Seconds between two questions to a loop that answers.
PAUSE = 1.0
#: Parts in which an answer is waited for: the loop has the last of them to answer in after the process was stopped.
_PARTS = 4
#: Frames of a stack that are reported, the innermost.
_MOST_FRAMES = 40

Report = Callable[[Sequence[str]], None]


class Watchdog:
    """Watches the loop of the thread that makes it, from `start` to `stop`. `report` is called in another thread."""

    def __init__(self, report: Report, *, blocked: float = BLOCKED, pause: float = PAUSE) -> None:
        self._report = report
        self._blocked = blocked
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the thread to end; it is not waited for, since it may just be waiting for this loop."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._pause):
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # The loop was closed.
            if self._is_blocked(answered):
                self._report(stack_of(self._watched))
            while not answered.wait(self._pause):
                if self._stopped.is_set():
                    return

    def _is_blocked(self, answered: threading.Event) -> bool:
        busy_since = time.process_time()
        for _ in range(_PARTS):
            if answered.wait(self._blocked / _PARTS) or self._stopped.is_set():
                return False
            if time.process_time() - busy_since >= self._blocked:
                return True
        return True


def stack_of(thread: int) -> list[str]:
    """Returns `file:line function` for the frames of a running thread by its ident, the innermost first; empty where
    it has ended."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return []
    return [
        f"{inner.f_code.co_filename}:{line} {inner.f_code.co_qualname}"
        for inner, line in traceback.walk_stack(frame)
    ][:_MOST_FRAMES]
