"""Work that takes the event loop long, one piece at a time and with room for others between.

A text of 4 MiB that JSON must escape takes the loop 60 ms to write for a provider, and half of that to read. One such
piece delays everybody else by that much; many in the same round of the loop, by the sum of them. So large pieces wait
for one another, and between two of them the loop is free for as long as the last has taken, at least PAUSE seconds:
on a busy machine both take longer. Small ones pass at once.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

#: Bytes or characters from which on a piece of work is large: about 4 ms of the worst.
LARGE = 256 * 1024
#: Seconds between two large pieces, at least: enough for whatever has come meanwhile.
PAUSE = 0.02


class HeavyWork:
    """Turns at large pieces of work: `async with` it around each. The next begins a pause after one has ended."""

    __slots__ = ("_began", "_free")

    def __init__(self) -> None:
        self._free = asyncio.Lock()
        self._began = 0.0

    async def __aenter__(self) -> None:
        await self._free.acquire()
        self._began = time.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        # From the loop's next round on: what follows the piece in this one takes time, too.
        loop.call_soon(self._release_later, loop)

    def _release_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(max(PAUSE, time.monotonic() - self._began), self._free.release)
