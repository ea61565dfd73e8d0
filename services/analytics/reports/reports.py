"""Reports on what the ledger holds, as the door needs them."""

from __future__ import annotations

from typing import Protocol

from services.analytics.reports.query import Query
from services.analytics.reports.report import CostReport, PerformanceReport, ReliabilityReport


class Reports(Protocol):
    """Answers questions about attempts. All methods raise Unavailable while the store is gone, FailedPrecondition for
    more than MAX_ROWS rows, and DeadlineExceeded where the answer takes too long."""

    async def costs(self, query: Query) -> CostReport:
        """Sums money and tokens exactly."""
        ...

    async def performance(self, query: Query) -> PerformanceReport:
        """Reports latency, throughput and failovers."""
        ...

    async def reliability(self, query: Query) -> ReliabilityReport:
        """Reports outcomes of attempts and of requests."""
        ...
