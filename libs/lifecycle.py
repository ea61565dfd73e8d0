"""The life of a service process, the same for all of them.

settings → telemetry → adapters → bind → SERVING → SIGTERM → NOT_SERVING → drain → flush → close in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import grpc
import uvloop

from libs.catalog.faults import CatalogError
from libs.clock import Clock, SystemClock
from libs.diagnosis import SettingRemark, Store
from libs.http.operations import OperationsServer
from libs.intake import BytesInFlight, UnknownCallers
from libs.rpc.diagnosis import DiagnosisServicer, diagnosis_registration
from libs.rpc.identity import Authenticator, ServiceToken
from libs.rpc.observe import Observer
from libs.rpc.server import GrpcServer, Registration
from libs.settings import EX_USAGE, ServiceSettings, SettingsError, load_settings, parse_address
from libs.telemetry import Metrics, Telemetry, get_logger
from libs.throttle import Throttle
from libs.watchdog import Report, Watchdog

#: Exit status of a service that cannot start, of sysexits.h.
EX_UNAVAILABLE = 69
#: Seconds that a cancelled background task has to end before it is cancelled again.
CANCEL_AGAIN = 0.5

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
log = get_logger(__name__)


class StartError(Exception):
    """The service cannot start; the message is one sentence for the operator."""


@dataclass(slots=True)
class Runtime:
    """The parts that the lifecycle gives to a composition root. `authenticator`, `bytes_in_flight` and
    `catalog_version` may be replaced before it yields, and stores added, for its diagnosis. All doors of the process
    share the two bounds on what they take in."""

    instance_id: str
    clock: Clock
    metrics: Metrics
    authenticator: Authenticator
    bytes_in_flight: BytesInFlight
    unknown_callers: UnknownCallers
    stores: list[Store] = field(default_factory=list)
    catalog_version: Callable[[], str] = str


class Server(Protocol):
    """A server with the life of a process: started, serving, drained."""

    port: int

    async def start(self, listen: str) -> None:
        """Binds and answers, not ready yet. Raises OSError where the address cannot be had."""
        ...

    def begin_serving(self) -> None:
        """Reports itself ready."""
        ...

    async def drain(self, seconds: float) -> None:
        """Reports itself not ready and returns once running calls have ended or `seconds` have passed."""
        ...


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that a composition root brings, with the address to bind it to. `name`: its protocol, for the log."""

    name: str
    server: Server
    address: str


#: Registrations are served over gRPC at `settings.listen`, by one server; beside it listens what is brought along.
Assemble = Callable[[SettingsT, Runtime], AbstractAsyncContextManager[Sequence[Registration | Listening]]]


@dataclass(slots=True)
class _Process(Generic[SettingsT]):
    service: str
    settings: SettingsT
    assemble: Assemble[SettingsT]

    async def live(self) -> None:
        settings = self.settings
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        instance = settings.instance(self.service)
        telemetry = Telemetry(self.service, settings, instance)
        clock = SystemClock()
        runtime = Runtime(
            instance,
            clock,
            telemetry.metrics,
            ServiceToken(settings.service_token.get_secret_value()),
            BytesInFlight(),
            UnknownCallers(clock),
        )
        if not settings.service_token.get_secret_value():
            log.warning(
                "no_service_token",
                why="without POINTSMAN_SERVICE_TOKEN whoever reaches health, ratelimit or analytics may call them",
            )
        operations = OperationsServer(telemetry.metrics.registry)
        watchdog = Watchdog(_blocked_loop(runtime))
        watchdog.start()
        try:
            if settings.metrics_listen:
                await operations.start(settings.metrics_listen)
            async with self.assemble(settings, runtime) as served:
                servers = await self._start(served, runtime)
                # Objects that live as long as the process need not be scanned by every collection.
                gc.collect()
                gc.freeze()
                # Requests leave few cycles behind; looking for them every 700 allocations costs more than it frees.
                gc.set_threshold(20_000, 20, 20)
                for server in servers.values():
                    server.begin_serving()
                ports = {name: server.port for name, server in servers.items()}
                log.info("serving", **ports, instance=instance)
                await stop.wait()
                log.info("draining", seconds=settings.drain_seconds)
                await asyncio.gather(*(server.drain(settings.drain_seconds) for server in servers.values()))
            log.info("stopped")
        finally:
            watchdog.stop()
            await operations.stop()
            telemetry.stop()

    async def _start(self, served: Sequence[Registration | Listening], runtime: Runtime) -> dict[str, Server]:
        """Binds all servers, or none. Returns their ports by the names that the log gives them. Raises OSError."""
        settings = self.settings
        registrations = [item for item in served if isinstance(item, Registration)]
        servers: dict[str, Server] = {}
        try:
            if registrations:
                server = GrpcServer(
                    [*registrations, self._diagnosis(runtime)],
                    Observer(runtime.metrics, runtime.clock),
                    runtime.authenticator,
                    bytes_in_flight=runtime.bytes_in_flight,
                    unknown_callers=runtime.unknown_callers,
                    clock=runtime.clock,
                )
                await server.start(settings.listen, _server_credentials(settings))
                servers["port"] = server
            for item in served:
                if isinstance(item, Listening):
                    await item.server.start(item.address)
                    servers[f"{item.name}_port"] = item.server
        except OSError:
            for started in servers.values():
                await started.drain(0)
            raise
        return servers

    def _diagnosis(self, runtime: Runtime) -> Registration:
        servicer = DiagnosisServicer(
            self.service,
            runtime.instance_id,
            _remarks(self.settings),
            runtime.stores,
            runtime.catalog_version,
            runtime.clock,
        )
        return diagnosis_registration(servicer)


