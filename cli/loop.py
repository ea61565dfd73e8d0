"""Runs a command's coroutine so that Ctrl-C ends it, whenever it comes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine as asyncio.run does, which has no wake-up descriptor for SIGINT: one that comes just before
    the loop begins to wait for events would be slept through. Raises KeyboardInterrupt."""

    async def interruptible() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        # Signals are the main thread's alone.
        if threading.current_thread() is not threading.main_thread():
            return await work
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            return await work
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
