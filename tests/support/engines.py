"""The engines of contract and integration tests: embedded ones, or containers of the official images.

POINTSMAN_TEST_ENGINES=containers takes redis:7 and postgres:15 where a Docker engine answers. Tests see the same
either way: an address, and a server that can be stopped, killed and started again at it with its data. What looks
into an engine's own files or processes takes `dev.engines` itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from dev import engines

VARIABLE = "POINTSMAN_TEST_ENGINES"


class Server(Protocol):
    """A server that keeps its address and its data."""

    async def start(self) -> None:
        """Returns once it answers; nothing where it runs."""
        ...

    async def stop(self) -> None:
        """Lets it end in order."""
        ...

    async def kill(self) -> None:
        """SIGKILL."""
        ...

    async def restart(self) -> None:
        """Stops and starts it."""
        ...


class RedisServer(Server, Protocol):
    """Valkey or Redis, with every write on its disk within a second."""

    @property
    def url(self) -> str:
        """Returns the address for clients; holds the password."""
        ...


class PostgresServer(Server, Protocol):
    """PostgreSQL."""

    @property
    def dsn(self) -> str:
        """Returns the address for clients; holds the password."""
        ...


def containers_wanted() -> bool:
    """Returns True if engines are containers here."""
    if os.environ.get(VARIABLE) != "containers":
        return False
    from tests.support.containers import docker_answers  # takes longer to import than most tests run

    return docker_answers()


@asynccontextmanager
async def valkey() -> AsyncIterator[RedisServer]:
    """A server of one's own, to stop, kill or empty; its data goes with it."""
    if containers_wanted():
        from tests.support.containers import RedisContainer

        async with RedisContainer() as container:
            yield container
    else:
        async with engines.valkey() as server:
            yield server


#: PostgreSQL's own settings for a server that is neither killed nor kept: it writes what it must, when it likes, and
#: tidies up nothing.
FLEETING = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


@asynccontextmanager
async def postgres(*, durable: bool = True) -> AsyncIterator[PostgresServer]:
    """Likewise. `durable`: what is committed outlives the server's death; an embedded server is cheaper without."""
    if containers_wanted():
        from tests.support.containers import PostgresContainer

        async with PostgresContainer() as container:
            yield container
    else:
        async with engines.postgres(settings=None if durable else FLEETING) as server:
            yield server
