"""Time as a parameter. Nothing else in the project calls `time.*` to decide something."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def monotonic(self) -> float:
        """Returns seconds that never go back; only differences mean something."""
        ...

    def now(self) -> float:
        """Returns seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)
