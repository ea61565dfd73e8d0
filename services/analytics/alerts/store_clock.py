"""The time of the store, by which all replicas agree.

A replica whose clock is a day ahead would find the last hours empty and end every alert, keep leases for a day, and
sign webhooks that receivers refuse as too new. So whoever acts by its clock compares it first.
"""

from __future__ import annotations

from typing import Final, Protocol

from libs.clock import Clock
from libs.errors import Unavailable

#: Seconds between the two from which on nothing is done. Receivers of webhooks take five minutes.
MOST_APART: Final = 120.0


class StoreClock(Protocol):
    """The clock of the store."""

    async def now(self) -> float:
        """Returns epoch seconds. Raises Unavailable."""
        ...


async def check_clock(clock: Clock, store: StoreClock) -> None:
    """Raises Unavailable where the clocks are too far apart, or the store is gone."""
    ahead = clock.now() - await store.now()
    if abs(ahead) > MOST_APART:
        raise Unavailable(
            f"This machine's clock is {ahead:+.0f} s from PostgreSQL's: set it right",
            reason="LEDGER_UNAVAILABLE",
        )
