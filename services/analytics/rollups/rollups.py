"""The rollups, as their keeper and the door need them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Protocol

from services.analytics.rollups.state import RollupState


class Rollups(Protocol):
    """Steps that keep the rollups, each whole or not at all, by any replica. All raise Unavailable while the store is
    gone. Instants are epoch seconds."""

    async def state(self) -> RollupState:
        """Returns the marks as they are now."""
        ...

    async def change_zone(self, zone: str) -> bool:
        """Takes over the owner's zone. Returns True where it was another: then days are folded again from hours."""
        ...

    async def fold(self, now: float) -> bool:
        """Adds the next hour that is over to the rows of hours, or the next hours to those of days. Returns False
        where there was nothing to add."""
        ...

    async def forget(self, now: float) -> bool:
        """Deletes some rows of five minutes that are older than 48 hours. Returns True if there may be more."""
        ...

    async def rebuild(self, since: float | None = None, until: float | None = None) -> RollupState:
        """Begins to count the hours of [since, until) from attempts again (None: from the first, to the last);
        `rebuild_step` does it. What is being rebuilt already is not forgotten. Returns the marks."""
        ...

    async def rebuild_step(self) -> bool:
        """Counts the next stretch that waits for a rebuild. Returns False where there is none."""
        ...

    async def check(self, rng: Random) -> Mapping[str, int] | None:
        """Recounts a stretch chosen at random. Returns by table how many rows are wrong, missing or too many there;
        None: there was nothing to recount, or too much."""
        ...
