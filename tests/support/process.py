"""Processes that tests start: they end with the test run, however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from dev.engines.child import GUARD


async def spawn(*command: str, **more: Any) -> asyncio.subprocess.Process:
    """Starts `command`, whose first word is a path, as `asyncio.create_subprocess_exec` would with `more`. SIGTERM
    comes to it when the thread that started it ends, be it by SIGKILL, so that it can end its own children."""
    guard = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(int(signal.SIGTERM)), "-"]
    return await asyncio.create_subprocess_exec(*guard, *command, **more)
