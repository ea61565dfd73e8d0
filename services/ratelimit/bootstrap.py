"""Composition root: the only file that names the concrete adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import SystemRandom

from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.catalog.faults import CatalogError
from libs.catalog.watch import CatalogHolder
from libs.diagnosis import Store, StoreKind
from libs.ids import TimeOrderedIds
from libs.lifecycle import Runtime, StartError, background, run
from libs.redis_diagnosis import ask_redis
from libs.rpc.change_sender import ChangeSender
from libs.rpc.channel import client_credentials
from libs.rpc.channel import connect as channel_to
from libs.rpc.server import Registration
from services.ratelimit.adapters.analytics_client import AnalyticsHistory
from services.ratelimit.adapters.catalog_limits import CatalogLimits
from services.ratelimit.adapters.no_history import NoHistory
from services.ratelimit.adapters.redis_functions import Functions, connect, revision_of, source
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.alerts.alerts import Alerts, AlertSink
from services.ratelimit.alerts.analytics_client import AnalyticsAlerts
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.trends import Trends
from services.ratelimit.heartbeat import Heartbeat
from services.ratelimit.learning.learning import Learning, Mode
from services.ratelimit.learning.redis_learned import RedisLearned
from services.ratelimit.leases.session import Fleet, LeaseSession
from services.ratelimit.ports import SpendHistory
from services.ratelimit.quotas import Quotas
from services.ratelimit.rebuild import Rebuild
from services.ratelimit.reconcile import Reconciliation
from services.ratelimit.reserve import Reservations
from services.ratelimit.servicer import SERVICE, RateLimiterServicer
from services.ratelimit.settings import RatelimitSettings

#: A slice may be in use a little longer than its life: the answer that granted it was on its way.
_LEARN_SLACK = 2.0


@asynccontextmanager
async def assemble(settings: RatelimitSettings, runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Starts without the store too: then every call is UNAVAILABLE until it is there. Raises StartError for a bad
    catalog."""
    async with AsyncExitStack() as stack:
        try:
            holder = CatalogHolder(settings.config, prices=False)
        except CatalogError as error:
            raise StartError(str(error)) from error
        await stack.enter_async_context(background("ratelimit-catalog", holder.run))
        redis = connect(settings.redis_url.get_secret_value(), settings.redis_timeout)
        stack.push_async_callback(redis.aclose)
        failures = runtime.metrics.counter(
            "ratelimit_store_failures", "Calls that the shared store did not answer"
        )
        functions = Functions(redis, failures.inc)
        runtime.catalog_version = lambda: holder.current.version
        runtime.stores.append(
            Store(
                StoreKind.VALKEY,
                "limits",
                lambda: ask_redis(redis, runtime.clock, functions.revision),
                schema_wanted=revision_of(source()),
            )
        )
        store = RedisLimitStore(
            functions,
            holder.current.domain,
            runtime.clock,
            trust=settings.store_trusted,
            learn=settings.lease_ttl + _LEARN_SLACK,
        )
        configured = CatalogLimits(holder)
        effective = EffectiveLimits(configured, store)
        trends, fleet = Trends(), Fleet()
        history: SpendHistory = NoHistory()
        sink: AlertSink | None = None
        changes: ChangeSender | None = None
        if settings.analytics_target:
            credentials = client_credentials(settings.tls_ca, settings.tls_certificate, settings.tls_key)
            channel = channel_to(settings.analytics_target, credentials=credentials)
            await stack.enter_async_context(channel)
            token = settings.service_token.get_secret_value()
            history, sink = AnalyticsHistory(channel, token), AnalyticsAlerts(channel, token)
            changes = ChangeSender(channel, token, TimeOrderedIds(SystemRandom()), runtime.clock)
            stack.push_async_callback(changes.send)
            await stack.enter_async_context(background("ratelimit-changes", changes.run))
        rebuild = Rebuild(store, history, runtime.clock, runtime.metrics)
        stack.push_async_callback(rebuild.close)
        enforcer = Enforcer(store, effective, rebuild, trends, runtime.clock, runtime.metrics)

        mode = Mode(settings.learned)
        learning = Learning(
            RedisLearned(functions, holder.current.domain),
            effective,
            runtime.clock,
            runtime.metrics,
            mode,
            settings.learned_share,
        )

        def open_session(holder_id: str, wake: Callable[[], None]) -> LeaseSession:
            return LeaseSession(
                holder_id,
                enforcer,
                effective,
                store,
                fleet,
                learning,
                runtime.clock,
                ttl=settings.lease_ttl,
                unlimited=settings.unlimited_ttl,
                wake=wake,
            )

        heartbeat = Heartbeat(store, enforcer, effective, fleet, trends, runtime.clock, runtime.metrics)
        await heartbeat.beat()
        await stack.enter_async_context(background("ratelimit-heartbeat", heartbeat.run))
        reconciliation = Reconciliation(enforcer, trends, history, runtime.clock, runtime.metrics)
        await stack.enter_async_context(background("ratelimit-reconcile", reconciliation.run))
        alerts = Alerts(
            enforcer,
            trends,
            sink,
            runtime.clock,
            runtime.metrics,
            thresholds=configured.thresholds,
            differences=lambda: reconciliation.notable,
        )
        await stack.enter_async_context(background("ratelimit-alerts", alerts.run))
        if mode is not Mode.OFF:
            await stack.enter_async_context(background("ratelimit-learning", learning.run))
        servicer = RateLimiterServicer(
            Reservations(enforcer, effective, store),
            Quotas(enforcer, effective, store, trends, learning, changes),
            open_session,
        )
        yield [
            Registration(
                ratelimit_pb2_grpc.add_RateLimiterServicer_to_server,
                servicer,
                SERVICE,
                long_lived=frozenset({"Lease"}),
            )
        ]


def main() -> int:
    """Runs the service; returns its exit status."""
    return run("ratelimit", RatelimitSettings, assemble)
