"""Ports: the interfaces that the use cases need from outside, each with its contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.analytics.domain.alert import QuotaAlert
from services.analytics.domain.attempt import Attempt
from services.analytics.domain.query import Query
from services.analytics.domain.report import CostReport, PerformanceRow, ReliabilityRow


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
    """One row per attempt, exactly once. All methods raise Unavailable while the store is gone."""

    async def record(self, attempts: Sequence[Attempt]) -> Recorded:
        """Keeps the best record of each attempt; of equally good ones the first. Durable when it returns; after an
        error any part of the batch may have been kept, and giving it again is safe."""
        ...

    async def costs(self, query: Query) -> CostReport:
        """Sums exactly. Raises FailedPrecondition for more than MAX_ROWS rows, DeadlineExceeded where it takes too
        long; so do the others."""
        ...

    async def performance(self, query: Query) -> tuple[PerformanceRow, ...]:
        """Reports latency, throughput and failovers."""
        ...

    async def reliability(self, query: Query) -> tuple[ReliabilityRow, ...]:
        """Reports outcomes of attempts and of requests."""
        ...


class Alerts(Protocol):
    """Alerts on quotas. All methods raise Unavailable while the store is gone."""

    async def record(self, alerts: Sequence[QuotaAlert]) -> None:
        """Keeps the latest record (`as_of`) of each alert, and its earliest raising. Durable when it returns."""
        ...

    async def list(self, scope: str, now: float, since: float | None, most: int) -> list[QuotaAlert]:
        """Returns the alerts that stand at `now` (epoch seconds), and those raised from `since` on (None: no others),
        of one scope or (empty) all: those that stand first, then the latest raised."""
        ...
