"""The store of the ledger, as the recorder needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.request import RequestRecord


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of a batch: `inserted` + `replaced` + `duplicates` + refused attempts = attempts given.

    `refused` holds a reason by attempt id, or by a request's record id, for what the store can never keep;
    `requests`: records of requests that are new.
    """

    inserted: int = 0
    replaced: int = 0
    duplicates: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0


class Ledger(Protocol):
    """One row per attempt and one per request, exactly once. Raises Unavailable while the store is gone."""

    async def record(self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()) -> Recorded:
        """Keeps the best record of each attempt, of equally good ones the first, and the first of each request.
        Durable when it returns; after an error any part of the batch may have been kept, and giving it again is
        safe."""
        ...
