"""Composition root: the only file that names the concrete adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from pointsman.router.v1 import router_pb2_grpc

from libs.catalog.prices import cost_micro_usd
from libs.catalog.secrets import Keys
from libs.catalog.watch import CatalogHolder
from libs.clock import Clock
from libs.http.bounds import Bounds
from libs.http.observe import HttpObserver
from libs.http.server import Door, HttpServer, certificate
from libs.ids import TimeOrderedIds
from libs.intake import BytesInFlight
from libs.lifecycle import Listening, Runtime, StartError, background, run
from libs.resilience.retry_budget import RetryBudget
from libs.rpc.change_sender import ChangeSender
from libs.rpc.channel import client_credentials, connect
from libs.rpc.receive import MessageBounds
from libs.rpc.server import Registration
from libs.telemetry import get_logger
from services.router.admission.lease_stream import RETURN_TIMEOUT, LeaseStream
from services.router.admission.leased_admission import LeasedAdmission
from services.router.admission.leases import Pool
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from services.router.api.entry import Entry
from services.router.api.fetched import FetchedAddresses
from services.router.api.heartbeat import Heartbeats
from services.router.api.http_door import HttpDoor, OpenAiErrors
from services.router.api.http_fetch import HttpFetcher
from services.router.api.identity import TenantKeys
from services.router.api.servicer import RouterServicer
from services.router.budgets.budgets import Budgets
from services.router.generate.answers import RecentAnswers
from services.router.generate.attempt import Attempts
from services.router.generate.begin import Gate
from services.router.generate.call import Calls
from services.router.generate.dry_run import DryRun
from services.router.generate.generate import Generate
from services.router.generate.meters import Meters
from services.router.generate.observers import attempt_observers
from services.router.generate.request_log import RequestLog
from services.router.health.health_client import HealthMonitorClient
from services.router.ledger.analytics_client import FLUSH_TIMEOUT, AnalyticsClient
from services.router.ledger.file_spool import FileSpool, SpoolLocked
from services.router.planning.planner import Planner
from services.router.planning.recent_calls import RecentCalls
from services.router.planning.scoring import WeightedScorer
from services.router.providers.http_transport import HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.provider_client import ProviderClient
from services.router.providers.routed_providers import RoutedProviders
from services.router.providers.wires.wires import wires
from services.router.routes.routes import ProviderRoutes
from services.router.set_aside.set_aside import SettingAside
from services.router.settings import SHARE_OF_ONE, RouterSettings

SERVICE = "pointsman.router.v1.Router"
#: The start waits so long for the health service before it serves without it, seconds.
FIRST_CONTACT = 2.0
#: A prompt of MAX_PROMPT_BYTES with its tools and labels fits, and one a little longer still gets the refusal that
#: says so; a thousand turns with ten tool calls each are 50,000 fields.
REQUEST_BOUNDS = MessageBounds(message_bytes=10 * 1024 * 1024, elements=50_000)

log = get_logger(__name__)


@asynccontextmanager
async def assemble(
    settings: RouterSettings, runtime: Runtime
) -> AsyncIterator[list[Registration | Listening]]:
    """Starts whether or not the other services are there. Raises CatalogError, StartError."""
    clock, metrics, rng, ids = runtime.clock, runtime.metrics, Random(), TimeOrderedIds(Random())
    token, keys = settings.service_token.get_secret_value(), Keys()
    reloads = metrics.counter("catalog_reloads", "Reloads of the catalog", ("result",))
    catalog = CatalogHolder(
        settings.config, log, on_reload=lambda good: reloads.labels("taken" if good else "refused").inc()
    )
    runtime.catalog_version = lambda: catalog.current.version
    async with AsyncExitStack() as stack:
        spool = _open_spool(settings, runtime)
        stack.callback(spool.close)
        credentials = client_credentials(settings.tls_ca, settings.tls_certificate, settings.tls_key)
        channels = [
            await stack.enter_async_context(connect(target, credentials=credentials))
            for target in (settings.analytics_target, settings.health_target, settings.ratelimit_target)
        ]
        me = runtime.instance_id
        analytics = AnalyticsClient(spool, channels[0], token, me, metrics, clock, rng)
        await stack.enter_async_context(background("usage", analytics.run, grace=FLUSH_TIMEOUT))
        # Closed in reverse: the last records are on the spool before the sender is asked to finish.
        stack.callback(analytics.finish)
        health = HealthMonitorClient(channels[1], token, me, clock, rng, metrics, settings.breaker())
        for name, task in (("watch", health.watch), ("report", health.report)):
            await stack.enter_async_context(background(name, task))
        learner = LimitLearner()
        leases = LeaseStream(channels[2], token, me, Pool(), clock, rng, metrics, learner)
        admission = LeasedAdmission(leases, lambda: catalog.current, clock, metrics, settings.local_share)
        await stack.enter_async_context(background("leases", leases.run, grace=RETURN_TIMEOUT))
        stack.callback(leases.finish)
        queue = QueuedAdmission(
            admission,
            clock,
            metrics,
            QueueBounds(
                settings.queue_within,
                settings.queue_longest,
                settings.queue_most,
                settings.queue_most_of_tenant,
            ),
        )
        await stack.enter_async_context(background("catalog", catalog.run))
        transport = await stack.enter_async_context(HttpTransport())
        routes = health.routes = ProviderRoutes(
            lambda: catalog.current, keys, admission.limit_states, clock, rng, metrics
        )
        providers = RoutedProviders(
            ProviderClient(transport, wires(clock), keys, clock, learner), routes, clock
        )
        for provider in catalog.current.providers.values():
            providers.why_unusable(provider)  # logs it, before anybody calls
        set_aside = SettingAside(clock, rng, metrics, keys.version)
        budgets = Budgets(admission, clock, metrics)
        targets, recent = health.targets, RecentCalls()
        planner = Planner(
            targets.health_of,
            cost_micro_usd,
            clock,
            rng,
            providers.why_unusable,
            set_aside,
            budgets,
            WeightedScorer(),
            recent,
            routes,
            targets.failovers,
        )
        dry_run = DryRun(planner, cost_micro_usd, clock)
        retries, requests = (
            RetryBudget(settings.retry_ratio, settings.retry_minimum),
            RequestLog(spool, clock, ids),
        )
        observers = attempt_observers(spool, Meters(metrics), targets, set_aside, recent, clock)
        attempts = Attempts(spool, observers, cost_micro_usd, clock, ids)
        gate = Gate(budgets, queue, set_aside, targets, attempts, clock, routes)
        calls = Calls(providers, gate, retries, recent, requests, clock)
        generate = Generate(
            planner,
            gate,
            calls,
            budgets,
            retries,
            recent,
            RecentAnswers(),
            requests,
            clock,
            rng,
        )
        runtime.bytes_in_flight = BytesInFlight(
            settings.bytes_in_flight, SHARE_OF_ONE * settings.bytes_in_flight // 5
        )
        runtime.authenticator = TenantKeys(lambda: catalog.current, token)
        # Nobody but the limiter can admit what has a budget, so a router that serves before it would lose calls that
        # its replicas could answer.
        await asyncio.gather(
            _until(health.known, FIRST_CONTACT, "health"),
            _until(leases.known, settings.limiter_wait, "ratelimit"),
        )
        addresses = None
        if settings.hosts_to_fetch_from:
            fetcher = await stack.enter_async_context(HttpFetcher(settings.hosts_to_fetch_from))
            addresses = FetchedAddresses(fetcher, runtime.bytes_in_flight)
        entry = Entry(lambda: catalog.current, generate, dry_run, clock, _new_id_of(ids, clock), addresses)
        heartbeats = Heartbeats(settings.heartbeat)
        servicer = RouterServicer(
            entry,
            set_aside,
            heartbeats,
            await _keep_sending(ChangeSender(channels[0], token, ids, clock), stack),
        )
        yield _doors(settings, runtime, servicer, HttpDoor(entry, clock, heartbeats), _new_id_of(ids, clock))


async def _keep_sending(changes: ChangeSender, stack: AsyncExitStack) -> ChangeSender:
    """Lets it send in the background, and once more at the end."""
    stack.push_async_callback(changes.send)
    await stack.enter_async_context(background("changes", changes.run))
    return changes


def _new_id_of(ids: TimeOrderedIds, clock: Clock) -> Callable[[], str]:
    """Returns a function that makes ids at the clock's time."""
    return lambda: ids.make(clock.now())


