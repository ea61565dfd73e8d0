"""Reports on what the ledger holds, as the door needs them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.analytics.reports.query import Query
from services.analytics.reports.report import CostReport, FailoverReport, PerformanceReport, ReliabilityReport


class Reports(Protocol):
    """Answers questions about attempts. All methods raise Unavailable while the store is gone, FailedPrecondition for
    more than MAX_ROWS rows, and DeadlineExceeded where the answer takes too long."""

    async def costs(self, query: Query, *, dearest: int | None = None) -> CostReport:
        """Sums money and tokens exactly. `dearest`: only so many rows, those that cost most, the dearest first (None:
        all, in order); not with pages."""
        ...

    async def performance(self, query: Query) -> PerformanceReport:
        """Reports latency, throughput and failovers."""
        ...

    async def reliability(self, query: Query) -> ReliabilityReport:
        """Reports outcomes of attempts and of requests."""
        ...


class FailoverReports(Protocol):
    """Answers questions about failovers. Raises as `Reports`; InvalidArgument for a range of more than MAX_RANGE."""

    async def failovers(self, query: Query) -> FailoverReport:
        """Reports what failovers saved and cost."""
        ...


class ReportSnapshot(Reports, Protocol):
    """Answers all questions as of one moment."""

    @property
    def last_commit(self) -> float | None:
        """Epoch seconds of the last commit that changed the ledger before that moment; None: there was none."""
        ...


class ReportSnapshots(Protocol):
    """Reports whose moment can be held."""

    def snapshot(self) -> AbstractAsyncContextManager[ReportSnapshot]:
        """Holds the present moment. Raises as `Reports`."""
        ...
