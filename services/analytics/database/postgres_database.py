"""The connection to PostgreSQL: pools, migrations, and the errors that callers get for its failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
import stamina
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy

from libs.errors import DeadlineExceeded, Unavailable
from libs.telemetry import get_logger
from services.analytics.database.postgres_migrations import Migration, MigrationRefused, migrate
from services.analytics.database.postgres_partitions import prepare_attempts

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

#: Seconds that a caller should wait before it tries again.
RETRY_AFTER = 1.0
#: Seconds for TCP, TLS and login.
CONNECT_TIMEOUT = 5.0
#: Seconds for one statement of a migration, and for waiting until another replica has migrated.
MIGRATE_TIMEOUT = 600.0
#: Seconds that the client waits beyond the server's own statement timeout before it gives a connection up.
_CLIENT_SLACK = 2.0

#: PostgreSQL is away, starting, stopping, full, or not the primary: none of it is caused by the request.
UNAVAILABLE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Numbers of connections, and timeouts in seconds. Writing and reading have pools of their own: a heavy query
    never holds up the commits that routers wait for."""

    writers: int = 3
    readers: int = 4
    write_timeout: float = 10.0
    read_timeout: float = 20.0


class Database:
    """Pools that reconnect by themselves. Nothing connects before `prepare` or `keep_preparing`."""

    def __init__(
        self,
        dsn: str,
        migrations: Sequence[Migration],
        options: PoolOptions | None = None,
        *,
        reader_dsn: str | None = None,
    ) -> None:
        """`dsn` may name several hosts: the one that takes writes is used, whichever that is at the time.
        `reader_dsn`: where questions go, a replica for instance; None: to the one that takes writes."""
        options = options or PoolOptions()
        self._dsn = dsn
        self._migrations = tuple(migrations)
        self._ready = False
        self._not_ready_reason = "PostgreSQL has not been reached yet"
        # A commit that is acknowledged must survive a crash, whatever the server's default.
        # What is written is found by indexes, by plans that are made once: making one for all partitions takes as
        # long as writing some hundred rows.
        self._writer = _pool(
            dsn,
            options.writers,
            options.write_timeout,
            {
                "synchronous_commit": "on",
                "enable_seqscan": "off",
                "plan_cache_mode": "force_generic_plan",
            },
            SessionAttribute.primary,
        )
        self._reader = _pool(
            reader_dsn or dsn,
            options.readers,
            options.read_timeout,
            {"default_transaction_read_only": "on"},
            SessionAttribute.prefer_standby if reader_dsn else SessionAttribute.primary,
        )

    async def prepare(self) -> None:
        """Connects once and migrates. Raises Unavailable, or MigrationRefused."""
        if self._ready:
            return
        try:
            connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                target_session_attrs=SessionAttribute.primary,
                command_timeout=MIGRATE_TIMEOUT,
                server_settings={"application_name": "pointsman-analytics-migrate", "statement_timeout": "0"},
            )
            try:
                await prepare_attempts(connection)
                applied = await migrate(connection, self._migrations)
            finally:
                await connection.close(timeout=CONNECT_TIMEOUT)
        except UNAVAILABLE_ERRORS as error:
            raise unavailable(error) from error
        except MigrationRefused as error:
            self._not_ready_reason = str(error)
            raise
        self._ready = True
        log.info("ledger_ready", migrations_applied=applied)

    async def keep_preparing(self) -> None:
        """Tries `prepare` until it succeeds, with backoff up to 5 s (stamina logs each failure). A refusal is tried
        again too: the operator may restore what is missing without a restart."""
        async for attempt in stamina.retry_context(
            on=(Unavailable, MigrationRefused), attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
        ):
            with attempt:
                await self.prepare()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """Lends a connection to write with. Raises Unavailable, also for what fails inside for PostgreSQL's
        reasons."""
        self._check()
        try:
            async with self._writer.acquire(timeout=CONNECT_TIMEOUT) as connection:
                yield connection
        except asyncpg.ReadOnlySQLTransactionError as error:
            # It is the primary no more, and would go on saying so: the next connection asks anew which one is.
            await self._writer.expire_connections()
            raise unavailable(error) from error
        except UNAVAILABLE_ERRORS as error:
            raise unavailable(error) from error

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lends a connection that cannot write. Raises Unavailable, and DeadlineExceeded where a statement takes too
        long."""
        self._check()
        try:
            async with self._reader.acquire(timeout=CONNECT_TIMEOUT) as connection:
                yield connection
        except asyncpg.QueryCanceledError as error:
            raise DeadlineExceeded(
                "The question took too long: ask for a shorter range or fewer groups", reason="QUERY_TOO_SLOW"
            ) from error
        except UNAVAILABLE_ERRORS as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        """Gives running statements a moment, then drops the connections."""
        for pool in (self._writer, self._reader):
            try:
                await asyncio.wait_for(pool.close(), CONNECT_TIMEOUT)
            except TimeoutError:
                pool.terminate()

    async def __aenter__(self) -> Database:
        # With no minimum size this makes the pools ready without connecting.
        await self._writer
        await self._reader
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check(self) -> None:
        if not self._ready:
            raise Unavailable(
                f"The ledger is not ready: {self._not_ready_reason}",
                reason="LEDGER_UNAVAILABLE",
                retry_after=RETRY_AFTER,
            )


def unavailable(error: BaseException) -> Unavailable:
    """Returns the error for a database that is away. The cause is named by type: its text may hold the DSN."""
    return Unavailable(
        f"The ledger's database does not answer ({type(error).__name__})",
        reason="LEDGER_UNAVAILABLE",
        retry_after=RETRY_AFTER,
    )


def _pool(
    dsn: str, size: int, timeout: float, settings: dict[str, str], attribute: SessionAttribute
) -> asyncpg.Pool[asyncpg.Record]:
    """Returns a pool of connections to the first host of the DSN that is as `attribute` says."""
    return asyncpg.create_pool(
        dsn,
        target_session_attrs=attribute,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT,
        command_timeout=timeout + _CLIENT_SLACK,
        server_settings={
            "application_name": "pointsman-analytics",
            "statement_timeout": str(int(timeout * 1000)),
            "idle_in_transaction_session_timeout": "30000",
            # Compiling costs more than it saves on statements this short.
            "jit": "off",
            **settings,
        },
    )