def _remarks(settings: ServiceSettings) -> list[SettingRemark]:
    """Returns what somebody should look at."""
    remarks = [] if settings.service_token.get_secret_value() else [SettingRemark.NO_SERVICE_TOKEN]
    host, _ = parse_address(settings.listen)
    if settings.tls_certificate is None and host not in ("127.0.0.1", "::1", "localhost"):
        remarks.append(SettingRemark.NO_TLS)
    return remarks


def _blocked_loop(runtime: Runtime) -> Report:
    """Counts each block of the event loop and logs its stack, throttled: one that blocks again and again is one
    fault."""
    blocks = runtime.metrics.counter("event_loop_blocks", "Times the event loop answered nobody for a second")
    throttle = Throttle(runtime.clock)

    def report(stack: Sequence[str]) -> None:
        blocks.inc()
        if times := throttle.due():
            log.error("event_loop_blocked", stack=stack, times=times)

    return report


def _server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    ca = settings.tls_ca.read_bytes() if settings.tls_ca else None
    return grpc.ssl_server_credentials(
        [(settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())],
        root_certificates=ca,
        require_client_auth=ca is not None,
    )


def run(service: str, settings_type: type[SettingsT], assemble: Assemble[SettingsT]) -> int:
    """Runs a service until SIGTERM or SIGINT. Exit status: 0 after a drain, 64 for bad settings, 69 when it cannot
    start (one sentence on stderr). Raises what a bug raised, so that Python shows it and exits with 1."""
    try:
        settings = load_settings(settings_type)
    except SettingsError as error:
        for fault in error.faults:
            print(f"{service}: {fault}", file=sys.stderr)
        return EX_USAGE
    # grpc's own logger repeats undecodable metadata, which may be a key.
    logging.getLogger("grpc._cython").setLevel(logging.CRITICAL)
    try:
        uvloop.run(_Process(service, settings, assemble).live())
    except CatalogError as error:
        for line in str(error).splitlines():
            print(f"{service}: {line}", file=sys.stderr)
        return EX_USAGE
    except (StartError, OSError) as error:
        print(f"{service}: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    return 0


@contextlib.asynccontextmanager
async def background(
    name: str, task: Callable[[], Awaitable[None]], *, grace: float = 0.0
) -> AsyncIterator[asyncio.Task[None]]:
    """Runs an endless task beside the body and ends it with it. A task that fails is logged at once and fails the
    body's exit: background work does not die in silence."""

    async def guarded() -> None:
        try:
            await task()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.error("background_task_failed", task=name, exc_info=error)
            raise

    running = asyncio.create_task(guarded(), name=name)
    try:
        yield running
    finally:
        if not running.done() and grace > 0:
            await asyncio.wait({running}, timeout=grace)
        await _end(running)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancels until it has ended; raises what it failed with.

    `asyncio.wait_for` of Python 3.11, through which redis-py sends, forgets a cancellation that comes just as what it
    waits for is done (github.com/python/cpython/issues/86296). Cancelled once, an endless task would go on for ever,
    and its service with it.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN)
    if not task.cancelled():
        task.result()
