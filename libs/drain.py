"""The first part of a drain, the same for every server: callers are told to turn away, and get the time to do so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: How long a server that drains goes on taking calls, at most; and without any for how long it takes none any more.
#: Seconds.
LINGER, QUIET = 2.0, 0.1


async def wait_until_quiet(begun: Callable[[], int], seconds: float) -> float:
    """Returns once no call comes any more, at the latest after LINGER or half of `seconds`, with how long that took.
    `begun`: how many calls have begun so far."""
    most = min(LINGER, seconds / 2)
    lingered, before = 0.0, -1
    while begun() != before and lingered + QUIET <= most:
        before = begun()
        await asyncio.sleep(QUIET)
        lingered += QUIET
    return lingered
