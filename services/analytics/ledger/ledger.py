"""The store of the ledger, as the recorder needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.analytics.ledger.attempt import Attempt


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of a batch: `inserted` + `replaced` + `duplicates` + refused records = records given.

    `refused` holds a reason by attempt id for what the store can never keep.
    """

    inserted: int = 0
    replaced: int = 0
    duplicates: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


class Ledger(Protocol):
    """One row per attempt, exactly once. Raises Unavailable while the store is gone."""

    async def record(self, attempts: Sequence[Attempt]) -> Recorded:
        """Keeps the best record of each attempt; of equally good ones the first. Durable when it returns; after an
        error any part of the batch may have been kept, and giving it again is safe."""
        ...
