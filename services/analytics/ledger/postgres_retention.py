"""Keeps the ledger's partitions in the background: there before they are needed, and gone when they are too old."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from libs.clock import Clock
from libs.errors import Unavailable
from libs.telemetry import Metrics, get_logger
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_partitions import PartitionedTable, keep_partitions

#: Seconds between two rounds, and before a round that failed is tried again.
ROUND, RETRY = 600.0, 5.0

log = get_logger(__name__)


class PartitionKeeper:
    """Satisfies the retention policy. `retention`: seconds for which rows are kept; None: for ever."""

    def __init__(
        self,
        database: Database,
        tables: Sequence[PartitionedTable],
        retention: float | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._tables = tuple(tables)
        self._retention = retention
        self._clock = clock
        self._failures = metrics.counter(
            "analytics_partition_failures", "Rounds in which the ledger's partitions were not all kept."
        )

    async def run(self) -> None:
        """Keeps them until it is cancelled."""
        while True:
            try:
                await self.keep()
            except Unavailable as error:
                self._failures.inc()
                log.warning("partitions_not_kept", error=str(error))
                await asyncio.sleep(RETRY)
            else:
                await asyncio.sleep(ROUND)

    async def keep(self) -> None:
        """Makes what is missing and drops what is too old. Raises Unavailable."""
        async with self._database.writing() as connection:
            await keep_partitions(connection, self._tables, self._clock.now(), self._retention)