def _open_spool(settings: RouterSettings, runtime: Runtime) -> FileSpool:
    """Raises StartError where another router has it, or its directory cannot be written."""
    try:
        return FileSpool(
            settings.spool_dir, runtime.metrics, runtime.clock, max_bytes=settings.spool_max_bytes
        )
    except SpoolLocked as error:
        raise StartError(f"POINTSMAN_ROUTER_SPOOL_DIR: {error}") from error
    except OSError as error:
        raise StartError(
            f"POINTSMAN_ROUTER_SPOOL_DIR: {settings.spool_dir} cannot be written: {error.strerror}"
        ) from error


def _doors(
    settings: RouterSettings,
    runtime: Runtime,
    servicer: RouterServicer,
    http_door: HttpDoor,
    new_id: Callable[[], str],
) -> list[Registration | Listening]:
    """Returns the doors that listen, gRPC and HTTP. Raises OSError where a certificate cannot be read."""
    doors: list[Registration | Listening] = []
    if settings.listen:
        doors.append(
            Registration(
                router_pb2_grpc.add_RouterServicer_to_server, servicer, SERVICE, bounds=REQUEST_BOUNDS
            )
        )
    if settings.http_listen:
        door = Door(
            runtime.clock,
            HttpObserver(runtime.metrics, runtime.clock),
            runtime.authenticator,
            runtime.unknown_callers,
            runtime.bytes_in_flight,
            new_id=new_id,
        )
        server = HttpServer(
            http_door.routes(),
            OpenAiErrors(),
            door,
            Bounds(max_body=settings.http_max_body),
            certificate(settings.http_certificate, settings.http_key),
        )
        doors.append(Listening("http", server, settings.http_listen))
    return doors


async def _until(known: asyncio.Event, seconds: float, service: str) -> None:
    """Returns once the service has answered, or after that time."""
    try:
        async with asyncio.timeout(seconds):
            await known.wait()
    except TimeoutError:
        log.warning("starts_without", service=service, waited=seconds)


def main() -> int:
    """Runs the service; returns its exit status."""
    return run("router", RouterSettings, assemble)
