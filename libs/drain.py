"""The first part of a drain, the same for every server: it is no longer ready, and callers get the time to turn to
others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: The longest time in which a draining server still takes calls, and the time without a call after which it takes
#: none, in seconds.
LINGER, QUIET = 2.0, 0.1


async def wait_until_quiet(begun: Callable[[], int], seconds: float) -> float:
    """Waits until no call comes any more, at most LINGER or half of `seconds`. Returns the seconds it took. `begun`
    returns the number of calls that have begun so far."""
    most = min(LINGER, seconds / 2)
    lingered, before = 0.0, -1
    while begun() != before and lingered + QUIET <= most:
        before = begun()
        await asyncio.sleep(QUIET)
        lingered += QUIET
    return lingered
