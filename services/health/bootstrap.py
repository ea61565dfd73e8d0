"""Composition root: the only file that names the concrete adapters."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random, SystemRandom

import httpx
from pointsman.health.v1 import health_pb2_grpc
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.catalog.faults import CatalogError
from libs.catalog.secrets import Keys
from libs.catalog.watch import CatalogHolder
from libs.diagnosis import Store, StoreKind
from libs.ids import TimeOrderedIds
from libs.lifecycle import Runtime, StartError, background, run
from libs.redis_diagnosis import ask_redis
from libs.rpc.channel import client_credentials, connect
from libs.rpc.server import Registration
from libs.telemetry import get_logger
from services.health.adapters.analytics_client import AnalyticsChangeLog
from services.health.adapters.http_endpoints import HttpEndpoints
from services.health.adapters.redis_store import RedisHealthStore
from services.health.connectivity.http_network import HttpNetwork
from services.health.connectivity.tester import ProviderTester
from services.health.control.blacklist import Blacklist
from services.health.control.change_maker import ChangeMaker
from services.health.control.history import History
from services.health.control.operators import Operators
from services.health.control.rehabilitation import Rehabilitation
from services.health.control.windows import MaintenanceWindows
from services.health.domain.fleet import Fleet
from services.health.domain.published import PublishedStates
from services.health.judge import Judge
from services.health.permits import PermitIssuer
from services.health.ports import ChangeLog
from services.health.probe import Prober, ProbeSettings
from services.health.report import Reports
from services.health.servicer import SERVICE, ProviderHealthServicer
from services.health.settings import HealthSettings
from services.health.share import Sharer
from services.health.watch import Publisher

#: A store that does not answer within this is gone, in seconds.
STORE_TIMEOUT = 1.0
#: The start waits this long for the history of operators' changes, in seconds; later it is read in the background.
HISTORY_TIMEOUT = 2.0


@asynccontextmanager
async def assemble(settings: HealthSettings, runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Starts without Redis too, judging alone until it is there. Raises StartError for a bad catalog."""
    try:
        # Nothing here needs prices, and their list takes half a second to load.
        catalog = CatalogHolder(settings.config, get_logger("catalog"), prices=False)
    except CatalogError as error:
        raise StartError(str(error)) from error
    clock, metrics, breaker = runtime.clock, runtime.metrics, settings.breaker()
    async with AsyncExitStack() as stack:
        redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=STORE_TIMEOUT,
            socket_connect_timeout=STORE_TIMEOUT,
            # Once more at once, for a connection that the server closed while it was idle.
            retry=Retry(NoBackoff(), 1),
        )
        stack.push_async_callback(redis.aclose)
        runtime.catalog_version = lambda: catalog.current.version
        runtime.stores.append(Store(StoreKind.VALKEY, "states", lambda: ask_redis(redis, clock)))
        store = RedisHealthStore(
            redis,
            catalog.current.domain,
            runtime.instance_id,
            token=lambda: secrets.token_hex(8),
            clock=clock,
            timeout=STORE_TIMEOUT,
        )
        # As the router calls providers: by the system's certificates, and by no proxy.
        trust = ssl.create_default_context()
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                verify=trust, trust_env=False, follow_redirects=False, timeout=settings.probe_timeout
            )
        )
        keys = Keys()
        endpoints = HttpEndpoints(client, keys, clock, settings.probe_timeout)

        publisher = Publisher(PublishedStates(secrets.token_hex(8)), metrics)
        judge = Judge(Fleet(breaker, Random(), settings.degraded()), publisher, clock, metrics)
        judge.replace_catalog(catalog.current)
        catalog.subscribe(lambda _, new: judge.replace_catalog(new))
        sharer = Sharer(judge, store, metrics, settings.share_interval)
        ids = TimeOrderedIds(SystemRandom())
        changes: ChangeLog | None = None
        if settings.analytics_target:
            credentials = client_credentials(settings.tls_ca, settings.tls_certificate, settings.tls_key)
            channel = await stack.enter_async_context(
                connect(settings.analytics_target, credentials=credentials)
            )
            changes = AnalyticsChangeLog(channel, settings.service_token.get_secret_value())
        history = History(judge, store, changes, clock, metrics)
        maker = ChangeMaker(judge, sharer, store, ids, clock, recorded=changes is not None)
        operators = Operators(judge, maker, history, lambda: catalog.current, clock, breaker.open_seconds)
        windows = MaintenanceWindows(judge, maker, ids, clock)
        permits = PermitIssuer(judge, store, breaker, clock, metrics)
        prober = Prober(
            judge,
            endpoints,
            store,
            lambda: catalog.current,
            ProbeSettings(settings.probe_idle_interval, settings.probe_broken_interval),
            clock,
            metrics,
        )
        tester = ProviderTester(
            HttpNetwork(client, trust),
            keys,
            lambda: catalog.current,
            judge.record_probe,
            clock,
            settings.probe_timeout,
        )
        # The other replicas' judgements, before the first call.
        await sharer.exchange()
        await history.start(HISTORY_TIMEOUT)
        await stack.enter_async_context(background("health-catalog", catalog.run))
        await stack.enter_async_context(background("health-judge", judge.run))
        await stack.enter_async_context(background("health-share", sharer.run))
        await stack.enter_async_context(background("health-history", history.run))
        rehabilitation = Rehabilitation(judge, maker)
        await stack.enter_async_context(background("health-rehabilitation", rehabilitation.run))
        if settings.blacklist:
            blacklist = Blacklist(judge, maker, clock)
            await stack.enter_async_context(background("health-blacklist", blacklist.run))
        if settings.probe:
            await stack.enter_async_context(background("health-probe", prober.run))
        yield [
            Registration(
                health_pb2_grpc.add_ProviderHealthServicer_to_server,
                ProviderHealthServicer(
                    judge,
                    publisher,
                    Reports(judge, permits),
                    permits,
                    tester,
                    operators,
                    windows,
                    settings.heartbeat,
                ),
                SERVICE,
                long_lived=frozenset({"WatchProviders", "ReportOutcomes"}),
            )
        ]
        # The last evidence is not lost with this replica.
        await sharer.exchange()


def main() -> int:
    """Runs the service; returns its exit status."""
    return run("health", HealthSettings, assemble)
