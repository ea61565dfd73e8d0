"""Composition root: the only file that names the concrete adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.errors import Unavailable
from libs.lifecycle import Runtime, StartError, background, run
from libs.rpc.server import Registration
from libs.telemetry import get_logger
from services.analytics.alerts.postgres_quota_alerts import PostgresQuotaAlerts
from services.analytics.api.servicer import MAX_ALERTS, SERVICE, AnalyticsServicer
from services.analytics.database.postgres_database import Database, PoolOptions
from services.analytics.database.postgres_migrations import MigrationRefused, read_migrations
from services.analytics.database.postgres_partitions import DAY, PARTITIONED
from services.analytics.forecasts.forecaster import Forecaster
from services.analytics.forecasts.postgres_history import PostgresUseHistory
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.postgres_lookup import PostgresLookup
from services.analytics.ledger.postgres_retention import PartitionKeeper
from services.analytics.ledger.recorder import Recorder
from services.analytics.reports.postgres_reports import PostgresReports
from services.analytics.rollups.keeper import RollupKeeper
from services.analytics.rollups.postgres_rollups import PostgresRollups
from services.analytics.settings import AnalyticsSettings
from services.analytics.summary.feed import SummaryFeed

#: Seconds after which the service starts without the ledger and goes on preparing it in the background.
START_TIMEOUT = 10.0

log = get_logger(__name__)


@asynccontextmanager
async def assemble(settings: AnalyticsSettings, runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Starts without PostgreSQL too: then every call is UNAVAILABLE until it is there. Raises StartError where the
    database is there and its history contradicts our migrations."""
    reader = settings.postgres_reader_dsn
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database(
                settings.postgres_dsn.get_secret_value(),
                read_migrations(),
                PoolOptions(
                    readers=settings.postgres_readers,
                    write_timeout=settings.write_timeout,
                    read_timeout=settings.read_timeout,
                ),
                reader_dsn=reader.get_secret_value() if reader is not None else None,
            )
        )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await database.prepare()
        except MigrationRefused as error:
            raise StartError(str(error)) from error
        except (Unavailable, TimeoutError) as error:
            log.warning("ledger_not_ready", error=str(error) or "PostgreSQL takes its time")
            await stack.enter_async_context(background("analytics-migrations", database.keep_preparing))
        retention = None if settings.retention_days is None else settings.retention_days * DAY
        keeper = PartitionKeeper(database, PARTITIONED, retention, runtime.clock, runtime.metrics)
        await stack.enter_async_context(background("analytics-partitions", keeper.run))
        rollups = PostgresRollups(database)
        rollup_keeper = RollupKeeper(rollups, settings.time_zone, runtime.clock, Random(), runtime.metrics)
        await stack.enter_async_context(background("analytics-rollups", rollup_keeper.run))
        recorder = Recorder(
            PostgresLedger(database, rollups.follow), runtime.clock, runtime.metrics, retention=retention
        )
        stack.push_async_callback(recorder.close)
        reports, alerts = PostgresReports(database), PostgresQuotaAlerts(database)

        async def count_alerts(now: float) -> int:
            return len(await alerts.list("", now, None, MAX_ALERTS))

        yield [
            Registration(
                analytics_pb2_grpc.add_AnalyticsServicer_to_server,
                AnalyticsServicer(
                    recorder,
                    reports,
                    SummaryFeed(reports, count_alerts, settings.time_zone, runtime.clock, runtime.metrics),
                    alerts,
                    PostgresLookup(database),
                    Forecaster(PostgresUseHistory(database)),
                    rollups,
                    runtime.clock,
                ),
                SERVICE,
                long_lived=frozenset({"RecordUsage", "WatchSummary"}),
            )
        ]


def main() -> int:
    """Runs the service; returns its exit status."""
    return run("analytics", AnalyticsSettings, assemble)
