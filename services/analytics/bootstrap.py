"""Composition root: the only file that names the concrete adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random, SystemRandom

from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.catalog.catalog import Catalog
from libs.catalog.faults import CatalogError
from libs.catalog.model import Model, Provider
from libs.catalog.watch import CatalogHolder
from libs.diagnosis import Store, StoreKind
from libs.errors import Unavailable
from libs.ids import TimeOrderedIds
from libs.lifecycle import Runtime, StartError, background, run
from libs.rpc.server import Registration
from libs.telemetry import get_logger
from libs.types import Usage
from services.analytics.alerts.detection import Detection
from services.analytics.alerts.http_webhook import HttpWebhook
from services.analytics.alerts.postgres_alerts import PostgresAlerts
from services.analytics.alerts.postgres_deliveries import PostgresDeliveries
from services.analytics.alerts.postgres_leases import PostgresClock, PostgresLeases
from services.analytics.alerts.postgres_series import PostgresSeries
from services.analytics.alerts.store import AlertFilter
from services.analytics.alerts.watch import AlertWatch
from services.analytics.alerts.webhooks import Webhooks
from services.analytics.api.servicer import MAX_ALERTS, SERVICE, AnalyticsServicer
from services.analytics.changes.postgres_changes import PostgresChanges
from services.analytics.database.postgres_database import Database, PoolOptions
from services.analytics.database.postgres_diagnosis import ask_postgres
from services.analytics.database.postgres_migrations import MigrationRefused, read_migrations
from services.analytics.database.postgres_partitions import DAY, PARTITIONED
from services.analytics.forecasts.forecaster import Forecaster
from services.analytics.forecasts.postgres_history import PostgresUseHistory
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.postgres_lookup import PostgresLookup
from services.analytics.ledger.postgres_retention import PartitionKeeper
from services.analytics.ledger.recorder import Recorder
from services.analytics.recommendations.adviser import Adviser
from services.analytics.recommendations.gather import Sources
from services.analytics.recommendations.postgres_details import PostgresDetails
from services.analytics.recommendations.postgres_recommendations import PostgresRecommendations
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
    migrations = read_migrations()
    _add_stores(settings, runtime, len(migrations))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database(
                settings.postgres_dsn.get_secret_value(),
                migrations,
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
        alerts = PostgresAlerts(database)
        await stack.enter_async_context(_detecting(settings, runtime, database, alerts))
        await stack.enter_async_context(_announcing(settings, runtime, database))
        catalog = await _follow_catalog(settings, stack)
        runtime.catalog_version = lambda: found.version if (found := catalog()) is not None else ""
        reports, details = PostgresReports(database), PostgresDetails(database)
        adviser = Adviser(
            Sources(reports, details, alerts),
            details,
            PostgresRecommendations(database),
            catalog,
            _price,
            settings.time_zone,
            runtime.clock,
        )

        async def count_alerts(now: float) -> int:
            return len(await alerts.find(AlertFilter(), now, None, MAX_ALERTS))

        yield [
            Registration(
                analytics_pb2_grpc.add_AnalyticsServicer_to_server,
                AnalyticsServicer(
                    recorder,
                    reports,
                    reports,
                    SummaryFeed(reports, count_alerts, settings.time_zone, runtime.clock, runtime.metrics),
                    alerts,
                    AlertWatch(alerts, runtime.clock, runtime.metrics),
                    PostgresLookup(database),
                    Forecaster(PostgresUseHistory(database)),
                    adviser,
                    rollups,
                    PostgresChanges(database),
                    runtime.clock,
                    TimeOrderedIds(SystemRandom()),
                ),
                SERVICE,
                long_lived=frozenset({"RecordUsage", "WatchAlerts", "WatchSummary"}),
            )
        ]


def _add_stores(settings: AnalyticsSettings, runtime: Runtime, wanted: int) -> None:
    """Names the databases for the process's diagnosis."""
    dsns = {"ledger": settings.postgres_dsn, "reader": settings.postgres_reader_dsn}
    for name, dsn in dsns.items():
        if dsn is not None:
            ask = partial(ask_postgres, dsn.get_secret_value(), runtime.clock)
            runtime.stores.append(Store(StoreKind.POSTGRESQL, name, ask, wanted))


@asynccontextmanager
async def _detecting(
    settings: AnalyticsSettings, runtime: Runtime, database: Database, alerts: PostgresAlerts
) -> AsyncIterator[None]:
    """Runs the detection of alerts."""
    detection = Detection(
        PostgresSeries(database),
        alerts,
        PostgresLeases(database),
        PostgresClock(database),
        runtime.clock,
        runtime.metrics,
        holder=runtime.instance_id,
        objective=settings.objective,
    )
    async with background("analytics-alerts", detection.run):
        yield


@asynccontextmanager
async def _announcing(
    settings: AnalyticsSettings, runtime: Runtime, database: Database
) -> AsyncIterator[None]:
    """Runs the webhooks, where the operator has any."""
    if not settings.destinations:
        yield
        return
    async with HttpWebhook(settings.allowed_hosts, runtime.clock) as sender:
        webhooks = Webhooks(
            settings.destinations,
            PostgresDeliveries(database),
            sender,
            PostgresClock(database),
            runtime.clock,
            SystemRandom(),
            runtime.metrics,
        )
        async with background("analytics-webhooks", webhooks.run):
            yield


async def _follow_catalog(settings: AnalyticsSettings, stack: AsyncExitStack) -> Callable[[], Catalog | None]:
    """Returns what reads the catalog in use. Recommendations alone need it: the ledger starts without one too."""
    try:
        holder = CatalogHolder(settings.config, prices=False)
    except CatalogError as error:
        log.warning("catalog_not_read", error=str(error))
        return lambda: None
    await stack.enter_async_context(background("analytics-catalog", holder.run))
    return lambda: holder.current


def _price(provider: Provider, model: Model, usage: Usage, at: float, response_model: str) -> int:
    """Returns a cost in micro-USD. The price list takes 70 MB and half a second: it is read when first asked for, on
    the thread that rules run on."""
    from libs.catalog.prices import cost_micro_usd

    return cost_micro_usd(provider, model, usage, at, response_model)


def main() -> int:
    """Runs the service; returns its exit status."""
    return run("analytics", AnalyticsSettings, assemble)
